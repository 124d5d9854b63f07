//! The rendered chart agrees with the base, with the binary, and with itself.

use std::collections::BTreeSet;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::CommandFactory as _;
use rstest::rstest;
use serde_json::{Map, Value, json};
use targetgate::args::Cli;
use targetgate_core::binding::allow_list::AllowList;
use targetgate_core::drain::DrainSeconds;
use targetgate_core::names::{INJECT_ENABLED, INJECT_LABEL, TargetGroupArn};
use targetgate_sandbox::versions::Version;

use crate::documented::{blocks, section};
use crate::helm::{Helm, chart, find, installer, is_of_test};
use crate::options::{CA, options};

/// Labels that Helm adds, and the base lacks.
pub(crate) const LABELS_OF_HELM: [&str; 4] = [
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
];
/// Kinds of the chart that the base lacks. The chart has the Lease so that uninstalling deletes it.
const OF_THE_CHART: [&str; 1] = ["Lease"];
/// Kinds of the base that the chart lacks. Helm creates the namespace itself.
const OF_THE_BASE: [&str; 1] = ["Namespace"];

/// The objects that kustomize renders from a folder of `deploy`.
pub(crate) fn kustomized(folder: &str) -> Vec<Value> {
    let output = Command::new(installer("kubectl"))
        .arg("kustomize")
        .arg(chart().with_file_name(folder))
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    let yaml = String::from_utf8(output.stdout).unwrap();
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&yaml).unwrap();
    // kustomize takes policies for namespaced. The API server clears the field, as documented.rs tries.
    for object in &mut objects {
        if object["kind"]
            .as_str()
            .unwrap()
            .starts_with("ValidatingAdmissionPolicy")
        {
            object["metadata"]
                .as_object_mut()
                .unwrap()
                .remove("namespace");
        }
    }
    objects
}

/// The objects without those kinds, sorted, with their environment variables sorted.
pub(crate) fn sorted(mut objects: Vec<Value>, without: &[&str]) -> Vec<Value> {
    objects.retain(|object| !without.contains(&object["kind"].as_str().unwrap()));
    objects.sort_by_key(|object| {
        ["/kind", "/metadata/namespace", "/metadata/name"]
            .map(|path| object.pointer(path).map(Value::to_string))
    });
    for object in &mut objects {
        let env = object.pointer_mut("/spec/template/spec/containers/0/env");
        if let Some(Value::Array(env)) = env {
            env.sort_by_key(|variable| variable["name"].to_string());
        }
    }
    objects
}

#[rstest]
#[case::defaults(json!({}), "base")]
#[case::targets(json!({ "targets": { "register": "annotated" } }), "overlays/targets")]
fn the_chart_says_the_same_as_kustomize(#[case] values: Value, #[case] folder: &str) {
    let mut rendered = Helm::new().template(&values);
    // The CRD is in no folder that is applied and deleted.
    let crd = "CustomResourceDefinition";
    rendered.retain(|object| !is_of_test(object) && object["kind"] != crd);
    for object in &mut rendered {
        let labels = object["metadata"]["labels"].as_object_mut().unwrap();
        for label in LABELS_OF_HELM {
            assert!(labels.remove(label).is_some(), "{label}");
        }
    }
    let rendered = sorted(rendered, &OF_THE_CHART);
    let base = sorted(kustomized(folder), &OF_THE_BASE);
    for (rendered, base) in rendered.iter().zip(&base) {
        assert_eq!(rendered, base);
    }
    assert_eq!(rendered.len(), base.len());
}

#[test]
fn helm_lint_finds_nothing() {
    let (chart, version) = (chart(), Version::tested().to_string());
    let arguments = [
        "lint",
        "--strict",
        chart.to_str().unwrap(),
        "--kube-version",
        &version,
    ];
    let linted = Helm::new().run(&arguments);
    assert!(linted.unwrap().contains("0 chart(s) failed"));
}

