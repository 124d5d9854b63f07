//! Pods that targetgate itself registers (`--register all`): nothing else of the run touches the target group.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PostParams};
use serde_json::json;
use targetgate_sandbox::elb::{LoadBalancerKind, State};
use targetgate_sandbox::harness::object::patch;
use targetgate_sandbox::harness::site::{Site, shared_control_plane};
use targetgate_sandbox::harness::workload::Workload;
use targetgate_sandbox::harness::{Registrar, Setup};
use targetgate_sandbox::kubelet::Reuse;

use crate::binary;
use crate::deployment::{Traffic, alb};

/// The number of requests during rollouts, of which none may be lost. Chosen.
const REQUESTS: u64 = 2_000;
const RATE: f64 = 150.0;
/// The preStop sleep, as of the rollouts with the sandbox's registrar.
const PRE_STOP: Duration = Duration::from_secs(5);
const BINDING: &str = "web";

async fn records(site: &Site) -> Vec<DynamicObject> {
    let records = site.api("TargetRecord");
    records.list(&ListParams::default()).await.unwrap().items
}

/// How long targets waited for calls of this action on average, in seconds, as the metrics say.
async fn wait(site: &Site, action: &str) -> f64 {
    let of = |what| format!("targetgate_target_call_seconds_{what}{{call=\"{action}\"}}");
    let sum = site.product.metric(&of("sum")).await.unwrap();
    sum / site.product.metric(&of("count")).await.unwrap()
}

/// The finalizers of the binding; `None` once it is gone.
async fn finalizers(site: &Site) -> Option<Vec<String>> {
    let bindings = site.api("TargetGroupBinding");
    let binding = bindings.get_opt(BINDING).await.unwrap()?;
    Some(binding.metadata.finalizers.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_rolls_without_a_loss_when_nothing_but_targetgate_registers_its_pods() {
    let mut site = Site::registering(binary(), Reuse::Late).await;
    let (group, address) = site
        .expose("web", LoadBalancerKind::Application, alb())
        .await;
    site.gate("web").await;
    let web = Workload {
        pre_stop: Some(PRE_STOP),
        ..Workload::new("Deployment", "web")
    };
    site.open(&web, &group).await;
    assert_eq!(finalizers(&site).await.unwrap(), ["targetgate.dev/targets"]);

    let traffic = Traffic {
        address,
        rate: RATE,
        requests: REQUESTS,
    };
    let what = "Deployment, registered by targetgate";
    traffic.loses_nothing(&site, &web, &group, what).await;

    // The deletion of the binding takes its targets out, and waits for that.
    site.delete("TargetGroupBinding", BINDING).await;
    site.until("the binding to be gone", async || {
        finalizers(&site).await.is_none().then_some(())
    })
    .await;
    site.settled(&group, 0).await;
    site.until("the record to be gone", async || {
        records(&site).await.is_empty().then_some(())
    })
    .await;
    for action in ["RegisterTargets", "DeregisterTargets"] {
        println!("mean wait for {action}: {:.3} s", wait(&site, action).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_registered_before_a_crash_leaves_when_its_pod_has_ended_and_foreign_targets_stay()
{
    let mut site = Site::registering(binary(), Reuse::Late).await;
    let (group, _) = site
        .expose("web", LoadBalancerKind::Application, alb())
        .await;
    let mut web = Workload::new("Deployment", "web");
    site.apply(&web).await;
    site.settled(&group, 3).await;
    let foreign = IpAddr::from([10, 99, 99, 99]);
    site.aws.elb.register(&group.arn, foreign, 8080).unwrap();
    let [record] = &records(&site).await[..] else {
        panic!("one record for one binding");
    };
    let named = record.data["status"]["targets"].as_array().unwrap().len();
    assert_eq!(named, 3, "{record:?}");

    site.kill_targetgate().await;
    web.replicas = 1;
    site.apply(&web).await;
    site.until("two pods to end", async || {
        (site.pods("app=web").await.len() == 1).then_some(())
    })
    .await;
    assert_eq!(site.calls("DeregisterTargets"), 0);
    site.start_targetgate().await;
    site.until("their targets to leave", async || {
        let log = site.aws.elb.log();
        let left = log
            .iter()
            .filter(|entry| entry.to == Some(State::Draining))
            .count();
        (left == 2).then_some(())
    })
    .await;
    site.settled(&group, 1).await;
    let health = site.aws.elb.health(&group.arn, foreign, 8080).unwrap();
    assert_ne!(health.state, State::Draining, "{health:?}");
    let metrics = site.metrics().await;
    assert!(
        metrics.contains("targetgate_targets_foreign 1"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bindings_are_left_to_the_incumbent_as_long_as_its_lease_is_there() {
    let client = shared_control_plane(binary()).await.client().await.unwrap();
    let leases: Api<Lease> = Api::namespaced(client, "kube-system");
    let lease = json!({
        "metadata": { "name": "incumbent" },
        "spec": { "holderIdentity": "incumbent-0", "renewTime": "2999-01-01T00:00:00.000000Z" },
    });
    let lease = serde_json::from_value(lease).unwrap();
    leases.create(&PostParams::default(), &lease).await.unwrap();
    let flags = [
        "--register=annotated",
        "--incumbent-lease=kube-system/incumbent",
    ];
    let setup = Setup {
        pod: Some("targetgate-0"),
        ..Setup::new(binary(), Reuse::Late)
    };
    let setup = setup.registrar(Registrar::None).flags(&flags);
    let mut site = Site::shared(setup).await;
    let (group, _) = site
        .expose("web", LoadBalancerKind::Application, alb())
        .await;
    site.apply(&Workload::new("Deployment", "web")).await;
    let asks = json!({ "metadata": { "annotations": { "targetgate.dev/register": "true" } } });
    let bindings = site.api("TargetGroupBinding");
    patch(&bindings, BINDING, Patch::Merge(asks)).await;
    site.until("the binding to be told of the incumbent", async || {
        let events = site
            .api("Event")
            .list(&ListParams::default())
            .await
            .unwrap();
        let mut reasons = events.iter().map(|event| &event.data["reason"]);
        reasons
            .any(|reason| reason == "HeldByAnother")
            .then_some(())
    })
    .await;
    assert_eq!(finalizers(&site).await.unwrap(), [""; 0]);
    assert!(records(&site).await.is_empty());
    assert_eq!(site.calls("RegisterTargets"), 0);

    leases
        .delete("incumbent", &DeleteParams::default())
        .await
        .unwrap();
    site.settled(&group, 3).await;
    assert_eq!(finalizers(&site).await.unwrap(), ["targetgate.dev/targets"]);
}
