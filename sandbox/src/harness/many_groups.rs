//! Many groups, each with a Service, a binding and pods. The pods have no kubelet: they become ready
//! and are deleted when the caller says so, and their node does nothing.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail as the tests themselves do"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::site::{Group, Site};
use crate::elb::log::Transition;
use crate::elb::{Delays, LoadBalancerKind, State};

/// Requests to the API server at once. Chosen.
const AT_ONCE: usize = 32;
/// The node of the pods. Those of a node that does not exist would be deleted.
const NODE: &str = "without-a-kubelet";
const PORT: u16 = 8080;
/// The finalizer of targetgate on a binding whose targets it registers.
const FINALIZER: &str = "targetgate.dev/targets";
/// So long after the last target was registered or deregistered, one that is registered twice has
/// been, and the budget of the calls is full again. Contract 8.
pub const REST: Duration = Duration::from_secs(6);

/// When something happened to each target, by its group's ARN and its address.
pub type Times = BTreeMap<(String, IpAddr), Timestamp>;

pub struct ManyGroups {
    pub site: Site,
    groups: Vec<Group>,
    /// The number of pods of each group.
    pods: usize,
}

impl ManyGroups {
    /// Creates the groups, their Services and their pods, none of which is ready.
    pub async fn create(site: Site, groups: usize, pods: usize) -> Self {
        let group = |number| {
            let kind = LoadBalancerKind::Application;
            site.group(&name(number), kind, Delays::alb())
        };
        let groups: Vec<Group> = (0..groups).map(group).collect();
        let many = Self { site, groups, pods };
        let node = serde_json::from_value(json!({ "metadata": { "name": NODE } })).unwrap();
        let nodes = Api::<Node>::all(many.site.cluster.client.clone());
        // Others may have created it.
        let _ = nodes.create(&PostParams::default(), &node).await;
        for number in 0..many.groups.len() {
            let name = name(number);
            many.site.service(&name, json!({ "app": name })).await;
        }
        many.each(async |group, pod| many.create_pod(group, pod).await)
            .await;
        many
    }

    /// Creates the bindings, and waits until all are held. Returns when the binding of each target was
    /// about to be sent.
    pub async fn bind_all(&self) -> Times {
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
    pub async fn become_ready(&self, between: Duration) -> Times {
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

    /// Deletes all pods, one group `between` the other. They stay for their grace period.
    pub async fn delete(&self, between: Duration) -> Times {
        self.change(between, async |group, pod| {
            self.site.delete("Pod", &pod_name(group, pod)).await;
        })
        .await
    }

    /// Deletes a pod of each of so many groups whose pods are registered.
    pub async fn delete_of_registered(&self, most: usize) -> Times {
        let registered = self.registered();
        let mut begun = Times::new();
        for number in 0..self.groups.len() {
            let target = self.target(number, 0);
            if begun.len() < most && registered.contains_key(&target) {
                begun.insert(target, Timestamp::now());
                self.site.delete("Pod", &pod_name(number, 0)).await;
            }
        }
        begun
    }

    /// Takes the first target of these groups out, as another hand does, one group `between` the other.
    pub async fn remove_by_hand(&self, groups: &[usize], between: Duration) -> Times {
        let mut removed = Times::new();
        for number in groups {
            let (arn, ip) = self.target(*number, 0);
            self.site.aws.elb.deregister(&arn, ip, PORT).unwrap();
            removed.insert((arn, ip), Timestamp::now());
            sleep(between).await;
        }
        removed
    }

    /// Waits until all these targets were registered after the time that each has.
    pub async fn all_registered_since(&self, times: &Times) -> Times {
        let again = || {
            let mut again = Times::new();
            for entry in self.site.aws.elb.log() {
                let is_in = is_registration(&entry);
                let target = (entry.arn, entry.ip);
                if is_in && times.get(&target).is_some_and(|since| entry.at > *since) {
                    again.entry(target).or_insert(entry.at);
                }
            }
            again
        };
        let what = "all targets to be registered again";
        self.site
            .until(what, async || (again().len() == times.len()).then_some(()))
            .await;
        again()
    }

    /// Waits until all targets have been registered, and for [`REST`] more.
    pub async fn all_registered(&self) -> Times {
        self.all("registered", || self.registered()).await
    }

    /// Waits until all targets have been deregistered, and for [`REST`] more.
    pub async fn all_deregistered(&self) -> Times {
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
        self.first(is_registration)
    }

    /// When each target was deregistered first.
    pub fn deregistered(&self) -> Times {
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

    /// When ELB was asked about the targets of a group.
    pub fn looks(&self, group: usize) -> Vec<Timestamp> {
        let calls = self.site.aws.elb.calls().into_iter();
        let looks = calls.filter(|call| {
            call.action == "DescribeTargetHealth" && call.arns.contains(&self.groups[group].arn)
        });
        looks.map(|call| call.at).collect()
    }

    fn target(&self, group: usize, pod: usize) -> (String, IpAddr) {
        (self.groups[group].arn.clone(), self.ip(group, pod).into())
    }

    /// An address that no other pod of these groups has.
    fn ip(&self, group: usize, pod: usize) -> Ipv4Addr {
        let number = u32::try_from(group * self.pods + pod).unwrap();
        Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 200, 0, 0)) + number)
    }

    async fn create_pod(&self, group: usize, pod: usize) {
        let container = json!({ "name": "web", "image": "web",
            "ports": [{ "name": "http", "containerPort": PORT }] });
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": pod_name(group, pod), "labels": { "app": name(group) } },
            "spec": { "nodeName": NODE, "containers": [container] },
        }))
        .unwrap();
        let pods = self.site.api("Pod");
        // The namespace may have no ServiceAccount yet.
        self.site
            .until("the pod to be created", async || {
                pods.create(&PostParams::default(), &object).await.ok()
            })
            .await;
    }

    /// Changes the pods of a group at once, one group `between` the other. Returns when each change
    /// was about to be sent.
    async fn change(&self, between: Duration, change: impl AsyncFn(usize, usize)) -> Times {
        let begun = Mutex::new(Times::new());
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

/// The seconds from each change until what it led to, sorted.
pub fn waits(begun: &Times, ended: &Times) -> Vec<f64> {
    let each = begun
        .iter()
        .filter_map(|(target, begun)| Some((begun, ended.get(target)?)));
    let waits = each.map(|(begun, ended)| ended.duration_since(*begun).as_secs_f64());
    let mut waits: Vec<f64> = waits.collect();
    waits.sort_by(f64::total_cmp);
    waits
}

fn is_registration(entry: &Transition) -> bool {
    let is_out = |state: &Option<State>| matches!(state, None | Some(State::Draining));
    is_out(&entry.from) && !is_out(&entry.to)
}

fn name(group: usize) -> String {
    format!("web-{group}")
}

fn pod_name(group: usize, pod: usize) -> String {
    format!("web-{group}-{pod}")
}

fn is_held(binding: &DynamicObject) -> bool {
    binding.finalizers().iter().any(|name| name == FINALIZER)
}
