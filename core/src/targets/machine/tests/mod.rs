//! The registrar in a model of ELB and of the API server, both with latency and faults.

use std::time::Duration;

use super::*;
use crate::fixtures::{arn, binding, pod, service};
use crate::model::{Binding, Pod, PortRef, Service};
use crate::names::BindingApi;
use crate::reason::Reason;
use crate::targets::calls::{Call, CallError, CallErrorKind, Kind};
use crate::targets::difference::Listing;
use crate::targets::machine::action::Written;
use crate::targets::standing::{Mode, Standing};
use world::World;

mod absence;
mod ended;
mod floor;
mod incumbent;
mod looks;
mod news;
mod podless;
mod records;
mod refusals;
mod roles;
mod walks;
mod world;

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn key(name: &str) -> BindingKey {
    BindingKey {
        object: ObjectKey::new("shop", name),
        api: BindingApi::Elbv2,
    }
}

fn web(number: u8) -> Pod {
    let pod = pod(&format!("web-{number}")).label("app", "web");
    pod.ip(&format!("10.0.0.{number}")).ready()
}

fn target(number: u8) -> Target {
    ([10, 0, 0, number].into(), 8080)
}

fn targets(numbers: impl IntoIterator<Item = u8>) -> BTreeSet<Target> {
    numbers.into_iter().map(target).collect()
}

fn web_service() -> Service {
    let service = service().selecting("app", "web");
    service.port("http", 80, Some(PortRef::Number(8080)))
}

/// A cluster with Service `web` and a binding of it, and so many pods, all of whose targets are healthy.
fn with_pods(pods: u8) -> World {
    let mut world = World::new(1);
    world.serve("web", web_service());
    world.bind(Binding {
        uid: Some("uid-web".into()),
        ..binding("web")
    });
    (1..=pods).for_each(|number| world.apply(web(number)));
    world.pass(15 * S);
    assert_eq!(world.registered("web"), targets(1..=pods));
    world.calls.clear();
    world
}

#[test]
fn pods_are_registered_soon_after_they_are_ready_and_out_as_soon_as_they_are_deleted() {
    let mut world = with_pods(2);
    world.apply(web(3));
    world.pass(200 * MS);
    assert_eq!(world.registered("web"), targets(1..=3));
    world.apply(Pod {
        terminating: true,
        ..web(3)
    });
    world.pass(100 * MS);
    assert_eq!(world.registered("web"), targets(1..=2));
    world.pass(5 * S);
    assert_eq!(world.recorded("uid-web"), targets(1..=2));
    let kinds: Vec<Kind> = world.calls.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [Kind::Register, Kind::Deregister]);
}

#[test]
fn a_bad_target_holds_up_none_of_the_others_and_its_pod_is_told_once() {
    let mut world = with_pods(2);
    world.bad = targets([4]);
    (3..=6).for_each(|number| world.apply(web(number)));
    world.pass(3 * S);
    assert_eq!(world.registered("web"), targets([1, 2, 3, 5, 6]));
    world.pass(300 * S);
    assert_eq!(world.told_pods, ["web-4"]);
    world.bad.clear();
    world.pass(300 * S);
    assert_eq!(world.registered("web"), targets(1..=6));
}

#[test]
fn what_is_known_of_a_binding_names_the_targets_that_elb_refuses_in_its_words() {
    let mut world = with_pods(2);
    world.bad = targets([4]);
    (3..=4).for_each(|number| world.apply(web(number)));
    world.pass(10 * S);
    let (known, left_out) = world.registrar.known("shop", 10);
    assert_eq!((known.len(), left_out), (1, 0));
    let known = &known[0];
    assert_eq!(
        (known.key.clone(), known.standing),
        (key("web"), Standing::Ours)
    );
    assert!(known.active);
    let (ready, reason, words) = known.verdict.clone().unwrap();
    assert_eq!((ready, reason), (false, Reason::TargetRefused));
    let [(refused, why, said)] = &known.refused[..] else {
        panic!("one target is refused, not {:?}", known.refused);
    };
    assert_eq!(
        (*refused, *why, said),
        (target(4), Reason::TargetRefused, &words)
    );
    assert_eq!((known.counts.wanted, known.counts.registered), (4, 3));
    assert_eq!(world.registrar.known("shop", 0).1, 1);
    assert!(world.registrar.known("sho", 10).0.is_empty());
}

