//! EndpointSlices of a Service without a selector, on the real API server, with the rights of the shipped account.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams};
use rstest::rstest;
use serde_json::{Value, json};
use targetgate_core::names::BindingApi;
use targetgate_sandbox::harness::waiting::until;

use crate::install::{Installed, PORT};
use crate::servers::create;
use crate::targets_roles::registering_with;

const LEFT_OUT: &str = "targetgate_targets_endpoints_left_out";
const LOOK_INTERVAL: &str = "targetgate_targets_look_interval_seconds";
const ADDRESSES: [&str; 5] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"];

/// Of a pod that is there, of one that is not, without a pod, and without a pod and not ready.
fn endpoints() -> Value {
    let pod = |name: &str| json!({ "kind": "Pod", "name": name });
    json!([
        { "addresses": ["10.0.0.1"], "targetRef": pod("a"), "conditions": { "ready": false } },
        { "addresses": ["10.0.0.2"], "targetRef": pod("gone"), "conditions": { "ready": true } },
        { "addresses": ["10.0.0.3"] },
        { "addresses": ["10.0.0.4"], "conditions": { "ready": true } },
        { "addresses": ["10.0.0.5"], "conditions": { "ready": false } },
    ])
}

impl Installed {
    /// A Service `db` without a selector, its slice, and its binding. Returns the ARN of the group.
    async fn bind_slice(&self) -> String {
        let service = json!({
            "metadata": { "name": "db" },
            "spec": { "ports": [{ "name": "sql", "port": 80 }] },
        });
        create(&self.cluster.api::<Service>(), service)
            .await
            .unwrap();
        let slice = json!({
            "metadata": { "name": "db-x", "labels": { "kubernetes.io/service-name": "db" } },
            "addressType": "IPv4",
            "ports": [{ "name": "sql", "port": PORT }],
            "endpoints": endpoints(),
        });
        create(&self.slices(), slice).await.unwrap();
        let arn = self.group("db");
        self.bind_whole(BindingApi::Elbv2, "db", &arn).await;
        arn
    }

    fn slices(&self) -> Api<EndpointSlice> {
        self.cluster.api()
    }

    async fn until_registered(&self, arn: &str, expected: &[&str]) {
        let expected: BTreeSet<&str> = expected.iter().copied().collect();
        until(&format!("{expected:?} are registered"), async || {
            let is_in = |ip: &&str| self.elb.health(arn, ip.parse().unwrap(), PORT).is_some();
            let found: BTreeSet<&str> = ADDRESSES.into_iter().filter(is_in).collect();
            (found == expected).then_some(())
        })
        .await;
    }

    async fn until_counted(&self, name: &str, expected: f64) {
        until(&format!("{name} is {expected}"), async || {
            let found = self.process().metric(name).await.ok()?;
            ((found - expected).abs() < 0.5).then_some(())
        })
        .await;
    }
}

#[rstest]
#[case::pods("pods", &["10.0.0.1"], 4.0, "EndpointsLeftOut")]
#[case::any("any", &["10.0.0.1", "10.0.0.3", "10.0.0.4"], 1.0, "Registered")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_name_no_pod_are_registered_where_that_is_asked_for(
    #[case] which: &str,
    #[case] registered: &[&str],
    #[case] left_out: f64,
    #[case] told: &str,
) {
    let flags = ["--register=all", &format!("--slice-addresses={which}")];
    let (installed, _) = registering_with(&flags).await;
    let cluster = &installed.cluster;
    cluster.pod("a", json!({})).await.unwrap();
    cluster.containers_become_ready("a", "10.0.0.1").await;
    let arn = installed.bind_slice().await;
    installed.until_registered(&arn, registered).await;
    installed.until_counted(LEFT_OUT, left_out).await;
    installed.until_counted(LOOK_INTERVAL, 60.0).await;
    installed.until_told("db", told).await;
    if which == "pods" {
        // A pod that comes after its endpoint is no endpoint less.
        cluster.pod("gone", json!({})).await.unwrap();
        cluster.containers_become_ready("gone", "10.0.0.2").await;
        installed.until_counted(LEFT_OUT, 3.0).await;
        let all = ["10.0.0.1", "10.0.0.2"];
        return installed.until_registered(&arn, &all).await;
    }
    // What is gone from the slice leaves, above the floor.
    let mut fewer = endpoints();
    fewer.as_array_mut().unwrap().remove(3);
    let patch = Patch::Merge(json!({ "endpoints": fewer }));
    let params = PatchParams::default();
    installed
        .slices()
        .patch("db-x", &params, &patch)
        .await
        .unwrap();
    let left = ["10.0.0.1", "10.0.0.3"];
    installed.until_registered(&arn, &left).await;
    let patch = Patch::Merge(json!({ "endpoints": [] }));
    installed
        .slices()
        .patch("db-x", &params, &patch)
        .await
        .unwrap();
    installed.until_told("db", "HeldByFloor").await;
    installed.until_registered(&arn, &left).await;
}
