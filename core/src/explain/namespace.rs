//! A whole namespace: what waits, what is ungated, and which bindings give no gate.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::explain::answer::{
    ApiVersion, BindingOfPod, NamespaceAnswer, NamespaceKind, PodCounts, PodsAlike,
    RegistrationAnswer, Verdict, Why,
};
use crate::explain::facts::{Facts, PodFacts};
use crate::explain::{gate, lost, mode, pod, registration, selection, ungated};
use crate::index::services::ServiceIndex;
use crate::model::Namespace;
use crate::reason::Reason;
use crate::text::{agreeing, counted};

/// What was found of pods, of one binding or of all.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) counts: PodCounts,
    waiting: Alike,
    ungated: Alike,
}

/// Pods by controller, binding and reason: a namespace of thousands of pods has few rows.
#[derive(Debug, Default)]
struct Alike(BTreeMap<(String, String, Reason), PodsAlike>);

impl Alike {
    fn add(&mut self, pod: &PodFacts, binding: &str, why: &Why, since: Option<Timestamp>) {
        let controller = pod.pod.template.controller.as_deref();
        let controller = controller.map(|c| format!("{}/{}", c.kind, c.name));
        let name = &pod.pod.key.name;
        let owner = controller.clone().unwrap_or_else(|| name.to_string());
        let key = (owner, binding.to_owned(), why.reason);
        let row = self.0.entry(key).or_insert_with(|| PodsAlike {
            controller,
            binding: binding.to_owned(),
            pods: 0,
            example: name.to_string(),
            why: why.clone(),
            since,
        });
        row.pods += 1;
        row.since = match (row.since, since) {
            (Some(known), Some(other)) => Some(known.min(other)),
            (known, other) => known.or(other),
        };
    }

    /// The rows, those of most pods first.
    fn rows(self) -> Vec<PodsAlike> {
        let mut rows: Vec<PodsAlike> = self.0.into_values().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.pods));
        rows
    }
}

impl Tally {
    /// Counts the live pods, as far as they are about a binding for which `is_about` is true.
    pub(super) fn of<'a>(
        facts: &Facts,
        routes: &ServiceIndex,
        namespace: &Namespace,
        pods: impl IntoIterator<Item = &'a PodFacts>,
        is_about: impl Fn(&str) -> bool,
    ) -> Self {
        let mut tally = Self::default();
        for pod in pods.into_iter().filter(|pod| pod.pod.is_live()) {
            tally.add(facts, routes, namespace, pod, &is_about);
        }
        tally
    }

    fn add(
        &mut self,
        facts: &Facts,
        routes: &ServiceIndex,
        namespace: &Namespace,
        pod: &PodFacts,
        is_about: impl Fn(&str) -> bool,
    ) {
        let counts = &mut self.counts;
        counts.all += 1;
        counts.gated += usize::from(!pod.pod.gates.is_empty());
        let closed = gate::gates(facts, pod)
            .into_iter()
            .filter(|gate| !gate.open);
        let mut waits = false;
        for gate in closed {
            let names = gate.bindings.first();
            let binding = names.map_or(&*gate.condition_type, String::as_str);
            if is_about(binding) {
                waits = true;
                self.waiting.add(pod, binding, &gate.why, gate.since);
            }
        }
        counts.waiting += usize::from(waits);
        let present: Vec<_> = pod.pod.gates.iter().map(|(gate, _)| gate.clone()).collect();
        let (labels, apis) = (&pod.pod.template.labels, &facts.settings.gates.apis);
        // Few pods lack a gate: the others are not decided about one by one.
        if pod.pod.opted_out || !routes.lacks_gate(labels, &present, apis) {
            return;
        }
        let decision = selection::decided(facts, routes, pod);
        let lacking = ungated::lacking(facts, namespace, &decision, pod);
        let lacking: Vec<_> = lacking.iter().filter(|l| is_about(&l.binding)).collect();
        counts.ungated += usize::from(!lacking.is_empty());
        for lacking in lacking {
            self.ungated
                .add(pod, &lacking.binding, &lacking.why, lacking.since);
        }
    }

    pub(super) fn rows(self) -> (Vec<PodsAlike>, Vec<PodsAlike>) {
        (self.waiting.rows(), self.ungated.rows())
    }
}

