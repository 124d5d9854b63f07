//! The sleep before a pod's end: what the API server takes, and what becomes of pods where drain is on (contract 9).

use k8s_openapi::api::core::v1::{LimitRange, Pod, ResourceQuota};
use kube::api::{Api, DeleteParams, DynamicObject, PostParams};
use rstest::rstest;
use serde_json::{Value, json};
use targetgate_sandbox::harness::waiting::until;

use crate::hook::{Hook, patched};
use crate::install::Installed;
use crate::servers::{Cluster, Server, code, create, refused, resource};
use crate::shop::of_app;

const DRAIN: &str = "targetgate.dev/drain";
const DRAINED: &str = "targetgate.dev/drained";

fn container(pre_stop: Value) -> Value {
    json!([{ "name": "web", "image": "web", "lifecycle": { "preStop": pre_stop } }])
}

#[rstest]
#[case::within(json!({ "sleep": { "seconds": 20 } }), 30, true)]
#[case::all_of_it(json!({ "sleep": { "seconds": 30 } }), 30, true)]
#[case::none_at_all(json!({ "sleep": { "seconds": 0 } }), 30, true)]
#[case::longer(json!({ "sleep": { "seconds": 31 } }), 30, false)]
#[case::negative(json!({ "sleep": { "seconds": -1 } }), 30, false)]
#[case::without_grace(json!({ "sleep": { "seconds": 1 } }), 0, false)]
#[case::the_longest(json!({ "sleep": { "seconds": 600 } }), i64::MAX, true)]
#[case::no_handler(json!({}), 30, false)]
#[case::two_handlers(json!({ "sleep": { "seconds": 1 }, "exec": { "command": ["x"] } }), 30, false)]
#[tokio::test]
async fn a_sleep_is_within_the_grace_period(
    #[case] pre_stop: Value,
    #[case] grace: i64,
    #[case] valid: bool,
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let spec = json!({ "containers": container(pre_stop), "terminationGracePeriodSeconds": grace });
    let made = cluster.pod("web", json!({ "spec": spec })).await;
    match valid {
        true => drop(made.unwrap()),
        false => assert_eq!(code(made), (422, "Invalid".to_owned())),
    }
}

#[rstest]
#[tokio::test]
async fn a_negative_grace_period_is_a_second(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let sleeping = |seconds: i64| {
        let sleep = json!({ "sleep": { "seconds": seconds } });
        json!({ "spec": { "containers": container(sleep), "terminationGracePeriodSeconds": -5 } })
    };
    let made = cluster.pod("web", sleeping(1)).await.unwrap();
    let grace = made.spec.unwrap().termination_grace_period_seconds;
    assert_eq!(grace, Some(1));
    let refused = cluster.pod("other", sleeping(2)).await;
    assert_eq!(code(refused), (422, "Invalid".to_owned()));
}

/// What a pod has for its end.
#[derive(Debug, PartialEq)]
struct End {
    /// The seconds that each main container sleeps.
    sleeps: Vec<Option<i64>>,
    grace: i64,
    drained: Option<String>,
}

impl End {
    fn of(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref().unwrap();
        let containers = spec.containers.iter();
        let annotations = pod.metadata.annotations.as_ref();
        Self {
            sleeps: containers
                .map(|container| {
                    let handler = container.lifecycle.as_ref()?.pre_stop.as_ref()?;
                    Some(handler.sleep.as_ref()?.seconds)
                })
                .collect(),
            grace: spec.termination_grace_period_seconds.unwrap(),
            drained: annotations.and_then(|all| all.get(DRAINED).cloned()),
        }
    }
}

fn end(sleeps: &[Option<i64>], grace: i64, drained: &str) -> End {
    End {
        sleeps: sleeps.to_vec(),
        grace,
        drained: (!drained.is_empty()).then(|| drained.to_owned()),
    }
}

/// An installation with a binding `web` to an ALB, in whose namespace drain is on.
async fn installed() -> Installed {
    let installed = Installed::new().await;
    installed.cluster.label_namespace(DRAIN, "sleep").await;
    installed.bind("web").await;
    let expected = end(&[Some(20)], 50, "20/30");
    until("new pods get their sleep", async || {
        let made = installed.cluster.tried(json!({})).await.unwrap();
        (End::of(&made) == expected).then_some(())
    })
    .await;
    installed
}