#[rstest]
#[case(json!({ "replicas": 0 }), "/replicas")]
#[case(json!({ "replica": 2 }), "'replica'")]
#[case(json!({ "optIn": "pod" }), "/optIn")]
#[case(json!({ "hooks": { "pods": { "failurePolicy": "Maybe" } } }), "/hooks/pods/failurePolicy")]
#[case(json!({ "hooks": { "bindings": { "timeoutSeconds": 31 } } }), "/hooks/bindings/timeoutSeconds")]
#[case(json!({ "ports": { "webhook": 0 } }), "/ports/webhook")]
#[case(json!({ "certificates": { "source": "magic" } }), "/certificates/source")]
#[case(json!({ "certificates": { "source": "cert-manager" } }), "certificates.issuerRef")]
#[case(json!({ "clientCA": { "kind": "File" } }), "/clientCA/kind")]
#[case(json!({ "clientCA": { "name": "clients", "names": ["a,b"] } }), "/clientCA/names")]
#[case(json!({ "clientCA": { "names": ["kube-apiserver"] } }), "clientCA.name is missing")]
#[case(json!({ "aws": { "region": "Frankfurt" } }), "/aws/region")]
#[case(json!({ "proxy": { "https": "proxy:3128" } }), "/proxy/https")]
#[case(json!({ "settings": { "no-such-flag": "1" } }), "'no-such-flag'")]
#[case(json!({ "targets": { "register": "some" } }), "/targets/register")]
#[case(json!({ "targets": { "sliceAddresses": "all" } }), "/targets/sliceAddresses")]
#[case(json!({ "targets": { "incumbent": { "leaseName": "a/b" } } }), "/targets/incumbent/leaseName")]
#[case(json!({ "image": { "digest": "latest" } }), "/image/digest")]
#[case(json!({ "labels": { "team": 1 } }), "/labels/team")]
#[case(json!({ "certificates": { "source": "secret", "caBundle": "ca.crt" } }), "/certificates/caBundle")]
#[case(json!({ "certificates": { "caBundle": CA } }), "certificates.source=secret")]
#[case(
    json!({ "hooks": { "bindings": { "enabled": false } }, "allowList": [] }),
    "allowList needs hooks.bindings.enabled"
)]
#[case(
    json!({ "hooks": { "bindings": { "failurePolicy": "Ignore" } }, "allowList": [] }),
    "allowList needs hooks.bindings.failurePolicy=Fail"
)]
#[case(json!({ "immutability": "policy", "allowList": [] }), "allowList needs immutability=hook or both")]
#[case(json!({ "immutability": "crd" }), "/immutability")]
#[case(json!({ "settings": { "shutdown-delay": "1m" } }), "/settings/shutdown-delay")]
#[case(json!({ "doctor": { "enabled": true } }), "doctor.namespace is missing")]
#[case(json!({ "doctor": { "namespace": "Shop" } }), "/doctor/namespace")]
#[case::of_an_older_chart(json!({ "serviceAccount": { "create": null } }), "--reset-then-reuse-values")]
fn an_impossible_value_is_refused_by_its_name(#[case] values: Value, #[case] name: &str) {
    let version = Version::tested().to_string();
    let refused = Helm::new().template_for(&version, &values).unwrap_err();
    assert!(refused.contains(name), "{refused}");
}

#[test]
fn the_oldest_kubernetes_is_accepted_and_the_one_before_is_refused() {
    let oldest = Version::oldest();
    let render = |version| Helm::new().template_for(&format!("{version}.0"), &json!({}));
    render(oldest).unwrap();
    let refused = render(oldest.previous_minor()).unwrap_err();
    let required = format!("kubeVersion: >={oldest}.0-0");
    assert!(refused.contains(&required), "{refused}");
}

#[test]
fn match_conditions_are_left_out_where_they_are_not_known() {
    let known_from = Version::match_conditions();
    for (version, known) in [
        (format!("{}.16", known_from.previous_minor()), false),
        (format!("{known_from}.0"), true),
        (format!("{known_from}.2-eks-7f9249a"), true),
    ] {
        let objects = Helm::new().template_for(&version, &json!({})).unwrap();
        let hooks = find(&objects, "ValidatingWebhookConfiguration");
        let conditions = &hooks["webhooks"][0]["matchConditions"];
        assert_eq!(conditions.is_array(), known, "{version}");
    }
}

#[test]
fn no_option_renders_a_certificate_or_a_bundle_that_was_not_given() {
    let helm = Helm::new();
    for (name, values) in options() {
        let given = values["certificates"]["caBundle"].is_string();
        for object in helm.template(&values) {
            assert_ne!(object["kind"], "Secret", "{name}");
            let hooks = object["kind"]
                .as_str()
                .unwrap()
                .ends_with("WebhookConfiguration");
            let bundle = object.to_string().contains("\"caBundle\":");
            assert_eq!(bundle, given && hooks, "{name}");
        }
    }
}

