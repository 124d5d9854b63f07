//! Gates that wait while the process, or the API server, goes down and comes back.

use http::StatusCode;
use kube::api::DeleteParams;
use targetgate_sandbox::harness::waiting::until;

use crate::install::Installed;
use crate::servers::{Server, create};
use crate::shop::{gates, of_app};

#[tokio::test]
async fn gates_open_after_the_process_was_killed_and_pods_made_meanwhile_are_counted() {
    let cluster = Server::Kubernetes.own_cluster().await;
    cluster.apply_crd().await;
    let mut installed = Installed::on(cluster, &[]).await;
    let arn = installed.bind("web").await;
    installed.cluster.waiting_pod("a", "web", "10.0.0.1").await;
    assert_eq!(ungated(&installed).await, 0.0);

    installed.kill();
    let pods = installed.cluster.pods();
    let missed = create(&pods, of_app("missed", "web")).await.unwrap();
    assert!(gates(&missed).is_empty());
    installed.register(&arn, "10.0.0.1");
    installed.start().await;
    installed.cluster.gate_becomes("a", "web", "True").await;
    until("the missed pod is counted", async || {
        (ungated(&installed).await == 1.0).then_some(())
    })
    .await;
    let at_once = DeleteParams::default().grace_period(0);
    pods.delete("missed", &at_once).await.unwrap();
    until("it is no longer counted", async || {
        (ungated(&installed).await == 0.0).then_some(())
    })
    .await;
    installed.cluster.waiting_pod("b", "web", "10.0.0.2").await;
}

async fn ungated(installed: &Installed) -> f64 {
    installed
        .process()
        .metric("targetgate_pods_ungated")
        .await
        .unwrap()
}

#[tokio::test]
async fn gates_open_after_the_api_server_was_away_and_we_stay_alive_and_ready() {
    let cluster = Server::Kubernetes.own_cluster().await;
    cluster.apply_crd().await;
    let mut installed = Installed::on(cluster, &[]).await;
    let arn = installed.bind("web").await;
    installed.cluster.waiting_pod("a", "web", "10.0.0.1").await;

    installed.cluster.stop();
    installed.register(&arn, "10.0.0.1");
    let failed = "targetgate_condition_writes_total{result=\"Failed\"}";
    until("an open gate that cannot be written", async || {
        (installed.process().metric(failed).await.unwrap() > 0.0).then_some(())
    })
    .await;
    let lost = "targetgate_watch_restarts_total{resource=\"pods\"}";
    until("a watch that cannot go on", async || {
        (installed.process().metric(lost).await.unwrap() > 0.0).then_some(())
    })
    .await;
    // The index is still good for reviews that arrive, and a restart by the kubelet would not bring the API
    // server back.
    for path in ["/livez", "/readyz"] {
        assert_eq!(
            installed.process().admin(path).await.unwrap().0,
            StatusCode::OK
        );
    }
    installed.cluster.start().await;
    installed.cluster.gate_becomes("a", "web", "True").await;
    installed.cluster.waiting_pod("b", "web", "10.0.0.2").await;

    installed.cluster.stop();
    let newborn = installed.launch().await;
    assert_eq!(newborn.admin("/livez").await.unwrap().0, StatusCode::OK);
    let (status, checks) = newborn.admin("/readyz").await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(checks.contains("[-]watch pods failed"), "{checks}");
    installed.register(&arn, "10.0.0.2");
    installed.cluster.start().await;
    installed.process().ready().await.unwrap();
    installed.cluster.gate_becomes("b", "web", "True").await;
}
