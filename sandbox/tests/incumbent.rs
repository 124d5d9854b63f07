//! Tests of the double of the incumbent on a real API server and the sandbox's ELB. What it does here
//! is what the product meets beside the original.
#![expect(
    clippy::unwrap_used,
    reason = "a test may end by a panic, its helpers too"
)]

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use rstest::rstest;
use serde_json::{Value, json};
use targetgate_sandbox::controlplane::{ControlPlane, Options as ControlPlaneOptions};
use targetgate_sandbox::elb::{Elb, State, TargetGroupSpec};
use targetgate_sandbox::harness::object::{field, resource};
use targetgate_sandbox::harness::waiting::until;
use targetgate_sandbox::harness::{Aws, Parts};
use targetgate_sandbox::incumbent::{FINALIZER, Incumbent, LEASE, Options};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

const GATE: &str = "target-health.elbv2.k8s.aws/web";
const CRD: &str = include_str!("../../deploy/crd/targetgroupbindings.yaml");

/// The control plane of all tests, each of which has a namespace of its own. It ends with the process.
static CONTROL_PLANE: OnceCell<ControlPlane> = OnceCell::const_new();

async fn control_plane() -> ControlPlane {
    let started = ControlPlane::start(ControlPlaneOptions::default()).await;
    let started = started.unwrap_or_else(|error| panic!("{error}"));
    let client = started.client().await.unwrap();
    let crd: Value = serde_saphyr::from_str(CRD).unwrap();
    let crds = resource("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    create(&Api::all_with(client.clone(), &crds), crd).await;
    let bindings = resource("elbv2.k8s.aws/v1beta1", "TargetGroupBinding");
    let bindings: Api<DynamicObject> = Api::all_with(client, &bindings);
    until("the CRD is served", async || {
        bindings.list(&Default::default()).await.ok()
    })
    .await;
    started
}

async fn create(api: &Api<DynamicObject>, object: Value) {
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

struct World {
    client: Client,
    namespace: String,
    elb: Elb,
    arn: String,
    incumbent: Incumbent,
    #[expect(dead_code, reason = "held until dropped")]
    parts: Parts,
}

impl World {
    /// A namespace with the Service `web`, the binding `web` of it, and an incumbent that is not
    /// started yet.
    async fn new(namespace: &str, leases: bool) -> Self {
        let control_plane = CONTROL_PLANE.get_or_init(control_plane).await;
        let client = control_plane.client().await.unwrap();
        let namespaces = Api::all_with(client.clone(), &resource("v1", "Namespace"));
        create(&namespaces, json!({"metadata": {"name": namespace}})).await;
        let mut parts = Parts::default();
        let aws = Aws::start(&mut parts).await.unwrap();
        let options = Options {
            namespace: Some(namespace.to_owned()),
            lease_namespace: leases.then(|| namespace.to_owned()),
        };
        let world = Self {
            incumbent: Incumbent::new(client.clone(), aws.client.clone(), options),
            client,
            namespace: namespace.to_owned(),
            arn: aws.elb.create_target_group(TargetGroupSpec::http("web")),
            elb: aws.elb,
            parts,
        };
        world.create_service("web").await.unwrap();
        world.create_binding().await;
        world
    }

    /// The same, with a target that no pod has, and two ready pods.
    async fn running(namespace: &str) -> Self {
        let mut world = Self::new(namespace, false).await;
        world.create_pod("web-1", "10.0.0.1").await;
        world.create_pod("web-2", "10.0.0.2").await;
        let foreign: IpAddr = "10.0.9.9".parse().unwrap();
        world.elb.register(&world.arn, foreign, 8080).unwrap();
        world.incumbent.start().await.unwrap();
        world
    }

    fn api(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let resource = resource(api_version, kind);
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    fn bindings(&self) -> Api<DynamicObject> {
        self.api("elbv2.k8s.aws/v1beta1", "TargetGroupBinding")
    }

    async fn create_service(&self, name: &str) -> kube::Result<()> {
        let service = json!({
            "metadata": {"name": name},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        });
        let service = serde_json::from_value(service).unwrap();
        let services = self.api("v1", "Service");
        let created = services.create(&PostParams::default(), &service).await;
        created.map(drop)
    }

    async fn create_ingress(&self, name: &str) -> kube::Result<()> {
        let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
        let ingress = json!({
            "metadata": {"name": name},
            "spec": {"defaultBackend": backend},
        });
        let ingress = serde_json::from_value(ingress).unwrap();
        let ingresses = self.api("networking.k8s.io/v1", "Ingress");
        let created = ingresses.create(&PostParams::default(), &ingress).await;
        created.map(drop)
    }

    async fn create_binding(&self) {
        let binding = json!({
            "apiVersion": "elbv2.k8s.aws/v1beta1",
            "kind": "TargetGroupBinding",
            "metadata": {"name": "web"},
            "spec": {
                "targetGroupARN": self.arn,
                "targetType": "ip",
                "serviceRef": {"name": "web", "port": 80},
            },
        });
        create(&self.bindings(), binding).await;
    }

    /// Creates a gated pod whose containers are ready.
    async fn create_pod(&self, name: &str, ip: &str) {
        let pods = self.api("v1", "Pod");
        let pod = json!({
            "metadata": {"name": name, "labels": {"app": "web"}},
            "spec": {
                "containers": [{"name": "web", "image": "web"}],
                "readinessGates": [{"conditionType": GATE}],
            },
        });
        create(&pods, pod).await;
        let status = json!({"status": {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": [{"type": "ContainersReady", "status": "True"}],
        }});
        let params = PatchParams::default();
        let patch = Patch::Merge(status);
        pods.patch_status(name, &params, &patch).await.unwrap();
    }

    async fn finalizers(&self) -> Vec<String> {
        let binding = self.bindings().get("web").await.unwrap();
        binding.finalizers().to_vec()
    }

    async fn set_finalizers(&self, finalizers: &[&str]) -> kube::Result<()> {
        let patch = json!({"metadata": {"finalizers": finalizers}});
        let params = PatchParams::default();
        let patched = self
            .bindings()
            .patch("web", &params, &Patch::Merge(patch))
            .await;
        patched.map(drop)
    }

    /// Whether this address is registered on port 8080, and not draining.
    fn has(&self, ip: &str) -> bool {
        let health = self.elb.health(&self.arn, ip.parse().unwrap(), 8080);
        health.is_some_and(|health| health.state != State::Draining)
    }

    /// Waits until of the pods and the foreign target just these are registered.
    async fn until_registered(&self, expected: &[&str]) {
        let holds = |elb: &&str| self.has(elb) == expected.contains(elb);
        let all = ["10.0.0.1", "10.0.0.2", "10.0.9.9"];
        let reached = self.elb.until(|_| all.iter().all(&holds));
        let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
        assert!(reached.is_ok(), "{:?}", self.elb.log());
    }

    async fn gate(&self, pod: &str) -> Option<String> {
        let pod = self.api("v1", "Pod").get(pod).await.unwrap();
        let conditions = field(&pod, "/status/conditions").as_array().unwrap();
        let gate = conditions.iter().find(|found| found["type"] == GATE)?;
        Some(format!("{} {}", gate["status"], gate["message"]))
    }

    async fn until_gates_open(&self) {
        for pod in ["web-1", "web-2"] {
            let gate = until("a gate is written", async || self.gate(pod).await).await;
            assert_eq!(gate, "\"True\" \"Target Group Binding is deleted\"");
        }
    }

    /// When its Lease was renewed last; `None` if there is none.
    async fn renewed(&self) -> Option<Timestamp> {
        let leases = self.api("coordination.k8s.io/v1", "Lease");
        let lease = leases.get_opt(LEASE).await.unwrap()?;
        field(&lease, "/spec/renewTime").as_str()?.parse().ok()
    }
}

#[tokio::test]
async fn it_deregisters_what_it_does_not_want_before_it_registers() {
    let world = World::running("order").await;
    world.until_registered(&["10.0.0.1", "10.0.0.2"]).await;
    let calls = world.elb.calls();
    let changes = calls.iter().map(|call| call.action.as_str());
    let changes: Vec<&str> = changes
        .filter(|action| action.ends_with("Targets"))
        .collect();
    assert_eq!(changes, ["DeregisterTargets", "RegisterTargets"]);
}

#[tokio::test]
async fn it_follows_pods_that_come_and_go() {
    let world = World::running("pods").await;
    world.until_registered(&["10.0.0.1", "10.0.0.2"]).await;
    let now = DeleteParams::default().grace_period(0);
    world.api("v1", "Pod").delete("web-1", &now).await.unwrap();
    world.until_registered(&["10.0.0.2"]).await;
}

#[tokio::test]
async fn it_puts_its_finalizer_back_on_every_binding() {
    let world = World::running("finalizer").await;
    let has_its_own = async || {
        world
            .finalizers()
            .await
            .contains(&FINALIZER.to_owned())
            .then_some(())
    };
    until("it puts its finalizer on", has_its_own).await;
    let removed = Instant::now();
    world.set_finalizers(&["example.com/other"]).await.unwrap();
    until("it puts its finalizer back", has_its_own).await;
    println!("the finalizer came back within {:?}", removed.elapsed());
    let both = ["example.com/other", FINALIZER];
    assert_eq!(world.finalizers().await, both);
}

#[rstest]
#[case::without_the_service("no-service", false)]
#[case::without_the_port("no-port", true)]
#[tokio::test]
async fn it_empties_the_group_and_opens_the_gates(#[case] namespace: &str, #[case] keep: bool) {
    let world = World::running(namespace).await;
    world.until_registered(&["10.0.0.1", "10.0.0.2"]).await;
    let services = world.api("v1", "Service");
    if keep {
        let port = json!({"spec": {"ports": [{"port": 81, "targetPort": 8080}]}});
        let params = PatchParams::default();
        let patch = Patch::Merge(port);
        services.patch("web", &params, &patch).await.unwrap();
    } else {
        let params = DeleteParams::default();
        services.delete("web", &params).await.unwrap();
    }
    world.until_registered(&[]).await;
    world.until_gates_open().await;
}

#[tokio::test]
async fn the_deletion_of_a_binding_empties_the_whole_group() {
    let mut world = World::running("deletion").await;
    world.until_registered(&["10.0.0.1", "10.0.0.2"]).await;
    // What others register meanwhile goes as well.
    world.incumbent.kill();
    let foreign: IpAddr = "10.0.9.9".parse().unwrap();
    world.elb.register(&world.arn, foreign, 8080).unwrap();
    let (bindings, params) = (world.bindings(), DeleteParams::default());
    bindings.delete("web", &params).await.unwrap();
    assert_eq!(world.finalizers().await, [FINALIZER]);
    world.incumbent.start().await.unwrap();
    until("the binding has gone", async || {
        bindings
            .get_opt("web")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    world.until_registered(&[]).await;
    world.until_gates_open().await;
}

#[tokio::test]
async fn the_deletion_of_a_binding_whose_group_has_gone_holds_nothing_up() {
    let world = World::running("group-gone").await;
    world.until_registered(&["10.0.0.1", "10.0.0.2"]).await;
    world.elb.remove_target_group(&world.arn).unwrap();
    let (bindings, params) = (world.bindings(), DeleteParams::default());
    bindings.delete("web", &params).await.unwrap();
    until("the binding has gone", async || {
        bindings
            .get_opt("web")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn its_hooks_refuse_everything_while_it_is_away() {
    let mut world = World::new("hooks", false).await;
    world.incumbent.install_hooks().await.unwrap();
    refuses_all(&world, "never").await;
    world.incumbent.start().await.unwrap();
    until("its hooks answer", async || {
        world.create_service("while-it-runs").await.ok()
    })
    .await;
    world.create_ingress("while-it-runs").await.unwrap();
    until("it puts its finalizer on", async || {
        (world.finalizers().await == [FINALIZER]).then_some(())
    })
    .await;

    world.incumbent.kill();
    refuses_all(&world, "killed").await;
    // A deletion is no business of its hooks.
    let params = DeleteParams::default();
    let services = world.api("v1", "Service");
    services.delete("while-it-runs", &params).await.unwrap();
    world.incumbent.remove_hooks().await.unwrap();
    until("its hooks have gone", async || {
        world.create_service("without-hooks").await.ok()
    })
    .await;
    world.create_ingress("without-hooks").await.unwrap();
    world.set_finalizers(&[]).await.unwrap();

    // It comes back by surprise, and its hooks do not.
    world.incumbent.start().await.unwrap();
    until("it puts its finalizer back", async || {
        (world.finalizers().await == [FINALIZER]).then_some(())
    })
    .await;
    world.incumbent.kill();
    world.create_service("killed-again").await.unwrap();
}

async fn refuses_all(world: &World, name: &str) {
    let refused = |error: kube::Error| match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    };
    // The API server learns of a configuration within a second.
    let service = until("a Service is refused", async || {
        let created = world.create_service(name).await;
        let params = DeleteParams::default();
        let _ = world.api("v1", "Service").delete(name, &params).await;
        created.err()
    })
    .await;
    let service = refused(service);
    assert!(
        service.contains("failed calling webhook \"mservice.elbv2.k8s.aws\""),
        "{service}"
    );
    let ingress = until("an Ingress is refused", async || {
        let created = world.create_ingress(name).await;
        let params = DeleteParams::default();
        let _ = world
            .api("networking.k8s.io/v1", "Ingress")
            .delete(name, &params)
            .await;
        created.err()
    })
    .await;
    let ingress = refused(ingress);
    assert!(
        ingress.contains("failed calling webhook \"vingress.elbv2.k8s.aws\""),
        "{ingress}"
    );
    let patched = world.set_finalizers(&["example.com/other"]).await;
    let binding = refused(patched.unwrap_err());
    let hook = "failed calling webhook \"mtargetgroupbinding.elbv2.k8s.aws\"";
    assert!(binding.contains(hook), "{binding}");
}

#[tokio::test]
async fn its_lease_is_renewed_while_it_runs_and_lies_there_when_it_is_killed() {
    let mut world = World::new("lease", true).await;
    assert_eq!(world.renewed().await, None);
    world.incumbent.start().await.unwrap();
    let first = world.renewed().await.unwrap();
    let renewed_since = async |then: Timestamp| {
        until("the Lease is renewed", async || {
            world.renewed().await.filter(|renewed| *renewed > then)
        })
        .await
    };
    renewed_since(first).await;
    world.incumbent.kill();
    let last = world.renewed().await.unwrap();
    // Twice the time between two renewals.
    sleep(Duration::from_secs(4)).await;
    assert_eq!(world.renewed().await, Some(last));
    world.incumbent.start().await.unwrap();
    assert!(world.renewed().await.unwrap() > last);
}

#[tokio::test]
async fn without_leader_election_it_has_no_lease() {
    let world = World::running("no-lease").await;
    world.until_registered(&["10.0.0.1", "10.0.0.2"]).await;
    assert_eq!(world.renewed().await, None);
}

#[tokio::test]
async fn it_leaves_other_namespaces_alone() {
    let watched = World::running("watched").await;
    let other = World::new("other", false).await;
    watched.until_registered(&["10.0.0.1", "10.0.0.2"]).await;
    assert_eq!(watched.finalizers().await, [FINALIZER]);
    assert_eq!(other.finalizers().await, [""; 0]);
}