impl Cluster {
    /// Tries to create a pod of app `web` that is merged with `more`.
    async fn tried(&self, more: Value) -> kube::Result<Pod> {
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let mut pod = of_app("tried", "web");
        json_patch::merge(&mut pod, &more);
        let pod = serde_json::from_value(pod).unwrap();
        self.pods().create(&dry, &pod).await
    }

    /// The pod that the API server makes of this, once the hook was asked: on a busy machine it may time out.
    async fn gated(&self, more: Value) -> Pod {
        until("the pod gets its gate", async || {
            let made = self.tried(more.clone()).await;
            let made = made.unwrap_or_else(|error| panic!("{more}: {error}"));
            let gated = made.spec.as_ref().unwrap().readiness_gates.is_some();
            gated.then_some(made)
        })
        .await
    }

    async fn becomes(&self, more: Value, expected: End) {
        let made = self.gated(more.clone()).await;
        assert_eq!(End::of(&made), expected, "{more}");
    }
}

fn owned_by(api_version: &str, kind: &str) -> Value {
    json!({ "metadata": { "ownerReferences": [{
        "apiVersion": api_version, "kind": kind, "name": "owner", "uid": "u-1", "controller": true,
    }] } })
}

fn with_grace(grace: i64) -> Value {
    json!({ "spec": { "terminationGracePeriodSeconds": grace } })
}

#[tokio::test]
async fn a_pod_of_any_shape_gets_what_its_end_needs_and_is_created() {
    let installed = installed().await;
    let cluster = &installed.cluster;
    let slept = |grace, drained| end(&[Some(20)], grace, drained);
    cluster.becomes(with_grace(0), end(&[None], 0, "")).await;
    cluster.becomes(with_grace(1), slept(21, "20/1")).await;
    cluster.becomes(with_grace(30), slept(50, "20/30")).await;
    cluster
        .becomes(with_grace(3600), slept(3620, "20/3600"))
        .await;
    let longest = slept(i64::MAX, "20/9223372036854775807");
    cluster.becomes(with_grace(i64::MAX), longest).await;
    cluster.becomes(with_grace(-5), slept(21, "20/1")).await;

    let own =
        json!({ "spec": { "containers": container(json!({ "exec": { "command": ["x"] } })) } });
    cluster.becomes(own, end(&[None], 30, "")).await;
    let own = json!({ "spec": { "containers": container(json!({ "sleep": { "seconds": 5 } })) } });
    cluster.becomes(own, end(&[Some(5)], 30, "")).await;
    let two = json!({ "spec": { "containers": [
        { "name": "own", "image": "web", "lifecycle": { "preStop": { "sleep": { "seconds": 5 } } } },
        { "name": "web", "image": "web", "lifecycle": { "postStart": { "exec": { "command": ["x"] } } } },
        { "name": "log", "image": "log", "lifecycle": {} },
    ] } });
    let expected = end(&[Some(5), Some(20), Some(20)], 50, "20/30");
    cluster.becomes(two, expected).await;

    let of_job = owned_by("batch/v1", "Job");
    cluster.becomes(of_job, end(&[None], 30, "")).await;
    let of_set = owned_by("apps/v1", "ReplicaSet");
    cluster.becomes(of_set, slept(50, "20/30")).await;
    let hosts = json!({ "spec": { "hostNetwork": true } });
    cluster.becomes(hosts, slept(50, "20/30")).await;
    let windows = json!({ "spec": { "os": { "name": "windows" } } });
    cluster.becomes(windows, slept(50, "20/30")).await;
    let asked = json!({ "metadata": { "annotations": { "targetgate.dev/drain-seconds": "45" } } });
    cluster.becomes(asked, end(&[Some(45)], 75, "45/30")).await;
    let off = json!({ "metadata": { "annotations": { DRAIN: "off" } } });
    cluster.becomes(off, end(&[None], 30, "")).await;
}

