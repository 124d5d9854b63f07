//! Each lint: it fires, it does not fire, and it does not fire for what is unknown.

use std::time::Duration;

use rstest::rstest;

use super::*;
use crate::drain::LoadBalancerKind::{Alb, Nlb};

/// A workload of one container, behind one group of this kind.
fn workload(kind: Option<LoadBalancerKind>) -> Workload {
    let mut workload = Workload::default();
    workload.pod.containers = vec![Container {
        name: "web".into(),
        ..Container::default()
    }];
    workload.groups = vec![Group {
        binding: "shop".into(),
        kind,
        ..Group::default()
    }];
    workload
}

/// One that loses nothing: it sleeps as long as its ALB needs.
fn calm() -> Workload {
    let mut workload = workload(Some(Alb));
    workload.settings.injected = SleepSeconds::new(20);
    workload
}

fn found(workload: &Workload) -> Vec<Reason> {
    lint(workload)
        .into_iter()
        .map(|finding| finding.reason)
        .collect()
}

/// The message of the one finding of this reason.
fn message(workload: &Workload, reason: Reason) -> Option<String> {
    let mut all = lint(workload).into_iter();
    all.find(|finding| finding.reason == reason)
        .map(|finding| finding.message)
}

#[test]
fn a_workload_that_sleeps_long_enough_has_no_finding() {
    assert_eq!(lint(&calm()), []);
}

#[test]
fn of_a_workload_about_which_nothing_is_known_nothing_is_found() {
    assert_eq!(lint(&Workload::default()), []);
    assert_eq!(lint(&workload(None)), []);
}

#[rstest]
#[case::none_and_no_drain(PreStop::Absent, None, Some(Reason::PreStopMissing))]
#[case::none_but_drained(PreStop::Absent, Some(20), None)]
#[case::its_own_is_shorter(PreStop::Sleep(19), Some(20), Some(Reason::PreStopTooShort))]
#[case::its_own_is_long_enough(PreStop::Sleep(20), None, None)]
#[case::of_unknown_length(PreStop::Unknown, None, None)]
fn a_container_waits_until_its_load_balancer_has_settled(
    #[case] pre_stop: PreStop,
    #[case] injected: Option<u16>,
    #[case] expected: Option<Reason>,
) {
    let mut all = workload(Some(Alb));
    all.pod.containers[0].pre_stop = pre_stop;
    all.settings.injected = injected.and_then(SleepSeconds::new);
    assert_eq!(found(&all), Vec::from_iter(expected));
    all.groups[0].kind = None;
    assert_eq!(found(&all), []);
}

#[test]
fn the_slowest_of_several_load_balancers_counts() {
    let mut all = calm();
    all.groups.push(Group {
        kind: Some(Nlb),
        ..Group::default()
    });
    all.pod.grace = 300;
    all.pod.containers[0].pre_stop = PreStop::Sleep(60);
    let expected = "Container web sleeps 60 s before SIGTERM, and its NLB needs 100 s";
    assert_eq!(message(&all, Reason::PreStopTooShort).unwrap(), expected);
}

#[rstest]
#[case::shorter(19, None, true)]
#[case::equal(20, None, false)]
#[case::longer_by_the_sleep(5, Some(20), false)]
fn a_grace_period_is_as_long_as_the_load_balancer_needs(
    #[case] grace: u64,
    #[case] injected: Option<u16>,
    #[case] fires: bool,
) {
    let mut all = workload(Some(Alb));
    all.pod.grace = grace;
    all.settings.injected = injected.and_then(SleepSeconds::new);
    assert_eq!(found(&all).contains(&Reason::GraceTooShort), fires);
    all.groups[0].kind = None;
    assert!(!found(&all).contains(&Reason::GraceTooShort));
}

#[test]
fn even_a_handler_of_unknown_length_ends_with_the_grace_period() {
    let mut all = workload(Some(Nlb));
    all.pod.containers[0].pre_stop = PreStop::Unknown;
    let expected = "The grace period is 30 s, and the pod's NLB needs 100 s";
    assert_eq!(message(&all, Reason::GraceTooShort).unwrap(), expected);
}

