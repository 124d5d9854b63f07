//! The demo as a test: it runs the real binary as a process, over real sockets, and four rollouts under
//! traffic.

#![expect(
    clippy::unwrap_used,
    reason = "a test may end by a panic, its helpers too"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use targetgate_sandbox::controlplane::{self, ControlPlane};
use targetgate_sandbox::demo::{self, Ended, Options, Settings};
use targetgate_sandbox::elb::Delays;

/// The time by which pods sleep longer than in a demo of this scale, so that a busy machine deregisters their targets
/// before they end. Chosen.
const AMPLE: Duration = Duration::from_secs(2);

fn settings(scale: f64) -> Settings {
    let settings = Settings::scaled(scale);
    Settings {
        pre_stop: settings.pre_stop + AMPLE,
        drain: settings.drain + AMPLE,
        delays: Delays {
            // A busy machine must not make a target unhealthy.
            health_check_timeout: Duration::from_secs(10),
            unhealthy_threshold: 10,
            ..settings.delays
        },
        ..settings
    }
}

fn options(scale: f64, kubeconfig: Option<&Path>) -> Options {
    Options {
        targetgate: PathBuf::from(env!("CARGO_BIN_EXE_targetgate")),
        settings: settings(scale),
        kubeconfig: kubeconfig.map(Path::to_owned),
        hooks_ip: [127, 0, 0, 1].into(),
        page_port: 0,
        keep: false,
        json: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gates_and_a_sleep_lose_no_request_of_a_rolling_update_that_loses_some_without() {
    let ended = demo::run(options(0.1, None)).await;
    assert_eq!(ended.ok(), Some(Ended::AsItShould), "see the table above");
}

/// The kinds of objects that the demo creates outside of its namespace, by API group and kind.
const TOUCHED: [(&str, &str); 5] = [
    ("", "Node"),
    ("", "Namespace"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    (
        "admissionregistration.k8s.io",
        "MutatingWebhookConfiguration",
    ),
    (
        "admissionregistration.k8s.io",
        "ValidatingWebhookConfiguration",
    ),
];

/// The names of all objects of these kinds.
async fn everything(control_plane: &ControlPlane) -> Vec<String> {
    let client = control_plane.client().await.unwrap();
    let mut names = Vec::new();
    for (group, kind) in TOUCHED {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let listed = api.list(&ListParams::default()).await.unwrap();
        let listed = listed.items.into_iter();
        names.extend(listed.map(|found| format!("{kind} {}", found.metadata.name.unwrap())));
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_real_cluster_the_demo_measures_the_same_and_leaves_nothing_behind() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let with_controllers = controlplane::Options {
        controller_manager: true,
        ..controlplane::Options::default()
    };
    let control_plane = ControlPlane::start(with_controllers).await.unwrap();
    let options = || options(0.05, Some(control_plane.kubeconfig()));
    let before = everything(&control_plane).await;
    let ended = demo::run(options()).await;
    assert_eq!(ended.unwrap(), Ended::AsItShould, "see the table above");
    assert_eq!(everything(&control_plane).await, before);

    // A namespace of the demo's name that the demo did not create.
    let shop = serde_json::json!({"metadata": {"name": "shop"}});
    let shop: Namespace = serde_json::from_value(shop).unwrap();
    let namespaces = Api::<Namespace>::all(control_plane.client().await.unwrap());
    let params = PostParams::default();
    let made = namespaces.create(&params, &shop).await.unwrap();
    let before = everything(&control_plane).await;
    let refused = demo::run(options()).await.unwrap_err().to_string();
    assert!(
        refused.starts_with("the cluster has a Namespace 'shop' already"),
        "{refused}"
    );
    assert_eq!(everything(&control_plane).await, before);
    let still = namespaces.get("shop").await.unwrap();
    assert_eq!(still.metadata.uid, made.metadata.uid);
}
