//! targetgate as a process, and requests to the cluster's API.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http::{Request, StatusCode};
use kube::Client;
use serde_json::Value;
use targetgate_sandbox::harness::{self, Program};
use targetgate_sandbox::usage::{self, Memory};
use tokio::time::{sleep, timeout};

use crate::argument;

const BINARY: &str = env!("CARGO_BIN_EXE_targetgate");
/// The longest wait for anything. Chosen, because the machine may be busy.
const PATIENCE: Duration = Duration::from_mins(10);

/// A running `targetgate serve` as it is shipped, which follows the whole cluster and leads. It is killed when
/// dropped.
pub(crate) struct Process {
    process: harness::Process,
    program: Program,
    /// The address of the hooks.
    pub(crate) hooks: SocketAddr,
    /// The time from its start until it was ready.
    pub(crate) ready_after: Duration,
}

impl Process {
    /// Starts it, and waits until it is ready. No process listens at its AWS endpoint.
    pub(crate) async fn start(kubeconfig: &Path) -> Self {
        Self::start_with(kubeconfig, "http://127.0.0.1:9", &[]).await
    }

    /// Starts it with further arguments, and waits until it is ready. `elb` is the URL of the ELBv2 API.
    pub(crate) async fn start_with(kubeconfig: &Path, elb: &str, arguments: &[&str]) -> Self {
        let (binary, kubeconfig) = (binary(), kubeconfig.to_owned());
        let program = Program::new(
            &binary,
            "targetgate-system",
            kubeconfig,
            elb.to_owned(),
            arguments,
        );
        let program = program.unwrap();
        let started = Instant::now();
        let process = program.start("targetgate-0").await.unwrap();
        until("ready", async || {
            let answer = process.admin("/readyz").await.ok();
            answer.filter(|(status, _)| *status == StatusCode::OK)
        })
        .await;
        Self {
            hooks: process.hooks,
            ready_after: started.elapsed(),
            process,
            program,
        }
    }

    /// The file with the CA of its certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.program.files.path().join("ca.crt")
    }

    /// The CPU time of its threads, none of which ends while it runs.
    pub(crate) fn cpu(&self) -> Duration {
        usage::cpu(self.process.id()).unwrap()
    }

    /// Its resident memory.
    pub(crate) fn memory(&self) -> Memory {
        Memory::of(self.process.id()).unwrap()
    }

    /// The sum of a metric over all its labels.
    pub(crate) async fn sum(&self, name: &str) -> f64 {
        self.process.sum(name).await.unwrap()
    }

    /// The ELB calls that it has tried, with any result.
    pub(crate) async fn elb_calls(&self) -> f64 {
        self.sum("targetgate_elb_calls_total").await
    }
}

/// The program that is measured: the one that was built with this bench, or the one of `--program`.
fn binary() -> PathBuf {
    argument("--program").map_or_else(|| BINARY.into(), PathBuf::from)
}

/// Asks until there is an answer.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            // Each question costs CPU in the process that is asked.
            sleep(Duration::from_millis(100)).await;
        }
    };
    let asked = timeout(PATIENCE, asking).await;
    asked.unwrap_or_else(|_| panic!("not in {PATIENCE:?}: {what}"))
}

/// Sends an object to the API server. Returns the answer.
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

/// The path of the objects of a kind in a namespace.
pub(crate) fn collection(namespace: &str, plural: &str) -> String {
    match plural {
        "targetgroupbindings" => {
            format!("/apis/elbv2.k8s.aws/v1beta1/namespaces/{namespace}/{plural}")
        }
        _ => format!("/api/v1/namespaces/{namespace}/{plural}"),
    }
}
