//! What `targetgate watch` shows of a namespace at one time.

use crate::explain::answer::{NamespaceAnswer, Source, Verdict};
use crate::explain::facts::{Facts, PodFacts};
use crate::explain::namespace;
use crate::explain::registration;
use crate::explain::text::{Page, lasting};
use crate::selector::selects;
use crate::text::counted;

/// At most this many rows of each table are shown. Chosen: they fit a terminal.
const ROWS: usize = 15;

/// A namespace at one time.
#[derive(Debug, Clone)]
pub struct Frame {
    pub namespace: NamespaceAnswer,
    rows: Vec<Row>,
    /// The pods that are being deleted.
    ending: usize,
}

/// A binding, with the pods that its Service selects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Row {
    binding: String,
    pods: usize,
    open: usize,
    waiting: usize,
    ending: usize,
    /// Registered and wanted targets, if the leader has told.
    targets: Option<(usize, usize)>,
}

/// The frame of a namespace with these pods.
pub fn frame(facts: &Facts, pods: &[PodFacts]) -> Frame {
    let rows = facts.with_routes(|routes, _| {
        let rows = routes.bindings().map(|binding| {
            let mut row = Row {
                binding: binding.name.to_string(),
                ..Row::default()
            };
            let service = routes.service(&binding.service);
            let its = pods.iter().filter(|pod| {
                let labels = &pod.pod.template.labels;
                service.is_some_and(|service| selects(&service.selector, labels))
            });
            its.for_each(|pod| row.add(pod));
            let registration = registration::of_binding(facts, binding);
            row.targets = registration.and_then(|known| Some((known.registered?, known.wanted?)));
            row
        });
        rows.collect::<Vec<_>>()
    });
    Frame {
        namespace: namespace::explain(facts, pods),
        rows,
        ending: pods.iter().filter(|pod| pod.pod.terminating).count(),
    }
}

impl Row {
    fn add(&mut self, pod: &PodFacts) {
        if pod.pod.terminating {
            self.ending += 1;
            return;
        }
        if !pod.pod.is_live() {
            return;
        }
        self.pods += 1;
        let mut gates = pod.pod.gates.iter();
        let gate = gates.find(|(gate, _)| gate.is_of(&self.binding));
        match gate.map(|(_, condition)| condition.as_ref().is_some_and(|c| c.status)) {
            Some(true) => self.open += 1,
            Some(false) => self.waiting += 1,
            None => {}
        }
    }
}

impl Frame {
    /// That of the namespace: yes once each gate that is due is there, and open.
    pub fn verdict(&self) -> Verdict {
        self.namespace.verdict
    }

    /// The frame in one line, which stays the same while nothing changes.
    pub fn line(&self) -> String {
        let answer = &self.namespace;
        let pods = answer.pods;
        let verdict = answer.verdict.word();
        let all = counted(pods.all, "pod");
        let open = pods.gated.saturating_sub(pods.waiting);
        format!(
            "namespace {}: {verdict}, {}: {all}, {open} open, {} waiting, {} without a gate, {} ending",
            answer.namespace, answer.why.reason, pods.waiting, pods.ungated, self.ending
        )
    }

    /// The frame as text of several lines.
    pub fn render(&self) -> String {
        let mut page = Page::default();
        let answer = &self.namespace;
        let time = answer.as_of.strftime("%H:%M:%SZ");
        page.line(0, format!("{time} {}", self.line()));
        page.line(2, self.evidence());
        self.table(&mut page);
        for (heading, rows) in [
            ("Waiting", &answer.waiting),
            ("Without a gate", &answer.ungated),
        ] {
            if !rows.is_empty() {
                page.heading(heading);
            }
            for row in rows.iter().take(ROWS) {
                let since = lasting(row.since, answer.as_of);
                let of = row.controller.as_deref().unwrap_or(&row.example);
                let (pods, reason) = (row.pods, row.why.reason);
                page.line(
                    2,
                    format!("{of}: {pods} of binding {}{since}, {reason}", row.binding),
                );
                page.line(4, &row.why.message);
            }
        }
        if !answer.unregistered.is_empty() {
            page.heading("Targets");
        }
        for registration in answer.unregistered.iter().take(ROWS) {
            let (name, why) = (&registration.binding, &registration.why);
            page.line(2, format!("{name}: {}", why.reason));
            page.line(4, &why.message);
        }
        page.text()
    }

    fn evidence(&self) -> String {
        let evidence = &self.namespace.evidence;
        let rates = evidence.rates.iter();
        let rates: Vec<String> = rates
            .map(|rate| format!("{:.1} calls/s in {}", rate.calls_per_second, rate.quota))
            .collect();
        match (evidence.source, &evidence.leader, &evidence.without_leader) {
            (Source::Leader, Some(pod), _) => format!("leader {pod}; budget {}", rates.join(", ")),
            (Source::Elb, _, Some(why)) => format!("by ELB; the leader was not asked: {why}"),
            (_, _, Some(why)) => format!("by the conditions; the leader was not asked: {why}"),
            (_, _, None) => "by the conditions".to_owned(),
        }
    }

    fn table(&self, page: &mut Page) {
        let name = |row: &Row| row.binding.chars().count();
        let width = self.rows.iter().take(ROWS).map(name).max();
        let width = width.unwrap_or_default().max("BINDING".len());
        let targets = self.rows.iter().any(|row| row.targets.is_some());
        let last = if targets { "  TARGETS" } else { "" };
        page.line(
            2,
            format!("{:width$}  PODS  OPEN  WAITING  ENDING{last}", "BINDING"),
        );
        // Those of which something waits or ends come first; the sort is stable.
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by_key(|row| row.waiting + row.ending == 0);
        for row in rows.iter().take(ROWS) {
            let Row {
                binding,
                pods,
                open,
                waiting,
                ending,
                targets,
            } = row;
            let targets = targets.map(|(registered, wanted)| format!("  {registered}/{wanted}"));
            let targets = targets.unwrap_or_default();
            page.line(
                2,
                format!("{binding:width$}  {pods:4}  {open:4}  {waiting:7}  {ending:6}{targets}"),
            );
        }
        if let Some(more) = rows.len().checked_sub(ROWS).filter(|more| *more > 0) {
            page.line(2, format!("and {more} more"));
        }
    }
}
