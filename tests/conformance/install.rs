//! targetgate as it is shipped: `deploy/base` applied to the real API server, and the binary as a
//! process that has nothing but the token of the shipped ServiceAccount. Only the place of the hooks
//! and the CA to trust are the test's.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::{Client, Config, ResourceExt as _};
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
pub(crate) const NAMESPACE: &str = "targetgate-system";
/// What is there; the rest is the cluster's.
const NAMESPACED: [&str; 5] = [
    "ServiceAccount",
    "Service",
    "Deployment",
    "Role",
    "RoleBinding",
];
/// The shipped ServiceAccount, as the API server names it.
pub(crate) const ACCOUNT: &str = "system:serviceaccount:targetgate-system:targetgate";

/// A cluster that all but the hooks is installed in, and an AWS. It is one test's until dropped.
pub(crate) struct Site {
    /// With a namespace that has opted in.
    pub(crate) cluster: Cluster,
    pub(crate) elb: Elb,
    /// The target group of binding `web`.
    pub(crate) arn: String,
    /// What is shipped, hooks and all.
    pub(crate) shipped: Vec<Value>,
    endpoint: String,
    /// Of the shipped ServiceAccount.
    pub(crate) kubeconfig: PathBuf,
    ca: String,
    pub(crate) files: TempDir,
    #[expect(dead_code, reason = "held until dropped")]
    tasks: JoinSet<()>,
    #[expect(dead_code, reason = "held until dropped")]
    turn: MutexGuard<'static, ()>,
}

impl Site {
    /// Installs it.
    pub(crate) async fn new() -> Self {
        let turn = TURN.lock().await;
        let cluster = Server::Kubernetes.cluster().await;
        let opt_in = "elbv2.k8s.aws/pod-readiness-gate-inject";
        cluster.label_namespace(opt_in, "enabled").await;
        let shipped = rendered();
        for object in shipped.iter().filter(|object| !is_hooks(object)) {
            apply(&cluster.client, object.clone()).await;
        }
        // What the test before this one has left: a holder that it killed would be waited for, and
        // hooks that nobody answers any more refuse bindings.
        let mut left = vec![("coordination.k8s.io", "Lease", "targetgate")];
        for object in shipped.iter().filter(|object| is_hooks(object)) {
            let kind = object["kind"].as_str().unwrap();
            left.push(("admissionregistration.k8s.io", kind, "targetgate"));
        }
        for (group, kind, name) in left {
            delete(&cluster.client, &resource(group, "v1", kind), name).await;
        }
        unbind(&cluster.client).await;

        let mut tasks = JoinSet::new();
        let (elb, arn, endpoint) = aws(&mut tasks).await;
        let files = tempfile::tempdir().unwrap();
        // As a host of a URL this is no loopback address to the API server, which then speaks
        // HTTP/1.1, as to a Service.
        let names = ["0.0.0.0".to_owned()];
        let made = dev_certs::make(NAMESPACE, &names, Timestamp::now()).unwrap();
        std::fs::write(files.path().join("tls.crt"), &made.certificate).unwrap();
        std::fs::write(files.path().join("tls.key"), &made.key).unwrap();
        Self {
            kubeconfig: kubeconfig(&cluster).await,
            cluster,
            elb,
            arn,
            shipped,
            endpoint,
            ca: made.ca,
            files,
            tasks,
            turn,
        }
    }

    /// Starts a process as a pod of this name, and returns when it is ready.
    pub(crate) async fn start(&self, pod: &str) -> Replica {
        self.start_with(pod, &self.kubeconfig).await
    }

    /// The same, with a kubeconfig of its own.
    pub(crate) async fn start_with(&self, pod: &str, kubeconfig: &Path) -> Replica {
        let path = |name: &str| self.files.path().join(name).display().to_string();
        let tls = [
            format!("--tls-cert={}", path("tls.crt")),
            format!("--tls-key={}", path("tls.key")),
        ];
        self.start_as(pod, &tls, kubeconfig).await
    }

    /// The same, with the certificate that these flags are about.
    pub(crate) async fn start_as(&self, pod: &str, tls: &[String], kubeconfig: &Path) -> Replica {
        let log = self.files.path().join(format!("{pod}.log"));
        let mut command = self.command(pod, tls, File::create(&log).unwrap());
        let mut process = command.arg("--kubeconfig").arg(kubeconfig).spawn().unwrap();
        let (hooks, admin) = listening(&log, &mut process).await;
        let replica = Replica {
            process,
            hooks,
            admin,
            log,
        };
        replica.until_ready().await;
        replica
    }

    /// Registers the hooks at this address.
    pub(crate) async fn register_hooks(&self, hooks: SocketAddr, more: Value) {
        let mut trusting = json!({ "clientConfig": { "caBundle": STANDARD.encode(&self.ca) } });
        json_patch::merge(&mut trusting, &more);
        self.register_as_shipped(hooks, trusting).await;
    }

