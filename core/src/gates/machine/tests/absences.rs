//! Gates whose binding or Service is gone open, but never on a guess.

use super::*;

/// A live read of these bindings and Services.
fn fresh(bindings: &[Binding], services: &[(&str, Service)]) -> LiveRead {
    let services = services.iter().map(|(name, s)| ((*name).into(), s.clone()));
    LiveRead {
        bindings: bindings.to_vec(),
        services: services.collect::<BTreeMap<_, _>>(),
    }
}

impl World {
    /// Lets time pass until something is to be confirmed, and confirms it with `found`.
    fn confirm(&mut self, after: Duration, found: Option<&LiveRead>) -> GateId {
        self.pass(after - Duration::from_millis(1));
        assert_eq!(self.done(), vec![], "before {after:?}");
        self.pass(Duration::from_millis(1));
        let actions = self.done();
        let [Action::Confirm(id)] = &actions[..] else {
            panic!("a confirmation, not {actions:?}");
        };
        let actions = self.tracker.confirmed(id, found, self.now);
        self.actions.extend(actions);
        id.clone()
    }
}

#[test]
fn a_gate_whose_binding_is_gone_opens_after_30_seconds_and_a_live_read() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.unbind("web");
    world.confirm(30 * S, Some(&fresh(&[], &[])));
    let write = world.write();
    assert_eq!(words(&write), (true, "", "Target Group Binding is deleted"));
    assert_eq!(write.reason, "BindingGone");
}

#[test]
fn a_gate_whose_binding_was_never_seen_waits_as_long_as_orphans_do() {
    let mut world = World::empty();
    world.see(web("web-1", "10.0.0.1"));
    world.confirm(ORPHAN_AFTER, Some(&fresh(&[], &[])));
    assert_eq!(world.write().reason, "BindingGone");
}

#[test]
fn a_gate_that_comes_after_its_binding_was_seen_to_go_waits_no_longer_than_others() {
    let mut world = World::new();
    world.unbind("web");
    world.see(web("web-1", "10.0.0.1"));
    world.confirm(30 * S, Some(&fresh(&[], &[])));
    assert_eq!(world.write().reason, "BindingGone");
}

#[test]
fn a_binding_that_only_the_cache_lacks_keeps_its_gate_closed() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.unbind("web");
    let found = fresh(&[binding("web")], &[("web", web_service())]);
    world.confirm(30 * S, Some(&found));
    assert_eq!(world.done(), vec![]);
    // The binding may have been deleted just before the second live read.
    world.confirm(30 * S, Some(&fresh(&[], &[])));
    assert_eq!(world.done(), vec![]);
    world.confirm(30 * S, Some(&fresh(&[], &[])));
    assert_eq!(world.write().reason, "BindingGone");
}

#[test]
fn what_cannot_be_confirmed_stays_closed_and_is_tried_again() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.unbind("web");
    world.confirm(30 * S, None);
    world.confirm(10 * S, None);
    assert_eq!(world.done(), vec![]);
    world.confirm(10 * S, Some(&fresh(&[], &[])));
    assert_eq!(world.write().reason, "BindingGone");
}

#[test]
fn a_binding_that_comes_back_is_asked_about_again() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.unbind("web");
    world.pass(20 * S);
    world.bind(binding("web"));
    world.pass(100 * S);
    assert_eq!(world.done(), vec![]);
    world.round("web", &[healthy("10.0.0.1")]);
    assert_eq!(world.write().reason, "Healthy");
}

#[test]
fn a_pod_that_its_service_no_longer_selects_opens_as_not_selected() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    let switched = service().selecting("app", "green").port("http", 80, None);
    world.serve(switched.clone());
    assert_eq!(world.asks(), None);
    world.confirm(
        30 * S,
        Some(&fresh(&[binding("web")], &[("web", switched)])),
    );
    let write = world.write();
    assert_eq!(
        (write.reason, words(&write).1),
        ("NotSelected", "NotSelected")
    );
}

#[test]
fn a_binding_whose_service_is_gone_opens_its_gates() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.index.delete_service(&key("web"));
    world.settle();
    world.confirm(30 * S, Some(&fresh(&[binding("web")], &[])));
    let write = world.write();
    assert_eq!(
        (write.reason, words(&write).2),
        ("ServiceGone", "Target Group Binding is deleted")
    );
}

#[test]
fn the_gates_of_one_binding_share_a_live_read() {
    let mut world = World::new();
    for n in 1..=3 {
        world.see(web(&format!("web-{n}"), &format!("10.0.0.{n}")));
    }
    world.unbind("web");
    world.confirm(30 * S, Some(&fresh(&[], &[])));
    assert_eq!(world.done().len(), 3);
}

#[test]
fn an_absence_is_confirmed_only_after_the_pause_of_a_failed_write() {
    let (mut world, write) = World::opening();
    world.unbind("web");
    world.pass(30 * S - S / 2);
    world.ended(&write, WriteOutcome::Failed);
    let paused_until = world.now + S;
    world.pass(S / 2);
    assert_eq!(world.done(), vec![]);
    assert_eq!(world.tracker.next_tick(world.now), Some(paused_until));
    world.pass(S / 2);
    assert!(matches!(&world.done()[..], [Action::Confirm(_)]));
}
