//! The role with which a group is called.

use super::*;
use crate::names::AssumedRole;

fn role(name: &str) -> Option<AssumedRole> {
    let arn = format!("arn:aws:iam::123456789012:role/{name}").into();
    let external_id = None;
    Some(AssumedRole { arn, external_id })
}

#[test]
fn a_role_that_is_mended_is_assumed_at_once_also_after_a_failover() {
    let mut world = with_pods(2);
    world.denied = true;
    world.apply(web(3));
    world.pass(300 * S);
    assert_eq!(world.registered("web"), targets(1..=2));
    world.denied = false;
    world.roles.clear();
    world.change_binding("web", |binding| binding.role = role("mended"));
    world.pass(5 * S);
    assert_eq!(world.registered("web"), targets(1..=3));
    assert_eq!(world.roles, [role("mended")]);
    world.fail_over(true);
    world.apply(web(4));
    world.pass(5 * S);
    assert_eq!(world.roles, [role("mended"), role("mended")]);
    let (record, _) = &world.records["uid-web"];
    assert_eq!(record.group.role, role("mended"));
}

#[test]
fn the_role_of_a_binding_that_is_not_ours_is_not_assumed() {
    let mut world = with_pods(2);
    let mut other = binding("younger").of_group("web");
    other.uid = Some("uid-younger".into());
    other.role = role("other");
    other.registration.asked = Some(false);
    world.bind(other);
    world.roles.clear();
    world.apply(web(3));
    world.pass(5 * S);
    assert_eq!(world.roles, [None]);
}
