//! 20,000 pods on the real API server whose targets targetgate registers: what that adds to a start, and to memory. All
//! pods are ready, of the size of those without registration, and have no gates.

use std::path::Path;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use kube::Client;
use serde_json::{Value, json};
use targetgate_sandbox::controlplane::{ControlPlane, Options};
use targetgate_sandbox::elb::TargetGroupSpec;
use targetgate_sandbox::harness::{Aws, Parts};
use targetgate_sandbox::spread::Spread;
use tokio::time::sleep;

use crate::Rows;
use crate::objects::{SHOP, binding_to, large_pod, namespace, service, serving};
use crate::process::{Process, collection, send, until};
use crate::real::{CRDS, serve_bindings};

const RECORDS: &str = include_str!("../../deploy/targets/targetrecords.yaml");
const REGISTER: &[&str] = &["--register=all"];
const PODS: usize = 20_000;
const BINDINGS: usize = 50;
/// The pods of each application, which has labels of its own.
const PODS_OF_APP: usize = 10;
/// So many pods are targets at first: those of the first applications.
const FEW: usize = 1_000;
/// The number of starts without registration, and with it.
const STARTS: usize = 3;
/// The time after which memory is measured. Chosen.
const SETTLED: Duration = Duration::from_secs(5);

pub(crate) async fn measure(rows: &mut Rows) {
    let control_plane = ControlPlane::start(Options::default()).await.unwrap();
    let client = control_plane.client().await.unwrap();
    let mut parts = Parts::default();
    let aws = Aws::start(&mut parts).await.unwrap();
    fill(&client, &aws).await;
    rows.title(&format!(
        "{PODS} ready pods on the real API server, {BINDINGS} bindings, --register all"
    ));
    let (kubeconfig, elb) = (control_plane.kubeconfig(), &*aws.endpoint);
    let (mut without, mut memory) = (vec![], vec![]);
    for _ in 0..STARTS {
        let process = Process::start(kubeconfig).await;
        sleep(SETTLED).await;
        without.push(process.ready_after.as_secs_f64());
        memory.push(process.memory());
    }
    rows.tell("ready without registration", &without, "s", 4.0);
    rows.tell_memory("RSS without registration", &memory, 40.0);
    registering(rows, kubeconfig, elb, FEW, &without, 40.0).await;
    for number in 0..BINDINGS {
        let change = json!({ "spec": { "selector": { "few": null } } });
        let path = format!("{}/{}", collection(SHOP, "services"), app(number));
        send(&client, "PATCH", path, &change).await;
    }
    registering(rows, kubeconfig, elb, PODS, &without, 64.0).await;
}

/// Starts it with registration, until so many targets are registered.
async fn registering(
    rows: &mut Rows,
    kubeconfig: &Path,
    elb: &str,
    targets: usize,
    without: &[f64],
    limit: f64,
) {
    let (mut ready, mut memory) = (vec![], vec![]);
    for _ in 0..STARTS {
        let process = Process::start_with(kubeconfig, elb, REGISTER).await;
        until("all targets to be registered", async || {
            let registered = process.sum("targetgate_targets_registered").await;
            (registered >= targets as f64).then_some(())
        })
        .await;
        sleep(SETTLED).await;
        ready.push(process.ready_after.as_secs_f64());
        memory.push(process.memory());
    }
    let what = |figure: &str| format!("{figure}, {targets} targets");
    rows.tell_memory(&what("RSS 5 s after all are in"), &memory, limit);
    rows.tell_spread(
        &what("ready over without registration"),
        &Spread::of_ratios(&ready, without),
        "",
        1.3,
    );
}

async fn fill(client: &Client, aws: &Aws) {
    serve_bindings(client).await;
    let records: Value = serde_saphyr::from_str(RECORDS).unwrap();
    send(client, "POST", CRDS.to_owned(), &records).await;
    for name in [SHOP, "targetgate-system"] {
        let path = "/api/v1/namespaces".to_owned();
        send(client, "POST", path, &namespace(name)).await;
    }
    for number in 0..BINDINGS {
        let app = app(number);
        let mut service = service(SHOP, &app);
        service["spec"]["selector"] = json!({ "shard": shard(number), "few": "yes" });
        send(client, "POST", collection(SHOP, "services"), &service).await;
        let group = TargetGroupSpec::http(&app);
        let arn = aws.elb.create_target_group(group);
        let mut binding = binding_to(SHOP, &app, &arn);
        binding["spec"].as_object_mut().unwrap().remove("vpcID");
        let bindings = collection(SHOP, "targetgroupbindings");
        send(client, "POST", bindings, &binding).await;
    }
    let pods = stream::iter(0..PODS).map(async |number| create(client, number).await);
    pods.buffer_unordered(32).collect::<()>().await;
}

/// Creates a pod, and says that it is ready.
async fn create(client: &Client, number: usize) {
    let of = number / PODS_OF_APP;
    let app = app(of);
    let mut pod = large_pod(SHOP, &app, number);
    pod["metadata"]["labels"]["shard"] = json!(shard(of % BINDINGS));
    if number < FEW {
        pod["metadata"]["labels"]["few"] = json!("yes");
    }
    let pods = collection(SHOP, "pods");
    let name = pod["metadata"]["name"].as_str().unwrap();
    let path = format!("{pods}/{name}/status");
    send(client, "POST", pods, &pod).await;
    send(client, "PATCH", path, &serving(&app, number)).await;
}

fn app(number: usize) -> String {
    format!("checkout-{number}")
}

fn shard(number: usize) -> String {
    format!("shard-{number}")
}
