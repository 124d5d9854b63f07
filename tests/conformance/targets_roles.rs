//! Whether the roles of registration grant everything that it uses, and nothing else.

use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use targetgate_core::names::BindingApi;
use targetgate_sandbox::harness::waiting::until;

use crate::install::{Installed, NAMESPACE, PORT, apply};
use crate::roles::{Grant, granted, used};
use crate::servers::{Server, create, resource};

const CRD: &str = include_str!("../../deploy/targets/targetrecords.yaml");
const ROLES: &str = include_str!("../../deploy/overlays/targets/rbac.yaml");
const POLICY: &str = include_str!("../../deploy/overlays/targets/admission-policy.yaml");
const IP: &str = "10.0.0.1";
const OTHER_IP: &str = "10.0.0.2";

/// The `status` of the only record, once there is one.
async fn status_of_record(records: &Api<DynamicObject>) -> Option<Value> {
    let all = records.list(&ListParams::default()).await.unwrap().items;
    all.first().map(|record| record.data["status"].clone())
}

/// An installation that registers targets, and the objects of the overlay.
pub(crate) async fn registering(which: &str) -> (Installed, Vec<Value>) {
    registering_with(&[&format!("--register={which}")]).await
}

/// The same with these flags.
pub(crate) async fn registering_with(flags: &[&str]) -> (Installed, Vec<Value>) {
    let cluster = Server::Kubernetes.own_cluster().await;
    cluster.apply_crd().await;
    apply(&cluster.client, &serde_saphyr::from_str(CRD).unwrap()).await;
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": NAMESPACE } });
    apply(&cluster.client, &namespace).await;
    let mut overlay: Vec<Value> = serde_saphyr::from_multiple(ROLES).unwrap();
    overlay.extend(serde_saphyr::from_multiple::<Value>(POLICY).unwrap());
    for object in &overlay {
        apply(&cluster.client, object).await;
    }
    let installed = Installed::on(cluster, flags).await;
    (installed, overlay)
}

#[tokio::test]
async fn the_roles_of_targets_grant_what_is_used_and_nothing_else() {
    let (installed, overlay) = registering("annotated").await;
    let cluster = &installed.cluster;
    installed.bind("web").await;
    let bindings = installed.bindings(BindingApi::Elbv2);
    let patch = async |patch: Value| {
        let params = PatchParams::default();
        bindings.patch("web", &params, &Patch::Merge(patch)).await
    };
    let asked = json!({ "metadata": { "annotations": { "targetgate.dev/register": "true" } } });
    patch(asked).await.unwrap();

    // It registers the pod, whose gate opens.
    cluster.waiting_pod("a", "web", IP).await;
    cluster.gate_becomes("a", "web", "True").await;
    let records = Api::<DynamicObject>::namespaced_with(
        cluster.client.clone(),
        NAMESPACE,
        &resource("targetgate.dev", "v1", "TargetRecord"),
    );
    let recorded = status_of_record(&records).await.unwrap();
    assert_eq!(
        recorded,
        json!({ "count": 1, "targets": [format!("{IP}:8080")] })
    );
    until("the binding is Ready", async || {
        let binding = bindings.get("web").await.unwrap();
        let conditions = binding.data["status"]["conditions"].as_array()?.clone();
        let ready = conditions.iter().find(|c| c["type"] == "Ready")?;
        (ready["status"] == "True").then_some(())
    })
    .await;

    let end = DeleteParams::default().grace_period(0);
    cluster.pods().delete("a", &end).await.unwrap();
    until("the record is reduced", async || {
        (status_of_record(&records).await?["count"] == 0).then_some(())
    })
    .await;

    bindings
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    until("binding and record are gone", async || {
        let gone = bindings.get_opt("web").await.unwrap().is_none();
        (gone && status_of_record(&records).await.is_none()).then_some(())
    })
    .await;

    a_record_that_cannot_be_read_is_left_as_it_is(&installed, &records).await;

    let (base, more, used) = (
        granted(&installed.shipped),
        granted(&overlay),
        used(cluster),
    );
    let beyond: Vec<_> = used
        .iter()
        .filter(|u| !base.contains(u) && !more.contains(u))
        .collect();
    assert!(beyond.is_empty(), "not in the roles: {beyond:?}");
    let unused: Vec<_> = more.difference(&used).collect();
    assert!(
        unused.is_empty(),
        "in deploy/overlays/targets, but not used: {unused:?}"
    );
}

/// A record whose group is none is in the way of the one that would be made: it is read again, and nothing is
/// registered until it is gone.
async fn a_record_that_cannot_be_read_is_left_as_it_is(
    installed: &Installed,
    records: &Api<DynamicObject>,
) {
    let cluster = &installed.cluster;
    let arn = installed.bind("other").await;
    let bindings = installed.bindings(BindingApi::Elbv2);
    let uid = bindings.get("other").await.unwrap().uid().unwrap();
    let spec = json!({ "binding": { "namespace": cluster.namespace, "name": "other" },
        "targetGroupARN": "none" });
    let spoilt = json!({ "apiVersion": "targetgate.dev/v1", "kind": "TargetRecord",
        "metadata": { "name": uid }, "spec": spec });
    let made = create(records, spoilt).await.unwrap();
    let asked = json!({ "metadata": { "annotations": { "targetgate.dev/register": "true" } } });
    let params = PatchParams::default();
    let patched = bindings.patch("other", &params, &Patch::Merge(asked)).await;
    patched.unwrap();
    let reread = ["get", "targetgate.dev", "targetrecords"].map(str::to_owned);
    let reread: Grant = reread.into();
    until("the record is read again", async || {
        used(cluster).contains(&reread).then_some(())
    })
    .await;
    cluster.waiting_pod("b", "other", OTHER_IP).await;
    assert_eq!(records.get(&uid).await.unwrap(), made);
    let health = installed.elb.health(&arn, OTHER_IP.parse().unwrap(), PORT);
    assert_eq!(health, None, "it is registered");

    records
        .delete(&uid, &DeleteParams::default())
        .await
        .unwrap();
    cluster.gate_becomes("b", "other", "True").await;
}
