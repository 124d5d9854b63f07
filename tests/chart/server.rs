//! A real control plane for all tests of this program.

use crate::waiting::DEADLINE;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Client, core::TypeMeta};
use serde_json::Value;
use targetgate_sandbox::controlplane::{ControlPlane, Options};
use tokio::sync::{Mutex, OnceCell};
use tokio::time::timeout;

/// There is one installation in a cluster: who installs, or needs that nothing is installed, waits.
pub(crate) static TURN: Mutex<()> = Mutex::const_new(());
/// It goes with the process.
static CONTROL_PLANE: OnceCell<ControlPlane> = OnceCell::const_new();

pub(crate) async fn control_plane() -> &'static ControlPlane {
    // An error means that one is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let start = || async {
        let options = Options {
            controller_manager: true,
            ..Options::default()
        };
        ControlPlane::start(options).await
    };
    let started = CONTROL_PLANE.get_or_try_init(start).await;
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

/// `kubectl apply --server-side`, for real or as a dry run.
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

/// What should happen.
pub(crate) async fn within<T>(what: &str, happens: impl Future<Output = T>) -> T {
    let happened = timeout(DEADLINE, happens).await;
    happened.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}
