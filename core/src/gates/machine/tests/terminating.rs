//! Gates of a binding that is being deleted (contract 5.3).

use super::*;

fn terminating() -> Binding {
    Binding {
        terminating: true,
        ..binding("web")
    }
}

impl World {
    /// A world in which binding `web` is being deleted, and the due pod `web-1` waits.
    fn terminating() -> Self {
        let mut world = Self::new();
        world.bind(terminating());
        world.see(web("web-1", "10.0.0.1"));
        world
    }

    /// Polls every second for so long, with the same answer, and writes what follows. Returns the last action.
    fn hear(&mut self, seconds: u32, targets: &[TargetHealth]) -> Vec<Action> {
        let mut last = vec![];
        for second in 0..=seconds {
            if second > 0 {
                self.pass(S);
            }
            if self.asks().is_some() {
                self.answer("web", self.now, Ok(targets));
            }
            last = self.done();
            if let [Action::Write(write)] = &last[..] {
                self.patched(write, WriteOutcome::Written("2".into()));
            }
        }
        last
    }

    /// Confirms the binding as the API server has it.
    fn confirm_that_it_is(&mut self, actions: &[Action], binding: Binding) {
        let [Action::Confirm(id)] = actions else {
            panic!("a confirmation, not {actions:?}");
        };
        let fresh = LiveRead {
            bindings: vec![binding],
            services: [("web".into(), web_service())].into(),
        };
        let actions = self.tracker.confirmed(id, Some(&fresh), self.now);
        self.actions.extend(actions);
    }
}

#[test]
fn a_gate_whose_target_is_not_registered_opens_after_30_seconds_and_a_live_read() {
    let mut world = World::terminating();
    let draining = health("10.0.0.1", TargetState::Draining, "");
    assert_eq!(world.hear(20, &[]), vec![]);
    let mut last = vec![];
    for _ in 0..20 {
        world.pass(S);
        last = world.hear(0, std::slice::from_ref(&draining));
        if !last.is_empty() {
            break;
        }
    }
    assert!(world.now - world.begun >= 30 * S);
    world.confirm_that_it_is(&last, terminating());
    let write = world.write();
    assert_eq!(words(&write), (true, "", "Target Group Binding is deleted"));
    assert_eq!(write.reason, "BindingTerminating");
}

#[test]
fn a_binding_that_was_created_anew_is_waited_for() {
    let mut world = World::terminating();
    let mut actions = vec![];
    while !matches!(&actions[..], [Action::Confirm(_)]) {
        world.pass(S);
        actions = world.hear(0, &[]);
        assert!(world.now - world.begun < 60 * S);
    }
    world.confirm_that_it_is(&actions, binding("web"));
    assert_eq!(world.hear(5, &[]), vec![]);
    world.assert_is_closed();
}

#[test]
fn elbs_word_counts_while_the_target_is_there() {
    let mut world = World::terminating();
    assert_eq!(world.hear(60, &[initial("10.0.0.1")]), vec![]);
    world.assert_is_closed();
    let actions = world.hear(60, &[healthy("10.0.0.1")]);
    assert_eq!((actions, world.tracker.pending()), (vec![], 0));
}

#[test]
fn a_binding_that_begins_to_be_deleted_keeps_what_elb_said() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.round("web", &[initial("10.0.0.1")]);
    world.done();
    world.bind(terminating());
    assert_eq!(
        world.tracker.waiting(&key("web-1"))[0].reason.as_str(),
        "NotHealthy"
    );
}

#[test]
fn a_gate_that_cannot_have_a_target_opens_as_well() {
    let mut world = World::new();
    world.serve(service().selecting("app", "web"));
    world.bind(terminating());
    world.see(web("web-1", "10.0.0.1"));
    world.pass(30 * S);
    let actions = world.done();
    let [Action::Confirm(id)] = &actions[..] else {
        panic!("a confirmation, not {actions:?}");
    };
    let portless = service().selecting("app", "web");
    let fresh = LiveRead {
        bindings: vec![terminating()],
        services: [("web".into(), portless)].into(),
    };
    let actions = world.tracker.confirmed(id, Some(&fresh), world.now);
    world.actions.extend(actions);
    assert_eq!(world.write().reason, "BindingTerminating");
}
