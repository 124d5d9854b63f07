//! From ELB's answers to the conditions that are written.

use super::*;

#[test]
fn a_gate_opens_when_elb_says_healthy() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.round("web", &[healthy("10.0.0.1")]);
    let write = world.write();
    assert_eq!(words(&write), (true, "", ""));
    assert_eq!((write.reason, write.transition), ("Healthy", true));
}

#[test]
fn a_gate_that_is_true_is_left_alone() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1").condition(true, "", ""));
    assert_eq!((world.asks(), world.done()), (None, vec![]));
}

#[test]
fn the_same_state_twice_is_written_once() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.round("web", &[initial("10.0.0.1")]);
    let write = world.write();
    assert_eq!(words(&write), (false, "Elb.InitialHealthChecking", ""));
    world.written(&write, "2");
    world.pass(S);
    world.round("web", &[initial("10.0.0.1")]);
    assert_eq!(world.done(), vec![]);
}

#[test]
fn the_time_of_a_condition_moves_only_with_its_status() {
    let mut world = World::new();
    let reason = "Elb.InitialHealthChecking";
    world.see(web("web-1", "10.0.0.1").condition(false, reason, ""));
    world.round("web", &[]);
    assert!(!world.write().transition);
}

#[test]
fn an_old_sight_of_a_pod_does_not_undo_our_write() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1").version("7"));
    world.round("web", &[healthy("10.0.0.1")]);
    let write = world.write();
    world.written(&write, "9");
    world.see(web("web-1", "10.0.0.1").version("8"));
    assert_eq!((world.asks(), world.done()), (None, vec![]));
    world.see(
        web("web-1", "10.0.0.1")
            .version("9")
            .condition(true, "", ""),
    );
    assert_eq!((world.asks(), world.tracker.pending()), (None, 0));
}

#[test]
fn a_later_sight_of_a_pod_than_our_write_is_what_the_next_one_replaces() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1").version("7"));
    world.round("web", &[initial("10.0.0.1")]);
    let write = world.write();
    // The kubelet writes right after us, and the watch shows both writes before the API server answers ours.
    let reason = "Elb.InitialHealthChecking";
    let seen = |version: &str| web("web-1", "10.0.0.1").version(version);
    world.see(seen("9").condition(false, reason, ""));
    world.see(seen("10").condition(false, reason, ""));
    world.written(&write, "9");
    world.pass(S);
    world.round("web", &[healthy("10.0.0.1")]);
    assert_eq!(&*world.write().version, "10");
}

#[test]
fn what_another_client_wrote_after_us_is_known_before_we_are_answered() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1").version("7"));
    world.round("web", &[healthy("10.0.0.1")]);
    let write = world.write();
    world.see(
        web("web-1", "10.0.0.1")
            .version("10")
            .condition(false, "Theirs", ""),
    );
    world.written(&write, "9");
    let again = world.write();
    assert_eq!((words(&again).0, &*again.version), (true, "10"));
}

#[test]
fn a_gate_that_another_client_closed_waits_again() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1").version("7"));
    world.round("web", &[healthy("10.0.0.1")]);
    let write = world.write();
    world.written(&write, "9");
    world.see(
        web("web-1", "10.0.0.1")
            .version("10")
            .condition(false, "Theirs", ""),
    );
    world.pass(S);
    world.round("web", &[healthy("10.0.0.1")]);
    assert!(world.write().condition.status);
}

#[test]
fn a_group_that_aws_does_not_know_is_said_so_once() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    assert!(world.asks().is_some());
    world.answer("web", world.now, Err(CallFailure::GroupNotFound));
    let [Action::MissingGroup(missing), Action::Write(write)] = &world.done()[..] else {
        panic!("the news and a write");
    };
    let write = OneChange::of(write.clone());
    assert_eq!(
        (&*write.condition.reason, missing),
        ("TargetGroupNotFound", &group("web"))
    );
    world.written(&write, "2");
    world.pass(S);
    assert!(world.asks().is_some());
    world.answer("web", world.now, Err(CallFailure::GroupNotFound));
    assert_eq!(world.done(), vec![]);
    world.pass(2 * S);
    world.round("web", &[healthy("10.0.0.1")]);
    assert!(world.write().condition.status);
}

#[test]
fn a_terminating_pod_is_forgotten() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    let mut ending = web("web-1", "10.0.0.1");
    ending.terminating = true;
    world.see(ending);
    assert_eq!((world.asks(), world.tracker.pending()), (None, 0));
}

#[test]
fn a_gate_that_both_apis_share_opens_when_both_groups_say_healthy() {
    let mut world = World::empty();
    let apis = BindingApi::ALL.to_vec();
    world.tracker = Tracker::new(Settings {
        apis,
        orphan_after: ORPHAN_AFTER,
        seed: 1,
    });
    world.lead();
    world.serve(web_service());
    world.bind(binding("web"));
    world.bind(binding("web").of_api(BindingApi::Eks).of_group("auto"));
    world.see(web("web-1", "10.0.0.1"));
    world.round("auto", &[healthy("10.0.0.1")]);
    assert_eq!(world.done(), vec![]);
    world.round("web", &[healthy("10.0.0.1")]);
    assert!(world.write().condition.status);
}

#[test]
fn a_named_port_that_the_pod_lacks_is_written_without_asking_elb() {
    let mut world = World::new();
    let named = Some(crate::model::PortRef::Name("grpc".into()));
    world.serve(service().selecting("app", "web").port("http", 80, named));
    world.see(web("web-1", "10.0.0.1"));
    assert_eq!(world.asks(), None);
    assert_eq!(&*world.write().condition.reason, "PortNotFound");
}