#[test]
fn each_hook_has_the_bundle_that_was_given() {
    let certificates = json!({ "source": "secret", "caBundle": CA });
    let objects = Helm::new().template(&json!({ "certificates": certificates }));
    for kind in [
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    ] {
        for hook in find(&objects, kind)["webhooks"].as_array().unwrap() {
            let bundle = hook["clientConfig"]["caBundle"].as_str().unwrap();
            assert_eq!(STANDARD.decode(bundle).unwrap(), CA.as_bytes());
        }
    }
}

/// The allow-list that the process would read, if it has one.
fn allow_list(values: &Value) -> Option<AllowList> {
    let objects = Helm::new().template(values);
    let pod = &find(&objects, "Deployment")["spec"]["template"]["spec"];
    let variables = pod["containers"][0]["env"].as_array().unwrap();
    let file = variables
        .iter()
        .find(|variable| variable["name"] == "TARGETGATE_ALLOW_ARNS")?;
    assert_eq!(file["value"], "/allow/allow.yaml");
    assert_eq!(pod["volumes"][0]["configMap"]["name"], "targetgate");
    assert_eq!(
        pod["containers"][0]["volumeMounts"][0]["mountPath"],
        "/allow"
    );
    let text = find(&objects, "ConfigMap")["data"]["allow.yaml"].as_str();
    Some(AllowList::parse(text.unwrap()).unwrap())
}

#[test]
fn an_empty_allow_list_allows_nothing_and_an_absent_one_everything() {
    let group =
        "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/web/0123456789abcdef";
    let group: TargetGroupArn = group.parse().unwrap();
    assert_eq!(allow_list(&json!({})), None);
    assert_eq!(allow_list(&json!({ "allowList": null })), None);
    let nothing = allow_list(&json!({ "allowList": [] })).unwrap();
    assert!(nothing.check("shop", &group).is_err());
}

/// The rules of the chart's README, for the controller's own bindings.
#[test]
fn the_documented_rules_allow_what_the_controller_creates_for_its_namespace() {
    let page = section("deploy/chart/README.md", "## Allow-list");
    let values = serde_saphyr::from_str(&blocks(&page, "yaml")[0]).unwrap();
    let list = allow_list(&values).unwrap();
    let group = |name: &str| -> TargetGroupArn {
        let arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup";
        format!("{arn}/{name}/0123456789abcdef").parse().unwrap()
    };
    // k8s-, eight letters or digits of the namespace, eight of the name, and ten of a hash.
    let generated = group("k8s-teampaym-checkout-0123456789");
    assert!(list.check("team-payments", &generated).is_ok());
    assert!(list.check("shop", &generated).is_err());
    assert!(list.check("team-payments", &group("web")).is_err());
}

/// The environment variables that `serve` reads, each with its flag.
fn flags() -> Vec<(String, String)> {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    let flags = serve.get_arguments().filter_map(|argument| {
        let variable = argument.get_env()?.to_str()?.to_owned();
        Some((argument.get_long()?.to_owned(), variable))
    });
    flags.collect()
}

