//! 20,000 pods on the real API server: how long targetgate takes to be ready, what it uses for that, and what
//! it uses while nothing happens.

use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use kube::Client;
use serde_json::Value;
use targetgate_sandbox::controlplane::{ControlPlane, Options};
use tokio::time::sleep;

use crate::Rows;
use crate::objects::{SHOP, binding, large_pod, namespace, service};
use crate::process::{Process, collection, send, until};

const PODS: usize = 20_000;
const NAMESPACES: usize = 20;
/// The pods of each application, which has labels of its own.
const PODS_OF_APP: usize = 10;
/// The bindings, all of them in one namespace.
const BINDINGS: usize = 50;
/// The number of starts.
const STARTS: usize = 3;
/// The time after which memory is measured. Chosen.
const SETTLED: Duration = Duration::from_secs(5);
pub(crate) const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// The CPU seconds that ten idle minutes may cost.
const IDLE: f64 = 0.5;

pub(crate) async fn measure(rows: &mut Rows, idle: Duration) {
    let control_plane = ControlPlane::start(Options::default()).await.unwrap();
    let client = control_plane.client().await.unwrap();
    fill(&client).await;
    let bytes = size_of_a_pod(&client).await;
    rows.title(&format!(
        "{PODS} pods of {bytes} bytes on the real API server, {BINDINGS} bindings"
    ));

    let (mut ready, mut cpu, mut memory) = (vec![], vec![], vec![]);
    let mut process = None;
    for _ in 0..STARTS {
        // The former process has ended before the next begins.
        drop(process.take());
        let started = Process::start(control_plane.kubeconfig()).await;
        sleep(SETTLED).await;
        ready.push(started.ready_after.as_secs_f64());
        cpu.push(started.cpu().as_secs_f64());
        memory.push(started.memory());
        process = Some(started);
    }
    rows.tell("ready", &ready, "s", 4.0);
    rows.tell("CPU until 5 s later", &cpu, "s", 1.25);
    rows.tell_memory("RSS 5 s later", &memory, 40.0);
    if let Some(process) = process {
        measure_idle(rows, &process, idle).await;
    }
}

async fn measure_idle(rows: &mut Rows, process: &Process, idle: Duration) {
    let before = process.cpu();
    sleep(idle).await;
    let spent = (process.cpu() - before).as_secs_f64();
    let limit = IDLE * idle.as_secs_f64() / 600.0;
    let what = format!("CPU in {} idle s", idle.as_secs());
    rows.tell(&what, &[spent], "s", limit);
    rows.tell("ELB calls", &[process.elb_calls().await], "", 0.0);
    rows.tell_memory("RSS afterwards", &[process.memory()], 40.0);
}

async fn fill(client: &Client) {
    serve_bindings(client).await;
    let others = (1..NAMESPACES).map(|number| format!("team-{number}"));
    let namespaces: Vec<String> = [SHOP.to_owned()].into_iter().chain(others).collect();
    for name in namespaces
        .iter()
        .map(String::as_str)
        .chain(["targetgate-system"])
    {
        send(
            client,
            "POST",
            "/api/v1/namespaces".to_owned(),
            &namespace(name),
        )
        .await;
    }
    for number in 0..BINDINGS {
        let app = format!("checkout-{number}");
        send(
            client,
            "POST",
            collection(SHOP, "services"),
            &service(SHOP, &app),
        )
        .await;
        let bindings = collection(SHOP, "targetgroupbindings");
        send(client, "POST", bindings, &binding(SHOP, &app)).await;
    }
    let pods = stream::iter(0..PODS).map(|number| {
        let namespace = &namespaces[number % NAMESPACES];
        let app = format!("checkout-{}", number / NAMESPACES / PODS_OF_APP);
        async move {
            let pod = large_pod(namespace, &app, number);
            send(client, "POST", collection(namespace, "pods"), &pod).await;
        }
    });
    pods.buffer_unordered(32).collect::<()>().await;
}

/// Creates the CRD of bindings, and waits until they are served.
pub(crate) async fn serve_bindings(client: &Client) {
    let crd: Value = serde_saphyr::from_str(&targetgate_core::binding::spec::yaml()).unwrap();
    send(client, "POST", CRDS.to_owned(), &crd).await;
    let served = http::Request::get(collection(SHOP, "targetgroupbindings"))
        .body(vec![])
        .unwrap();
    until("served bindings", async || {
        client.request_text(served.clone()).await.ok()
    })
    .await;
}

async fn size_of_a_pod(client: &Client) -> usize {
    let path = format!("{}?limit=1", collection(SHOP, "pods"));
    let request = http::Request::get(path).body(vec![]).unwrap();
    client.request_text(request).await.unwrap().len()
}
