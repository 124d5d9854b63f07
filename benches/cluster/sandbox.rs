//! 100,000 pods with a gate each, and 10,000 bindings, half of them in one namespace. They are in the sandbox's
//! API, because they are too many for a real API server on a small machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use targetgate_sandbox::api::{Api, Options};
use targetgate_sandbox::load::Load;
use targetgate_sandbox::spread::Spread;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::Rows;
use crate::objects::{SHOP, binding, gated_pod, namespace, service, serving};
use crate::process::{Process, collection, send};

/// The bindings of the reviews' namespace. Each of the others has `OF_OTHERS`.
const OF_SHOP: usize = 5_000;
const OF_OTHERS: usize = 100;
const OTHERS: usize = 50;
const PODS_OF_BINDING: usize = 10;
/// The bindings of the cluster with which it is compared.
const FEW: usize = 50;
/// The rounds of the comparison, and the reviews in each for either cluster. Chosen.
const ROUNDS: usize = 9;
const REVIEWS: usize = 4_000;

pub(crate) async fn measure(rows: &mut Rows) {
    let small = Cluster::start(&[(SHOP.to_owned(), FEW)]).await;
    let others = (0..OTHERS).map(|number| (format!("team-{number}"), OF_OTHERS));
    let namespaces: Vec<_> = [(SHOP.to_owned(), OF_SHOP)]
        .into_iter()
        .chain(others)
        .collect();
    let bindings: usize = namespaces.iter().map(|(_, bindings)| bindings).sum();
    let large = Cluster::start(&namespaces).await;
    let pods = bindings * PODS_OF_BINDING;
    rows.title(&format!(
        "{pods} pods with gates and {bindings} bindings in the sandbox"
    ));

    let process = Process::start(&large.kubeconfig).await;
    sleep(Duration::from_secs(5)).await;
    rows.tell_memory("RSS 5 s after it is ready", &[process.memory()], 150.0);
    let few = Process::start(&small.kubeconfig).await;
    let ratio = tokio::task::block_in_place(|| compare(&process, &few));
    rows.tell_spread(
        "CPU of an admission, over that at 50 bindings",
        &ratio,
        "",
        1.3,
    );
}

fn compare(many: &Process, few: &Process) -> Spread {
    let mut loads = [many, few].map(|process| Load::start(process.hooks, &process.ca()));
    let mut spent = [vec![], vec![]];
    for round in 0..=ROUNDS {
        for turn in 0..2 {
            let which = (round + turn) % 2;
            let process = [many, few][which];
            let before = process.cpu();
            loads[which].burst("/mutate-v1-pod", "typical", REVIEWS);
            // The first round fills caches and pools.
            if round > 0 {
                spent[which].push((process.cpu() - before).as_secs_f64());
            }
        }
    }
    Spread::of_ratios(&spent[0], &spent[1])
}

/// The sandbox's API server on a socket.
struct Cluster {
    serving: AbortHandle,
    kubeconfig: PathBuf,
    _files: TempDir,
}

impl Cluster {
    /// Starts it with these namespaces and their numbers of bindings.
    async fn start(namespaces: &[(String, usize)]) -> Self {
        let api = Api::new(Options::default());
        fill(&api, namespaces).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(api.serve(listener, std::future::pending()));
        let files = tempfile::tempdir().unwrap();
        Self {
            serving: serving.abort_handle(),
            kubeconfig: kubeconfig(files.path(), address),
            _files: files,
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn fill(api: &Api, namespaces: &[(String, usize)]) {
    let client = api.client();
    let crd: Value = serde_saphyr::from_str(&targetgate_core::binding::spec::yaml()).unwrap();
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    send(&client, "POST", crds.to_owned(), &crd).await;
    let system = [("targetgate-system".to_owned(), 0)];
    let mut address = 0;
    for (name, bindings) in namespaces.iter().chain(&system) {
        send(
            &client,
            "POST",
            "/api/v1/namespaces".to_owned(),
            &namespace(name),
        )
        .await;
        for number in 0..*bindings {
            let app = format!("checkout-{number}");
            send(
                &client,
                "POST",
                collection(name, "services"),
                &service(name, &app),
            )
            .await;
            send(
                &client,
                "POST",
                collection(name, "targetgroupbindings"),
                &binding(name, &app),
            )
            .await;
            for number in 0..PODS_OF_BINDING {
                let pod = gated_pod(name, &app, number);
                let pods = collection(name, "pods");
                let path = format!(
                    "{pods}/{}/status",
                    pod["metadata"]["name"].as_str().unwrap()
                );
                send(&client, "POST", pods, &pod).await;
                address += 1;
                send(&client, "PATCH", path, &serving(&app, address)).await;
            }
        }
    }
}

fn kubeconfig(folder: &Path, api: SocketAddr) -> PathBuf {
    let path = folder.join("kubeconfig");
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "contexts": [{ "name": "bench", "context": { "cluster": "bench", "user": "bench" } }],
        "clusters": [{ "name": "bench", "cluster": { "server": format!("http://{api}") } }],
        "users": [{ "name": "bench", "user": {} }],
    });
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    path
}
