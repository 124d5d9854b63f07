//! targetgate as it is shipped: `deploy/base` applied to the real API server, and the binary as a
//! process that has nothing but the token of the shipped ServiceAccount. Only the place of the hooks
//! and the CA to trust are the test's.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Client, Config};
use serde_json::{Value, json};
use targetgate::dev_certs;
use targetgate_sandbox::elb::check::{CheckOutcome, ScriptedProbe};
use targetgate_sandbox::elb::{self, Elb, LoadBalancerKind, TargetGroupSpec};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;

use crate::servers::{Cluster, Server, control_plane, resource, until};

/// `deploy/base` is one per cluster: tests that install it take turns.
static TURN: Mutex<()> = Mutex::const_new(());
/// Where it is installed, and as whom it runs.
const NAMESPACE: &str = "targetgate-system";
/// What is installed there; the rest is the cluster's.
const NAMESPACED: [&str; 5] = [
    "ServiceAccount",
    "Service",
    "Deployment",
    "Role",
    "RoleBinding",
];
/// The shipped ServiceAccount, as the API server names it.
pub(crate) const ACCOUNT: &str = "system:serviceaccount:targetgate-system:targetgate";

/// A running installation; ended when dropped.
pub(crate) struct Installed {
    /// With a namespace that has opted in.
    pub(crate) cluster: Cluster,
    elb: Elb,
    /// The target group of binding `web`.
    pub(crate) arn: String,
    /// What was applied.
    pub(crate) shipped: Vec<Value>,
    process: Child,
    #[expect(dead_code, reason = "held until dropped")]
    files: TempDir,
    #[expect(dead_code, reason = "held until dropped")]
    tasks: JoinSet<()>,
    #[expect(dead_code, reason = "held until dropped")]
    turn: MutexGuard<'static, ()>,
}

impl Installed {
    /// Installs it, starts it, and returns when it is ready and the API server asks its hooks.
    pub(crate) async fn new() -> Self {
        let turn = TURN.lock().await;
        let cluster = Server::Kubernetes.cluster().await;
        let opt_in = "elbv2.k8s.aws/pod-readiness-gate-inject";
        cluster.label_namespace(opt_in, "enabled").await;
        let shipped = rendered();
        let (hooks, rest): (Vec<_>, Vec<_>) = shipped.iter().cloned().partition(is_hooks);
        for object in rest {
            apply(&cluster.client, object).await;
        }
        // The test before this one has killed its holder, which would be waited for.
        let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), NAMESPACE);
        let deleted = leases.delete("targetgate", &DeleteParams::default()).await;
        assert!(matches!(deleted, Ok(_) | Err(kube::Error::Api(_))));

        let mut tasks = JoinSet::new();
        let (elb, arn, endpoint) = aws(&mut tasks).await;
        let files = tempfile::tempdir().unwrap();
        let made = dev_certs::make(NAMESPACE, &[], Timestamp::now()).unwrap();
        std::fs::write(files.path().join("tls.crt"), &made.certificate).unwrap();
        std::fs::write(files.path().join("tls.key"), &made.key).unwrap();
        let kubeconfig = kubeconfig(&cluster).await;
        let mut process = start(files.path(), &kubeconfig, &endpoint);
        let listening = listening(files.path(), &mut process).await;
        ready(&listening).await;

        for mut object in hooks {
            redirect(&mut object, listening.hooks, &made.ca);
            apply(&cluster.client, object).await;
        }
        Self {
            cluster,
            elb,
            arn,
            shipped,
            process,
            files,
            tasks,
            turn,
        }
    }

    /// Registers a target, which is healthy from the first check on.
    pub(crate) fn register(&self, ip: IpAddr, port: u16) {
        self.elb.register(&self.arn, ip, port).unwrap();
    }

    /// Kills the process, as a node that dies.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Bindings, as the CRD has them.
    pub(crate) fn bindings(&self) -> Api<DynamicObject> {
        let resource = resource("elbv2.k8s.aws", "v1beta1", "TargetGroupBinding");
        self.cluster.dynamic(&resource)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // One that has been killed already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What `kubectl kustomize deploy/base` prints: nothing of kustomize is used there but what is done
/// here, and anything else is refused.
fn rendered() -> Vec<Value> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/base");
    let read = |name: &str| std::fs::read_to_string(base.join(name)).unwrap();
    let kustomization: Value = serde_saphyr::from_str(&read("kustomization.yaml")).unwrap();
    let known = ["apiVersion", "kind", "namespace", "labels", "resources"];
    let fields = kustomization.as_object().unwrap();
    assert!(fields.keys().all(|field| known.contains(&field.as_str())));
    let files = kustomization["resources"].as_array().unwrap();
    let files = files.iter().map(|file| read(file.as_str().unwrap()));
    let mut objects: Vec<Value> = files
        .flat_map(|file| serde_saphyr::from_multiple::<Value>(&file).unwrap())
        .collect();
    for object in &mut objects {
        let kind = object["kind"].as_str().unwrap();
        if NAMESPACED.contains(&kind) {
            object["metadata"]["namespace"] = kustomization["namespace"].clone();
        }
        for labels in kustomization["labels"].as_array().unwrap() {
            let added = json!({ "metadata": { "labels": labels["pairs"] } });
            json_patch::merge(object, &added);
        }
    }
    objects
}

