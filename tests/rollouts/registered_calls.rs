//! How many calls targetgate needs to register pods: pods become ready and are deleted by the test itself, which is
//! their kubelet.

use std::time::Duration;

use targetgate_sandbox::harness::many_groups::{ManyGroups, waits};
use targetgate_sandbox::harness::site::Site;
use targetgate_sandbox::kubelet::Reuse;

use crate::binary;

/// As many groups and pods as in the figures of issue 14.
const GROUPS: usize = 20;
const PODS: usize = 5;
/// The groups begin one after the other, so that this machine is not what is measured. Chosen.
const BETWEEN: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pods_of_a_group_share_a_call_when_they_become_ready_and_when_they_are_deleted() {
    let site = Site::registering(binary(), Reuse::Late).await;
    let many = ManyGroups::create(site, GROUPS, PODS).await;
    many.bind_all().await;
    let begun = many.become_ready(BETWEEN).await;
    let registered = many.all_registered().await;
    check(&many, "RegisterTargets", &waits(&begun, &registered));
    let begun = many.delete(BETWEEN).await;
    let deregistered = many.all_deregistered().await;
    check(&many, "DeregisterTargets", &waits(&begun, &deregistered));
}

/// Prints how long the pods waited for their calls, and checks how many those were.
fn check(many: &ManyGroups, action: &str, waits: &[f64]) {
    let calls = many.site.calls(action);
    let (median, most) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    println!(
        "{action}: {calls} calls for {GROUPS} groups of {PODS}; median {median:.3} s, most {most:.3} s"
    );
    // On a busy machine the changes of a group come apart. Alone, each pod would have a call of its own.
    assert!(calls <= 3 * GROUPS, "{calls} calls");
}