#[tokio::test]
async fn native_sidecars_and_init_containers_are_left_as_they_are() {
    let installed = installed().await;
    let init = json!([
        { "name": "proxy", "image": "proxy", "restartPolicy": "Always" },
        { "name": "setup", "image": "setup" },
    ]);
    let made = installed
        .cluster
        .gated(json!({ "spec": { "initContainers": init } }))
        .await;
    assert_eq!(End::of(&made), end(&[Some(20)], 50, "20/30"));
    let init = made.spec.unwrap().init_containers.unwrap();
    assert!(init.iter().all(|container| container.lifecycle.is_none()));
}

#[tokio::test]
async fn a_pod_that_was_copied_from_a_running_one_is_as_that_one() {
    let installed = installed().await;
    let cluster = &installed.cluster;
    let running = until("a pod runs with its sleep", async || {
        let running = cluster.pod("web", json!({ "metadata": { "labels": { "app": "web" } } }));
        let running = running.await.unwrap();
        if End::of(&running) == end(&[Some(20)], 50, "20/30") {
            return Some(running);
        }
        let at_once = DeleteParams::default().grace_period(0);
        cluster.pods().delete("web", &at_once).await.unwrap();
        None
    })
    .await;
    let mut copy = serde_json::to_value(&running).unwrap();
    copy["metadata"] =
        json!({ "labels": { "app": "web" }, "annotations": copy["metadata"]["annotations"] });
    copy["status"] = Value::Null;
    cluster
        .becomes(copy.clone(), end(&[Some(20)], 50, "20/30"))
        .await;
    let seconds =
        json!({ "metadata": { "annotations": { "targetgate.dev/drain-seconds": "100" } } });
    json_patch::merge(&mut copy, &seconds);
    cluster
        .becomes(copy.clone(), end(&[Some(100)], 130, "100/30"))
        .await;
    copy["spec"]["containers"][0]["lifecycle"] = Value::Null;
    cluster
        .becomes(copy, end(&[Some(100)], 150, "100/50"))
        .await;
}

/// What the pod security level `restricted` asks for.
fn restricted() -> Value {
    json!({ "spec": {
        "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
        "containers": [{ "name": "web", "image": "web", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
        } }],
    } })
}

#[tokio::test]
async fn no_level_of_pod_security_no_limit_range_and_no_quota_refuses_the_sleep() {
    let installed = installed().await;
    let cluster = &installed.cluster;
    let bad = json!({ "spec": { "hostNetwork": true } });
    for level in ["baseline", "restricted"] {
        let enforce = "pod-security.kubernetes.io/enforce";
        cluster.label_namespace(enforce, level).await;
        until("the level is enforced", async || {
            cluster.tried(bad.clone()).await.err()
        })
        .await;
        cluster
            .becomes(restricted(), end(&[Some(20)], 50, "20/30"))
            .await;
    }
    let limits = json!({ "metadata": { "name": "limits" }, "spec": { "limits": [{
        "type": "Container", "default": { "cpu": "1", "memory": "64Mi" }, "max": { "cpu": "2" },
    }] } });
    create::<LimitRange>(&cluster.api(), limits).await.unwrap();
    let quota = json!({ "metadata": { "name": "quota" }, "spec": { "hard": {
        "pods": "3", "limits.cpu": "3", "requests.memory": "1Gi",
    } } });
    create::<ResourceQuota>(&cluster.api(), quota)
        .await
        .unwrap();
    let made = until("the limits are set", async || {
        // The quota refuses pods until its controller has seen it.
        let made = cluster.tried(restricted()).await.ok()?;
        let limits = made.spec.as_ref()?.containers[0]
            .resources
            .as_ref()?
            .limits
            .is_some();
        (limits && End::of(&made).drained.is_some()).then_some(made)
    })
    .await;
    assert_eq!(End::of(&made), end(&[Some(20)], 50, "20/30"));
}

const ISTIO: &str = include_str!("meshes/istio.json");
const ISTIO_NATIVE: &str = include_str!("meshes/istio-native.json");
const LINKERD: &str = include_str!("meshes/linkerd.json");
const LINKERD_NATIVE: &str = include_str!("meshes/linkerd-native.json");

