//! The two API servers: each test runs on both, and must not be able to tell which it is.

use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Client, Config, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use targetgate_sandbox::api::{self, Api as Sandbox, Away};
use targetgate_sandbox::controlplane::{ControlPlane, ControlPlaneError, Options};
use targetgate_sandbox::harness::waiting::until;
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

/// The group of each [`Bindings::binding`].
pub(crate) const ARN: &str =
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef";

/// The real control plane of all tests of this program, which ends with the process.
static CONTROL_PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
/// A counter from which each test takes names of its own.
static TESTS: AtomicU32 = AtomicU32::new(0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// Our model, over a socket.
    Sandbox,
    /// A real kube-apiserver.
    Kubernetes,
}

/// A client of one API server, and a namespace of the test's own.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    /// The namespace, also used as a part of other names that must be unique to the test.
    pub(crate) namespace: String,
    behind: Behind,
}

/// The API server behind the client.
enum Behind {
    /// The model, of which each test has one of its own.
    Sandbox(Sandbox),
    /// The real control plane that all tests share.
    Shared(&'static ControlPlane),
    /// A real control plane that the test may disturb.
    Own(Box<ControlPlane>),
}

impl Server {
    /// The running server, with a namespace for this test.
    pub(crate) async fn cluster(self) -> Cluster {
        use_aws_lc();
        let start = || ControlPlane::start(Options::default());
        let behind = match self {
            Server::Sandbox => Behind::Sandbox(Sandbox::new(api::Options::default())),
            Server::Kubernetes => {
                Behind::Shared(running(CONTROL_PLANE.get_or_try_init(start).await))
            }
        };
        Cluster::on(behind).await
    }

    /// A server for this test alone, which may stop it and compact its history.
    pub(crate) async fn own_cluster(self) -> Cluster {
        use_aws_lc();
        let behind = match self {
            Server::Sandbox => return self.cluster().await,
            Server::Kubernetes => ControlPlane::start(Options::default()).await,
        };
        Cluster::on(Behind::Own(Box::new(running(behind)))).await
    }
}

fn use_aws_lc() {
    // An error means that a provider is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn running<T>(started: Result<T, ControlPlaneError>) -> T {
    started.unwrap_or_else(|error| panic!("{:#}", anyhow::Error::new(error)))
}

async fn over_a_socket(sandbox: &Sandbox) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(sandbox.clone().serve(listener, pending()));
    let config = Config::new(format!("http://{address}").parse().unwrap());
    Client::try_from(config).unwrap()
}

impl Cluster {
    async fn on(behind: Behind) -> Cluster {
        let client = match &behind {
            Behind::Sandbox(sandbox) => over_a_socket(sandbox).await,
            Behind::Shared(control_plane) => control_plane.client().await.unwrap(),
            Behind::Own(control_plane) => control_plane.client().await.unwrap(),
        };
        let number = TESTS.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("test-{number}");
        let made = json!({ "metadata": { "name": namespace } });
        let namespaces = Api::<Namespace>::all(client.clone());
        create(&namespaces, made).await.unwrap();
        Cluster {
            client,
            namespace,
            behind,
        }
    }

    /// The real control plane. Tests that need it do not run on the model.
    pub(crate) fn control_plane(&self) -> &ControlPlane {
        match &self.behind {
            Behind::Sandbox(_) => panic!("the model is not a control plane"),
            Behind::Shared(control_plane) => control_plane,
            Behind::Own(control_plane) => control_plane,
        }
    }

    /// Stops the server: its connections break, and it refuses new ones.
    pub(crate) fn stop(&mut self) {
        match &mut self.behind {
            Behind::Sandbox(sandbox) => sandbox.faults().away(Some(Away::Refusing)),
            Behind::Shared(_) => panic!("other tests need it"),
            Behind::Own(control_plane) => control_plane.stop_api_server(),
        }
    }

    /// Starts the server again.
    pub(crate) async fn start(&mut self) {
        match &mut self.behind {
            Behind::Own(control_plane) => running(control_plane.start_api_server().await),
            Behind::Sandbox(sandbox) => sandbox.faults().away(None),
            Behind::Shared(_) => {}
        }
    }

