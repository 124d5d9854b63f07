//! A gate is about an address: a pod that gets another one is due anew (contract 5.4).

use super::*;

/// A due pod of this version.
fn at(ip: &str, version: &str) -> Pod {
    web("web-1", ip).version(version)
}

fn open(pod: Pod) -> Pod {
    pod.condition(true, "", "")
}

#[test]
fn an_open_gate_closes_when_its_pod_has_another_address_and_opens_for_that_one() {
    let mut world = World::new();
    world.see(open(at("10.0.0.1", "1")));
    assert_eq!(world.done(), vec![], "open at first sight");
    let nowhere = Pod {
        ips: vec![],
        containers_ready: None,
        ..open(at("10.0.0.1", "2"))
    };
    world.see(nowhere);
    assert_eq!(world.done(), vec![], "nothing is known of another address");
    world.see(open(at("10.0.0.2", "3")));
    let write = world.write();
    assert_eq!((write.reason, write.transition), ("AddressChanged", true));
    assert!(!write.condition.status && write.condition.message.contains("10.0.0.2"));
    world.written(&write, "4");
    world.round("web", &[healthy("10.0.0.1"), initial("10.0.0.2")]);
    let write = world.write();
    assert_eq!(words(&write).1, "Elb.InitialHealthChecking");
    world.written(&write, "5");
    world.pass(S);
    world.round("web", &[healthy("10.0.0.2")]);
    let write = world.write();
    assert_eq!(words(&write), (true, "", ""));
    world.written(&write, "6");
    for (version, status) in [("4", false), ("5", false), ("6", true), ("7", true)] {
        world.see(at("10.0.0.2", version).condition(status, "", ""));
    }
    assert_eq!((world.done(), world.tracker.pending()), (vec![], 0));
}

#[test]
fn a_gate_closes_before_the_containers_are_ready_at_the_other_address() {
    let mut world = World::new();
    world.see(open(at("10.0.0.1", "1")));
    world.see(Pod {
        containers_ready: None,
        ..open(at("10.0.0.2", "2"))
    });
    let write = world.write();
    assert_eq!(write.reason, "AddressChanged");
    world.ended(&write, WriteOutcome::Failed);
    world.pass(S);
    assert_eq!(world.write().reason, "AddressChanged", "it is tried again");
}

#[test]
fn a_leader_closes_what_changed_while_it_followed() {
    let mut world = World::new();
    world.tracker.follow();
    world.see(open(at("10.0.0.1", "1")));
    world.see(open(at("10.0.0.2", "2")));
    assert_eq!(world.done(), vec![]);
    world.lead();
    assert_eq!(world.write().reason, "AddressChanged");
}

#[test]
fn an_address_of_another_family_changes_nothing() {
    let mut world = World::new();
    world.see(open(at("10.0.0.1", "1")));
    world.see(open(at("10.0.0.1", "2").ip("fd00::1")));
    let other_v6 = Pod {
        ips: vec!["fd00::2".parse().unwrap(), "10.0.0.1".parse().unwrap()],
        ..open(at("10.0.0.1", "3"))
    };
    world.see(other_v6);
    assert_eq!((world.done(), world.tracker.pending()), (vec![], 0));
}

#[test]
fn a_waiting_pod_with_another_address_is_due_anew() {
    let mut world = World::new();
    world.see(at("10.0.0.1", "1"));
    assert_eq!(world.asks().as_deref(), Some("web"));
    let requested = world.now;
    world.pass(S);
    world.see(at("10.0.0.2", "2"));
    world.answer("web", requested, Ok(&[healthy("10.0.0.2")]));
    assert_eq!(world.done(), vec![], "requested before it had the address");
    world.pass(S);
    world.round("web", &[]);
    let write = world.write();
    world.written(&write, "3");
    world.pass(S);
    world.round("web", &[healthy("10.0.0.2")]);
    assert!(world.write().condition.status);
}

#[test]
fn containers_that_restart_in_place_leave_an_open_gate_open() {
    let mut world = World::new();
    world.see(open(at("10.0.0.1", "1")));
    world.see(Pod {
        containers_ready: None,
        ..open(at("10.0.0.1", "2"))
    });
    world.see(open(at("10.0.0.1", "3")));
    assert_eq!((world.asks(), world.done()), (None, vec![]));
    assert_eq!(world.tracker.pending(), 0);
}