#[rstest]
#[case::the_sleep_takes_all(PreStop::Sleep(30), None, Some("has 2 s to end after SIGTERM"))]
#[case::one_second_is_left(PreStop::Sleep(29), None, Some("has 2 s to end after SIGTERM"))]
#[case::as_much_as_the_kubelet_leaves(PreStop::Sleep(28), None, None)]
#[case::less_than_a_request(PreStop::Sleep(25), Some(6), Some("its longest request takes 6 s"))]
#[case::as_long_as_a_request(PreStop::Sleep(25), Some(5), None)]
#[case::of_unknown_length(PreStop::Unknown, Some(60), None)]
fn what_the_sleep_leaves_is_enough_for_the_application(
    #[case] pre_stop: PreStop,
    #[case] longest: Option<u64>,
    #[case] expected: Option<&str>,
) {
    let mut all = workload(Some(Alb));
    all.pod.containers[0].pre_stop = pre_stop;
    all.pod.longest_request = longest.map(Duration::from_secs);
    let message = message(&all, Reason::ShutdownTooShort);
    match expected {
        Some(words) => assert!(message.unwrap().contains(words)),
        None => assert_eq!(message, None),
    }
}

#[test]
fn numbers_at_their_end_do_not_overflow() {
    let mut all = calm();
    all.pod.grace = u64::MAX;
    assert_eq!(found(&all), []);
    all.pod.containers[0].pre_stop = PreStop::Sleep(u64::MAX);
    assert_eq!(found(&all), [Reason::ShutdownTooShort]);
}

#[rstest]
#[case::shorter(PreStop::Absent, 19, true)]
#[case::equal(PreStop::Absent, 20, false)]
#[case::shorter_than_its_own_sleep(PreStop::Sleep(25), 24, true)]
#[case::beside_a_handler_of_unknown_length(PreStop::Unknown, 1, false)]
fn a_probes_grace_period_is_as_long_as_the_sleep(
    #[case] pre_stop: PreStop,
    #[case] grace: u64,
    #[case] fires: bool,
) {
    let mut all = calm();
    all.pod.containers[0].pre_stop = pre_stop;
    all.pod.containers[0].probes = vec![ProbeGrace {
        field: "livenessProbe",
        grace,
    }];
    assert_eq!(
        found(&all),
        Vec::from_iter(fires.then_some(Reason::ProbeGrace))
    );
}

#[rstest]
#[case::longer_than_the_pod_lives(Some(51), None, true)]
#[case::as_long(Some(50), None, false)]
#[case::longer_but_no_request_is(Some(300), Some(30), false)]
#[case::longer_as_a_request_is(Some(300), Some(31), true)]
#[case::unknown(None, None, false)]
fn requests_in_flight_may_not_outlive_the_pod(
    #[case] delay: Option<u64>,
    #[case] longest: Option<u64>,
    #[case] fires: bool,
) {
    let mut all = calm();
    all.groups[0].deregistration_delay = delay;
    all.pod.longest_request = longest.map(Duration::from_secs);
    let fired = found(&all).contains(&Reason::DeregistrationDelayTooLong);
    assert_eq!(fired, fires);
}

#[rstest]
#[case::while_the_pod_lives(Some(true), Some(49), true)]
#[case::with_the_pod(Some(true), Some(50), false)]
#[case::not_at_all(Some(false), Some(0), false)]
#[case::unknown_whether(None, Some(0), false)]
#[case::unknown_when(Some(true), None, false)]
fn connections_are_not_cut_while_the_pod_lives(
    #[case] terminates: Option<bool>,
    #[case] delay: Option<u64>,
    #[case] fires: bool,
) {
    let mut all = calm();
    all.groups[0].deregistration_delay = delay;
    all.groups[0].connection_termination = terminates;
    let expected = fires.then_some(Reason::ConnectionsTerminated);
    assert_eq!(found(&all), Vec::from_iter(expected));
}

#[rstest]
#[case::while_the_application_ends(Some(true), PreStop::Sleep(5), true)]
#[case::but_it_sleeps_long_enough(Some(true), PreStop::Sleep(20), false)]
#[case::but_how_long_it_waits_is_unknown(Some(true), PreStop::Unknown, false)]
#[case::by_http(Some(false), PreStop::Sleep(5), false)]
#[case::unknown(None, PreStop::Sleep(5), false)]
fn a_tcp_health_check_stays_green(
    #[case] tcp: Option<bool>,
    #[case] pre_stop: PreStop,
    #[case] fires: bool,
) {
    let mut all = workload(Some(Alb));
    all.groups[0].tcp_health_check = tcp;
    all.pod.containers[0].pre_stop = pre_stop;
    assert_eq!(found(&all).contains(&Reason::TcpHealthCheck), fires);
}

