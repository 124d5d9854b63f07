//! Endpoints without a pod, with `--slice-addresses any`.

use super::*;

/// A Service without a selector, and a binding of it, with these endpoints, all of whose targets are healthy.
fn with_endpoints(addresses: &[u8]) -> World {
    let mut world = World::new(1);
    world.serve("web", service().port("http", 80, None));
    world.slice("web-x", addresses);
    world.bind(Binding {
        uid: Some("uid-web".into()),
        ..binding("web")
    });
    world.pass(15 * S);
    assert_eq!(world.registered("web"), targets(addresses.iter().copied()));
    assert_eq!(
        world.recorded("uid-web"),
        targets(addresses.iter().copied())
    );
    world.calls.clear();
    world
}

#[test]
fn an_endpoint_that_is_gone_from_the_slices_leaves_above_the_floor() {
    let mut world = with_endpoints(&[1, 2, 3, 4]);
    world.slice("web-x", &[2, 3, 4, 5]);
    world.pass(15 * S);
    assert_eq!(world.registered("web"), targets(2..=5));
    world.slice("web-x", &[2]);
    world.pass(60 * S);
    assert_eq!(world.registered("web"), targets(2..=5), "half must stay");
    assert!(world.told("HeldByFloor"));
    world.slice("web-x", &[2, 3]);
    world.pass(15 * S);
    assert_eq!(world.registered("web"), targets(2..=3));
}

#[test]
fn slices_that_are_emptied_empty_no_group() {
    let mut world = with_endpoints(&[1, 2]);
    world.slice("web-x", &[]);
    world.pass(600 * S);
    assert_eq!(world.registered("web"), targets(1..=2));
    assert!(world.told("HeldByFloor") && world.calls.is_empty());
}

#[test]
fn a_refused_endpoint_is_told_to_its_binding_as_there_is_no_pod() {
    let mut world = with_endpoints(&[1]);
    world.bad.insert(target(2));
    world.slice("web-x", &[1, 2, 3]);
    world.pass(5 * S);
    assert_eq!(world.registered("web"), targets([1, 3]));
    assert!(world.told("TargetRefused") && world.told_pods.is_empty());
    assert!(world.last_words["TargetRefused"].contains("10.0.0.2"));
}