/// The operations by which a mesh puts its containers into a pod, before the pod's own.
fn injected(mesh: &str) -> Value {
    let mesh: Value = serde_json::from_str(mesh).unwrap();
    let containers = mesh["containers"].as_array().unwrap().iter();
    let first = |container: &Value| json!({ "op": "add", "path": "/spec/containers/0", "value": container });
    let mut operations: Vec<Value> = containers.map(first).collect();
    let init = &mesh["initContainers"];
    operations.push(json!({ "op": "add", "path": "/spec/initContainers", "value": init }));
    operations.into()
}

#[tokio::test]
async fn a_container_that_a_mesh_adds_after_us_gets_its_sleep_and_the_grace_is_raised_once() {
    let installed = installed().await;
    let cluster = &installed.cluster;
    let mesh = Hook::new(|call| {
        let pod = &call.request["object"];
        let mesh = match pod["metadata"]["labels"]["mesh"].as_str() {
            Some("istio") => ISTIO,
            Some("istio-native") => ISTIO_NATIVE,
            Some("linkerd") => LINKERD,
            _ => LINKERD_NATIVE,
        };
        let known = pod["spec"]["initContainers"].is_array();
        patched(if known { json!([]) } else { injected(mesh) })
    })
    .await;
    let more = json!({
        "rules": [{
            "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
        }],
        "objectSelector": { "matchExpressions": [{ "key": "mesh", "operator": "Exists" }] },
    });
    // API servers call webhooks in the order of the names of their configurations, and this one comes after ours.
    let names = ["targetgate", &cluster.namespace];
    assert!(names.is_sorted());
    let webhook = mesh.webhook(cluster, "mesh", more);
    cluster.mutating(vec![webhook]).await;
    for (mesh, sleeps) in [
        ("istio", vec![Some(20); 2]),
        ("istio-native", vec![Some(20)]),
        ("linkerd", vec![Some(20); 2]),
        ("linkerd-native", vec![Some(20)]),
    ] {
        let made = cluster
            .gated(json!({ "metadata": { "labels": { "mesh": mesh } } }))
            .await;
        assert_eq!(End::of(&made), end(&sleeps, 50, "20/30"), "{mesh}");
        let spec = serde_json::to_value(made.spec.unwrap()).unwrap();
        let native = spec["initContainers"][0]["restartPolicy"] == "Always";
        assert_eq!(native, mesh.ends_with("native"));
        let own = &spec["initContainers"][0]["lifecycle"]["preStop"];
        assert_eq!(own["exec"].is_object(), mesh == "istio-native");
        assert!(own["sleep"].is_null());
    }
}

#[tokio::test]
async fn a_policy_of_the_cluster_that_caps_the_grace_is_found_by_a_dry_run_and_undone_by_the_label()
{
    let installed = installed().await;
    let cluster = &installed.cluster;
    let policies = |kind| -> Api<DynamicObject> {
        let resource = resource("admissionregistration.k8s.io", "v1", kind);
        Api::all_with(cluster.client.clone(), &resource)
    };
    let name = &cluster.namespace;
    let here = json!({ "matchLabels": { "kubernetes.io/metadata.name": name } });
    let pods = json!([{ "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"] }]);
    let (kind, of_binding) = (
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    );
    let policy = json!({ "metadata": { "name": name }, "spec": {
        "failurePolicy": "Fail", "matchConstraints": { "resourceRules": pods },
        "validations": [{
            "expression": "object.spec.terminationGracePeriodSeconds <= 40",
            "message": "pods end within 40 s",
        }],
    } });
    create(&policies(kind), policy).await.unwrap();
    let binding = json!({ "metadata": { "name": name }, "spec": {
        "policyName": name, "validationActions": ["Deny"],
        "matchResources": { "namespaceSelector": here },
    } });
    create(&policies(of_binding), binding).await.unwrap();

    let refusal = until("the policy is enforced", async || {
        cluster.tried(json!({})).await.err()
    });
    let (code, _, message) = refused::<Pod>(Err(refusal.await));
    assert_eq!(code, 422, "{message}");
    assert!(message.contains("pods end within 40 s"), "{message}");
    cluster.label_namespace(DRAIN, "off").await;
    until("pods are created again", async || {
        cluster.tried(json!({})).await.ok()
    })
    .await;
    cluster.becomes(json!({}), end(&[None], 30, "")).await;
    for kind in [of_binding, kind] {
        let params = DeleteParams::default();
        policies(kind).delete(name, &params).await.unwrap();
    }
}
