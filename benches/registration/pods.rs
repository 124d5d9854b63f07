//! The objects of a row: groups with a Service and a binding each, and their pods.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::json;
use targetgate_sandbox::elb::log::Transition;
use targetgate_sandbox::elb::{Delays, LoadBalancerKind, State};
use targetgate_sandbox::harness::site::{Group, Site};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{REST, Times};

/// Requests of the bench at once. Chosen.
const AT_ONCE: usize = 32;

/// The node of the pods, which has no kubelet. Pods of a node that does not exist are deleted.
const NODE: &str = "elsewhere";

/// Groups of pods.
pub(crate) struct Shop {
    site: Site,
    groups: Vec<Group>,
    pods: usize,
}

impl Shop {
    /// Creates the groups, their Services and their pods, none of which is ready.
    pub(crate) async fn open(site: Site, groups: usize, pods: usize) -> Self {
        let group = |number| {
            let kind = LoadBalancerKind::Application;
            site.group(&name(number), kind, Delays::alb())
        };
        let groups: Vec<Group> = (0..groups).map(group).collect();
        let shop = Self { site, groups, pods };
        let node = serde_json::from_value(json!({ "metadata": { "name": NODE } })).unwrap();
        let nodes = Api::<Node>::all(shop.site.cluster.client.clone());
        // Another row may have created it.
        let _ = nodes.create(&PostParams::default(), &node).await;
        for number in 0..shop.groups.len() {
            let name = name(number);
            shop.site.service(&name, json!({ "app": name })).await;
        }
        shop.each(async |group, pod| shop.create(group, pod).await)
            .await;
        shop
    }

    /// Creates the bindings, and waits until all are held. Returns when the binding of each pod was about to be sent.
    pub(crate) async fn bind_all(&self) -> Times {
        let mut begun = Times::new();
        for (number, group) in self.groups.iter().enumerate() {
            let (name, now) = (name(number), Timestamp::now());
            begun.extend((0..self.pods).map(|pod| (self.target(number, pod), now)));
            self.site.bind(&name, &name, group).await;
        }
        self.site
            .until("all bindings to be held", async || {
                let bindings = self.site.api("TargetGroupBinding");
                let bindings = bindings.list(&<_>::default()).await.ok()?.items;
                bindings.iter().all(is_held).then_some(())
            })
            .await;
        begun
    }

    /// Lets all pods become ready, one group `between` the other. Returns when each was about to.
    pub(crate) async fn become_ready(&self, between: Duration) -> Times {
        self.change(between, async |group, pod| {
            let ip = self.ip(group, pod);
            let status = json!({ "status": {
                "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }],
                "conditions": [{ "type": "ContainersReady", "status": "True" }],
            } });
            let pods = self.site.api("Pod");
            let (params, change) = (PatchParams::default(), Patch::Strategic(status));
            pods.patch_status(&pod_name(group, pod), &params, &change)
                .await
                .unwrap();
        })
        .await
    }

    /// Deletes all pods. They stay for their grace period, because no kubelet ends them.
    pub(crate) async fn delete(&self, between: Duration) -> Times {
        self.change(between, async |group, pod| {
            self.delete_one(group, pod).await
        })
        .await
    }

    /// Deletes a pod of each of so many groups whose pods are registered.
    pub(crate) async fn delete_of_registered(&self, most: usize) -> Times {
        let registered = self.registered();
        let mut begun = Times::new();
        for number in 0..self.groups.len() {
            let target = self.target(number, 0);
            if begun.len() < most && registered.contains_key(&target) {
                begun.insert(target, Timestamp::now());
                self.delete_one(number, 0).await;
            }
        }
        begun
    }

    /// Waits until all targets have been registered, and for what comes after.
    pub(crate) async fn all_registered(&self) -> Times {
        self.all("registered", || self.registered()).await
    }

    /// Waits until all targets have been deregistered, and for what comes after.
    pub(crate) async fn all_deregistered(&self) -> Times {
        self.all("deregistered", || self.deregistered()).await
    }

    async fn all(&self, what: &str, times: impl Fn() -> Times) -> Times {
        let targets = self.groups.len() * self.pods;
        self.site
            .until(&format!("all targets to be {what}"), async || {
                (times().len() == targets).then_some(())
            })
            .await;
        sleep(REST).await;
        times()
    }

    /// When each target was registered first.
    fn registered(&self) -> Times {
        self.first(|entry| entry.from.is_none())
    }

    /// When each target was deregistered first.
    pub(crate) fn deregistered(&self) -> Times {
        self.first(|entry| matches!(entry.to, None | Some(State::Draining)))
    }

    fn first(&self, is_it: impl Fn(&Transition) -> bool) -> Times {
        let mut first = Times::new();
        let all = self.site.aws.elb.log().into_iter();
        for entry in all.filter(is_it) {
            first.entry((entry.arn, entry.ip)).or_insert(entry.at);
        }
        first
    }

    /// The number of calls of an action that arrived.
    pub(crate) fn calls(&self, action: &str) -> usize {
        let calls = self.site.aws.elb.calls();
        calls.iter().filter(|call| call.action == action).count()
    }

    fn target(&self, group: usize, pod: usize) -> (String, IpAddr) {
        (self.groups[group].arn.clone(), self.ip(group, pod).into())
    }

    /// An address that no other pod of the row has.
    fn ip(&self, group: usize, pod: usize) -> Ipv4Addr {
        let number = u32::try_from(group * self.pods + pod).unwrap();
        Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 200, 0, 0)) + number)
    }

    async fn create(&self, group: usize, pod: usize) {
        let container = json!({ "name": "web", "image": "web",
            "ports": [{ "name": "http", "containerPort": 8080 }] });
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": pod_name(group, pod), "labels": { "app": name(group) } },
            "spec": { "nodeName": NODE, "containers": [container] },
        }))
        .unwrap();
        let pods = self.site.api("Pod");
        self.site
            .until("the pod to be created", async || {
                pods.create(&PostParams::default(), &object).await.ok()
            })
            .await;
    }

    async fn delete_one(&self, group: usize, pod: usize) {
        let pods = self.site.api("Pod");
        let params = DeleteParams::default();
        pods.delete(&pod_name(group, pod), &params).await.unwrap();
    }

    /// Changes the pods of a group at once, one group `between` the other. Returns when each change was about to be
    /// sent.
    async fn change(&self, between: Duration, change: impl AsyncFn(usize, usize)) -> Times {
        let begun = parking_lot::Mutex::new(Times::new());
        let start = Instant::now();
        self.each(async |group, pod| {
            sleep_until(start + between * u32::try_from(group).unwrap()).await;
            let target = self.target(group, pod);
            begun.lock().insert(target, Timestamp::now());
            change(group, pod).await;
        })
        .await;
        begun.into_inner()
    }

    async fn each(&self, act: impl AsyncFn(usize, usize)) {
        let all =
            (0..self.groups.len()).flat_map(|group| (0..self.pods).map(move |pod| (group, pod)));
        let all = stream::iter(all).map(|(group, pod)| act(group, pod));
        all.buffer_unordered(AT_ONCE).collect::<()>().await;
    }
}

fn name(group: usize) -> String {
    format!("web-{group}")
}

fn pod_name(group: usize, pod: usize) -> String {
    format!("web-{group}-{pod}")
}

fn is_held(binding: &DynamicObject) -> bool {
    let finalizers = binding.metadata.finalizers.iter().flatten();
    let mut finalizers = finalizers.filter(|name| *name == "targetgate.dev/targets");
    finalizers.next().is_some()
}
