//! Events about bindings that are no state of theirs.

use super::*;

#[test]
fn what_an_abandoned_binding_leaves_in_aws_is_told_once_and_of_at_most_ten_targets() {
    let mut world = with_pods(12);
    world.denied = true;
    world.delete_binding("web");
    world.pass(60 * S);
    assert!(world.is_bound("web") && !world.told("Abandoned"));
    world.is_refused_by_a_hook = true;
    world.change_binding("web", |binding| binding.registration.abandoned = true);
    world.pass(60 * S);
    world.is_refused_by_a_hook = false;
    world.pass(60 * S);
    assert!(!world.is_bound("web"));
    assert_eq!(world.times_told("Abandoned"), 1);
    let words = &world.last_words["Abandoned"];
    let group = arn("web");
    assert!(
        words.starts_with(&format!("12 targets stay in {group}: 10.0.0.1 port 8080, ")),
        "{words}"
    );
    assert!(words.ends_with(", 10.0.0.10 port 8080, 2 more"), "{words}");
}

#[test]
fn of_an_abandoned_binding_without_targets_nothing_is_told() {
    let mut world = with_pods(0);
    world.change_binding("web", |binding| binding.registration.abandoned = true);
    world.delete_binding("web");
    world.pass(5 * S);
    assert!(!world.is_bound("web") && !world.told("Abandoned"));
}

#[test]
fn a_patch_that_a_hook_refuses_is_told_once_with_the_servers_words_until_it_succeeds() {
    let mut world = World::new(1);
    world.is_refused_by_a_hook = true;
    world.serve("web", web_service());
    world.bind(Binding {
        uid: Some("uid-web".into()),
        ..binding("web")
    });
    world.pass(300 * S);
    assert_eq!(world.times_told("FinalizerNotPatched"), 1);
    let expected = "the patch that adds our finalizer failed: refused by a hook";
    assert_eq!(&*world.last_words["FinalizerNotPatched"], expected);
    world.is_refused_by_a_hook = false;
    world.pass(60 * S);
    assert_eq!(world.finalizers("web"), (true, false));
    world.is_refused_by_a_hook = true;
    world.change_binding("web", |binding| binding.registration.asked = Some(false));
    world.pass(60 * S);
    assert_eq!(world.times_told("FinalizerNotPatched"), 2);
}

#[test]
fn a_change_of_multi_cluster_is_told_and_takes_no_target_out() {
    let mut world = with_pods(3);
    world.register("web", target(9));
    world.pass(120 * S);
    assert!(!world.told("MultiClusterChanged"));
    for (multi_cluster, words) in [
        (true, "multiClusterTargetGroup is true now, after false"),
        (false, "multiClusterTargetGroup is false now, after true"),
    ] {
        world.change_binding("web", |binding| binding.multi_cluster = multi_cluster);
        world.pass(120 * S);
        assert_eq!(&*world.last_words["MultiClusterChanged"], words);
    }
    assert_eq!(world.times_told("MultiClusterChanged"), 2);
    assert_eq!(world.registered("web"), targets([1, 2, 3, 9]));
}

#[test]
fn a_change_of_a_binding_that_is_not_ours_is_not_told() {
    let mut world = with_pods(1);
    world.change_binding("web", |binding| binding.registration.asked = Some(false));
    world.pass(60 * S);
    world.change_binding("web", |binding| binding.multi_cluster = true);
    world.pass(60 * S);
    assert!(!world.told("MultiClusterChanged"));
}

#[test]
fn what_a_call_that_ends_after_the_lead_was_lost_says_is_not_told_by_the_next_leadership() {
    let mut world = with_pods(2);
    world.bad = targets([3]);
    world.apply(web(3));
    while world.calls.is_empty() {
        world.pass(MS);
    }
    world.registrar.follow();
    world.pass(S);
    world.bad.clear();
    world.registrar.lead(world.now);
    world.sync();
    world.pass(20 * S);
    assert_eq!(world.registered("web"), targets(1..=3));
    assert!(world.told_pods.is_empty(), "{:?}", world.told_pods);
}
