//! Everything ours: gates, drain and registration, without a registrar beside us or with the incumbent.

mod floor;
mod refused;
mod rolling;
mod seeds;
mod takeover;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject};
use serde_json::json;
use targetgate_sandbox::elb::{Delays, LoadBalancerKind};
use targetgate_sandbox::harness::object::{field, resource};
use targetgate_sandbox::harness::site::{Group, Site};
use targetgate_sandbox::harness::workload::Workload;
use targetgate_sandbox::harness::{Registrar, Setup};
use targetgate_sandbox::kubelet::Reuse;

use crate::binary;

/// Our finalizer on a binding that we registered for.
const FINALIZER: &str = "targetgate.dev/targets";
/// How long drained pods sleep: two seconds more than deregistration and the data plane need, for a busy machine.
/// Chosen.
const DRAIN: &str = "--drain-seconds=alb=4,nlb=5";

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

    async fn furnish(
        mut site: Site,
        kind: LoadBalancerKind,
        delays: Delays,
        replicas: usize,
    ) -> Self {
        let group = site.group("web", kind, delays);
        let (_, address) = site.balance(kind, &[(&group, 1)]).await;
        site.service("web", json!({ "app": "web" })).await;
        site.bind("web", "web", &group).await;
        site.opt_in().await;
        site.opt_in_to_drain().await;
        site.gives_gates(json!({ "app": "web" }), &["web"]).await;
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
        shop.site.apply(&shop.web).await;
        shop.settled().await;
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