#[test]
fn every_flag_of_serve_can_be_set_once() {
    let schema = std::fs::read_to_string(chart().join("values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let settings = schema["properties"]["settings"]["properties"]
        .as_object()
        .unwrap();
    // The chart sets these by values of another name or not at all, because they name objects that it renders.
    let own = [
        "admin-listen",
        "admission",
        "allow-arns",
        "client-ca",
        "client-names",
        "drain",
        "drain-seconds",
        "excluded-namespaces",
        "explain-listen",
        "incumbent-lease",
        "incumbent-namespaces",
        "kubeconfig",
        "listen",
        "namespace",
        "opt-in",
        "pod-name",
        "register",
        "slice-addresses",
        "tls",
        "tls-cert",
        "tls-key",
        "tls-mutating",
        "tls-owner",
        "tls-secret",
        "tls-service",
        "tls-validating",
        "vpc-id",
    ];
    let settable: BTreeSet<&str> = settings.keys().map(String::as_str).collect();
    let flags = flags();
    let others = flags.iter().map(|(flag, _)| flag.as_str());
    let expected: BTreeSet<&str> = others.filter(|flag| !own.contains(flag)).collect();
    assert_eq!(settable, expected);
}

#[test]
fn every_variable_of_ours_is_one_that_serve_reads() {
    let (helm, flags) = (Helm::new(), flags());
    let known: BTreeSet<&str> = flags
        .iter()
        .map(|(_, variable)| variable.as_str())
        .collect();
    for (option, values) in options() {
        let objects = helm.template(&values);
        let pod = &find(&objects, "Deployment")["spec"]["template"]["spec"];
        for variable in pod["containers"][0]["env"].as_array().unwrap() {
            let name = variable["name"].as_str().unwrap();
            let ours = name.starts_with("TARGETGATE_") || name.starts_with("POD_");
            assert!(!ours || known.contains(name), "{option}: {name}");
        }
    }
}

#[rstest]
#[case(json!({}), None, None)]
#[case(json!({ "mode": "off" }), None, None)]
#[case::an_unquoted_off(json!({ "mode": false }), None, None)]
#[case(json!({ "mode": "sleep" }), Some("sleep"), None)]
#[case(json!({ "seconds": { "alb": 30 } }), None, Some("alb=30,nlb=100"))]
#[case(json!({ "mode": "sleep", "seconds": { "nlb": 600 } }), Some("sleep"), Some("alb=20,nlb=600"))]
fn the_flags_of_drain_follow_its_values(
    #[case] drain: Value,
    #[case] mode: Option<&str>,
    #[case] seconds: Option<&str>,
) {
    let objects = Helm::new().template(&json!({ "drain": drain }));
    let pod = &find(&objects, "Deployment")["spec"]["template"]["spec"];
    let variables = pod["containers"][0]["env"].as_array().unwrap();
    let value = |name: &str| {
        let found = variables.iter().find(|variable| variable["name"] == name)?;
        found["value"].as_str()
    };
    let found = (value("TARGETGATE_DRAIN"), value("TARGETGATE_DRAIN_SECONDS"));
    assert_eq!(found, (mode, seconds));
    assert!(seconds.is_none_or(|seconds| seconds.parse::<DrainSeconds>().is_ok()));
}

#[rstest]
#[case(json!({}), [None; 4])]
#[case::not_asked_for(
    json!({ "incumbent": { "leaseName": "other", "namespaces": ["shop"] }, "sliceAddresses": "any" }),
    [None; 4]
)]
#[case(json!({ "register": "all" }), [Some("all"), None, None, None])]
#[case::of_a_chart_that_did_not_know_it(
    json!({ "register": "all", "sliceAddresses": null }), [Some("all"), None, None, None]
)]
#[case(
    json!({ "register": "annotated", "incumbent": { "leaseNamespace": "aws", "leaseName": "lbc",
        "namespaces": ["shop", "blog"] }, "sliceAddresses": "any" }),
    [Some("annotated"), Some("aws/lbc"), Some("shop,blog"), Some("any")]
)]
fn the_flags_of_targets_follow_its_values(
    #[case] targets: Value,
    #[case] expected: [Option<&str>; 4],
) {
    let objects = Helm::new().template(&json!({ "targets": targets }));
    let pod = &find(&objects, "Deployment")["spec"]["template"]["spec"];
    let variables = pod["containers"][0]["env"].as_array().unwrap();
    let names = [
        "REGISTER",
        "INCUMBENT_LEASE",
        "INCUMBENT_NAMESPACES",
        "SLICE_ADDRESSES",
    ];
    let found = names.map(|name| {
        let name = format!("TARGETGATE_{name}");
        let found = variables
            .iter()
            .find(|variable| variable["name"] == *name)?;
        found["value"].as_str()
    });
    assert_eq!(found, expected);
}

#[test]
fn the_lease_of_the_incumbent_may_be_read_where_it_is() {
    let incumbent = json!({ "leaseNamespace": "aws", "leaseName": "lbc" });
    let targets = json!({ "register": "all", "incumbent": incumbent });
    let objects = Helm::new().template(&json!({ "targets": targets }));
    let named = |object: &&Value| object["metadata"]["name"] == "targetgate-incumbent";
    let [role, binding] = &objects.iter().filter(named).collect::<Vec<_>>()[..] else {
        panic!("a Role and its binding");
    };
    assert_eq!(role["rules"][0]["resourceNames"], json!(["lbc"]));
    for object in [role, binding] {
        assert_eq!(object["metadata"]["namespace"], "aws");
    }
}

#[rstest]
#[case(json!({ "mode": "on" }))]
#[case(json!({ "seconds": { "alb": 0 } }))]
#[case(json!({ "seconds": { "nlb": 601 } }))]
#[case(json!({ "seconds": { "gwlb": 20 } }))]
fn values_of_drain_that_serve_would_refuse_are_refused(#[case] drain: Value) {
    let version = Version::tested().to_string();
    let refused = Helm::new().template_for(&version, &json!({ "drain": drain }));
    assert!(refused.is_err(), "{drain}");
}

