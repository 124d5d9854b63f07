//! Everything ours: gates, drain and registration, without a registrar beside us or with the incumbent.

mod endings;
mod floor;
mod records;
mod refused;
mod rolling;
mod seeds;
mod successor;
mod takeover;
mod vanished;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams};
use serde_json::json;
use targetgate_sandbox::elb::{Delays, LoadBalancerKind};
use targetgate_sandbox::harness::object::{field, resource};
use targetgate_sandbox::harness::site::{Group, Site};
use targetgate_sandbox::harness::workload::Workload;
use targetgate_sandbox::harness::{Registrar, Setup};
use targetgate_sandbox::kubelet::Reuse;

use crate::binary;
use crate::deployment::alb;

/// Our finalizer on a binding that we registered for.
const FINALIZER: &str = "targetgate.dev/targets";
/// How long drained pods sleep: two seconds more than deregistration and the data plane need, for a busy machine.
/// Chosen.
const DRAIN: &str = "--drain-seconds=alb=4,nlb=5";

/// A short lease, so that a new leader is there while a rollout goes on.
const LEASE: [&str; 3] = [
    "--lease-duration=4s",
    "--lease-renew-deadline=3s",
    "--lease-retry-period=500ms",
];

/// A Service behind a load balancer, with gates, drain and registration by targetgate.
struct Shop {
    site: Site,
    web: Workload,
    group: Group,
    address: SocketAddr,
}

impl Shop {
    fn setup() -> Setup<'static> {
        Setup::new(binary(), Reuse::Late)
            .registrar(Registrar::Targetgate)
            .flags(&[DRAIN])
    }

    async fn open(kind: LoadBalancerKind, delays: Delays, replicas: usize) -> Self {
        Self::furnish(Site::shared(Self::setup()).await, kind, delays, replicas).await
    }

    /// The same behind an ALB, with a process that takes part in leader election.
    async fn elected(replicas: usize) -> Self {
        let setup = Setup {
            pod: Some("targetgate-0"),
            ..Self::setup().flags(&LEASE)
        };
        let kind = LoadBalancerKind::Application;
        Self::furnish(Site::shared(setup).await, kind, alb(), replicas).await
    }

    async fn furnish(
        mut site: Site,
        kind: LoadBalancerKind,
        delays: Delays,
        replicas: usize,
    ) -> Self {
        let (group, address) = site.expose("web", kind, delays).await;
        site.opt_in_to_drain().await;
        site.gate("web").await;
        let web = Workload {
            replicas,
            surge: replicas,
            ..Workload::new("Deployment", "web")
        };
        let shop = Self {
            site,
            web,
            group,
            address,
        };
        shop.site.open(&shop.web, &shop.group).await;
        shop
    }

    async fn settled(&self) {
        self.site.rolled(&self.web).await;
        self.site.settled(&self.group, self.web.replicas).await;
    }

    async fn roll(&self) {
        self.site.restart(&self.web).await;
        self.settled().await;
    }

    /// The pods that are not being deleted.
    async fn pods(&self) -> Vec<DynamicObject> {
        let mut pods = self.site.pods("app=web").await;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods
    }

    async fn registered(&self) -> BTreeSet<String> {
        self.site.registered(&self.group).await
    }

    async fn until_registered(&self, expected: &BTreeSet<String>) {
        let what = format!("{expected:?} to be registered, and nothing else");
        self.site
            .until(&what, async || {
                (self.registered().await == *expected).then_some(())
            })
            .await;
    }

    /// The records of all bindings of the site.
    async fn records(&self) -> Vec<DynamicObject> {
        let records = self.site.api("TargetRecord");
        records.list(&ListParams::default()).await.unwrap().items
    }

    /// The addresses that the records name.
    async fn recorded(&self) -> BTreeSet<String> {
        let records = self.records().await;
        let targets = records
            .iter()
            .filter_map(|record| field(record, "/status/targets").as_array());
        let targets = targets.flatten().filter_map(|target| target.as_str());
        let addresses = targets.filter_map(|target| target.rsplit_once(':'));
        addresses.map(|(ip, _)| ip.to_owned()).collect()
    }

    async fn until_recorded(&self, expected: &BTreeSet<String>) {
        let what = format!("the record to name {expected:?}, and nothing else");
        self.site
            .until(&what, async || {
                (self.recorded().await == *expected).then_some(())
            })
            .await;
    }

    /// Waits for an Event of this reason.
    async fn until_told(&self, reason: &str) {
        self.site
            .until(&format!("an Event {reason}"), async || {
                let events = self.site.api("Event").list(&ListParams::default()).await;
                let of_reason = |event: &DynamicObject| field(event, "/reason") == reason;
                events.ok()?.iter().any(of_reason).then_some(())
            })
            .await;
    }

    /// Waits until the binding is gone.
    async fn until_unbound(&self) {
        let bindings = self.site.api("TargetGroupBinding");
        self.site
            .until("the binding to be gone", async || {
                bindings.get_opt("web").await.ok()?.is_none().then_some(())
            })
            .await;
    }

    async fn finalizers(&self) -> Vec<String> {
        let binding = self.site.api("TargetGroupBinding").get("web").await;
        binding.unwrap().finalizers().to_vec()
    }

    async fn until_finalizers(&self, expected: &[&str]) {
        let what = format!("the binding's finalizers to be {expected:?}");
        self.site
            .until(&what, async || {
                (self.finalizers().await == expected).then_some(())
            })
            .await;
    }
}

/// The addresses of pods.
fn addresses(pods: &[DynamicObject]) -> BTreeSet<String> {
    let ips = pods.iter().map(|pod| field(pod, "/status/podIP"));
    ips.filter_map(|ip| ip.as_str().map(str::to_owned))
        .collect()
}

/// Nodes of a site, which report `Ready: status` until the kubelet's next heartbeat.
async fn say_nodes(site: &Site, status: &str) {
    let nodes: Api<DynamicObject> =
        Api::all_with(site.cluster.client.clone(), &resource("v1", "Node"));
    for zone in ["a", "b", "c"] {
        let name = format!("{}-{zone}", site.namespace);
        let condition = json!({ "type": "Ready", "status": status, "reason": "NodeStatusUnknown" });
        let patch = json!({ "status": { "conditions": [condition] } });
        let params = kube::api::PatchParams::default();
        let patch = kube::api::Patch::Strategic(patch);
        nodes.patch_status(&name, &params, &patch).await.unwrap();
    }
}
