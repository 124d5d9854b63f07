//! `targetgate doctor` in the cluster: its CronJob, and what its account may do.

use std::collections::BTreeSet;

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rstest::rstest;
use serde_json::{Value, json};
use targetgate_sandbox::harness::waiting::until;

use crate::documented::Checkout;
use crate::helm::{Helm, NAMESPACE};
use crate::lifecycle::account;
use crate::reader::{INSTALL, Reader};
use crate::rendering::{LABELS_OF_HELM, kustomized, sorted};
use crate::server::api;
use crate::steady;

const NAME: &str = "targetgate-doctor";
/// With it the account has each right that it can have.
const ENABLED: &str =
    "--set doctor.enabled=true --set doctor.namespace=shop --set admission.mode=both";

/// The rendered objects that are doctor's.
fn rendered(values: &Value) -> Vec<Value> {
    let mut objects = Helm::new().template(values);
    objects.retain(|object| {
        let name = object["metadata"]["name"].as_str();
        name.is_some_and(|name| name.starts_with(NAME))
    });
    objects
}

#[rstest]
#[case::by_default(json!({}))]
#[case::of_an_older_chart(json!({ "doctor": null }))]
fn nothing_of_it_is_rendered_unless_it_is_asked_for(#[case] values: Value) {
    assert_eq!(rendered(&values), [] as [Value; 0]);
}

#[test]
fn it_never_runs_by_itself_gets_no_reviews_and_reads_no_secret() {
    let objects = rendered(&json!({ "doctor": { "enabled": true, "namespace": "shop" } }));
    let text = Value::from(objects.clone()).to_string();
    assert!(!text.contains("secrets"), "{text}");
    let cron = objects.iter().find(|object| object["kind"] == "CronJob");
    let cron = &cron.unwrap()["spec"];
    assert_eq!(cron["suspend"], true);
    let pod = &cron["jobTemplate"]["spec"]["template"];
    assert_eq!(
        pod["metadata"]["labels"],
        json!({ "app.kubernetes.io/component": "doctor" })
    );
    let installation = format!("--installation={NAMESPACE}/targetgate");
    let args = json!(["doctor", installation, "--namespace=shop", "--no-aws"]);
    assert_eq!(pod["spec"]["containers"][0]["args"], args);
}

/// What kustomize renders of the component beside the base, once its settings name namespace shop.
fn component() -> Vec<Value> {
    let checkout = Checkout::new();
    let settings = checkout
        .path()
        .join("deploy/components/doctor/settings.yaml");
    let unnamed = std::fs::read_to_string(&settings).unwrap();
    assert_eq!(unnamed.matches("NAMESPACE").count(), 1);
    std::fs::write(&settings, unnamed.replace("NAMESPACE", "shop")).unwrap();
    let all = json!({ "resources": ["deploy/base"], "components": ["deploy/components/doctor"] });
    std::fs::write(checkout.path().join("kustomization.yaml"), all.to_string()).unwrap();
    let mut objects = kustomized(checkout.path().to_str().unwrap());
    let base = kustomized("base");
    objects.retain(|object| !base.contains(object));
    objects
}

#[test]
fn the_component_says_the_same_as_the_chart() {
    // Its account may read the policy that injects as well, which the chart's may only where that is rendered.
    let mut of_chart = rendered(&json!({ "doctor": { "enabled": true, "namespace": "shop" },
        "admission": { "mode": "both" } }));
    for object in &mut of_chart {
        let labels = object["metadata"]["labels"].as_object_mut().unwrap();
        for label in LABELS_OF_HELM {
            assert!(labels.remove(label).is_some(), "{label}");
        }
    }
    let (of_chart, component) = (sorted(of_chart, &[]), sorted(component(), &[]));
    for (of_chart, object) in of_chart.iter().zip(&component) {
        assert_eq!(of_chart, object);
    }
    assert_eq!(of_chart.len(), component.len());
    assert_eq!(component.len(), 12);
}

/// A client with the token of doctor's account.
async fn stolen(reader: &Reader) -> Client {
    let kubeconfig = account(&reader.server, &reader.client, NAME).await;
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.unwrap()).unwrap()
}

/// An installation with doctor, and namespace shop with a binding and its Service. Nothing answers its hooks.
async fn installed() -> Reader {
    let reader = Reader::new().await;
    reader.types("kubectl create namespace shop");
    reader.types(&format!("{INSTALL} {ENABLED}"));
    reader.types(
        "kubectl delete validatingwebhookconfiguration,mutatingwebhookconfiguration targetgate",
    );
    steady::bound_namespace(&reader.client).await;
    let label = "elbv2.k8s.aws/pod-readiness-gate-inject=enabled targetgate.dev/drain=sleep";
    reader.types(&format!("kubectl label namespace shop {label}"));
    reader
}

/// Makes a Job as the notes say, and runs its pod's command with the token of its account. Returns what it printed.
async fn run(reader: &Reader) -> String {
    reader.types(&format!(
        "kubectl create job {NAME}-1 --from=cronjob/{NAME} --namespace {NAMESPACE}"
    ));
    let jobs: Api<Job> = Api::namespaced(reader.client.clone(), NAMESPACE);
    let job = until("the Job", async || {
        jobs.get_opt(&format!("{NAME}-1")).await.unwrap()
    })
    .await;
    let pod = job.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.service_account_name.as_deref(), Some(NAME));
    let kubeconfig = account(&reader.server, &reader.client, NAME).await;
    let ran = tokio::process::Command::new(env!("CARGO_BIN_EXE_targetgate"))
        .args(pod.containers[0].args.iter().flatten())
        .env_clear()
        .env("TARGETGATE_KUBECONFIG", kubeconfig)
        .output();
    String::from_utf8(ran.await.unwrap().stdout).unwrap()
}