#[rstest]
#[case::one_pod_a_zone(Some(3), Some(3), Some(0), Some(false), &[Reason::OnePodPerZone])]
#[case::that_is_taken_away(Some(3), Some(3), Some(1), Some(false), &[Reason::ZoneEmptied, Reason::OnePodPerZone])]
#[case::and_others_may_take_over(Some(3), Some(3), Some(1), Some(true), &[])]
#[case::and_whether_they_may_is_unknown(Some(3), Some(3), Some(1), None, &[])]
#[case::less_than_one(Some(2), Some(3), None, Some(false), &[Reason::OnePodPerZone])]
#[case::more_than_one(Some(4), Some(3), Some(1), Some(false), &[])]
#[case::none_at_all(Some(0), Some(3), Some(1), Some(false), &[])]
#[case::unknown_pods(None, Some(3), Some(1), Some(false), &[])]
#[case::unknown_zones(Some(1), None, Some(1), Some(false), &[])]
fn a_zone_keeps_a_pod(
    #[case] replicas: Option<u32>,
    #[case] zones: Option<u32>,
    #[case] max_unavailable: Option<u32>,
    #[case] cross_zone: Option<bool>,
    #[case] expected: &[Reason],
) {
    let mut all = calm();
    all.groups[0].cross_zone = cross_zone;
    all.groups[0].zones = zones;
    all.rollout = Rollout {
        replicas,
        max_unavailable,
    };
    assert_eq!(found(&all), expected);
}

#[test]
fn of_several_groups_the_one_with_the_most_zones_counts_if_it_does_not_cross_them() {
    let mut all = calm();
    let group = |binding: &str, zones, cross_zone| Group {
        binding: binding.into(),
        zones: Some(zones),
        cross_zone: Some(cross_zone),
        ..Group::default()
    };
    all.groups.extend([
        group("alb", 6, true),
        group("a", 2, false),
        group("b", 3, false),
    ]);
    all.rollout.replicas = Some(3);
    let expected = "3 replicas are in the 3 zones of the load balancer of binding b, which sends within a zone only";
    assert_eq!(message(&all, Reason::OnePodPerZone).unwrap(), expected);
    all.groups.pop();
    assert_eq!(found(&all), []);
}

#[rstest]
#[case::baseline(Some((Level::Baseline, (1, 34))), true)]
#[case::restricted(Some((Level::Restricted, (1, 36))), true)]
#[case::an_earlier_standard(Some((Level::Restricted, (1, 33))), false)]
#[case::privileged(Some((Level::Privileged, (1, 36))), false)]
#[case::unknown(None, false)]
fn a_host_is_refused_by_pod_security(
    #[case] enforced: Option<(Level, Version)>,
    #[case] fires: bool,
) {
    let mut all = calm();
    all.cluster.pod_security = enforced.map(|(level, version)| PodSecurity { level, version });
    assert_eq!(found(&all), []);
    all.pod.hosts = vec!["containers[0].livenessProbe.httpGet.host".into()];
    assert_eq!(
        found(&all),
        Vec::from_iter(fires.then_some(Reason::HostRefused))
    );
}

#[rstest]
#[case::too_old(Some((1, 29)), true)]
#[case::new_enough(Some((1, 30)), false)]
#[case::of_another_major(Some((2, 0)), false)]
#[case::unknown(None, false)]
fn a_kubelet_knows_the_sleep(#[case] oldest: Option<Version>, #[case] fires: bool) {
    let mut all = calm();
    all.cluster.oldest_kubelet = oldest;
    let expected = Vec::from_iter(fires.then_some(Reason::KubeletTooOld));
    assert_eq!(found(&all), expected);
    all.settings.injected = None;
    all.pod.containers[0].pre_stop = PreStop::Unknown;
    assert_eq!(found(&all), []);
}

#[rstest]
#[case::by_the_incumbent(Some(true), Some(Registrar::Incumbent), true)]
#[case::by_us(Some(true), Some(Registrar::Targetgate), false)]
#[case::only_ready_ones(Some(false), Some(Registrar::Incumbent), false)]
#[case::unknown_registrar(Some(true), None, false)]
#[case::unknown_service(None, Some(Registrar::Incumbent), false)]
fn pods_that_are_not_ready_stay_registered(
    #[case] publishes: Option<bool>,
    #[case] registrar: Option<Registrar>,
    #[case] fires: bool,
) {
    let mut all = calm();
    all.groups[0].publishes_not_ready = publishes;
    all.cluster.registrar = registrar;
    let expected = Vec::from_iter(fires.then_some(Reason::NotReadyPublished));
    assert_eq!(found(&all), expected);
}