/// The verdict on pods that wait, or lack a gate.
pub(super) fn verdict(waiting: &[PodsAlike], ungated: &[PodsAlike]) -> Option<(Verdict, Why)> {
    let waits = |row: &PodsAlike| (Verdict::NotYet, of_row(row, "waits for", "wait for"));
    let lacks = |row: &PodsAlike| (Verdict::No, of_row(row, "lacks", "lack"));
    let waiting = waiting.first().map(waits);
    waiting.or_else(|| ungated.first().map(lacks))
}

/// The verdict on a binding whose targets are not as they should be.
pub(super) fn amiss(registration: &RegistrationAnswer) -> Option<(Verdict, Why)> {
    // What another registers for is told, and is not amiss while its gates open.
    let of_another = matches!(
        registration.why.reason,
        Reason::HeldByAnother | Reason::Released
    );
    let is_amiss = !registration.ready && !of_another && registration::is_news(registration);
    let verdict = match registration.why.reason {
        Reason::Registering => Verdict::NotYet,
        _ => Verdict::No,
    };
    let name = &registration.binding;
    let message = format!("Targets of binding {name}: {}", registration.why.message);
    let why = Why {
        message,
        ..registration.why.clone()
    };
    is_amiss.then_some((verdict, why))
}

fn of_row(row: &PodsAlike, one: &str, many: &str) -> Why {
    let of = row.controller.as_ref();
    let of = of.map_or(String::new(), |controller| format!(" of {controller}"));
    let (pods, binding, message) = (row.pods, &row.binding, &row.why.message);
    let message = match pods {
        1 => format!(
            "Pod {}{of} {one} the gate of {binding}: {message}",
            row.example
        ),
        _ => format!(
            "{pods} pods{of} {many} the gate of {binding}, such as {}: {message}",
            row.example
        ),
    };
    Why {
        message,
        ..row.why.clone()
    }
}

/// Explains a namespace with these pods.
pub fn explain(facts: &Facts, pods: &[PodFacts]) -> NamespaceAnswer {
    facts.with_routes(|routes, namespace| {
        let tally = Tally::of(facts, routes, namespace, pods, |_| true);
        let counts = tally.counts;
        let (waiting, ungated) = tally.rows();
        let lost = lost::of_namespace(facts, routes, pods);
        let unregistered = registration::all(facts, routes).into_iter();
        let unregistered: Vec<_> = unregistered.filter(registration::is_news).collect();
        let (verdict, why) = verdict(&waiting, &ungated)
            .or_else(|| unregistered.iter().find_map(amiss))
            .or_else(|| Some((Verdict::No, lost.first()?.clone())))
            .unwrap_or_else(|| (Verdict::Yes, nothing_waits(counts)));
        NamespaceAnswer {
            api_version: ApiVersion::V1,
            kind: NamespaceKind::NamespaceExplanation,
            namespace: facts.namespace.to_string(),
            as_of: facts.now,
            verdict,
            why,
            evidence: pod::evidence(facts),
            settings: facts.settings.from.clone(),
            mode: mode::of_namespace(facts, routes),
            pods: counts,
            bindings: routes.bindings().count(),
            waiting,
            ungated,
            idle_bindings: idle_bindings(facts, routes),
            unregistered,
            notices: lost.into_iter().chain(notices(routes, namespace)).collect(),
        }
    })
}

fn nothing_waits(counts: PodCounts) -> Why {
    let (pods, gated) = (counted(counts.all, "pod"), counts.gated);
    let have = agreeing(gated, "has", "have");
    let message = format!("Of {pods}, {gated} {have} a gate; none waits, and none lacks one.");
    Why::saying(Reason::Healthy, message)
}

/// The bindings that give no pod a gate, whatever its labels.
fn idle_bindings(facts: &Facts, routes: &ServiceIndex) -> Vec<BindingOfPod> {
    let idle = routes.bindings().filter_map(|binding| {
        let reason = routes.refusal(binding, &facts.settings.gates.apis)?;
        let why = selection::of_binding(reason, binding);
        Some(selection::of_pod(binding, false, why))
    });
    idle.collect()
}

fn notices(routes: &ServiceIndex, namespace: &Namespace) -> Vec<Why> {
    let of_bindings = routes.bindings().flat_map(|binding| {
        let of = format!("binding {}", binding.name);
        pod::unreadable(&of, &binding.unreadable)
    });
    let of_namespace = pod::unreadable("Namespace", &namespace.unreadable);
    of_bindings.chain(of_namespace).collect()
}
