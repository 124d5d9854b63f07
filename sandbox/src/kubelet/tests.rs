use std::net::SocketAddr;

use k8s_openapi::api::core::v1::PodCondition;
use kube::api::DeleteParams;
use rstest::rstest;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::time::{sleep, timeout};

use super::pod_server::tests::in_flight;
use super::*;
use crate::api::Api as Server;
use crate::get::get;

/// The deadline of every wait here. Chosen, far above what any of them takes.
const ENOUGH: Duration = Duration::from_secs(60);
const GATE: &str = "target-health.elbv2.k8s.aws/web";

/// A kubelet with an API server, and access to its pods.
struct Node {
    pods: Api<Pod>,
    _kubelet: JoinSet<Result<(), Error>>,
}

impl Node {
    fn start(reuse: Reuse) -> Self {
        let client = Server::new(crate::api::Options::default()).client();
        let network = match Network::detect() {
            Network::AddressPerPod(_) => Network::AddressPerPod(reuse),
            Network::OneAddress => Network::OneAddress,
        };
        let options = Options {
            start_after: Duration::from_millis(10),
            network,
            ..Options::default()
        };
        let mut kubelet = JoinSet::new();
        kubelet.spawn(run(client.clone(), options));
        Self {
            pods: Api::default_namespaced(client),
            _kubelet: kubelet,
        }
    }

    async fn create(&self, name: &str, pre_stop: Value) {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port.local_addr().unwrap().port();
        let pod = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "readinessGates": [{"conditionType": GATE}],
                "containers": [{
                    "name": "web",
                    "ports": [{"name": "http", "containerPort": port}],
                    "lifecycle": {"preStop": pre_stop},
                }],
            },
        }))
        .unwrap();
        let params = PostParams::default();
        self.pods.create(&params, &pod).await.unwrap();
    }

    /// Waits until the pod is as `wanted`, and returns it.
    async fn pod(&self, name: &str, wanted: impl Fn(&Pod) -> bool) -> Pod {
        let look = async {
            loop {
                let pod = self.pods.get(name).await.unwrap();
                if wanted(&pod) {
                    return pod;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(ENOUGH, look).await.unwrap()
    }

    async fn running(&self, name: &str) -> SocketAddr {
        let pod = self
            .pod(name, |pod| is(pod, "ContainersReady", "True"))
            .await;
        address(&pod)
    }

    async fn gone(&self, name: &str) {
        let look = async {
            while self.pods.get_opt(name).await.unwrap().is_some() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(ENOUGH, look).await.unwrap();
    }
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}

fn is(pod: &Pod, type_: &str, status: &str) -> bool {
    condition(pod, type_).is_some_and(|condition| condition.status == status)
}

fn address(pod: &Pod) -> SocketAddr {
    let ip = pod.status.as_ref().unwrap().pod_ip.as_ref().unwrap();
    let ports = pod.spec.as_ref().unwrap().containers[0].ports.as_ref();
    let port = ports.unwrap()[0].container_port;
    SocketAddr::new(ip.parse().unwrap(), port.try_into().unwrap())
}

#[tokio::test]
async fn a_pod_is_bound_listens_and_is_ready_once_its_gate_is_open() {
    let node = Node::start(Reuse::Late);
    node.create("web-1", Value::Null).await;
    let address = node.running("web-1").await;
    let (status, body) = get(address, "/").await.unwrap();
    assert_eq!((status.as_u16(), &body[..]), (200, &b"web-1\n"[..]));

    let pod = node.pod("web-1", |pod| is(pod, "Ready", "False")).await;
    let reason = condition(&pod, "Ready").unwrap().reason.as_deref();
    assert_eq!(reason, Some("ReadinessGatesNotReady"));
    assert!(is(&pod, "PodScheduled", "True"));
    assert!(pod.spec.unwrap().node_name.unwrap().starts_with("node-"));

    let open = json!({"status": {"conditions": [{"type": GATE, "status": "True"}]}});
    let params = PatchParams::default();
    let open = Patch::Strategic(open);
    node.pods
        .patch_status("web-1", &params, &open)
        .await
        .unwrap();
    let pod = node.pod("web-1", |pod| is(pod, "Ready", "True")).await;
    assert!(
        is(&pod, GATE, "True"),
        "the kubelet keeps the conditions of others"
    );
    let ready = condition(&pod, "Ready").unwrap();
    assert_eq!((&ready.reason, &ready.message), (&None, &None));
}

#[rstest]
#[case::bound(json!({"nodeName": "node-b"}), Some("node-b"))]
#[case::of_a_daemon_set(daemon_pod(), Some("node-c"))]
#[case::anywhere(json!({}), None)]
fn a_pod_that_names_its_node_runs_there(#[case] spec: Value, #[case] node: Option<&str>) {
    let mut pod = json!({"metadata": {"name": "web"}, "spec": {"containers": []}});
    json_patch::merge(&mut pod["spec"], &spec);
    let pod = serde_json::from_value(pod).unwrap();
    assert_eq!(node_of(&pod).as_deref(), node);
}

/// The affinity that the DaemonSet controller writes.
fn daemon_pod() -> Value {
    let field = json!({"key": "metadata.name", "operator": "In", "values": ["node-c"]});
    let required = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}})
}

