//! The Lease of the release: an upgrade leaves its holder, and the chart can leave it to the pods.

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use targetgate_sandbox::harness::waiting::until;
use targetgate_sandbox::versions::Version;

use crate::helm::{Helm, NAMESPACE};
use crate::lifecycle::{program, until_nothing_is_left};
use crate::reader::{INSTALL, Reader};

#[test]
fn a_chart_for_argo_cd_has_no_lease() {
    let count = |values: Value| {
        let objects = Helm::new().template(&values);
        objects.iter().filter(|o| o["kind"] == "Lease").count()
    };
    assert_eq!(count(json!({})), 1);
    assert_eq!(count(json!({ "lease": { "create": false } })), 0);
}

#[tokio::test]
async fn an_upgrade_and_an_apply_leave_the_holder() {
    let reader = Reader::new().await;
    reader.types(INSTALL);
    let leases: Api<Lease> = Api::namespaced(reader.client.clone(), NAMESPACE);
    let held = json!({
        "holderIdentity": "targetgate-0",
        "leaseDurationSeconds": 15,
        "renewTime": "2026-01-01T00:00:00.000000Z",
    });
    let patch = Patch::Merge(json!({ "spec": held }));
    let params = PatchParams::default();
    let held = leases.patch("targetgate", &params, &patch).await.unwrap();

    let upgrade = INSTALL.replace("install targetgate", "upgrade targetgate");
    let upgrade = upgrade.replace("--create-namespace", "--set labels.team=web");
    reader.types(&upgrade);
    let lease = leases.get("targetgate").await.unwrap();
    assert_eq!(lease.labels()["team"], "web");
    assert_eq!(lease.spec, held.spec);

    let version = Version::tested();
    let render = format!(
        "helm template targetgate deploy/chart --namespace {NAMESPACE} --kube-version {version} \
         --show-only templates/lease.yaml"
    );
    for apply in [
        "kubectl apply --filename -",
        "kubectl apply --server-side --force-conflicts --filename -",
    ] {
        reader.types(&format!("{render} | {apply}"));
        let lease = leases.get("targetgate").await.unwrap();
        assert_eq!(lease.spec, held.spec, "{apply}");
    }
}

#[tokio::test]
async fn a_lease_that_the_pods_create_goes_with_the_deployment() {
    let reader = Reader::new().await;
    reader.types(&format!("{INSTALL} --set lease.create=false"));
    let program = program(&reader.server, &reader.client).await;
    let replica = program.start("targetgate-0").await.unwrap();
    let leases: Api<Lease> = Api::namespaced(reader.client.clone(), NAMESPACE);
    for name in ["targetgate", "targetgate-certificates"] {
        let lease = until("the Lease is created", async || {
            leases.get_opt(name).await.ok()?
        })
        .await;
        let owners = lease.owner_references();
        assert_eq!(
            (owners.len(), &*owners[0].kind),
            (1, "Deployment"),
            "{name}"
        );
    }
    reader.types(&format!(
        "helm uninstall targetgate --namespace {NAMESPACE}"
    ));
    until_nothing_is_left(&reader.client).await;
    drop(replica);
}