#[test]
fn a_ready_pod_that_cannot_be_a_target_is_counted() {
    let mut world = with_pods(2);
    let six = pod("web-6").label("app", "web").ip("fd00::6").ready();
    world.apply(six);
    world.pass(S);
    let counts = world.registrar.counts();
    assert_eq!((counts.wanted, counts.registered), (2, 2));
    assert_eq!(counts.unregistered, [(Reason::AddressNotFound, 1)].into());
}

#[test]
fn a_rollout_leaves_the_condition_as_it_is_and_a_registration_that_lasts_does_not() {
    let mut world = with_pods(2);
    assert_eq!(world.statuses.last(), Some(&(true, Reason::Registered)));
    world.statuses.clear();
    (3..=9).for_each(|number| {
        world.apply(web(number));
        world.pass(700 * MS);
    });
    world.pass(60 * S);
    assert_eq!(world.statuses, []);
    // No call is answered for a minute.
    world.faults = 100;
    world.apply(web(10));
    world.pass(60 * S);
    world.faults = 0;
    world.pass(60 * S);
    let ready: Vec<bool> = world.statuses.iter().map(|(ready, _)| *ready).collect();
    assert_eq!((ready.first(), ready.last()), (Some(&false), Some(&true)));
}

#[test]
fn five_hundred_pods_go_in_in_three_calls() {
    let mut world = World::new(2);
    world.serve("web", web_service());
    for number in 0..500_u16 {
        let [high, low] = number.to_be_bytes();
        let pod = pod(&format!("web-{number}")).label("app", "web").ready();
        world.apply(pod.ip(&format!("10.0.{high}.{low}")));
    }
    world.bind(Binding {
        uid: Some("uid-web".into()),
        ..binding("web")
    });
    world.pass(2 * S);
    assert_eq!((world.registered("web").len(), world.calls.len()), (500, 3));
}

#[test]
fn a_common_cause_empties_nothing_and_one_unready_pod_leaves() {
    // B5.
    let mut world = with_pods(20);
    let unready = |number| Pod {
        containers_ready: None,
        ..web(number)
    };
    world.apply(unready(1));
    world.pass(2 * S);
    assert_eq!(world.registered("web"), targets(2..=20));
    (2..=20).for_each(|number| world.apply(unready(number)));
    world.pass(600 * S);
    assert_eq!(world.registered("web"), targets(2..=20));
    assert!(world.told("HeldByFloor") && world.registrar.counts().held_by_floor == 19);
    (1..=20).for_each(|number| world.apply(web(number)));
    world.pass(5 * S);
    assert_eq!(world.registered("web"), targets(1..=20));
}

#[test]
fn the_floor_is_judged_by_an_answer_of_the_last_ten_seconds() {
    let mut world = with_pods(2);
    // Nothing happens, so that the group is looked at each minute.
    world.pass(100 * S);
    // ELB begins to check a target anew, of which the last answer does not know.
    world.register("web", target(2));
    world.apply(Pod {
        containers_ready: None,
        ..web(1)
    });
    world.pass(300 * MS);
    assert_eq!(world.registered("web"), targets(1..=2));
    world.pass(30 * S);
    assert_eq!(world.registered("web"), targets([2]));
}

#[test]
fn a_new_leader_takes_nothing_out_before_it_has_seen_everything_twice() {
    // B6: the new leader's watches have not synced for 20 seconds, and then it lacks half of the pods.
    let mut world = with_pods(4);
    world.fail_over(false);
    (3..=4).for_each(|number| world.lose(&format!("web-{number}")));
    world.pass(20 * S);
    assert_eq!(world.calls, []);
    world.sync();
    world.pass(5 * S);
    assert_eq!(world.registered("web"), targets(1..=4));
    (3..=4).for_each(|number| world.apply(web(number)));
    world.pass(60 * S);
    assert_eq!(world.calls, []);
}

