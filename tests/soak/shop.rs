//! The setup of the soak test: two Deployments behind a load balancer, bindings that come and go, and two
//! replicas.

use std::time::Duration;

use kube::api::DynamicObject;
use serde_json::json;
use targetgate_sandbox::controlplane::ControlPlane;
use targetgate_sandbox::elb::{Delays, LoadBalancerKind};
use targetgate_sandbox::harness::Setup;
use targetgate_sandbox::harness::site::{Group, Site, control_plane, fail};
use targetgate_sandbox::harness::workload::{Workload, condition, gates};
use targetgate_sandbox::kubelet::Reuse;
use tokio::time::{Instant, sleep};

use crate::binary;
use crate::replicas::{FLAGS, Replicas, STEADY, metric};
use crate::usage::Usage;

/// The time for usage to go down. Chosen: idle connections are closed after 90 s.
const COOLS_WITHIN: Duration = Duration::from_secs(240);
pub(crate) const KIND: LoadBalancerKind = LoadBalancerKind::Application;

pub(crate) struct Shop {
    pub(crate) site: Site,
    pub(crate) replicas: Replicas,
    pub(crate) workloads: [Workload; 2],
    pub(crate) balancer: String,
    pub(crate) group: Group,
    pub(crate) counts: Counts,
    // The last field, so that it is dropped after everything that uses it.
    pub(crate) control_plane: ControlPlane,
}

/// How often each thing was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) rounds: u32,
    pub(crate) rollouts: u32,
    pub(crate) bindings: u32,
    pub(crate) elb_faults: u32,
    pub(crate) pauses: u32,
    pub(crate) kills: u32,
    pub(crate) api_restarts: u32,
    pub(crate) certificates: u32,
    /// Waves of hostile clients.
    pub(crate) waves: u32,
    /// Pods that were created by dry run, and those of them that got gates.
    pub(crate) admissions: u64,
    pub(crate) gated: u64,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let control_plane = control_plane(binary()).await.unwrap_or_else(fail);
        let setup = Setup {
            pod: Some(STEADY),
            ..Setup::new(binary(), Reuse::Late).flags(&FLAGS)
        };
        let site = Site::with(&control_plane, setup).await;
        let replicas = Replicas::new(&site).await;
        let group = site.group("web", KIND, delays());
        // Load is not needed here: the pods' answers to health checks are enough.
        let balancer = site.aws.elb.create_load_balancer("web", KIND, &[]);
        site.shift(&balancer, &[(&group, 1)]);
        site.service("web", json!({ "app": "web" })).await;
        site.bind("web", "web", &group).await;
        site.opt_in().await;
        site.gives_gates(json!({ "app": "web" }), &["web"]).await;
        let workloads = ["web", "api"].map(|name| Workload {
            labels: json!({ "app": "web", "part": name }),
            ..Workload::new("Deployment", name)
        });
        for workload in &workloads {
            site.apply(workload).await;
        }
        Self {
            site,
            replicas,
            workloads,
            balancer,
            group,
            counts: Counts::default(),
            control_plane,
        }
    }

    /// Waits until the site is quiet: one replica leads, no gate waits, and no pod starts or ends.
    pub(crate) async fn quiet(&self) {
        for workload in &self.workloads {
            self.site.rolled(workload).await;
        }
        let site = &self.site;
        site.until("all to be quiet, and every gate open", async || {
            let pods = site.pods("app=web").await;
            let wanted: usize = self
                .workloads
                .iter()
                .map(|workload| workload.replicas)
                .sum();
            let pending = self.replicas.metric(site, "targetgate_gates_pending").await;
            let quiet = pods.len() == wanted
                && pods.iter().all(is_open)
                && pending == 0.0
                && self.replicas.leaders(site).await == 1;
            quiet.then_some(())
        })
        .await;
    }

    /// The usage of the replica that stays.
    pub(crate) async fn usage(&self) -> Usage {
        let tasks = metric(&self.site.product, "targetgate_tasks").await;
        Usage::of(self.site.product.id(), tasks as usize)
    }

    /// The usage of the replica that stays, once it is down to what it was before.
    pub(crate) async fn usage_down_to(&self, before: &Usage) -> Usage {
        let deadline = Instant::now() + COOLS_WITHIN;
        loop {
            let now = self.usage().await;
            if now.fits(before) {
                return now;
            }
            assert!(Instant::now() < deadline, "before: {before}\nnow:    {now}");
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// What has been done, and what the present replicas have counted.
    pub(crate) async fn report(&self) -> String {
        let mut report = format!("{:?}", self.counts);
        for name in [
            "admissions",
            "flips",
            "condition_writes",
            "elb_calls",
            "watch_restarts",
        ] {
            let name = format!("targetgate_{name}_total");
            let count = self.replicas.metric(&self.site, &name).await;
            report.push_str(&format!("\n{name} {count}"));
        }
        report
    }
}

/// Whether a pod is not being deleted, and all its gates are open.
fn is_open(pod: &DynamicObject) -> bool {
    let mut gates = gates(pod).into_iter();
    pod.metadata.deletion_timestamp.is_none()
        && gates.all(|gate| condition(pod, &gate)["status"] == "True")
}

/// The delays of an ALB, shortened. A busy machine must not make a target unhealthy.
pub(crate) fn delays() -> Delays {
    Delays {
        registration: Duration::from_millis(300),
        propagation_lag: Duration::from_millis(200),
        health_check_interval: Duration::from_millis(300),
        health_check_timeout: Duration::from_secs(10),
        unhealthy_threshold: 10,
        deregistration_delay: Duration::from_millis(500),
        ..Delays::alb()
    }
}
