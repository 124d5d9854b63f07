//! An incumbent that starts while we hold bindings.

use super::*;

fn bind(world: &mut World, change: impl FnOnce(&mut Binding)) {
    let mut new = binding("new").of_group("new");
    new.service = "web".into();
    new.uid = Some("uid-new".into());
    change(&mut new);
    world.bind(new);
}

/// The incumbent has started since its Lease was read last.
fn started() -> World {
    let mut world = with_pods(2);
    world.lease_is_read_on_demand = true;
    world.incumbent = Incumbent::Leads;
    world
}

#[test]
fn a_binding_is_not_taken_before_the_incumbents_lease_was_read_anew() {
    let mut world = started();
    bind(&mut world, |_| {});
    world.pass(10 * S);
    assert_eq!(world.finalizers("new"), (false, false));
    assert!(world.registered("new").is_empty() && world.recorded("uid-new").is_empty());
    assert!(world.told("HeldByAnother"));
}

#[test]
fn the_incumbents_finalizer_is_not_taken_off_before_its_lease_was_read_anew() {
    let mut world = started();
    bind(&mut world, |binding| {
        binding.registration.our_finalizer = true;
        binding.registration.incumbent_finalizer = true;
    });
    world.pass(10 * S);
    assert_eq!(world.finalizers("new"), (true, true));
    assert!(world.registered("new").is_empty());
}

#[test]
fn a_new_binding_is_taken_at_once_where_no_incumbent_leads() {
    let mut world = started();
    world.incumbent = Incumbent::Gone;
    bind(&mut world, |_| {});
    world.pass(S);
    assert_eq!(world.finalizers("new"), (true, false));
    assert_eq!(world.registered("new"), targets(1..=2));
}

#[test]
fn a_finalizer_that_appears_on_a_binding_that_was_ours_alone_holds_it_at_once() {
    let mut world = started();
    world.change_binding("web", |binding| {
        binding.registration.incumbent_finalizer = true;
    });
    world.apply(web(3));
    world.pass(10 * S);
    assert_eq!(world.finalizers("web"), (true, true));
    assert!(world.told("HeldByAnother") && world.calls.is_empty());
}

#[test]
fn a_held_binding_is_deleted_once_the_incumbent_has_let_go_of_it() {
    let mut world = started();
    world.change_binding("web", |binding| {
        binding.registration.incumbent_finalizer = true;
    });
    world.delete_binding("web");
    world.pass(10 * S);
    assert!(world.is_bound("web") && world.calls.is_empty());
    world.change_binding("web", |binding| {
        binding.registration.incumbent_finalizer = false;
    });
    world.pass(10 * S);
    assert!(!world.is_bound("web") && world.registered("web").is_empty());
}