#[test]
fn a_late_registration_of_a_former_leader_is_undone_at_the_second_look() {
    let mut world = with_pods(3);
    world.fail_over(true);
    world.pass(S);
    world.apply(Pod {
        terminating: true,
        ..web(3)
    });
    world.pass(S);
    assert_eq!(world.registered("web"), targets(1..=2));
    assert_eq!(world.recorded("uid-web"), targets(1..=3));
    world.register("web", target(3));
    world.pass(10 * S);
    assert_eq!(world.registered("web"), targets(1..=2));
    world.pass(5 * S);
    assert_eq!(world.recorded("uid-web"), targets(1..=2));
}

#[test]
fn a_watch_that_breaks_freezes_what_leaves_for_its_absence_alone() {
    let mut world = with_pods(6);
    world.works(false);
    world.lose("web-1");
    world.apply(Pod {
        terminating: true,
        ..web(2)
    });
    world.apply(web(7));
    world.pass(60 * S);
    assert_eq!(world.registered("web"), targets([1, 3, 4, 5, 6, 7]));
    world.works(true);
    world.pass(5 * S);
    assert_eq!(world.registered("web"), targets(3..=7));
}

#[test]
fn a_port_that_vanishes_and_comes_back_is_registered_anew() {
    // B7.
    let mut world = with_pods(3);
    world.serve("web", service().selecting("app", "web"));
    world.pass(20 * S);
    assert_eq!(world.registered("web"), targets(1..=3));
    world.serve("web", web_service());
    world.pass(60 * S);
    assert_eq!(world.calls, []);
    // A Service that is gone for good: the floor holds its pods for five minutes more.
    world.remove_service("web");
    world.pass(100 * S);
    assert_eq!(world.registered("web"), targets(1..=3));
    world.pass(300 * S);
    assert_eq!(world.registered("web"), targets([]));
    world.serve("web", web_service());
    world.pass(5 * S);
    assert_eq!(world.registered("web"), targets(1..=3));
}

#[test]
fn targets_that_are_removed_by_hand_are_repaired_and_not_fought_for_without_a_pause() {
    // B15.
    let mut world = with_pods(3);
    world.remove("web", target(1));
    world.pass(70 * S);
    assert_eq!(world.registered("web"), targets(1..=3));
    for _ in 0..200 {
        world.remove("web", target(1));
        world.pass(5 * S);
    }
    assert!(world.told("TargetsRemoved"));
    assert!(world.calls.len() <= 12, "{:?}", world.calls.len());
}

#[test]
fn foreign_targets_are_kept_counted_and_told() {
    let mut world = with_pods(2);
    let (foreign, another) = (([10, 9, 0, 1].into(), 8080), target(77));
    world.register("web", foreign);
    world.register("web", another);
    world.apply(pod("other").ip("10.0.0.77").ready());
    world.pass(70 * S);
    assert_eq!(world.registrar.counts().foreign, 2);
    assert!(world.told("AddressOfAnotherPod"));
    world.delete_binding("web");
    world.pass(10 * S);
    assert_eq!(world.registered("web"), [foreign, another].into());
}

#[test]
fn a_deleted_binding_is_cleaned_up_by_its_record_alone() {
    // B19: its Service is gone, and so are its pods.
    let mut world = with_pods(3);
    world.remove_service("web");
    (1..=3).for_each(|number| world.lose(&format!("web-{number}")));
    world.delete_binding("web");
    world.pass(5 * S);
    assert_eq!(world.registered("web"), targets([]));
    assert!(!world.is_bound("web") && world.recorded("uid-web").is_empty());
    assert!(world.records.is_empty());
}

