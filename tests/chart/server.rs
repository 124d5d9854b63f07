//! The real control plane of this program, and objects on it.

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Client, core::TypeMeta};
use serde_json::{Value, json};
use targetgate_sandbox::controlplane::{ControlPlane, ControlPlaneError, Options};
use targetgate_sandbox::harness::waiting::{DEADLINE, until};
use tokio::sync::{Mutex, OnceCell};
use tokio::time::timeout;

use crate::helm::installer;

/// The turn of the test that installs, or that needs a cluster without an installation, of which there is one.
pub(crate) static TURN: Mutex<()> = Mutex::const_new(());
/// The control plane of all tests, which ends with the process.
static CONTROL_PLANE: OnceCell<ControlPlane> = OnceCell::const_new();

pub(crate) async fn control_plane() -> &'static ControlPlane {
    // An error means that a provider is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    running(CONTROL_PLANE.get_or_try_init(start).await)
}

/// A control plane for a test that would disturb the others.
pub(crate) async fn own_control_plane() -> ControlPlane {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    running(start().await)
}

async fn start() -> Result<ControlPlane, ControlPlaneError> {
    let options = Options {
        controller_manager: true,
        ..Options::default()
    };
    ControlPlane::start(options).await
}

fn running<T>(started: Result<T, ControlPlaneError>) -> T {
    started.unwrap_or_else(|error| panic!("{:#}", anyhow::Error::new(error)))
}

/// The API of an object's kind, in the object's namespace.
pub(crate) fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
    let types: TypeMeta = serde_json::from_value(object.clone()).unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types).unwrap());
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Does what `kubectl apply --server-side` does, for real or as a dry run.
pub(crate) async fn apply(client: &Client, object: &Value, dry_run: bool) -> kube::Result<()> {
    let params = PatchParams {
        dry_run,
        ..PatchParams::apply("test").force()
    };
    let name = object["metadata"]["name"].as_str().unwrap();
    let patch = Patch::Apply(object);
    api(client, object)
        .patch(name, &params, &patch)
        .await
        .map(drop)
}

/// Installs the CRD of cert-manager that we have objects of. Its controller does not run.
pub(crate) async fn cert_manager(client: &Client) {
    let yaml = std::fs::read_to_string(installer("cert-manager.io_certificates.yaml")).unwrap();
    let crds = serde_saphyr::from_multiple::<Value>(&yaml).unwrap();
    for crd in crds.iter().filter(|crd| !crd.is_null()) {
        install_crd(client, crd).await;
    }
}

/// Installs CRDs of the names that the Prometheus operator's have. They accept any fields: its own schemas are not
/// among what tests/chart/build fetches.
pub(crate) async fn prometheus_operator(client: &Client) {
    for (kind, plural) in [
        ("PodMonitor", "podmonitors"),
        ("PrometheusRule", "prometheusrules"),
    ] {
        let group = "monitoring.coreos.com";
        let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        let crd = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("{plural}.{group}") },
            "spec": {
                "group": group,
                "names": { "kind": kind, "plural": plural },
                "scope": "Namespaced",
                "versions": [{
                    "name": "v1",
                    "served": true,
                    "storage": true,
                    "schema": { "openAPIV3Schema": schema },
                }],
            },
        });
        install_crd(client, &crd).await;
    }
}

/// Installs a CRD, and waits until its kind is served.
async fn install_crd(client: &Client, crd: &Value) {
    apply(client, crd, false).await.unwrap();
    let group = crd["spec"]["group"].as_str().unwrap();
    let version = &crd["spec"]["versions"][0]["name"];
    let group_version = format!("{group}/{}", version.as_str().unwrap());
    until("the kind is served", async || {
        client
            .list_api_group_resources(&group_version)
            .await
            .ok()?
            .resources
            .iter()
            .any(|resource| crd["spec"]["names"]["kind"] == *resource.kind)
            .then_some(())
    })
    .await;
}

/// Waits for a future until the deadline.
pub(crate) async fn within<T>(what: &str, happens: impl Future<Output = T>) -> T {
    let happened = timeout(DEADLINE, happens).await;
    happened.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}