    /// The same, without a CA.
    pub(crate) async fn register_as_shipped(&self, hooks: SocketAddr, more: Value) {
        for object in self.shipped.iter().filter(|object| is_hooks(object)) {
            let mut object = object.clone();
            redirect(&mut object, hooks, &more);
            apply(&self.cluster.client, object).await;
        }
    }

    /// Registers a target, which is healthy from the first check on.
    pub(crate) fn register(&self, ip: IpAddr, port: u16) {
        self.elb.register(&self.arn, ip, port).unwrap();
    }

    /// Bindings, as the CRD has them.
    pub(crate) fn bindings(&self) -> Api<DynamicObject> {
        let resource = resource("elbv2.k8s.aws", "v1beta1", "TargetGroupBinding");
        self.cluster.dynamic(&resource)
    }

    /// The command and the environment of the shipped Deployment, as far as this machine goes.
    fn command(&self, pod: &str, tls: &[String], log: File) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_targetgate"));
        command
            .args([
                "serve",
                "--listen=127.0.0.1:0",
                "--admin-listen=127.0.0.1:0",
                "--log-format=json",
            ])
            .args(tls)
            .env_clear()
            .env("POD_NAMESPACE", NAMESPACE)
            .env("POD_NAME", pod)
            .env("AWS_REGION", elb::Options::default().region)
            .env("AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2", &self.endpoint)
            .env("AWS_ACCESS_KEY_ID", "sandbox")
            .env("AWS_SECRET_ACCESS_KEY", "sandbox")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        command
    }
}

/// A running process; killed when dropped.
pub(crate) struct Replica {
    pub(crate) process: Child,
    /// Where it answers reviews.
    pub(crate) hooks: SocketAddr,
    admin: SocketAddr,
    log: PathBuf,
}

impl Replica {
    /// Kills the process, as a node that dies.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// What the admin listener answers at a path, where it says 200.
    pub(crate) async fn admin(&self, path: &str) -> Option<String> {
        let admin = Config::new(format!("http://{}", self.admin).parse().unwrap());
        let admin = Client::try_from(admin).unwrap();
        let request = http::Request::get(path).body(vec![]).unwrap();
        admin.request_text(request).await.ok()
    }

    /// Waits until its watches have seen everything.
    async fn until_ready(&self) {
        let ready = until("targetgate is ready", async || self.admin("/readyz").await);
        let ready = std::panic::AssertUnwindSafe(ready);
        if futures::FutureExt::catch_unwind(ready).await.is_err() {
            panic!("targetgate does not get ready:\n{}", self.log());
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // One that has been killed already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A running installation of one process; ended when dropped.
pub(crate) struct Installed {
    replica: Replica,
    site: Site,
}

impl Installed {
    /// Installs it, starts it, and returns when it is ready and its hooks are registered.
    pub(crate) async fn new() -> Self {
        let site = Site::new().await;
        let replica = site.start("targetgate-0").await;
        site.register_hooks(replica.hooks, json!({})).await;
        Self { replica, site }
    }

    /// Kills the process, as a node that dies.
    pub(crate) fn kill(&mut self) {
        self.replica.kill();
    }
}

impl Deref for Installed {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
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

/// Deletes an object, which need not be there.
async fn delete(client: &Client, resource: &ApiResource, name: &str) {
    let api: Api<DynamicObject> = match NAMESPACED.contains(&resource.kind.as_str()) {
        true => Api::namespaced_with(client.clone(), NAMESPACE, resource),
        false => Api::all_with(client.clone(), resource),
    };
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => panic!("{} {name}: {error}", resource.kind),
    }
}

/// Deletes all bindings: each test's are to the same target group, and only one may be.
async fn unbind(client: &Client) {
    let kind = resource("elbv2.k8s.aws", "v1beta1", "TargetGroupBinding");
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    // While the CRD is not served yet, there are none.
    let Ok(left) = all.list(&ListParams::default()).await else {
        return;
    };
    for binding in left {
        let namespace = binding.namespace().unwrap();
        let bindings: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &kind);
        let params = DeleteParams::default();
        bindings.delete(&binding.name_any(), &params).await.unwrap();
    }
}

/// Points the hooks at an address of this machine instead of a Service of the cluster, with this on
/// top.
fn redirect(configuration: &mut Value, hooks: SocketAddr, more: &Value) {
    for webhook in configuration["webhooks"].as_array_mut().unwrap() {
        let path = webhook["clientConfig"]["service"]["path"].as_str().unwrap();
        webhook["clientConfig"] = json!({ "url": format!("https://{hooks}{path}") });
        json_patch::merge(webhook, more);
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

/// Waits until the process says where it listens, for reviews and for probes.
async fn listening(log: &Path, process: &mut Child) -> (SocketAddr, SocketAddr) {
    until("targetgate has started", async || {
        let text = std::fs::read_to_string(log).unwrap();
        let ended = process.try_wait().unwrap();
        assert!(ended.is_none(), "targetgate ended, {ended:?}:\n{text}");
        let mut lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let started = lines.find(|line| line["message"] == "started")?;
        let address = |name: &str| started[name].as_str().unwrap().parse().unwrap();
        Some((address("listen"), address("admin")))
    })
    .await
}