#[test]
fn a_binding_that_never_registered_is_deleted_at_once_and_one_of_a_group_that_is_gone_too() {
    let mut world = with_pods(0);
    world.delete_binding("web");
    world.pass(2 * S);
    assert!(!world.is_bound("web") && world.calls.is_empty());
    let mut world = with_pods(2);
    world.lose_groups();
    world.delete_binding("web");
    world.pass(5 * S);
    assert!(!world.is_bound("web"));
}

#[test]
fn a_cleanup_that_aws_denies_is_told_until_it_is_abandoned() {
    let mut world = with_pods(2);
    world.denied = true;
    world.delete_binding("web");
    world.pass(600 * S);
    assert!(world.is_bound("web") && world.told("CleanupFailed"));
    assert!(world.calls.len() <= 8, "{}", world.calls.len());
    world.change_binding("web", |binding| binding.registration.abandoned = true);
    world.pass(60 * S);
    assert!(!world.is_bound("web"));
    let (record, _) = &world.records[&Arc::from("uid-web")];
    assert!(record.abandoned && record.targets == targets(1..=2));
    world.remove("web", target(1));
    world.remove("web", target(2));
    world.pass(120 * S);
    assert!(
        world.records.is_empty(),
        "it stays until the targets are gone"
    );
}

#[test]
fn the_incumbents_binding_is_taken_over_with_all_its_targets_and_given_back() {
    let mut world = World::new(3);
    world.incumbent = Incumbent::Leads;
    world.serve("web", web_service());
    (1..=4).for_each(|number| world.apply(web(number)));
    (1..=6).for_each(|number| world.register("web", target(number)));
    let mut theirs = binding("web");
    theirs.uid = Some("uid-web".into());
    theirs.registration.incumbent_finalizer = true;
    world.bind(theirs);
    world.pass(60 * S);
    assert!(world.told("HeldByAnother") && world.records.is_empty() && world.calls.is_empty());
    world.incumbent = Incumbent::Gone;
    world.pass(9 * S);
    assert_eq!(world.recorded("uid-web"), targets(1..=6));
    assert_eq!(world.finalizers("web"), (true, false));
    assert_eq!(world.calls, [], "nothing leaves before the second look");
    world.pass(60 * S);
    assert_eq!(world.registered("web"), targets(1..=4));
    // Its finalizer comes back: it is back, whatever its Lease says.
    world.change_binding("web", |binding| {
        binding.registration.incumbent_finalizer = true
    });
    world.calls.clear();
    world.apply(web(9));
    world.apply(Pod {
        terminating: true,
        ..web(1)
    });
    world.pass(60 * S);
    assert_eq!(world.calls, []);
    world.change_binding("web", |binding| {
        binding.registration.incumbent_finalizer = false
    });
    world.pass(60 * S);
    assert_eq!(world.registered("web"), targets([2, 3, 4, 9]));
    world.change_binding("web", |binding| binding.registration.asked = Some(false));
    world.pass(60 * S);
    assert_eq!(world.finalizers("web"), (false, false));
    assert_eq!(world.registered("web"), targets([2, 3, 4, 9]));
}

#[test]
fn a_released_binding_is_told_so_and_left_alone_until_the_mark_is_cleared() {
    let mut world = with_pods(3);
    world.pass(10 * S);
    assert_eq!(world.statuses.last(), Some(&(true, Reason::Registered)));
    world.mark("uid-web", Some("uid-deployment"));
    world.pass(10 * S);
    world.lose("web-1");
    world.apply(web(4));
    world.pass(60 * S);
    assert_eq!(world.finalizers("web"), (false, false));
    assert!(world.told("Released"));
    assert_eq!(world.statuses.last(), Some(&(false, Reason::Released)));
    assert_eq!(world.registered("web"), targets(1..=3));
    world.fail_over(true);
    world.pass(60 * S);
    assert_eq!(
        world.times_told("Released"),
        1,
        "a new leader does not repeat it"
    );
    world.mark("uid-web", None);
    world.pass(60 * S);
    assert_eq!(world.finalizers("web"), (true, false));
    assert_eq!(world.registered("web"), targets(2..=4));
    assert_eq!(world.statuses.last(), Some(&(true, Reason::Registered)));
}

