//! Answers that may be about a previous pod.

use super::*;

impl World {
    /// A namespace as [`World::new`], whose pods were not listed yet.
    fn starting() -> Self {
        let mut world = Self::new();
        world.index = Index::default();
        world.serve(web_service());
        world.bind(binding("web"));
        world
    }

    /// Lets a pod without a gate have an address, and end.
    fn use_address(&mut self, ip: &str) {
        self.index.apply_pod(pod("former").ip(ip));
        self.index.delete_pod(&key("former"));
    }

    /// AWS tells health checks that prove a target within 10 s.
    fn proven(&mut self) {
        let checks = HealthChecks {
            interval: S,
            healthy_threshold: 3,
            unhealthy_threshold: 9,
        };
        let actions = self.tracker.proven(&group("web"), Some(checks), self.now);
        self.actions.extend(actions);
    }

    /// Asserts that the gate of `web-1`, which just became due, opens only once it is proven, after this time.
    #[track_caller]
    fn assert_doubted_for(&mut self, time: Duration) {
        self.round("web", &[healthy("10.0.0.1")]);
        assert_eq!(self.done(), vec![Action::Prove(group("web"))]);
        self.proven();
        self.pass(time - S);
        self.round("web", &[healthy("10.0.0.1")]);
        assert_eq!(self.done(), vec![]);
        self.pass(S);
        self.round("web", &[healthy("10.0.0.1")]);
        assert!(self.write().condition.status);
    }
}

/// A pod whose containers are not ready.
fn starting(name: &str, ip: &str) -> Pod {
    Pod {
        containers_ready: None,
        ..web(name, ip)
    }
}

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
    world.assert_doubted_for(10 * S);
}

#[test]
fn a_health_check_number_that_aws_leaves_out_proves_nothing() {
    let mut world = World::new();
    world.use_address("10.0.0.1");
    world.see(web("web-1", "10.0.0.1"));
    world.round("web", &[healthy("10.0.0.1")]);
    world.done();
    let actions = world.tracker.proven(&group("web"), None, world.now);
    assert_eq!(actions, vec![]);
    world.pass(3600 * S);
    world.round("web", &[healthy("10.0.0.1")]);
    assert_eq!(world.done(), vec![Action::Prove(group("web"))]);
}

#[test]
fn an_address_of_an_ungated_pod_of_another_namespace_is_a_used_one() {
    let mut world = World::new();
    let plain = Pod {
        key: ObjectKey::new("other", "plain"),
        ..pod("plain").ip("10.0.0.1")
    };
    world.index.apply_pod(plain.clone());
    world.index.delete_pod(&plain.key);
    world.see(web("web-1", "10.0.0.1"));
    world.assert_doubted_for(10 * S);
}

#[test]
fn a_pod_of_the_first_list_that_started_lately_is_doubted() {
    let mut world = World::starting();
    let started = world.wall() - SignedDuration::from_secs(4);
    world.index.apply_pod(Pod {
        started: Some(started),
        ..web("web-1", "10.0.0.1")
    });
    world.index.retain_pods(&Listing {
        namespace: None,
        keys: [key("web-1")].into(),
    });
    world.settle();
    world.assert_doubted_for(6 * S);
}

#[test]
fn a_pod_of_the_first_list_that_started_long_ago_is_believed_once_its_checks_are_known() {
    let mut world = World::starting();
    let started = world.wall() - SignedDuration::from_secs(60);
    world.see(Pod {
        started: Some(started),
        ..web("web-1", "10.0.0.1")
    });
    world.round("web", &[healthy("10.0.0.1")]);
    assert_eq!(world.done(), vec![Action::Prove(group("web"))]);
    world.proven();
    assert!(world.write().condition.status);
}

#[test]
fn a_target_that_was_seen_absent_since_its_pod_has_the_address_is_believed_at_once() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.use_address("10.0.0.2");
    world.see(starting("web-2", "10.0.0.2"));
    world.round("web", &[initial("10.0.0.1")]);
    world.done();
    world.pass(S);
    world.round("web", &[initial("10.0.0.1"), healthy("10.0.0.2")]);
    assert_eq!(world.done(), vec![], "it is not due");
    world.see(web("web-2", "10.0.0.2").version("2"));
    world.pass(S);
    world.round("web", &[initial("10.0.0.1"), healthy("10.0.0.2")]);
    let write = world.write();
    assert_eq!((&write.id.pod, write.reason), (&key("web-2"), "Healthy"));
}

#[test]
fn a_target_that_was_not_listed_before_its_pod_had_the_address_is_no_used_one() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.see(starting("web-2", "10.0.0.2"));
    // Registered before the containers are ready, as where `publishNotReadyAddresses` is set.
    world.round("web", &[initial("10.0.0.1"), healthy("10.0.0.2")]);
    world.done();
    world.see(web("web-2", "10.0.0.2").version("2"));
    world.pass(S);
    world.round("web", &[initial("10.0.0.1"), healthy("10.0.0.2")]);
    assert_eq!(world.write().id.pod, key("web-2"));
}

#[test]
fn an_answer_that_was_requested_before_the_pod_had_the_address_casts_doubt() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    assert_eq!(world.asks().as_deref(), Some("web"));
    let requested = world.now;
    world.pass(S);
    world.see(starting("web-2", "10.0.0.2"));
    let both = [initial("10.0.0.1"), healthy("10.0.0.2")];
    world.answer("web", requested, Ok(&both));
    world.done();
    world.see(web("web-2", "10.0.0.2").version("2"));
    world.pass(S);
    world.round("web", &both);
    assert_eq!(world.done(), vec![Action::Prove(group("web"))]);
}

#[test]
fn on_the_address_of_a_node_only_what_was_requested_since_the_pod_is_due_ends_a_doubt() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.use_address("10.0.0.2");
    let of_node = |pod: Pod| Pod {
        host_network: true,
        ..pod
    };
    world.see(of_node(starting("web-2", "10.0.0.2")));
    world.round("web", &[initial("10.0.0.1")]);
    world.done();
    world.see(of_node(web("web-2", "10.0.0.2").version("2")));
    world.pass(S);
    let both = [initial("10.0.0.1"), healthy("10.0.0.2")];
    world.round("web", &both);
    assert_eq!(world.done(), vec![Action::Prove(group("web"))]);
    world.pass(S);
    world.round("web", &[initial("10.0.0.1")]);
    world.done();
    world.pass(S);
    world.round("web", &both);
    assert_eq!(
        world.tracker.waiting(&key("web-2"))[0].reason.as_str(),
        "Healthy"
    );
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
