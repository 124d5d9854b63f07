//! Targets that no pod of this cluster explains.

use std::net::IpAddr;

use rstest::rstest;

use super::*;

const OURS: &str = "10.0.0.1";
const FOREIGN: &str = "10.9.0.1";

/// A group with a target of a pod and one of none.
fn shared() -> Facts {
    let mut facts = sound();
    let group = group_of(&mut facts);
    let arn = group.arn.clone();
    let addresses = [OURS, FOREIGN].map(|ip| ip.parse::<IpAddr>().unwrap());
    group.targets.as_mut().unwrap().addresses = addresses.into();
    facts.bindings.as_mut().unwrap()[0].arn = Some(arn.as_str().into());
    let pods = NamespacePods {
        addresses: [OURS.parse().unwrap()].into(),
        selecting: ["web".into()].into(),
    };
    facts.pods.insert("shop".to_owned(), pods);
    facts
}

#[test]
fn a_target_of_no_pod_is_advised_about_with_its_address() {
    let answer = diagnose(&shared());
    assert_eq!(answer.state, State::Advice);
    let text = render(&answer);
    let told = "targetgroup/web/0123456789abcdef: ForeignTargets\n    1 of its 2 addresses is of no pod in the \
                namespaces of its bindings, and multiClusterTargetGroup is not set: 10.9.0.1.";
    assert!(text.contains(told), "{text}");
}

#[rstest]
#[case::that_is_shared_with_other_clusters(|f: &mut Facts| of(f).multi_cluster = true)]
#[case::of_a_namespace_that_was_not_looked_at(|f: &mut Facts| f.pods.clear())]
#[case::whose_service_selects_no_pods(|f: &mut Facts| pods(f).selecting.clear())]
#[case::without_a_service(|f: &mut Facts| of(f).service = None)]
#[case::whose_targets_are_not_known(|f: &mut Facts| group_of(f).targets = Err((Reason::AwsUnavailable, "no answer".into())))]
#[case::whose_pods_have_all_addresses(|f: &mut Facts| _ = pods(f).addresses.insert(FOREIGN.parse().unwrap()))]
#[case::that_a_pod_of_another_binding_explains(|f: &mut Facts| {
    let mut other = of(f).clone();
    other.key = ObjectKey::new("blog", "web");
    f.bindings.as_mut().unwrap().push(other);
    let mut pods = pods(f).clone();
    pods.addresses = [FOREIGN.parse().unwrap()].into();
    f.pods.insert("blog".to_owned(), pods);
})]
fn nothing_is_foreign_in_a_group(#[case] change: Break) {
    let mut facts = shared();
    change(&mut facts);
    let answer = diagnose(&facts);
    let mut findings = answer.findings.iter();
    assert!(
        findings.all(|finding| finding.why.reason != Reason::ForeignTargets),
        "{}",
        render(&answer)
    );
}

fn of(facts: &mut Facts) -> &mut Binding {
    &mut facts.bindings.as_mut().unwrap()[0]
}

fn pods(facts: &mut Facts) -> &mut NamespacePods {
    facts.pods.get_mut("shop").unwrap()
}