type Grant = (String, String, String);

/// The verb, the group and the resource of each request of the account.
fn used(reader: &Reader) -> BTreeSet<Grant> {
    let user = format!("system:serviceaccount:{NAMESPACE}:{NAME}");
    let events = reader.server.audit_log().unwrap().into_iter();
    let ours = events.filter(|event| event.user.username == user);
    let objects = ours.filter_map(|event| Some((event.verb, event.object_ref?)));
    objects
        .map(|(verb, object)| (verb, object.api_group, object.resource))
        .collect()
}

fn granted() -> BTreeSet<Grant> {
    let objects = rendered(&json!({ "doctor": { "enabled": true, "namespace": "shop" },
        "admission": { "mode": "both" } }));
    let rules = objects
        .iter()
        .flat_map(|object| object["rules"].as_array().into_iter().flatten());
    let mut granted = BTreeSet::new();
    for rule in rules {
        let words =
            |field: &str| -> Vec<String> { serde_json::from_value(rule[field].clone()).unwrap() };
        for verb in words("verbs") {
            for group in words("apiGroups") {
                for resource in words("resources") {
                    granted.insert((verb.clone(), group.clone(), resource));
                }
            }
        }
    }
    granted
}

#[tokio::test]
async fn its_account_has_the_rights_that_it_uses_and_no_others() {
    let reader = installed().await;
    let text = run(&reader).await;
    // The right to read the Secret is the only one that it lacks.
    let refused: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("forbidden"))
        .collect();
    assert!(
        refused.iter().all(|line| line.contains("secrets")),
        "{text}"
    );
    let about_us = format!("✓ Right system:serviceaccount:{NAMESPACE}:targetgate: It has all");
    assert!(text.contains(&about_us), "{text}");
    assert!(text.contains("✗ PodTrial"), "{text}");
    assert!(text.contains("✗ BindingTrial"), "{text}");
    assert!(
        text.contains("✓ Policy MutatingAdmissionPolicy targetgate-gates"),
        "{text}"
    );
    assert!(text.contains("✗ GateRules namespace shop"), "{text}");
    assert!(text.contains("✓ Grace namespace shop"), "{text}");
    assert!(text.contains("✓ End ends of pods"), "{text}");

    let (mut used, granted) = (used(&reader), granted());
    used.remove(&("get".to_owned(), String::new(), "secrets".to_owned()));
    // The API group of Auto Mode is not served here, and no Service of a hook is there to be asked about.
    let unused: Vec<_> = granted.difference(&used).collect();
    let not_here = |(_, group, resource): &&&Grant| {
        group == "eks.amazonaws.com" || resource == "endpointslices"
    };
    assert!(
        unused.iter().all(|grant| not_here(&grant)),
        "granted and not used: {unused:?}"
    );
    let more: Vec<_> = used.difference(&granted).collect();
    assert!(more.is_empty(), "used and not granted: {more:?}");
}

#[tokio::test]
async fn a_thief_of_its_token_creates_nothing_that_stays() {
    let reader = installed().await;
    let reviews: Api<SubjectAccessReview> = Api::all(reader.client.clone());
    for asked in [
        json!({ "verb": "create", "resource": "pods", "namespace": "default" }),
        json!({ "verb": "get", "resource": "secrets", "namespace": NAMESPACE }),
        json!({ "verb": "delete", "resource": "pods", "namespace": "shop" }),
        json!({ "verb": "patch", "resource": "pods", "subresource": "status", "namespace": "shop" }),
        json!({ "verb": "create", "group": "elbv2.k8s.aws", "resource": "targetgroupbindings",
            "namespace": "default" }),
        json!({ "verb": "get", "resource": "pods", "subresource": "log", "namespace": "shop" }),
    ] {
        let user = format!("system:serviceaccount:{NAMESPACE}:{NAME}");
        let review = json!({ "spec": { "user": user, "resourceAttributes": asked } });
        let review = serde_json::from_value(review).unwrap();
        let reviewed = reviews.create(&PostParams::default(), &review).await;
        assert!(!reviewed.unwrap().status.unwrap().allowed, "{asked}");
    }

    let thief = stolen(&reader).await;
    let create = async |object: &Value, dry_run: bool| {
        let params = PostParams {
            dry_run,
            ..PostParams::default()
        };
        let objects: Api<DynamicObject> = api(&thief, object);
        let made = serde_json::from_value(object.clone()).unwrap();
        let created = objects.create(&params, &made).await;
        created.err().map(|error| error.to_string())
    };
    let metadata = json!({ "name": "stolen", "namespace": "shop" });
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": { "containers": [{ "name": "a", "image": "a" }] } });
    let binding = json!({ "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding",
        "metadata": metadata, "spec": { "serviceRef": { "name": "web", "port": 80 },
            "targetGroupARN": "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/x/0123456789abcdef",
            "targetType": "ip" } });
    for object in [pod, binding] {
        until("the policy is in force", async || {
            let refused = create(&object, false).await;
            if refused.is_none() {
                let made = api(&reader.client, &object);
                made.delete("stolen", &Default::default()).await.unwrap();
            }
            refused.filter(|why| why.contains("creates by dry-run only"))
        })
        .await;
        assert_eq!(create(&object, true).await, None);
    }
    let pods: Api<Pod> = Api::namespaced(reader.client.clone(), "shop");
    assert!(pods.get_opt("stolen").await.unwrap().is_none());
}
