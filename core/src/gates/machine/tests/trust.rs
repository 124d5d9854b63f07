//! Answers that may be about a previous pod.

use super::*;

#[test]
fn an_answer_requested_before_the_pod_was_due_opens_nothing() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    assert_eq!(world.asks().as_deref(), Some("web"));
    let requested = world.now;
    world.pass(S);
    world.see(web("web-2", "10.0.0.2"));
    let both = [initial("10.0.0.1"), healthy("10.0.0.2")];
    world.answer("web", requested, Ok(&both));
    assert_eq!(world.write().id.pod, key("web-1"));
}

#[test]
fn a_used_address_counts_only_after_it_was_seen_not_healthy() {
    let mut world = World::new();
    world.see(web("web-0", "10.0.0.1").condition(true, "", ""));
    world.index.delete_pod(&key("web-0"));
    world.see(web("web-1", "10.0.0.1"));
    world.round("web", &[healthy("10.0.0.1")]);
    assert_eq!(world.done(), vec![Action::Prove(group("web"))]);
    world.pass(S);
    world.round("web", &[]);
    let write = world.write();
    assert_eq!(words(&write).1, "Elb.RegistrationInProgress");
    world.written(&write, "2");
    world.pass(S);
    world.round("web", &[healthy("10.0.0.1")]);
    assert!(world.write().condition.status);
}

#[test]
fn a_used_address_counts_once_the_checks_had_time_to_notice() {
    let mut world = World::new();
    world.see(web("web-0", "10.0.0.1").condition(true, "", ""));
    world.index.delete_pod(&key("web-0"));
    world.see(web("web-1", "10.0.0.1"));
    world.round("web", &[healthy("10.0.0.1")]);
    world.done();
    world.tracker.proven(&group("web"), Some(10 * S));
    world.pass(9 * S);
    world.round("web", &[healthy("10.0.0.1")]);
    assert_eq!(world.done(), vec![]);
    world.pass(S);
    world.round("web", &[healthy("10.0.0.1")]);
    assert!(world.write().condition.status);
}

#[test]
fn an_address_of_another_port_is_not_a_used_one() {
    let mut world = World::new();
    let named = Some(crate::model::PortRef::Name("http".into()));
    world.serve(service().selecting("app", "web").port("http", 80, named));
    let host = |name: &str, port| web(name, "10.0.0.1").named_port("http", port);
    world.see(host("web-0", 8080).condition(true, "", ""));
    world.see(host("web-1", 8081));
    let mut answer = healthy("10.0.0.1");
    answer.target.1 = 8081;
    world.round("web", &[answer]);
    assert!(world.write().condition.status);
}

#[test]
fn a_target_that_was_registered_before_its_pod_was_due_is_not_believed_at_once() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.round("web", &[initial("10.0.0.1"), healthy("10.0.0.2")]);
    world.done();
    world.see(web("web-2", "10.0.0.2"));
    world.pass(S);
    world.round("web", &[initial("10.0.0.1"), healthy("10.0.0.2")]);
    assert_eq!(world.done(), vec![Action::Prove(group("web"))]);
}

#[test]
fn a_pod_replaced_under_its_name_starts_anew() {
    let mut world = World::new();
    world.see(web("web-0", "10.0.0.1").uid("first"));
    assert!(world.asks().is_some());
    let requested = world.now;
    world.pass(S);
    world.see(web("web-0", "10.0.0.1").uid("second"));
    world.answer("web", requested, Ok(&[healthy("10.0.0.1")]));
    assert_eq!(world.done(), vec![]);
    assert_eq!(world.tracker.pending(), 1);
}
