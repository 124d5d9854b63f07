//! targetgate as a process, and the cluster's API by hand.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http::Request;
use jiff::Timestamp;
use kube::Client;
use serde_json::Value;
use targetgate::commands::certs;
use targetgate_sandbox::usage::{self, Memory};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Longest wait for anything: the machine may be busy.
const PATIENCE: Duration = Duration::from_mins(10);

/// A running `targetgate serve`, as it is shipped: one that follows the whole cluster, and leads. It is
/// killed when dropped.
pub(crate) struct Process {
    child: Child,
    files: TempDir,
    started: Instant,
    admin: SocketAddr,
    /// Where the hooks are.
    pub(crate) hooks: SocketAddr,
    /// How long it took to be ready.
    pub(crate) ready_after: Duration,
}

impl Process {
    /// Starts it, and returns once it is ready. AWS is where nobody listens.
    pub(crate) async fn start(kubeconfig: &Path) -> Self {
        let files = tempfile::tempdir().unwrap();
        let made = certs::make("targetgate-system", &[], Timestamp::now()).unwrap();
        fs::write(files.path().join("ca.crt"), made.ca).unwrap();
        fs::write(files.path().join("tls.crt"), made.certificate).unwrap();
        fs::write(files.path().join("tls.key"), made.key).unwrap();
        let started = Instant::now();
        let mut process = Self {
            child: spawn(files.path(), kubeconfig),
            files,
            started,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            hooks: SocketAddr::from(([127, 0, 0, 1], 0)),
            ready_after: Duration::ZERO,
        };
        (process.hooks, process.admin) = until("started", async || process.addresses()).await;
        until("ready", async || {
            let answer = process.asked("/readyz").await;
            answer.contains(" 200 ").then_some(())
        })
        .await;
        process.ready_after = process.started.elapsed();
        process
    }

    /// The CA of its certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.files.path().join("ca.crt")
    }

    /// What its threads have spent on a CPU. None of them ends while it runs.
    pub(crate) fn cpu(&self) -> Duration {
        usage::cpu(self.child.id()).unwrap()
    }

    /// Its resident memory in MiB.
    pub(crate) fn rss(&self) -> f64 {
        Memory::of(self.child.id()).unwrap().resident as f64 / 1024.0
    }

    /// The calls of ELB that it has tried, whatever came of them.
    pub(crate) async fn elb_calls(&self) -> f64 {
        let metrics = self.asked("/metrics").await;
        let samples = metrics
            .lines()
            .filter(|line| line.starts_with("targetgate_elb_calls_total{"));
        samples
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Where it listens, by its log.
    fn addresses(&mut self) -> Option<(SocketAddr, SocketAddr)> {
        let log = fs::read_to_string(self.files.path().join("log")).unwrap();
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "targetgate ended, {ended:?}:\n{log}");
        let mut lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let started = lines.find(|line| line["message"] == "started")?;
        let address = |name: &str| started[name].as_str().unwrap().parse().unwrap();
        Some((address("listen"), address("admin")))
    }

    /// What the admin listener answers; nothing where it does not.
    async fn asked(&self, path: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(self.admin).await {
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.read_to_string(&mut answer).await.unwrap();
        }
        answer
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(files: &Path, kubeconfig: &Path) -> Child {
    let log = File::create(files.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_targetgate"));
    let command = command
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
        .env("POD_NAMESPACE", "targetgate-system")
        .env("POD_NAME", "targetgate-0")
        .env("AWS_REGION", "eu-west-1")
        .env("AWS_ACCESS_KEY_ID", "nobody")
        .env("AWS_SECRET_ACCESS_KEY", "nothing")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env(
            "AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2",
            "http://127.0.0.1:9",
        )
        // To try an allocator's settings.
        .envs(std::env::vars().filter(|(name, _)| name.contains("MALLOC")))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    command.spawn().unwrap()
}

/// Asks until there is an answer.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            // Each question costs who is asked some CPU.
            sleep(Duration::from_millis(100)).await;
        }
    };
    let asked = timeout(PATIENCE, asking).await;
    asked.unwrap_or_else(|_| panic!("not in {PATIENCE:?}: {what}"))
}

/// Sends an object to the API server, and returns its answer.
pub(crate) async fn send(client: &Client, method: &str, path: String, object: &Value) -> Value {
    let request = Request::builder().method(method).uri(path);
    let request = request.header(
        "content-type",
        match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        },
    );
    let request = request.body(serde_json::to_vec(object).unwrap()).unwrap();
    client.request(request).await.unwrap()
}

/// Where the objects of a namespace are.
pub(crate) fn collection(namespace: &str, plural: &str) -> String {
    match plural {
        "targetgroupbindings" => {
            format!("/apis/elbv2.k8s.aws/v1beta1/namespaces/{namespace}/{plural}")
        }
        _ => format!("/api/v1/namespaces/{namespace}/{plural}"),
    }
}