fn is_hooks(object: &Value) -> bool {
    object["kind"]
        .as_str()
        .unwrap()
        .ends_with("WebhookConfiguration")
}

/// `kubectl apply --server-side`.
async fn apply(client: &Client, object: Value) {
    let types = serde_json::from_value(object.clone()).unwrap();
    let gvk = kube::core::GroupVersionKind::try_from(&types).unwrap();
    let resource = ApiResource::from_gvk(&gvk);
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let name = object["metadata"]["name"].as_str().unwrap();
    let params = PatchParams::apply("install").force();
    let applied = api.patch(name, &params, &Patch::Apply(&object)).await;
    applied.unwrap_or_else(|error| panic!("{} {name}: {error}", gvk.kind));
}

/// Points the hooks at a process of this machine instead of a Service of the cluster.
fn redirect(configuration: &mut Value, hooks: SocketAddr, ca: &str) {
    for webhook in configuration["webhooks"].as_array_mut().unwrap() {
        let path = webhook["clientConfig"]["service"]["path"].as_str().unwrap();
        webhook["clientConfig"] = json!({
            "url": format!("https://{hooks}{path}"),
            "caBundle": STANDARD.encode(ca),
        });
    }
}

/// A group behind a load balancer, whose targets pass their checks.
async fn aws(tasks: &mut JoinSet<()>) -> (Elb, String, String) {
    let elb = Elb::new(elb::Options {
        probe: Arc::new(ScriptedProbe::new(CheckOutcome::Passed)),
        ..elb::Options::default()
    });
    tasks.spawn(elb.run());
    let delays = elb::Delays::alb().scaled(0.01);
    let arn = elb.create_target_group(TargetGroupSpec::http("web").delays(delays));
    let balancer = elb.create_load_balancer("web", LoadBalancerKind::Application, &[]);
    elb.add_listener(&balancer, &[(&arn, 1)]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tasks.spawn(elb.clone().serve(listener, std::future::pending()));
    (elb, arn, endpoint)
}

/// A kubeconfig of the shipped ServiceAccount.
async fn kubeconfig(cluster: &Cluster) -> PathBuf {
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let wanted: TokenRequest =
        serde_json::from_value(json!({ "spec": { "audiences": [] } })).unwrap();
    let params = PostParams::default();
    let issued = accounts
        .create_token_request("targetgate", &params, &wanted)
        .await;
    let token = issued.unwrap().status.unwrap().token;
    let name = format!("{}.kubeconfig", cluster.namespace);
    control_plane().await.kubeconfig_for(&name, &token).unwrap()
}

/// The command and the environment of the shipped Deployment, as far as this machine goes.
fn start(files: &Path, kubeconfig: &Path, elb: &str) -> Child {
    let log = File::create(files.join("log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_targetgate"))
        .args([
            "serve",
            "--listen=127.0.0.1:0",
            "--admin-listen=127.0.0.1:0",
            "--log-format=json",
        ])
        .arg("--tls-cert")
        .arg(files.join("tls.crt"))
        .arg("--tls-key")
        .arg(files.join("tls.key"))
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .env_clear()
        .env("POD_NAMESPACE", NAMESPACE)
        .env("POD_NAME", "targetgate-0")
        .env("AWS_REGION", elb::Options::default().region)
        .env("AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2", elb)
        .env("AWS_ACCESS_KEY_ID", "sandbox")
        .env("AWS_SECRET_ACCESS_KEY", "sandbox")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Where the process listens.
struct Listening {
    hooks: SocketAddr,
    admin: SocketAddr,
    log: PathBuf,
}

/// Waits until the process says where it listens.
async fn listening(files: &Path, process: &mut Child) -> Listening {
    let log = files.join("log");
    until("targetgate has started", async || {
        let text = std::fs::read_to_string(&log).unwrap();
        let ended = process.try_wait().unwrap();
        assert!(ended.is_none(), "targetgate ended, {ended:?}:\n{text}");
        let mut lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let started = lines.find(|line| line["message"] == "started")?;
        let address = |name: &str| started[name].as_str().unwrap().parse().unwrap();
        Some(Listening {
            hooks: address("listen"),
            admin: address("admin"),
            log: log.clone(),
        })
    })
    .await
}

/// Waits until its watches have seen everything.
async fn ready(listening: &Listening) {
    let admin = Config::new(format!("http://{}", listening.admin).parse().unwrap());
    let admin = Client::try_from(admin).unwrap();
    let readyz = async || {
        let request = http::Request::get("/readyz").body(vec![]).unwrap();
        admin.request_text(request).await.ok()
    };
    let waiting = std::panic::AssertUnwindSafe(until("targetgate is ready", readyz));
    if futures::FutureExt::catch_unwind(waiting).await.is_err() {
        let log = std::fs::read_to_string(&listening.log).unwrap();
        panic!("targetgate does not get ready:\n{log}");
    }
}