#[tokio::test]
async fn a_deleted_pod_answers_until_its_hook_is_through_and_then_goes() {
    let node = Node::start(Reuse::Late);
    let hook = json!({"exec": {"command": ["sleep", "2"]}});
    node.create("web-1", hook).await;
    let address = node.running("web-1").await;
    let began = std::time::Instant::now();
    node.pods
        .delete("web-1", &DeleteParams::default())
        .await
        .unwrap();
    assert!(get(address, "/healthz").await.is_ok());
    node.gone("web-1").await;
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert!(get(address, "/healthz").await.is_err());
}

#[tokio::test]
async fn a_native_sidecar_answers_until_the_main_containers_have_ended() {
    let node = Node::start(Reuse::Late);
    let port = || {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "web-1"},
        "spec": {
            "containers": [{
                "name": "web",
                "ports": [{"containerPort": port()}],
            }],
            "initContainers": [{
                "name": "proxy",
                "restartPolicy": "Always",
                "ports": [{"name": "http", "containerPort": port()}],
            }],
        },
    }));
    let pod: Pod = pod.unwrap();
    let params = PostParams::default();
    node.pods.create(&params, &pod).await.unwrap();
    let main = node.running("web-1").await;
    let sidecar = pod.spec.unwrap().init_containers.unwrap()[0].ports.clone();
    let sidecar = sidecar.unwrap()[0].container_port.try_into().unwrap();
    let sidecar = SocketAddr::new(main.ip(), sidecar);
    let mut in_flight = in_flight(main, "/?work_ms=5000").await;
    let params = DeleteParams::default();
    node.pods.delete("web-1", &params).await.unwrap();
    let refused = async {
        while get(main, "/healthz").await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(ENOUGH, refused).await.unwrap();
    // The main container has got SIGTERM, and still answers this request.
    let mut start = [0; 12];
    let early = in_flight.try_read(&mut start).unwrap_err();
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
    assert!(get(sidecar, "/healthz").await.is_ok());
    in_flight.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    node.gone("web-1").await;
    assert!(get(sidecar, "/healthz").await.is_err());
}

#[tokio::test]
async fn an_http_hook_holds_the_end_until_it_is_answered() {
    let node = Node::start(Reuse::Late);
    let hook = json!({"httpGet": {"port": "http", "path": "/?work_ms=400"}});
    node.create("web-1", hook).await;
    node.running("web-1").await;
    let began = std::time::Instant::now();
    node.pods
        .delete("web-1", &DeleteParams::default())
        .await
        .unwrap();
    node.gone("web-1").await;
    assert!(began.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn a_pod_that_is_removed_by_force_stops_answering() {
    let node = Node::start(Reuse::Late);
    node.create("web-1", json!({"sleep": {"seconds": 20}}))
        .await;
    let address = node.running("web-1").await;
    let force = DeleteParams::default().grace_period(0);
    node.pods.delete("web-1", &force).await.unwrap();
    let refused = async {
        while get(address, "/healthz").await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(ENOUGH, refused).await.unwrap();
}

#[tokio::test]
async fn the_next_pod_can_have_the_address_of_the_last() {
    let node = Node::start(Reuse::AtOnce);
    node.create("web-1", Value::Null).await;
    let first = node.running("web-1").await;
    let force = DeleteParams::default().grace_period(0);
    node.pods.delete("web-1", &force).await.unwrap();
    // The address is free again once the server has stopped listening.
    let refused = async {
        while get(first, "/healthz").await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(ENOUGH, refused).await.unwrap();
    node.create("web-1", Value::Null).await;
    assert_eq!(node.running("web-1").await.ip(), first.ip());
}