/// Whether a label selector matches. It implements what the chart uses of selectors.
fn selects(selector: &Value, labels: &Map<String, Value>) -> bool {
    let mut exactly = selector["matchLabels"].as_object().into_iter().flatten();
    let mut expressions = selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten();
    exactly.all(|(key, value)| labels.get(key) == Some(value))
        && expressions.all(|expression| {
            assert_eq!(expression["operator"], "NotIn");
            let value = labels.get(expression["key"].as_str().unwrap());
            value.is_none_or(|value| !expression["values"].as_array().unwrap().contains(value))
        })
}

#[rstest]
#[case("namespace", [0, 0, 1, 1])]
#[case("object", [0, 1, 0, 1])]
#[case("either", [0, 1, 1, 1])]
fn the_pod_hook_is_called_once_for_each_pod_that_is_opted_in(
    #[case] opt_in: &str,
    #[case] expected: [usize; 4],
) {
    let objects = Helm::new().template(&json!({ "optIn": opt_in }));
    let hooks = find(&objects, "MutatingWebhookConfiguration")["webhooks"]
        .as_array()
        .unwrap();
    let of_pods: Vec<&Value> = hooks
        .iter()
        .filter(|hook| hook["clientConfig"]["service"]["path"] == "/mutate-v1-pod")
        .collect();
    let asked = |namespace: &str, in_namespace: bool, on_pod: bool| {
        let label = |given: bool| match given {
            true => json!({ INJECT_LABEL: INJECT_ENABLED }),
            false => json!({}),
        };
        let mut of_namespace = label(in_namespace);
        of_namespace["kubernetes.io/metadata.name"] = json!(namespace);
        let (of_namespace, of_pod) = (of_namespace, label(on_pod));
        let asked = of_pods.iter().filter(|hook| {
            selects(
                &hook["namespaceSelector"],
                of_namespace.as_object().unwrap(),
            ) && selects(&hook["objectSelector"], of_pod.as_object().unwrap())
        });
        asked.count()
    };
    let combinations = [(false, false), (false, true), (true, false), (true, true)];
    assert_eq!(
        combinations.map(|(namespace, pod)| asked("shop", namespace, pod)),
        expected
    );
    // As with the AWS Load Balancer Controller, and unlike our own namespace.
    assert_eq!(asked("kube-system", true, true), 1);
    assert_eq!(asked("targetgate-system", true, true), 0);
    assert!(
        of_pods
            .iter()
            .any(|hook| hook["name"] == "mpod.elbv2.k8s.aws")
    );
}

/// The namespaces that the hook leaves out, and those that the process does not count.
fn excluded(hooks: Value) -> (Value, String) {
    let objects = Helm::new().template(&json!({ "hooks": hooks }));
    let configuration = find(&objects, "MutatingWebhookConfiguration");
    let selector = &configuration["webhooks"][0]["namespaceSelector"];
    let pod = &find(&objects, "Deployment")["spec"]["template"]["spec"];
    let variables = pod["containers"][0]["env"].as_array().unwrap();
    let counted = variables
        .iter()
        .find(|variable| variable["name"] == "TARGETGATE_EXCLUDED_NAMESPACES");
    let counted = counted.map_or("", |variable| variable["value"].as_str().unwrap());
    (
        selector["matchExpressions"][0]["values"].clone(),
        counted.to_owned(),
    )
}

#[test]
fn what_the_hook_leaves_out_is_not_counted() {
    let (left_out, uncounted) = excluded(json!({}));
    assert_eq!((left_out, &*uncounted), (json!(["targetgate-system"]), ""));
    let (left_out, uncounted) = excluded(json!({ "excludedNamespaces": ["a", "b"] }));
    let expected = json!(["a", "b", "targetgate-system"]);
    assert_eq!((left_out, &*uncounted), (expected, "a,b"));
    // The network's and DNS' pods have to start before ours.
    let fails = json!({ "pods": { "failurePolicy": "Fail" }, "excludedNamespaces": ["a"] });
    let (left_out, uncounted) = excluded(fails);
    let expected = json!(["a", "kube-system", "targetgate-system"]);
    assert_eq!((left_out, &*uncounted), (expected, "a,kube-system"));
}
