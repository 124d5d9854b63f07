//! The decision about a new pod's gates, by tables.

use rstest::rstest;

use super::*;
use std::sync::Arc;

use crate::model::{IpFamily, Labels, Policies, Registration, Service, TargetType};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let pairs = pairs.iter();
    pairs.map(|(k, v)| (Arc::from(*k), Arc::from(*v))).collect()
}

/// A Service that selects `app=web`.
fn service() -> Service {
    Service {
        selector: labels(&[("app", "web")]),
        external_name: false,
        publish_not_ready: false,
        ports: vec![],
        opted_out: false,
    }
}

/// A binding of pods to the Service `web`.
fn binding(name: &str) -> Binding {
    Binding {
        api: BindingApi::Elbv2,
        name: name.into(),
        uid: None,
        arn: None,
        group_name: Some("web".into()),
        target_type: Some(TargetType::Ip),
        family: IpFamily::V4,
        load_balancer: None,
        service: "web".into(),
        port: None,
        role: None,
        multi_cluster: false,
        opted_out: false,
        terminating: false,
        policies: Policies::default(),
        registration: Registration::default(),
        unreadable: vec![],
    }
}

/// A pod `app=web`, its gates, the bindings of its namespace and the Service `web`.
struct Case<'a> {
    gates: &'a [&'a str],
    labels: Labels,
    opted_out: bool,
    bindings: Vec<Binding>,
    service: Option<Service>,
    policy: GatePolicy,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self {
            gates: &[],
            labels: labels(&[("app", "web"), ("tier", "front")]),
            opted_out: false,
            bindings: vec![binding("a")],
            service: Some(service()),
            policy: GatePolicy::default(),
        }
    }
}

/// What was decided, apart from what it was decided about.
struct Decided {
    reason: Reason,
    bindings: Vec<(String, Reason)>,
    added: Vec<String>,
    removed: Vec<usize>,
}

impl Case<'_> {
    fn decide(&self) -> Decided {
        let pod = NewPod {
            labels: &self.labels,
            gates: self.gates,
            opted_out: self.opted_out,
        };
        let routes = routes(&self.bindings, self.service.clone());
        let decision = decide(&pod, &routes, &self.policy);
        let bindings = decision.bindings();
        Decided {
            reason: decision.reason,
            bindings: bindings
                .map(|(binding, reason)| (binding.name.to_string(), reason))
                .collect(),
            added: decision
                .add
                .iter()
                .map(|gate| gate.as_str().to_owned())
                .collect(),
            removed: decision.remove,
        }
    }

    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut case = Self::default();
        change(&mut case);
        case
    }

    fn with_binding(change: impl FnOnce(&mut Binding)) -> Self {
        Self::with(|case| change(&mut case.bindings[0]))
    }

    fn with_service(change: impl FnMut(&mut Service)) -> Self {
        Self::with(|case| case.service.iter_mut().for_each(change))
    }
}

const A: &str = "target-health.elbv2.k8s.aws/a";
const B: &str = "target-health.elbv2.k8s.aws/b";
const LEGACY: &str = "target-health.alb.ingress.k8s.aws/web_a_80";

/// A namespace with these bindings, and perhaps the Service `web`.
fn routes(bindings: &[Binding], service: Option<Service>) -> ServiceIndex {
    let mut routes = ServiceIndex::default();
    for binding in bindings {
        routes.apply_binding(binding.clone());
    }
    if let Some(service) = service {
        routes.apply_service(&"web".into(), service);
    }
    routes
}

#[test]
fn a_selected_pod_gets_the_gate_of_its_binding() {
    let case = Case::default();
    let decision = case.decide();
    assert_eq!(decision.reason, Reason::Injected);
    assert_eq!(decision.bindings, [("a".to_owned(), Reason::Injected)]);
    assert_eq!(decision.added, [A]);
}

#[rstest]
#[case::no_binding(Case::with(|c| c.bindings.clear()), Reason::NoBinding)]
#[case::the_pod_opted_out(Case::with(|c| c.opted_out = true), Reason::OptedOut)]
#[case::being_deleted(Case::with_binding(|b| b.terminating = true), Reason::BindingTerminating)]
#[case::of_no_group(Case::with_binding(|b| b.group_name = None), Reason::GroupUnknown)]
#[case::the_service_opted_out(Case::with_service(|s| s.opted_out = true), Reason::OptedOut)]
#[case::the_binding_opted_out(Case::with_binding(|b| b.opted_out = true), Reason::OptedOut)]
#[case::not_selected(Case::with(|c| c.labels = labels(&[("app", "api")])), Reason::SelectorMismatch)]
#[case::no_labels(Case::with(|c| c.labels.clear()), Reason::SelectorMismatch)]
#[case::no_service(Case::with(|c| c.service = None), Reason::ServiceMissing)]
#[case::external_name(Case::with_service(|s| s.external_name = true), Reason::ServiceExternalName)]
#[case::no_selector(Case::with_service(|s| s.selector.clear()), Reason::ServiceWithoutSelector)]
#[case::no_target_type(Case::with_binding(|b| b.target_type = None), Reason::TargetTypeUnknown)]
#[case::nodes(Case::with_binding(|b| b.target_type = Some(TargetType::Instance)), Reason::TargetTypeInstance)]
#[case::auto_mode(Case::with_binding(|b| b.api = BindingApi::Eks), Reason::ApiNotGated)]
fn a_pod_that_is_not_due_a_gate_is_left_alone(#[case] mut case: Case<'_>, #[case] reason: Reason) {
    case.gates = &[LEGACY, "example.com/mine"];
    let decision = case.decide();
    assert_eq!(decision.reason, reason);
    assert_eq!(decision.added, Vec::<String>::new());
    assert_eq!(decision.removed, [0; 0]);
}

