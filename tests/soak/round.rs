//! One round: both Deployments are rolled while a binding comes and goes, pods are created continually, hostile
//! clients attack a replica, and ELB, the replicas or the API server have faults.

use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use kube::api::{DeleteParams, DynamicObject, PostParams};
use serde_json::json;
use targetgate::args::DevCerts;
use targetgate::commands::certs;
use targetgate_sandbox::controlplane::ControlPlane;
use targetgate_sandbox::elb::faults::On;
use targetgate_sandbox::harness::site::{Group, Site, fail};
use targetgate_sandbox::harness::workload::gates;
use tokio::time::sleep;

use crate::hostile::attack;
use crate::replicas::Replicas;
use crate::shop::{Counts, KIND, Shop, delays};

/// The duration of each fault of ELB. Chosen.
const TROUBLE: Duration = Duration::from_millis(700);
/// The pause between two pods that are created. Chosen.
const PAUSE: Duration = Duration::from_millis(200);
/// In one of this many rounds, the binding is deleted while pods wait for it, for half a minute more. Chosen.
const EARLY: u32 = 8;

impl Shop {
    /// Runs a round, until all rollouts are complete and the objects that the round added are deleted.
    pub(crate) async fn round(&mut self) {
        let number = self.counts.rounds;
        let name = format!("extra-{number}");
        let extra = self.site.group(&name, KIND, delays());
        self.site
            .shift(&self.balancer, &[(&self.group, 1), (&extra, 1)]);
        self.site.bind(&name, "web", &extra).await;
        for workload in &self.workloads {
            self.site.restart(workload).await;
        }
        let (site, group) = (&self.site, &self.group);
        let mut counts = self.counts;
        let mut waves = 0;
        let troubles = async {
            let elb = trouble_of_elb(site, group);
            match number % 2 {
                0 => drop(tokio::join!(
                    elb,
                    trouble_of_replicas(site, &mut self.replicas)
                )),
                _ => drop(tokio::join!(
                    elb,
                    trouble_of_api(site, &self.replicas, &mut self.control_plane)
                )),
            }
            if number % EARLY == EARLY - 2 {
                delete(site, &name).await;
            }
            for workload in &self.workloads {
                site.rolled(workload).await;
            }
        };
        tokio::select! {
            () = troubles => {}
            () = create_pods(site, &mut counts) => {}
            () = attack(site, &mut waves) => {}
        }
        counts.waves += waves;
        delete(&self.site, &name).await;
        self.site.shift(&self.balancer, &[(&self.group, 1)]);
        self.site.aws.elb.remove_target_group(&extra.arn).unwrap();
        self.counts = counts.and_a_round();
    }
}

impl Counts {
    fn and_a_round(self) -> Self {
        let even = u32::from(self.rounds.is_multiple_of(2));
        Self {
            rounds: self.rounds + 1,
            rollouts: self.rollouts + 2,
            bindings: self.bindings + 1,
            elb_faults: self.elb_faults + 5,
            pauses: self.pauses + even,
            kills: self.kills + even,
            api_restarts: self.api_restarts + 1 - even,
            certificates: self.certificates + 1 - even,
            ..self
        }
    }
}

async fn trouble_of_elb(site: &Site, group: &Group) {
    let faults = site.aws.elb.faults();
    faults.throttle(2.0, 2);
    sleep(TROUBLE).await;
    faults.unthrottle();
    faults.hang(On::arn(&group.arn));
    sleep(TROUBLE).await;
    faults.release(&On::arn(&group.arn));
    let health = On::action("DescribeTargetHealth");
    faults.fail(
        health,
        "InternalFailure",
        StatusCode::INTERNAL_SERVER_ERROR,
        None,
    );
    sleep(TROUBLE).await;
    faults.clear_failures();
    faults.delay(TROUBLE / 2);
    sleep(TROUBLE).await;
    faults.delay(Duration::ZERO);
    site.aws.elb.freeze(&group.arn).unwrap();
    sleep(TROUBLE).await;
    faults.thaw(&group.arn);
}

async fn trouble_of_replicas(site: &Site, replicas: &mut Replicas) {
    replicas.pause_leader(site).await;
    replicas.replace(site).await;
}

/// Breaks all watches so that they cannot continue from their versions, and replaces the certificate.
async fn trouble_of_api(site: &Site, replicas: &Replicas, control_plane: &mut ControlPlane) {
    control_plane.stop_api_server();
    control_plane.compact_etcd().await.unwrap_or_else(fail);
    control_plane.start_api_server().await.unwrap_or_else(fail);
    let wanted = DevCerts {
        out: site.start.directory.join("certs"),
        namespace: site.namespace.clone(),
        sans: vec![],
        force: true,
    };
    certs::write(&wanted, Timestamp::now()).unwrap_or_else(fail);
    replicas.trust(site).await;
}

/// Creates pods by dry run, and counts those that get their gates. Failures of the API server are ignored.
async fn create_pods(site: &Site, counts: &mut Counts) {
    let pod = json!({
        "metadata": { "name": "dry-run", "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "web", "image": "web" }] },
    });
    let pod: DynamicObject = serde_json::from_value(pod).unwrap();
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    loop {
        if let Ok(shown) = site.api("Pod").create(&dry, &pod).await {
            counts.admissions += 1;
            counts.gated += u64::from(!gates(&shown).is_empty());
        }
        sleep(PAUSE).await;
    }
}

/// Deletes a binding, which may be deleted already, from an API server that may be down.
async fn delete(site: &Site, binding: &str) {
    site.until("the binding to be deleted", async || {
        let api = site.api("TargetGroupBinding");
        match api.delete(binding, &DeleteParams::default()).await {
            Ok(_) => Some(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Some(()),
            Err(_) => None,
        }
    })
    .await;
}
