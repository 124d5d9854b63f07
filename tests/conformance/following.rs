//! Open gates under `targetgate.dev/after-open` (contract 5.6).

use kube::api::{Patch, PatchParams};
use serde_json::json;
use targetgate_core::names::AFTER_OPEN_ANNOTATION;
use targetgate_sandbox::elb::Health;

use crate::install::{Installed, PORT};

#[tokio::test]
async fn an_open_gate_closes_and_opens_as_elb_says_where_its_pod_follows_and_else_holds() {
    let installed = Installed::new().await;
    let cluster = &installed.cluster;
    let arn = installed.bind("web").await;
    let pods = [("follows", "10.0.0.41"), ("holds", "10.0.0.42")];
    for (pod, ip) in pods {
        cluster.waiting_pod(pod, "web", ip).await;
        installed.register(&arn, ip);
        cluster.gate_becomes(pod, "web", "True").await;
    }
    let held = cluster.gate("holds", "web").await;
    let follow = json!({ "metadata": { "annotations": { AFTER_OPEN_ANNOTATION: "follow" } } });
    let (params, patch) = (PatchParams::default(), Patch::Merge(follow));
    let annotated = cluster.pods().patch("follows", &params, &patch).await;
    annotated.unwrap();

    // The polls for a waiting pod answer for the open gates, so that no recheck has to be waited for.
    cluster.waiting_pod("waits", "web", "10.0.0.40").await;
    let elb = &installed.elb;
    for (_, ip) in pods {
        let health = Health::failed_checks();
        elb.script(&arn, ip.parse().unwrap(), PORT, health).unwrap();
    }
    let closed = cluster.gate_becomes("follows", "web", "False").await;
    assert_eq!(
        closed.reason.as_deref(),
        Some("Target.FailedHealthChecks"),
        "{closed:?}"
    );
    installed.elb_is_heard(&arn).await;
    assert_eq!(cluster.gate("holds", "web").await, held);

    for (_, ip) in pods {
        elb.unscript(&arn, ip.parse().unwrap(), PORT).unwrap();
    }
    cluster.gate_becomes("follows", "web", "True").await;
    assert_eq!(cluster.gate("holds", "web").await, held);
}