#[test]
fn gates_are_added_in_the_order_of_the_bindings() {
    let case = Case::with(|c| c.bindings = vec![binding("a"), binding("b")]);
    assert_eq!(case.decide().added, [A, B]);
}

#[test]
fn a_gate_that_the_pod_has_is_not_added_again() {
    let case = Case::with(|c| {
        c.bindings = vec![binding("a"), binding("b")];
        c.gates = &[A];
    });
    let decision = case.decide();
    assert_eq!(decision.reason, Reason::Injected);
    assert_eq!(
        decision.bindings,
        [
            ("a".to_owned(), Reason::AlreadyInjected),
            ("b".to_owned(), Reason::Injected),
        ]
    );
    assert_eq!(decision.added, [B]);
}

#[test]
fn bindings_of_one_name_in_both_api_groups_share_a_gate() {
    let case = Case::with(|c| {
        let mut eks = binding("a");
        eks.api = BindingApi::Eks;
        c.bindings.push(eks);
        c.policy.apis = BindingApi::ALL.to_vec();
    });
    let decision = case.decide();
    assert_eq!(decision.added, [A]);
    assert_eq!(decision.bindings.len(), 2);
}

#[rstest]
#[case::a_gate_is_added(&["x.example/y", LEGACY, LEGACY], &[1, 2])]
#[case::a_gate_is_there(&[LEGACY, A], &[0])]
fn legacy_gates_go_once_a_gate_is_due(#[case] gates: &[&str], #[case] removed: &[usize]) {
    let case = Case {
        gates,
        ..Case::default()
    };
    assert_eq!(case.decide().removed, removed);
}

#[test]
fn the_configured_prefix_names_the_gate() {
    let case = Case::with(|c| c.policy.prefix = "target-health.targetgate.dev".parse().unwrap());
    assert_eq!(case.decide().added, ["target-health.targetgate.dev/a"]);
}

#[test]
fn an_admission_takes_the_strongest_reason_of_its_bindings() {
    let case = Case::with(|c| {
        let mut nodes = binding("nodes");
        nodes.target_type = Some(TargetType::Instance);
        let mut gone = binding("orphan");
        gone.service = "gone".into();
        c.bindings = vec![gone, nodes];
    });
    assert_eq!(case.decide().reason, Reason::ServiceMissing);
}

#[rstest]
#[case::none(&[], true)]
#[case::of_another_binding(&["target-health.elbv2.k8s.aws/b"], true)]
#[case::its_own(&["target-health.elbv2.k8s.aws/a"], false)]
#[case::under_a_former_prefix(&["target-health.targetgate.dev/a"], false)]
fn a_pod_lacks_a_gate_that_it_has_under_no_prefix(#[case] gates: &[&str], #[case] lacks: bool) {
    let prefixes = [
        ConditionPrefix::default(),
        "target-health.targetgate.dev".parse().unwrap(),
    ];
    let gate = |text: &&str| GateName::under(&prefixes, text).unwrap();
    let present: Vec<GateName> = gates.iter().map(gate).collect();
    assert_eq!(lacks_any(&present, binding("a"), service()), lacks);
}

#[test]
fn a_pod_lacks_no_gate_that_it_would_not_be_given() {
    let opted_out = Binding {
        opted_out: true,
        ..binding("a")
    };
    assert!(!lacks_any(&[], opted_out, service()));
    let instances = Binding {
        target_type: Some(TargetType::Instance),
        ..binding("a")
    };
    assert!(!lacks_any(&[], instances, service()));
    let eks = Binding {
        api: BindingApi::Eks,
        ..binding("a")
    };
    assert!(!lacks_any(&[], eks, service()));
    let unselecting = Service {
        selector: labels(&[]),
        ..service()
    };
    assert!(!lacks_any(&[], binding("a"), unselecting));
}

/// Whether a pod `app=web` with these gates lacks one.
fn lacks_any(present: &[GateName], binding: Binding, service: Service) -> bool {
    let pod = labels(&[("app", "web")]);
    let routes = routes(&[binding], Some(service));
    routes.lacks_gate(&pod, present, &[BindingApi::Elbv2])
}
