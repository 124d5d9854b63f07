//! Records of bindings that are gone.

use super::*;

#[test]
fn a_record_whose_deletion_fails_is_deleted_again_after_a_pause() {
    let mut world = with_pods(2);
    // Each time that a watch shows the record it is tried at once as well.
    world.deletions_to_fail = 3;
    world.delete_binding("web");
    world.pass(20 * S);
    assert!(!world.is_bound("web") && world.records.contains_key("uid-web"));
    world.pass(100 * S);
    assert!(world.records.is_empty());
}
