//! The objects of a row: groups with a Service and a binding each, and their pods.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use jiff::Timestamp;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::json;
use targetgate_sandbox::elb::{Delays, LoadBalancerKind};
use targetgate_sandbox::harness::site::{Group, Site};
use tokio::time::sleep;

use crate::{Calls, REST, calls};

/// Requests of the bench at once. Chosen.
const AT_ONCE: usize = 32;

/// When the pods of each group, by its ARN, were about to change.
pub(crate) type Begun = BTreeMap<String, Vec<Timestamp>>;

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
        for number in 0..shop.groups.len() {
            let name = name(number);
            shop.site.service(&name, json!({ "app": name })).await;
        }
        shop.each(async |group, pod| shop.create(group, pod).await)
            .await;
        shop
    }

    /// Creates the bindings, and waits until all are held.
    pub(crate) async fn bind_all(&self) -> Begun {
        let mut begun = Begun::new();
        for (number, group) in self.groups.iter().enumerate() {
            let name = name(number);
            begun.insert(group.arn.clone(), vec![Timestamp::now()]);
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

    /// Lets all pods become ready, one group `between` the other.
    pub(crate) async fn become_ready(&self, between: Duration) -> Begun {
        self.change(between, async |group, pod| {
            let ip = format!("10.{}.{}.{}", 100 + group / 200, group % 200, pod % 250);
            // A group of more pods than one block has addresses.
            let ip = match self.pods > 250 {
                true => format!("10.{}.{}.{}", 150 + group, pod / 250, pod % 250),
                false => ip,
            };
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
    pub(crate) async fn delete(&self, between: Duration) -> Begun {
        self.change(between, async |group, pod| {
            self.delete_one(group, pod).await
        })
        .await
    }

    /// Deletes a pod of each group that has had its call.
    pub(crate) async fn delete_one_of_each_registered(&self) -> Begun {
        let registered = calls(&self.site, "RegisterTargets");
        let mut begun = Begun::new();
        for (number, group) in self.groups.iter().enumerate() {
            if registered.contains_key(&group.arn) {
                begun.insert(group.arn.clone(), vec![Timestamp::now()]);
                self.delete_one(number, 0).await;
            }
        }
        begun
    }

    /// Waits until each group has had a call, and no further one comes.
    pub(crate) async fn calls_of(&self, action: &str) -> Calls {
        let what = format!("{action} of each group");
        self.site
            .until(&what, async || {
                (calls(&self.site, action).len() == self.groups.len()).then_some(())
            })
            .await;
        sleep(REST).await;
        calls(&self.site, action)
    }

    /// The calls until now.
    pub(crate) fn calls_so_far(&self, action: &str) -> Calls {
        calls(&self.site, action)
    }

    async fn create(&self, group: usize, pod: usize) {
        let container = json!({ "name": "web", "image": "web",
            "ports": [{ "name": "http", "containerPort": 8080 }] });
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": pod_name(group, pod), "labels": { "app": name(group) } },
            "spec": { "nodeName": "elsewhere", "containers": [container] },
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
    async fn change(&self, between: Duration, change: impl AsyncFn(usize, usize)) -> Begun {
        let begun = parking_lot::Mutex::new(Begun::new());
        let start = tokio::time::Instant::now();
        self.each(async |group, pod| {
            let at = between * u32::try_from(group).unwrap();
            tokio::time::sleep_until(start + at).await;
            let arn = self.groups[group].arn.clone();
            begun.lock().entry(arn).or_default().push(Timestamp::now());
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
