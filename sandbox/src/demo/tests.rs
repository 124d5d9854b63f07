use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Api;
use kube::api::PostParams;
use rstest::rstest;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::binding::TargetGroupBindingSpec;
use crate::kubelet::Network;

/// A world that serves the binding's kind, which targetgate's CRD would define.
async fn world(parts: &mut Parts, settings: &Settings, directory: &TempDir) -> World {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let options = Options {
        targetgate: PathBuf::new(),
        settings: settings.clone(),
        kubeconfig: None,
        hooks_ip: [127, 0, 0, 1].into(),
        page_port: 0,
        keep: false,
        json: None,
    };
    let world = World::start(parts, &options, directory.path());
    let world = world.await.unwrap();
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"type": "object", "properties": {"spec": open}});
    let crd: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {"name": "targetgroupbindings.elbv2.k8s.aws"},
        "spec": {
            "group": "elbv2.k8s.aws",
            "names": {"kind": "TargetGroupBinding", "plural": "targetgroupbindings"},
            "scope": "Namespaced",
            "versions": [{
                "name": "v1beta1",
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    }))
    .unwrap();
    let crds = Api::<CustomResourceDefinition>::all(world.cluster.client.clone());
    crds.create(&PostParams::default(), &crd).await.unwrap();
    world
}

/// A complete binding, which needs no hook.
fn full_binding(shop: &Shop) -> TargetGroupBindingSpec {
    let mut spec = shop.least_binding();
    spec.target_type = Some("ip".to_owned());
    spec.service_ref.port = Some(IntOrString::Int(80));
    spec
}

/// Rolls without targetgate, over real sockets. Kubernetes ends the old pods before ELB knows the
/// new ones, and both the client and the load balancer count the lost requests.
#[rstest]
#[case::each_pod_has_its_own_address_where_it_can(Network::detect())]
#[case::all_pods_share_one_address(Network::OneAddress)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_without_gates_loses_requests(#[case] network: Network) {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        network,
        settle: std::time::Duration::from_millis(300),
        ..Settings::scaled(0.05)
    };
    let mut parts = Parts::default();
    let world = world(&mut parts, &settings, &directory).await;
    let nodes = world.inhabit(&mut parts, &settings).await.unwrap();
    let [alone, ..] = variants(&settings);
    let stage = Stage::new(&world, &nodes, Page::new(&settings, [alone.title]));
    stage.shop.open(full_binding(&stage.shop)).await.unwrap();
    let numbers = tokio::select! {
        numbers = stage.measure(&settings, &alone) => numbers.unwrap(),
        error = parts.broken() => panic!("{error:#}"),
    };
    let counts = &numbers.counts;
    assert!(counts.lost() > 0, "{numbers:?}");
    assert_eq!(counts.sent, counts.ok + counts.lost());
    assert_eq!(world.aws.elb.traffic().lost(), counts.lost(), "{numbers:?}");
    assert_eq!(numbers.without_gate, 4);
}