    /// Compacts the server's history up to now.
    pub(crate) async fn compact(&mut self) {
        if let Behind::Sandbox(sandbox) = &self.behind {
            return sandbox.forget_history();
        }
        // Compaction keeps the newest version.
        self.config_map("after-the-list").await.unwrap();
        self.control_plane().compact_etcd().await.unwrap();
        // The server keeps recent versions in its own memory, too, so it is restarted.
        self.stop();
        self.start().await;
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Compacts the history from before the test has defined its kinds.
    pub(crate) async fn forget(&self) {
        if let Behind::Sandbox(sandbox) = &self.behind {
            self.config_map("later").await.unwrap();
            sandbox.forget_history();
        }
        // A real server keeps history in memory by kind, from the time when the kind was defined.
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        self.api()
    }

    pub(crate) fn config_maps(&self) -> Api<ConfigMap> {
        self.api()
    }

    /// Creates a pod on a node, merged with `more`.
    pub(crate) async fn pod(&self, name: &str, more: Value) -> kube::Result<Pod> {
        create(&self.pods(), pod(name, more)).await
    }

    /// Creates a config map with one key.
    pub(crate) async fn config_map(&self, name: &str) -> kube::Result<ConfigMap> {
        create(&self.config_maps(), config_map(name)).await
    }

    pub(crate) async fn label_namespace(&self, label: &str, value: &str) {
        let patch = Patch::Merge(json!({ "metadata": { "labels": { label: value } } }));
        let namespaces = Api::<Namespace>::all(self.client.clone());
        namespaces
            .patch(&self.namespace, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// Objects of a namespaced kind.
    pub(crate) fn dynamic(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, resource)
    }

    /// Installs the shipped CRD of bindings under a group of the test's own, so that no other test sees its
    /// objects, and waits until it is served.
    pub(crate) async fn own_bindings(&self) -> Bindings {
        let group = format!("{}.example.com", self.namespace);
        let yaml = targetgate_core::binding::spec::yaml().replace("elbv2.k8s.aws", &group);
        let crd: Value = serde_saphyr::from_str(&yaml).unwrap();
        let bindings = Bindings {
            client: self.client.clone(),
            namespace: self.namespace.clone(),
            group,
        };
        let resource = resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
        let crds: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        create(&crds, crd).await.unwrap();
        until("the binding's CRD is served", async || {
            let listed = bindings.v1beta1().list(&ListParams::default()).await;
            listed.ok().map(|_| ())
        })
        .await;
        bindings
    }
}

/// Bindings in a group of the test's own.
pub(crate) struct Bindings {
    client: Client,
    namespace: String,
    pub(crate) group: String,
}

impl Bindings {
    /// Bindings in the stored version.
    pub(crate) fn v1beta1(&self) -> Api<DynamicObject> {
        self.version("v1beta1")
    }

    /// The smallest complete binding, named `web`.
    pub(crate) fn binding(&self) -> Value {
        json!({
            "apiVersion": format!("{}/v1beta1", self.group),
            "kind": "TargetGroupBinding",
            "metadata": { "name": "web" },
            "spec": {
                "serviceRef": { "name": "web", "port": 80 },
                "targetGroupARN": ARN,
                "targetType": "ip",
            },
        })
    }

    /// Bindings in any served version.
    pub(crate) fn version(&self, version: &str) -> Api<DynamicObject> {
        let resource = resource(&self.group, version, "TargetGroupBinding");
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }
}

pub(crate) fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// A pod on a node, merged with `more`.
pub(crate) fn pod(name: &str, more: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": "web" } },
        "spec": { "nodeName": "node", "containers": [{ "name": "web", "image": "web" }] },
    });
    json_patch::merge(&mut pod, &more);
    pod
}

pub(crate) fn config_map(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name },
        "data": { "key": "1" },
    })
}

/// Creates an object from its JSON, which may lack `apiVersion` and `kind`.
pub(crate) async fn create<K>(api: &Api<K>, object: Value) -> kube::Result<K>
where
    K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await
}

/// Patches a pod's status as the product does.
pub(crate) async fn strategic(pods: &Api<Pod>, name: &str, patch: Value) -> kube::Result<Pod> {
    pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
        .await
}

/// Code, reason and message of a refusal.
pub(crate) fn refused<T: std::fmt::Debug>(result: kube::Result<T>) -> (u16, String, String) {
    match result {
        Err(kube::Error::Api(status)) => {
            (status.code, status.reason.clone(), status.message.clone())
        }
        other => panic!("not refused by the API server: {other:?}"),
    }
}

/// Code and reason of a refusal.
pub(crate) fn code<T: std::fmt::Debug>(result: kube::Result<T>) -> (u16, String) {
    let (code, reason, _) = refused(result);
    (code, reason)
}

pub(crate) fn answer(code: u16, reason: &str) -> (u16, String) {
    (code, reason.to_owned())
}