#[test]
fn the_status_of_a_released_binding_that_the_incumbent_holds_is_the_incumbents() {
    let mut world = with_pods(3);
    world.mark("uid-web", Some("uid-deployment"));
    world.pass(10 * S);
    assert_eq!(world.statuses.last(), Some(&(false, Reason::Released)));
    world.change_binding("web", |binding| {
        binding.registration.incumbent_finalizer = true;
    });
    let written = world.statuses.len();
    world.fail_over(true);
    world.pass(60 * S);
    assert_eq!(world.finalizers("web"), (false, true));
    assert_eq!(world.statuses[written..], []);
}

#[test]
fn a_lost_record_is_written_anew_with_living_pods_alone() {
    let mut world = with_pods(3);
    world.register("web", target(50));
    world.delete_record("uid-web");
    world.fail_over(true);
    world.pass(60 * S);
    assert_eq!(world.recorded("uid-web"), targets(1..=3));
    assert_eq!(world.registered("web"), targets([1, 2, 3, 50]));
    assert_eq!(world.calls, []);
}

#[test]
fn a_target_that_two_bindings_want_stays_when_one_of_them_goes() {
    let mut world = World::new(4);
    world.serve("web", web_service());
    for name in ["a", "b"] {
        let mut both = binding(name).of_group("shared");
        both.multi_cluster = true;
        both.uid = Some(format!("uid-{name}").into());
        world.bind(both);
    }
    (1..=2).for_each(|number| world.apply(web(number)));
    world.pass(15 * S);
    assert_eq!(world.registered("shared"), targets(1..=2));
    world.delete_binding("a");
    world.pass(30 * S);
    assert_eq!(world.registered("shared"), targets(1..=2));
    assert!(!world.is_bound("a"));
    assert_eq!(world.recorded("uid-b"), targets(1..=2));
}

fn shared(name: &str) -> Binding {
    let mut binding = binding(name).of_group("shared");
    binding.multi_cluster = true;
    binding.uid = Some(format!("uid-{name}").into());
    binding
}

fn with_a_shared_group() -> World {
    let mut world = World::new(4);
    world.serve("web", web_service());
    world.bind(shared("a"));
    (1..=2).for_each(|number| world.apply(web(number)));
    world.pass(15 * S);
    world
}

#[test]
fn a_record_names_a_target_while_it_passes_to_a_binding_that_is_being_taken_over() {
    let mut world = with_a_shared_group();
    world.is_refused_by_a_hook = true;
    world.bind(shared("b"));
    world.delete_binding("a");
    world.pass(10 * S);
    let named = &world.recorded("uid-a") | &world.recorded("uid-b");
    assert_eq!(named, targets(1..=2));
    world.is_refused_by_a_hook = false;
    world.pass(60 * S);
    assert_eq!(world.registered("shared"), targets(1..=2));
    assert!(!world.is_bound("a"));
    assert_eq!(world.recorded("uid-b"), targets(1..=2));
}

#[test]
fn a_binding_that_cannot_be_taken_over_keeps_no_other_of_its_group_from_going() {
    let mut world = with_a_shared_group();
    world.refused_by_a_policy = Some("b");
    world.bind(shared("b"));
    world.delete_binding("a");
    world.pass(30 * S);
    assert!(world.is_bound("a"));
    world.pass(300 * S);
    assert!(!world.is_bound("a"));
    assert_eq!(world.registered("shared"), targets(1..=2));
}

#[test]
fn calls_are_begun_within_the_renew_deadline_alone_and_within_the_budget() {
    let mut world = with_pods(1);
    world.deadline = Some(world.now);
    world.apply(web(2));
    world.pass(30 * S);
    assert_eq!(world.calls, []);
    world.deadline = None;
    world.pass(S);
    assert_eq!(world.registered("web"), targets(1..=2));
}
