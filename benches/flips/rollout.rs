//! One rollout: pods whose containers become ready and that are registered at the same moment. Measures how
//! long after ELB's `healthy` their gates open.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::Request;
use jiff::Timestamp;
use serde_json::{Value, json};
use targetgate_sandbox::elb::State;
use targetgate_sandbox::elb::log::{Call, CallOutcome};
use targetgate_sandbox::harness::waiting::try_until;
use tokio::time::sleep;

use crate::figures::Latencies;
use crate::requests::{create, each, patch_status};
use crate::usage::{Spent, Usage, product_memory};
use crate::world::{AT_ONCE, Gate, Place, pod};

/// The time from when the last pod's containers are ready to the registration of all targets. Chosen.
const REGISTERED_AFTER: Duration = Duration::from_secs(1);
/// The deadline of a rollout. Chosen: the last target is healthy 25 s after its registration, and a gate that
/// is closed long after that stays closed.
const PATIENCE: Duration = Duration::from_secs(150);
const PORT: u16 = 8080;

/// A target group with its binding and its Service, all of one name.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) arn: String,
}

/// Some pods of each group, with names and addresses that no other rollout has.
pub(crate) struct Rollout<'a> {
    place: &'a Place,
    gate: &'a Gate,
    pods: Vec<Planned<'a>>,
}

struct Planned<'a> {
    name: String,
    group: &'a Group,
    ip: IpAddr,
}

/// The figures of one rollout.
pub(crate) struct Flips {
    /// The times from ELB's `healthy` to the open gate, as watched.
    pub(crate) latencies: Latencies,
    /// Gates that opened before their target was healthy.
    pub(crate) early: usize,
    pub(crate) calls: Calls,
    /// The CPU time from the first ready pod to the last open gate.
    pub(crate) spent: Spent,
    /// The resident memory of targetgate at the end, and its maximum since the start, in MiB.
    pub(crate) memory: (f64, f64),
}

/// The ELB calls during a rollout.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Calls {
    pub(crate) target_health: usize,
    pub(crate) target_groups: usize,
    pub(crate) throttled: usize,
}

impl Calls {
    pub(crate) fn of(calls: &[Call]) -> Self {
        let count =
            |wanted: &dyn Fn(&&Call) -> bool| calls.iter().filter(|call| wanted(call)).count();
        let throttling = CallOutcome::Error("Throttling".to_owned());
        Self {
            target_health: count(&|call| call.action == "DescribeTargetHealth"),
            target_groups: count(&|call| call.action == "DescribeTargetGroups"),
            throttled: count(&|call| call.outcome == throttling),
        }
    }

    pub(crate) fn total(self) -> usize {
        self.target_health + self.target_groups
    }
}

impl<'a> Rollout<'a> {
    /// A rollout with the number `number` in its row.
    pub(crate) fn new(
        place: &'a Place,
        gate: &'a Gate,
        number: u8,
        groups: &'a [Group],
        pods_of_each: usize,
    ) -> Self {
        let all = groups
            .iter()
            .flat_map(|group| (0..pods_of_each).map(move |pod| (group, pod)));
        let planned = |(index, (group, pod)): (u16, (&'a Group, usize))| {
            let [high, low] = index.to_be_bytes();
            Planned {
                name: format!("{}-{number}-{pod}", group.name),
                group,
                ip: Ipv4Addr::new(10, number, high, low).into(),
            }
        };
        Self {
            place,
            gate,
            pods: (1..).zip(all).map(planned).collect(),
        }
    }

    /// Creates the pods, and waits until every gate is open.
    pub(crate) async fn run(&self) -> anyhow::Result<Flips> {
        self.create().await?;
        let elb = &self.gate.aws.elb;
        let former_calls = elb.calls().len();
        let former_flips = self.place.observer.open();
        let usage = Usage::now()?;
        self.become_ready().await?;
        sleep(REGISTERED_AFTER).await;
        for pod in &self.pods {
            elb.register(&pod.group.arn, pod.ip, PORT)?;
        }
        let wanted = former_flips + self.pods.len();
        self.place.observer.until_open(wanted, PATIENCE).await?;
        let spent = usage.spent()?;
        let calls = Calls::of(&elb.calls()[former_calls..]);
        let (latencies, early) = self.latencies()?;
        Ok(Flips {
            latencies,
            early,
            calls,
            spent,
            memory: product_memory()?,
        })
    }

    /// Deletes the pods and deregisters their targets, which drain as they do in AWS.
    pub(crate) async fn remove(&self) -> anyhow::Result<()> {
        let pods = self.place.path("v1", "pods");
        let delete = Request::delete(format!("{pods}?gracePeriodSeconds=0")).body(Vec::new())?;
        self.place.client.request_text(delete).await?;
        for pod in &self.pods {
            let elb = &self.gate.aws.elb;
            elb.deregister(&pod.group.arn, pod.ip, PORT)?;
        }
        try_until("the pods to be gone", async || {
            let list = Request::get(format!("{pods}?limit=1")).body(Vec::new())?;
            let list: Value = self.place.client.request(list).await?;
            Ok(list["items"].as_array().is_some_and(Vec::is_empty))
        })
        .await
    }

    async fn create(&self) -> anyhow::Result<()> {
        let path = self.place.path("v1", "pods");
        each(AT_ONCE, &self.pods, async |planned| {
            let object = pod(&planned.name, &planned.group.name);
            let made = create(&self.place.client, &path, &object).await?;
            let gates = made.spec.readiness_gates.len();
            ensure!(gates == 1, "the pod '{}' has {gates} gates", planned.name);
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// Writes the status that a kubelet writes once the containers are ready.
    async fn become_ready(&self) -> anyhow::Result<()> {
        let path = self.place.path("v1", "pods");
        each(AT_ONCE, &self.pods, async |pod| {
            let path = format!("{path}/{}", pod.name);
            patch_status(&self.place.client, &path, &ready(pod.ip)).await
        })
        .await?;
        Ok(())
    }

    /// The latencies from ELB's log and the observer, and how many gates were early.
    fn latencies(&self) -> anyhow::Result<(Latencies, usize)> {
        let log = self.gate.aws.elb.log();
        let healthy = log.iter().filter(|entry| entry.to == Some(State::Healthy));
        let healthy: BTreeMap<IpAddr, Timestamp> =
            healthy.map(|entry| (entry.ip, entry.at)).collect();
        let (mut latencies, mut early) = (Vec::new(), 0);
        for pod in &self.pods {
            let opened = self.place.observer.opened(&pod.name);
            let opened = opened.context("a gate that was seen open is not known")?;
            let since = healthy.get(&pod.ip).map(|at| opened.duration_since(*at));
            match since.and_then(|since| Duration::try_from(since).ok()) {
                Some(latency) => latencies.push(latency),
                None => early += 1,
            }
        }
        Ok((Latencies::of(latencies), early))
    }
}

fn ready(ip: IpAddr) -> Value {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |name: &str, status: &str| json!({"type": name, "status": status, "lastTransitionTime": now});
    json!({"status": {
        "phase": "Running",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "startTime": now,
        "conditions": [
            condition("PodScheduled", "True"),
            condition("Initialized", "True"),
            condition("ContainersReady", "True"),
            condition("Ready", "False"),
        ],
    }})
}
