//! targetgate as a process: the command and the environment of the shipped Deployment, as far as this
//! machine goes.

use std::fs::File;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use futures::FutureExt as _;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use kube::client::Body;
use kube::{Client, Config};
use serde_json::Value;
use targetgate::dev_certs;
use targetgate_sandbox::elb;
use tempfile::TempDir;

use crate::servers::until;

/// What every start is made from.
pub(crate) struct Program {
    /// The certificate, the key and the log.
    files: TempDir,
    /// Whom the hooks' callers are to trust.
    pub(crate) ca: String,
    kubeconfig: PathBuf,
    elb: String,
    arguments: Vec<String>,
}

impl Program {
    /// Serves as a Service of `namespace` would; `elb` is the URL of the ELBv2 API.
    pub(crate) fn new(
        namespace: &str,
        kubeconfig: PathBuf,
        elb: String,
        arguments: &[&str],
    ) -> Self {
        let files = tempfile::tempdir().unwrap();
        let made = dev_certs::make(namespace, &[], Timestamp::now()).unwrap();
        std::fs::write(files.path().join("tls.crt"), &made.certificate).unwrap();
        std::fs::write(files.path().join("tls.key"), &made.key).unwrap();
        Self {
            files,
            ca: made.ca,
            kubeconfig,
            elb,
            arguments: arguments.iter().map(|&a| a.to_owned()).collect(),
        }
    }

    /// Starts it, and returns when it listens, which may be long before it is ready.
    pub(crate) async fn start(&self) -> Process {
        let log = self.files.path().join("log");
        let mut running = Running(self.command(&log).spawn().unwrap());
        let started = until("targetgate has started", async || {
            let text = std::fs::read_to_string(&log).unwrap();
            let ended = running.0.try_wait().unwrap();
            assert!(ended.is_none(), "targetgate ended, {ended:?}:\n{text}");
            let lines = text.lines();
            let mut lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.find(|line| line["message"] == "started")
        })
        .await;
        let address = |name: &str| {
            started[name]
                .as_str()
                .unwrap()
                .parse::<SocketAddr>()
                .unwrap()
        };
        let mut admin = Config::new(format!("http://{}", address("admin")).parse().unwrap());
        // A check that fails is an answer.
        admin.default_retry = false;
        Process {
            running,
            hooks: address("listen"),
            admin: Client::try_from(admin).unwrap(),
            log,
        }
    }

    fn command(&self, log: &Path) -> Command {
        let file = |name| self.files.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_targetgate"));
        command
            .args(["serve", "--log-format=json"])
            .args(["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"])
            .arg("--tls-cert")
            .arg(file("tls.crt"))
            .arg("--tls-key")
            .arg(file("tls.key"))
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(&self.arguments)
            .env_clear()
            .env("AWS_REGION", elb::Options::default().region)
            .env("AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2", &self.elb)
            .env("AWS_ACCESS_KEY_ID", "sandbox")
            .env("AWS_SECRET_ACCESS_KEY", "sandbox")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log).unwrap());
        command
    }
}

/// Killed when dropped, as by a node that dies.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// It runs, until this is dropped.
pub(crate) struct Process {
    #[expect(dead_code, reason = "held until dropped")]
    running: Running,
    /// Where it answers reviews.
    pub(crate) hooks: SocketAddr,
    admin: Client,
    log: PathBuf,
}

impl Process {
    /// What its admin listener answers.
    pub(crate) async fn admin(&self, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = self.admin.send(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.into()).unwrap())
    }

    /// Waits until its watches have seen everything.
    pub(crate) async fn ready(&self) {
        let seen = async || match self.admin("/readyz").await {
            (StatusCode::OK, _) => Some(()),
            _ => None,
        };
        let waiting = AssertUnwindSafe(until("targetgate is ready", seen));
        if waiting.catch_unwind().await.is_err() {
            let log = std::fs::read_to_string(&self.log).unwrap();
            panic!("targetgate does not get ready:\n{log}");
        }
    }

    /// The value of a metric, by its name and labels as they are written; 0 where it is not there.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.admin("/metrics").await;
        let mut samples = text.lines().filter_map(|line| line.rsplit_once(' '));
        let sample = samples.find(|(sample, _)| *sample == name);
        sample.map_or(0.0, |(_, value)| value.parse().unwrap())
    }
}
