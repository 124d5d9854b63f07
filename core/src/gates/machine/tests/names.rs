//! Bindings that name a group without an ARN, or none (contract 5.3).

use super::*;
use crate::names::NamedGroup;

fn named() -> Binding {
    Binding {
        arn: None,
        group_name: Some("web".into()),
        ..binding("web")
    }
}

fn name() -> NamedGroup {
    NamedGroup {
        name: "web".into(),
        role: None,
    }
}

type Found = Result<Option<TargetGroupArn>, ()>;

impl World {
    fn named() -> Self {
        let mut world = Self::empty();
        world.serve(web_service());
        world.bind(named());
        world.see(web("web-1", "10.0.0.1"));
        world
    }

    /// Expects that the name has to be resolved after this time and not before, and resolves it.
    #[track_caller]
    fn resolve(&mut self, after: Duration, found: Found) {
        if !after.is_zero() {
            self.pass(after - Duration::from_millis(1));
            assert_eq!(self.done(), vec![]);
            self.pass(Duration::from_millis(1));
        } else {
            self.pass(Duration::ZERO);
        }
        assert_eq!(self.done(), vec![Action::Resolve(name())]);
        self.pass(Duration::ZERO);
        assert_eq!(self.done(), vec![], "one call at a time");
        let moment = (self.now, self.wall());
        let actions = self.tracker.resolved(&name(), found, &self.index, moment);
        self.actions.extend(actions);
    }

    /// The Event and the write that are due.
    #[track_caller]
    fn told(&mut self) -> (&'static str, OneChange) {
        self.pass(Duration::ZERO);
        let actions = self.done();
        let [Action::Report { reason, .. }, Action::Write(write)] = &actions[..] else {
            panic!("an Event and a write, not {actions:?}");
        };
        (reason.as_str(), OneChange::of(write.clone()))
    }
}

#[test]
fn a_name_is_resolved_and_then_polled() {
    let mut world = World::named();
    assert_eq!(world.tracker.next_tick(world.now), Some(world.now));
    world.resolve(Duration::ZERO, Ok(Some(arn("web"))));
    world.round("web", &[healthy("10.0.0.1")]);
    let write = world.write();
    assert_eq!(write.reason, "Healthy");
    world.written(&write, "2");
    world.pass(3600 * S);
    assert_eq!(world.done(), vec![], "nobody waits for the name");
}

#[test]
fn a_name_that_aws_does_not_tell_is_tried_again_with_a_backoff() {
    let mut world = World::named();
    world.resolve(Duration::ZERO, Err(()));
    world.resolve(S, Err(()));
    world.resolve(2 * S, Err(()));
    assert_eq!(
        world.tracker.waiting(&key("web-1"))[0].reason.as_str(),
        "GroupNotResolved"
    );
    world.resolve(4 * S, Ok(Some(arn("web"))));
    assert_eq!(world.asks().as_deref(), Some("web"));
}

#[test]
fn a_name_that_aws_does_not_know_closes_the_gate_until_the_group_is_there() {
    let mut world = World::named();
    world.resolve(Duration::ZERO, Ok(None));
    let (reason, write) = world.told();
    assert_eq!(
        (reason, &*write.condition.reason),
        ("TargetGroupUnknown", "TargetGroupUnknown")
    );
    world.written(&write, "2");
    world.resolve(S, Ok(None));
    world.pass(Duration::ZERO);
    assert_eq!(world.done(), vec![], "it was told");
    world.resolve(2 * S, Ok(Some(arn("web"))));
    world.round("web", &[healthy("10.0.0.1")]);
    assert!(world.write().condition.status);
}

#[test]
fn a_group_that_was_replaced_under_its_name_is_found() {
    let mut world = World::named();
    world.resolve(Duration::ZERO, Ok(Some(arn("web"))));
    assert!(world.asks().is_some());
    world.answer("web", world.now, Err(CallFailure::GroupNotFound));
    let writes = world.done();
    let write = writes.iter().find_map(|action| match action {
        Action::Write(write) => Some(OneChange::of(write.clone())),
        _ => None,
    });
    world.written(&write.unwrap(), "2");
    world.resolve(30 * S, Ok(Some(arn("new"))));
    world.round("new", &[healthy("10.0.0.1")]);
    assert!(world.write().condition.status);
}

#[test]
fn a_binding_that_names_no_group_closes_its_gate_and_is_told_once() {
    let mut world = World::named();
    world.bind(Binding {
        group_name: None,
        ..named()
    });
    world.see(web("web-2", "10.0.0.2"));
    world.pass(Duration::ZERO);
    let actions = world.done();
    let reports = actions
        .iter()
        .filter(|action| matches!(action, Action::Report { .. }));
    assert_eq!(reports.count(), 1);
    let writes = actions
        .iter()
        .filter(|action| matches!(action, Action::Write(_)));
    assert_eq!(writes.count(), 2);
}

#[test]
fn a_port_that_the_service_lacks_closes_the_gate_and_is_told_once() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    let port = crate::model::PortRef::Number(30080);
    world.bind(binding("web").service_port(port.clone()));
    let (reason, write) = world.told();
    assert_eq!(
        (reason, &*write.condition.reason),
        ("ServicePortNotFound", "ServicePortNotFound")
    );
    world.written(&write, "2");
    world.pass(3600 * S);
    assert_eq!(world.done(), vec![]);
    world.bind(binding("web"));
    world.bind(binding("web").service_port(port));
    world.pass(Duration::ZERO);
    let told = world.done();
    assert!(
        matches!(&told[..], [Action::Report { .. }]),
        "it was mended in between: {told:?}"
    );
}
