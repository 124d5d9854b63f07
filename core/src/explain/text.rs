//! The answers for people.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::explain::answer::{
    Answer, BindingAnswer, BindingOfPod, EndAnswer, Evidence, FailingAnswer, GateAnswer, Lacking,
    ModeAnswer, NamespaceAnswer, PodAnswer, PodCounts, PodsAlike, RateAnswer, RefusedAnswer,
    RegistrationAnswer, SettingsAnswer, Source, TargetAnswer, Verdict, Why,
};
use crate::text::{agreeing, counted};

/// At most this many of the bindings that do not select a pod are listed. Chosen: the answer fits a terminal.
const OTHERS_LISTED: usize = 20;
/// At most this many rows of pods are listed. Chosen; `-o json` has all.
const ROWS_LISTED: usize = 50;

/// The answer as text of several lines.
pub fn render(answer: &Answer) -> String {
    let mut page = Page::default();
    match answer {
        Answer::Pod(pod) => page.pod(pod),
        Answer::Binding(binding) => page.binding(binding),
        Answer::Namespace(namespace) => page.namespace(namespace),
    }
    page.text
}

/// A text that grows line by line.
#[derive(Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    /// All of its lines.
    pub(crate) fn text(self) -> String {
        self.text
    }

    /// Adds a line, without the control characters that a text from outside may bring to a terminal.
    pub(crate) fn line(&mut self, indent: usize, line: impl AsRef<str>) {
        self.text.extend(std::iter::repeat_n(' ', indent));
        let line = line.as_ref().chars();
        self.text
            .extend(line.map(|c| if c.is_control() { ' ' } else { c }));
        self.text.push('\n');
    }

    pub(crate) fn heading(&mut self, heading: &str) {
        self.text.push('\n');
        self.line(0, heading);
    }

    fn headline(&mut self, of: &str, verdict: Verdict, why: &Why) {
        self.line(0, format!("{of}: {}, {}", verdict.word(), why.reason));
        self.why(2, why);
    }

    pub(crate) fn why(&mut self, indent: usize, why: &Why) {
        self.line(indent, &why.message);
        if !why.remedy.is_empty() {
            self.line(indent, format!("What to do: {}", why.remedy));
        }
        if let Some(command) = &why.command {
            self.line(indent, format!("$ {command}"));
        }
    }

    fn pod(&mut self, pod: &PodAnswer) {
        let of = format!("pod {}/{}", pod.namespace, pod.name);
        self.headline(&of, pod.verdict, &pod.why);
        if !pod.gates.is_empty() {
            self.heading("Gates");
        }
        for gate in &pod.gates {
            self.gate(gate, pod.as_of, &pod.why);
        }
        for other in pod.other_gates.iter().filter(|other| !other.open) {
            let kind = &other.condition_type;
            self.line(2, format!("{kind}: closed; another controller opens it"));
        }
        if !pod.lacking.is_empty() && pod.created.is_some() {
            self.heading("Gates that it lacks");
        }
        for lacking in pod.lacking.iter().filter(|_| pod.created.is_some()) {
            self.lacking(lacking, pod.as_of, &pod.why);
        }
        self.bindings(&pod.namespace, &pod.bindings);
        if let Some(end) = &pod.end {
            self.end(end);
        }
        self.mode(pod.mode.as_ref());
        self.notices(&pod.notices);
        self.evidence(&pod.evidence, !pod.gates.is_empty());
        self.settings(&pod.settings);
    }

    fn gate(&mut self, gate: &GateAnswer, now: Timestamp, told: &Why) {
        let since = lasting(gate.since, now);
        let (state, reason) = (if gate.open { "open" } else { "closed" }, gate.why.reason);
        let kind = &gate.condition_type;
        self.line(2, format!("{kind}: {state}{since}, {reason}"));
        if gate.why != *told {
            self.why(4, &gate.why);
        }
        for target in &gate.targets {
            self.line(4, of_target(target, now));
        }
        match &gate.condition {
            None => self.line(4, "Condition: none has been written yet"),
            Some(condition) => {
                let status = if condition.status { "True" } else { "False" };
                let since = lasting(condition.since, now);
                let words = [&*condition.reason, &*condition.message];
                let words: Vec<&str> = words.into_iter().filter(|w| !w.is_empty()).collect();
                let colon = if words.is_empty() { "" } else { ": " };
                let words = words.join(", ");
                self.line(4, format!("Condition: {status}{since}{colon}{words}"));
            }
        }
        if let Some(opens) = gate.opens {
            let line = format!("It opens at {opens} at the latest, by targetgate.dev/open-after");
            self.line(4, line);
        }
    }

    fn lacking(&mut self, lacking: &Lacking, now: Timestamp, told: &Why) {
        let since = lasting(lacking.since, now);
        let (binding, reason) = (&lacking.binding, lacking.why.reason);
        self.line(2, format!("of binding {binding}{since}, {reason}"));
        if lacking.why != *told {
            self.why(4, &lacking.why);
        }
    }

    fn bindings(&mut self, namespace: &str, bindings: &[BindingOfPod]) {
        if bindings.is_empty() {
            return;
        }
        self.heading(&format!("Bindings of namespace {namespace}"));
        let (selecting, others): (Vec<_>, Vec<_>) = bindings.iter().partition(|b| b.selects);
        let listed = others.iter().take(OTHERS_LISTED);
        for binding in selecting.iter().chain(listed) {
            let BindingOfPod { name, why, .. } = binding;
            self.line(2, format!("{name}: {}. {}", why.reason, why.message));
        }
        if let Some(more) = others.len().checked_sub(OTHERS_LISTED).filter(|n| *n > 0) {
            let select = agreeing(more, "does not", "do not");
            self.line(2, format!("and {more} more that {select} select the pod"));
        }
    }

    fn end(&mut self, end: &EndAnswer) {
        self.heading("End");
        let slept = end.sleep_seconds;
        let slept = slept.map_or(String::new(), |seconds| format!(" They sleep {seconds} s."));
        let (why, grace) = (&end.why, end.grace_seconds);
        let line = format!("drain: {}. {}{slept}", why.reason, why.message);
        self.line(2, line);
        self.line(2, format!("grace period: {grace} s"));
        for lint in &end.lints {
            self.line(2, format!("{}:", lint.reason));
            self.why(4, lint);
        }
    }

    fn notices(&mut self, notices: &[Why]) {
        if !notices.is_empty() {
            self.heading("Notices");
        }
        for notice in notices {
            self.line(2, format!("{}:", notice.reason));
            self.why(4, notice);
        }
    }

    fn evidence(&mut self, evidence: &Evidence, about_targets: bool) {
        if !about_targets {
            return self.text.push('\n');
        }
        let said = match (evidence.source, &evidence.why) {
            (Source::Leader, why) => {
                let pod = evidence.leader.as_deref().unwrap_or_default();
                let why = why.as_ref();
                let why = why.map_or(String::new(), |why| format!("; {why}"));
                format!("The leader was asked just now, pod {pod}{why}.")
            }
            (Source::Elb, None) => "ELB was asked just now.".to_owned(),
            (Source::Elb, Some(why)) => {
                format!("ELB was asked just now; {why}, of which the conditions are told.")
            }
            (Source::Condition, why) => {
                let why = why.as_deref().unwrap_or("not wanted");
                format!(
                    "ELB was not asked ({why}): what is said of targets is what the conditions say, which are as old as they say."
                )
            }
        };
        self.heading(&said);
        if let Some(why) = &evidence.without_leader {
            self.line(0, format!("The leader was not asked: {why}."));
        }
        for RateAnswer {
            quota,
            calls_per_second,
        } in &evidence.rates
        {
            let line = format!("Budget of {quota}: {calls_per_second:.1} calls of ELB a second.");
            self.line(0, line);
        }
    }

    fn registration(&mut self, registration: &RegistrationAnswer) {
        let (name, reason) = (&registration.binding, registration.why.reason);
        self.line(2, format!("{name}: {reason}"));
        self.why(4, &registration.why);
        if let (Some(wanted), Some(registered), Some(held), Some(foreign)) = (
            registration.wanted,
            registration.registered,
            registration.held_by_floor,
            registration.foreign,
        ) {
            let wanted = counted(wanted, "target");
            let line = format!(
                "{registered} of {wanted} registered, {held} held by the floor, {foreign} foreign"
            );
            self.line(4, line);
        }
        for refused in &registration.refused {
            let RefusedAnswer { address, port, why } = refused;
            self.line(4, format!("{address} port {port}: {}", why.message));
        }
        self.left_out(registration);
    }

    fn left_out(&mut self, registration: &RegistrationAnswer) {
        let left_out = &registration.left_out;
        let all = registration.endpoints_left_out.unwrap_or_default();
        if left_out.is_empty() {
            return;
        }
        self.line(
            4,
            format!("Endpoints of EndpointSlices that are left out: {all}"),
        );
        for endpoint in left_out {
            self.line(6, &endpoint.why.message);
        }
        if let Some(more) = all.checked_sub(left_out.len()).filter(|more| *more > 0) {
            self.line(6, format!("and {more} more"));
        }
        let remedies = left_out.iter().map(|endpoint| &*endpoint.why.remedy);
        let remedies: BTreeSet<&str> = remedies.collect();
        for remedy in remedies
            .into_iter()
            .filter(|one| *one != registration.why.remedy)
        {
            self.line(4, format!("What to do: {remedy}"));
        }
    }

    fn mode(&mut self, mode: Option<&ModeAnswer>) {
        let Some(mode) = mode else {
            return;
        };
        let injects = match mode.injects {
            Some(true) => "yes",
            Some(false) => "no",
            None => "not known",
        };
        let reason = mode.why.reason;
        self.heading(&format!(
            "Gates while the webhook is away: {injects}, {reason}"
        ));
        self.why(2, &mode.why);
    }

    fn settings(&mut self, settings: &SettingsAnswer) {
        let said = match (&settings.deployment, &settings.why) {
            (Some(deployment), _) => format!("Flags: those of Deployment {deployment}."),
            (None, Some(why)) => {
                format!("Flags: the defaults, and those that were given, because {why}.")
            }
            (None, None) => return,
        };
        self.line(0, said);
    }

    fn binding(&mut self, binding: &BindingAnswer) {
        let of = format!("binding {}/{}", binding.namespace, binding.name);
        self.headline(&of, binding.verdict, &binding.why);
        let group = binding.target_group.as_deref().unwrap_or("none");
        self.line(2, format!("Service: {}", binding.service));
        self.line(2, format!("Target group: {group}"));
        self.counts(binding.pods);
        self.rows("Waiting", &binding.waiting, binding.as_of);
        self.rows("Without the gate", &binding.ungated, binding.as_of);
        if let Some(registration) = &binding.registration {
            self.heading("Targets");
            self.registration(registration);
        }
        self.notices(&binding.notices);
        self.evidence(&binding.evidence, true);
        self.settings(&binding.settings);
    }

    fn namespace(&mut self, namespace: &NamespaceAnswer) {
        let of = format!("namespace {}", namespace.namespace);
        self.headline(&of, namespace.verdict, &namespace.why);
        self.line(2, format!("Bindings: {}", namespace.bindings));
        self.counts(namespace.pods);
        self.rows("Waiting", &namespace.waiting, namespace.as_of);
        self.rows("Without a gate", &namespace.ungated, namespace.as_of);
        if !namespace.idle_bindings.is_empty() {
            self.heading("Bindings that give no gate");
        }
        for binding in namespace.idle_bindings.iter().take(ROWS_LISTED) {
            let BindingOfPod { name, why, .. } = binding;
            self.line(2, format!("{name}: {}. {}", why.reason, why.message));
        }
        self.more(namespace.idle_bindings.len());
        if !namespace.unregistered.is_empty() {
            self.heading("Bindings whose targets are not all as they should be");
        }
        for registration in namespace.unregistered.iter().take(ROWS_LISTED) {
            self.registration(registration);
        }
        self.more(namespace.unregistered.len());
        self.mode(namespace.mode.as_ref());
        self.notices(&namespace.notices);
        self.evidence(&namespace.evidence, namespace.pods.gated > 0);
        self.settings(&namespace.settings);
    }

    fn counts(&mut self, pods: PodCounts) {
        let PodCounts {
            all,
            gated,
            waiting,
            ungated,
        } = pods;
        let line = format!(
            "Pods: {all}, {gated} with a gate, {waiting} waiting, {ungated} without a gate that is due"
        );
        self.line(2, line);
    }

    fn rows(&mut self, heading: &str, rows: &[PodsAlike], now: Timestamp) {
        if !rows.is_empty() {
            self.heading(heading);
        }
        for row in rows.iter().take(ROWS_LISTED) {
            let since = lasting(row.since, now);
            let of = row.controller.as_deref().unwrap_or(&row.example);
            let (pods, example, reason) = (row.pods, &row.example, row.why.reason);
            let binding = &row.binding;
            let line =
                format!("{of}: {pods} of binding {binding}, such as {example}{since}, {reason}");
            self.line(2, line);
            self.why(4, &row.why);
        }
        self.more(rows.len());
    }

    fn more(&mut self, rows: usize) {
        if let Some(more) = rows.checked_sub(ROWS_LISTED).filter(|more| *more > 0) {
            self.line(2, format!("and {more} more, which -o json has"));
        }
    }
}

