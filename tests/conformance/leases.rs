//! How candidates hold a Lease, and how an API server answers their writes.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams, PostParams};
use rstest::rstest;
use serde_json::json;
use targetgate::clock;
use targetgate::kubernetes::lease::work::Work;
use targetgate::kubernetes::lease::{Always, Candidate, Seat};
use targetgate::metrics::Metrics;
use targetgate::state::leadership::Leadership;
use targetgate_core::lease::Timing;
use targetgate_core::names::ObjectKey;
use targetgate_sandbox::harness::waiting::until;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::servers::{Cluster, Server, answer, code};

const S: Duration = Duration::from_secs(1);

/// A candidate for the Lease, which runs until it is told to stop.
struct Standing {
    leadership: Leadership,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Standing {
    fn start(cluster: &Cluster, identity: &str) -> Self {
        let seat = Seat {
            lease: ObjectKey::new(cluster.namespace.as_str(), "targetgate"),
            identity: identity.to_owned(),
            timing: Timing::new(15 * S, 10 * S, 2 * S).unwrap(),
            owner: None,
        };
        let (kube, metrics) = (cluster.client.clone(), Metrics::default());
        let (candidate, leadership) =
            Candidate::new(&kube, Work::Conditions, seat, &metrics, clock::system());
        let (stop, stopped) = oneshot::channel();
        let stopped = async { drop(stopped.await) };
        Self {
            leadership,
            stop,
            running: tokio::spawn(candidate.run(Always, stopped)),
        }
    }

    async fn until_leads(&self) {
        until("it leads", async || self.leadership.leads().then_some(())).await;
    }
}

#[rstest]
#[tokio::test]
async fn a_lease_goes_from_one_candidate_to_the_next_with_what_others_wrote_into_it(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let a = Standing::start(&cluster, "a");
    a.until_leads().await;
    let b = Standing::start(&cluster, "b");
    let leases = cluster.api::<Lease>();
    let label = Patch::Merge(json!({ "metadata": { "labels": { "by": "hand" } } }));
    let params = PatchParams::default();
    leases.patch("targetgate", &params, &label).await.unwrap();
    let before = leases.get("targetgate").await.unwrap();
    until("it is renewed nevertheless", async || {
        let now = leases.get("targetgate").await.unwrap();
        (now.spec != before.spec).then_some(())
    })
    .await;
    assert!(!b.leadership.leads());

    let _ = a.stop.send(());
    a.running.await.unwrap();
    assert!(!a.leadership.leads());
    b.until_leads().await;
    let lease = leases.get("targetgate").await.unwrap();
    assert_eq!(lease.metadata.labels.unwrap()["by"], "hand");
    let spec = lease.spec.unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some("b"));
    assert_eq!(spec.lease_transitions, Some(1));
    assert_eq!(spec.lease_duration_seconds, Some(15));
    assert!(spec.acquire_time.is_some() && spec.renew_time >= spec.acquire_time);

    let _ = b.stop.send(());
    b.running.await.unwrap();
    let spec = leases.get("targetgate").await.unwrap().spec.unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some(""));
    assert_eq!(spec.lease_duration_seconds, Some(1));
}

/// A candidate takes a Lease by such a patch, so one that read an older version does not get it.
#[rstest]
#[tokio::test]
async fn a_merge_patch_of_an_old_version_of_a_lease_is_a_conflict(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let leases = cluster.api::<Lease>();
    let held_by = |holder: &str, version: Option<String>| {
        let metadata = json!({ "resourceVersion": version });
        Patch::Merge(json!({ "metadata": metadata, "spec": { "holderIdentity": holder } }))
    };
    let params = PatchParams::default();
    let absent = leases
        .patch("targetgate", &params, &held_by("a", None))
        .await;
    assert_eq!(code(absent), answer(404, "NotFound"));
    let free: Lease =
        serde_json::from_value(json!({ "metadata": { "name": "targetgate" } })).unwrap();
    let made = leases.create(&PostParams::default(), &free).await.unwrap();
    let version = made.metadata.resource_version;
    let first = held_by("a", version.clone());
    leases.patch("targetgate", &params, &first).await.unwrap();
    let late = leases
        .patch("targetgate", &params, &held_by("b", version))
        .await;
    assert_eq!(code(late), answer(409, "Conflict"));
    let again = leases.create(&PostParams::default(), &free).await;
    assert_eq!(code(again), answer(409, "AlreadyExists"));
}