fn of_target(target: &TargetAnswer, now: Timestamp) -> String {
    let TargetAnswer {
        binding,
        target_group_arn,
        address,
        port,
        ..
    } = target;
    let when = target.asked;
    let when = when.map_or(String::new(), |asked| format!(" {} ago", age(asked, now)));
    let said = match (&target.elb, &target.failure, target.asked) {
        (Some(said), _, Some(_)) => format!("; ELB said{when}: {said}"),
        (Some(said), _, None) => format!("; ELB says: {said}"),
        (None, Some(why), _) => format!("; ELB could not be asked: {why}"),
        (None, None, _) => String::new(),
    };
    let fails = target.failing.as_ref().map_or(String::new(), |failing| {
        let FailingAnswer { code, since, calls } = failing;
        let lasting = age(*since, now);
        format!("; the leader's calls have failed for {lasting}, {calls} in a row: {code}")
    });
    let asks = if target.in_flight {
        "; ELB is being asked now"
    } else {
        ""
    };
    let next = target.next_look.map_or(String::new(), |next| {
        let seconds = next.duration_since(now).as_secs().max(0);
        let place = target.place.zip(target.queue);
        let place = place.map(|(at, of)| format!(", place {at} of {of} in the queue"));
        format!("; next look in {seconds} s{}", place.unwrap_or_default())
    });
    format!(
        "Target {address} port {port} of {target_group_arn}, by binding {binding}{said}{fails}{asks}{next}"
    )
}

/// How long ago, in whole seconds.
pub(super) fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    format!("{:#}", SignedDuration::from_secs(seconds))
}

/// For how long, as it follows a word.
pub(super) fn lasting(since: Option<Timestamp>, now: Timestamp) -> String {
    since.map_or(String::new(), |since| format!(" for {}", age(since, now)))
}
