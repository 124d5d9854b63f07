//! The manifests in `deploy` agree with the binary.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use serde_json::Value;
use targetgate::admission::body;
use targetgate::admission::{MUTATE_BINDING_PATH, POD_PATH, VALIDATE_BINDING_PATH};
use targetgate::args::{Cli, Command, Settings, Tls};
use targetgate::kubernetes::lease::RELEASE_WITHIN;
use targetgate::serve::listener::Limits;
use targetgate_core::names::BindingApi;

fn documents(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).unwrap()
}

/// The shipped webhooks by name.
fn webhooks() -> BTreeMap<String, Value> {
    let configurations = documents(include_str!("../deploy/base/webhooks.yaml"));
    let webhooks = configurations
        .iter()
        .flat_map(|c| c["webhooks"].as_array().unwrap());
    webhooks
        .map(|webhook| {
            (
                webhook["name"].as_str().unwrap().to_owned(),
                webhook.clone(),
            )
        })
        .collect()
}

fn deployment() -> Value {
    documents(include_str!("../deploy/base/deployment.yaml")).remove(0)
}

fn container() -> Value {
    deployment()["spec"]["template"]["spec"]["containers"][0].clone()
}

/// The settings of `serve` in the shipped Deployment, which sets no flag about certificates.
fn settings() -> Box<Settings> {
    match Cli::parse_from(["targetgate", "serve"]).command {
        Command::Serve(settings) => settings,
        other => panic!("{other:?} is not serve"),
    }
}

#[test]
fn each_hook_is_registered_under_the_path_that_serves_it() {
    let paths = [
        ("mpod.elbv2.k8s.aws", POD_PATH),
        ("mtargetgroupbinding.elbv2.k8s.aws", MUTATE_BINDING_PATH),
        ("vtargetgroupbinding.elbv2.k8s.aws", VALIDATE_BINDING_PATH),
    ];
    let webhooks = webhooks();
    assert_eq!(webhooks.len(), paths.len());
    for (name, path) in paths {
        assert_eq!(webhooks[name]["clientConfig"]["service"]["path"], path);
    }
}

#[test]
fn pods_are_never_blocked_and_bindings_never_unchecked() {
    for (name, webhook) in webhooks() {
        let (policy, seconds) = match name.as_str() {
            "mpod.elbv2.k8s.aws" => ("Ignore", 2),
            _ => ("Fail", 10),
        };
        assert_eq!(webhook["failurePolicy"], policy, "{name}");
        assert_eq!(webhook["timeoutSeconds"], seconds, "{name}");
        assert_eq!(webhook["sideEffects"], "None", "{name}");
        assert!(webhook["clientConfig"]["caBundle"].is_null(), "{name}");
    }
}

#[test]
fn the_deployment_sets_only_variables_that_serve_reads() {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    let known: Vec<&str> = serve
        .get_arguments()
        .filter_map(|argument| argument.get_env()?.to_str())
        .collect();
    for variable in container()["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        assert!(known.contains(&name), "{name} is not among {known:?}");
    }
}

#[test]
fn the_ports_are_those_that_serve_listens_on() {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    for (port, flag) in [("webhook", "listen"), ("admin", "admin_listen")] {
        let argument = serve.get_arguments().find(|a| a.get_id() == flag).unwrap();
        let default = argument.get_default_values()[0].to_str().unwrap();
        let ports = container()["ports"].as_array().unwrap().clone();
        let entry = ports.iter().find(|entry| entry["name"] == port).unwrap();
        assert!(
            default.ends_with(&format!(":{}", entry["containerPort"])),
            "{port}"
        );
    }
    let service = documents(include_str!("../deploy/base/service.yaml")).remove(0);
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "webhook");
    assert_eq!(
        service["spec"]["selector"],
        deployment()["spec"]["template"]["metadata"]["labels"]
    );
}

#[test]
fn the_grace_period_is_longer_than_the_end_takes() {
    let settings = settings();
    let end = settings.shutdown_delay + Limits::default().drain + RELEASE_WITHIN;
    let pod = &deployment()["spec"]["template"]["spec"];
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(end < Duration::from_secs(grace), "{end:?}");
}

#[test]
fn all_bodies_stay_within_a_quarter_of_the_memory_limit() {
    let chart = documents(include_str!("../deploy/chart/values.yaml")).remove(0);
    for resources in [&container()["resources"], &chart["resources"]] {
        let limit = resources["limits"]["memory"].as_str().unwrap();
        let mebibytes: usize = limit.strip_suffix("Mi").unwrap().parse().unwrap();
        assert_eq!(mebibytes << 20, body::SHIPPED_MEMORY);
    }
    let limits = body::Limits::default();
    assert!(limits.bodies <= body::SHIPPED_MEMORY / 4);
    // A body and its copy fit beside those of another.
    assert!(limits.bodies >= 2 * 2 * limits.body);
}

#[test]
fn no_certificate_is_shipped_and_the_keeper_finds_all_objects_by_name() {
    let tls = settings().tls;
    assert!(matches!(tls.source(), Ok(Tls::Own(_))));
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    let hooks = include_str!("../deploy/base/webhooks.yaml");
    for (kind, names) in [
        ("MutatingWebhookConfiguration", &tls.tls_mutating),
        ("ValidatingWebhookConfiguration", &tls.tls_validating),
    ] {
        let shipped: Vec<String> = of_kind(&documents(hooks), kind).map(name).collect();
        assert_eq!(shipped, *names);
    }
    let service = documents(include_str!("../deploy/base/service.yaml")).remove(0);
    assert_eq!(name(&service), tls.tls_service);
    assert_eq!(name(&deployment()), tls.tls_owner);
    for (_, webhook) in webhooks() {
        assert_eq!(webhook["clientConfig"]["service"]["name"], tls.tls_service);
    }
}

#[test]
fn secrets_and_configurations_are_ours_by_name_only() {
    let objects = kustomized("base");
    let roles =
        ["Role", "ClusterRole"].map(|kind| of_kind(&objects, kind).cloned().collect::<Vec<_>>());
    let rules = roles.iter().flatten().flat_map(|role| {
        let kind = role["kind"].as_str().unwrap();
        let rules = role["rules"].as_array().unwrap().iter();
        rules.map(move |rule| (kind, rule))
    });
    let ours = ["secrets", "deployments", "leases"];
    let hooks = [
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
    ];
    let mut named = 0;
    for (kind, rule) in rules {
        let of = |resources: &[&str]| {
            let listed = rule["resources"].as_array().unwrap();
            listed
                .iter()
                .any(|r| resources.contains(&r.as_str().unwrap()))
        };
        if !of(&ours) && !of(&hooks) {
            continue;
        }
        assert_eq!(kind == "Role", of(&ours), "{rule}");
        // Only a creation has no name that RBAC could compare.
        let creates = rule["verbs"] == serde_json::json!(["create"]);
        let unnamed = rule["resourceNames"].is_null();
        assert_eq!(creates, unnamed, "{rule}");
        named += usize::from(!unnamed);
    }
    assert_eq!(named, 5);
}

#[test]
fn every_file_of_the_base_is_installed() {
    let base = documents(include_str!("../deploy/base/kustomization.yaml")).remove(0);
    let mut listed: Vec<&str> = base["resources"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    listed.push("kustomization.yaml");
    listed.sort_unstable();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/base");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut there: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort_unstable();
    assert_eq!(listed, there);
}

/// The objects that kustomize renders from an overlay.
fn overlay(name: &str) -> Vec<Value> {
    kustomized(&format!("overlays/{name}"))
}

/// The objects that kustomize renders from a folder of `deploy`.
fn kustomized(folder: &str) -> Vec<Value> {
    let root = env!("CARGO_MANIFEST_DIR");
    let output = std::process::Command::new(format!("{root}/target/installers/kubectl"))
        .args(["kustomize", &format!("{root}/deploy/{folder}")])
        .output();
    let output = output.expect("a kubectl, which tests/chart/build makes");
    assert!(output.status.success(), "{output:?}");
    documents(&String::from_utf8(output.stdout).unwrap())
}

fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

fn the_pod(objects: &[Value]) -> &Value {
    let deployment = of_kind(objects, "Deployment").next().unwrap();
    &deployment["spec"]["template"]["spec"]
}

fn variable<'a>(objects: &'a [Value], name: &str) -> Option<&'a str> {
    let variables = the_pod(objects)["containers"][0]["env"].as_array().unwrap();
    let found = variables.iter().find(|variable| variable["name"] == name)?;
    found["value"].as_str()
}

#[test]
fn with_cert_manager_the_pods_read_the_secret_that_it_writes() {
    let objects = overlay("cert-manager");
    let certificate = of_kind(&objects, "Certificate").next().unwrap();
    let name = certificate["metadata"]["name"].as_str().unwrap();
    let namespace = certificate["metadata"]["namespace"].as_str().unwrap();
    let service = of_kind(&objects, "Service").next().unwrap();
    assert_eq!(service["metadata"]["namespace"], namespace);
    let host = format!(
        "{}.{namespace}.svc",
        service["metadata"]["name"].as_str().unwrap()
    );
    assert_eq!(certificate["spec"]["dnsNames"][0], host);
    for kind in [
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    ] {
        let hooks = of_kind(&objects, kind).next().unwrap();
        let from = &hooks["metadata"]["annotations"]["cert-manager.io/inject-ca-from"];
        assert_eq!(*from, format!("{namespace}/{name}"));
    }
    let (pod, written) = (the_pod(&objects), &certificate["spec"]["secretName"]);
    let volumes = pod["volumes"].as_array().unwrap();
    let tls = volumes
        .iter()
        .find(|volume| volume["name"] == "tls")
        .unwrap();
    assert_eq!(tls["secret"]["secretName"], *written);
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let folder = mounts.iter().find(|mount| mount["name"] == "tls").unwrap()["mountPath"]
        .as_str()
        .unwrap();
    for (name, file) in [("CERT", "tls.crt"), ("KEY", "tls.key")] {
        let variable = variable(&objects, &format!("TARGETGATE_TLS_{name}"));
        assert_eq!(variable.unwrap(), format!("{folder}/{file}"));
    }
}

/// The resources that the rendered roles let our account write.
fn granted(objects: &[Value]) -> Vec<String> {
    let roles = ["Role", "ClusterRole"].map(|kind| of_kind(objects, kind));
    let rules = roles
        .into_iter()
        .flatten()
        .flat_map(|role| role["rules"].as_array().unwrap());
    let reads = ["get", "list", "watch"];
    let rules = rules.filter(|rule| {
        let mut verbs = rule["verbs"].as_array().unwrap().iter();
        verbs.any(|verb| !reads.contains(&verb.as_str().unwrap()))
    });
    let resources = rules.flat_map(|rule| rule["resources"].as_array().unwrap());
    resources.map(|r| r.as_str().unwrap().to_owned()).collect()
}

#[test]
fn with_cert_manager_our_account_writes_neither_secrets_nor_hooks() {
    let writes = |granted: &[String]| {
        let kinds = ["secrets", "webhookconfigurations"];
        let of = |kind: &&str| granted.iter().any(|resource| resource.ends_with(*kind));
        kinds.iter().filter(|kind| of(kind)).count()
    };
    assert_eq!(writes(&granted(&kustomized("base"))), 2);
    let objects = overlay("cert-manager");
    assert_eq!(writes(&granted(&objects)), 0);
    // What is left is bound.
    for (role, binding) in [
        ("Role", "RoleBinding"),
        ("ClusterRole", "ClusterRoleBinding"),
    ] {
        let roles: Vec<&Value> = of_kind(&objects, role)
            .map(|r| &r["metadata"]["name"])
            .collect();
        let bound: Vec<&Value> = of_kind(&objects, binding)
            .map(|b| &b["roleRef"]["name"])
            .collect();
        assert_eq!(roles, bound);
    }
}

#[test]
fn on_the_nodes_network_an_update_does_not_wait_for_a_port_of_the_old_pod() {
    let objects = overlay("host-network");
    let pod = the_pod(&objects);
    assert_eq!(pod["hostNetwork"], true);
    assert_eq!(pod["dnsPolicy"], "ClusterFirstWithHostNet");
    // Loopback is the node's there.
    let listen = &pod["containers"][0]["env"];
    let listen = listen.as_array().unwrap().iter();
    let listen: Vec<&Value> = listen
        .filter(|variable| variable["name"] == "TARGETGATE_EXPLAIN_LISTEN")
        .map(|variable| &variable["value"])
        .collect();
    assert_eq!(listen, ["off"]);
    let deployment = of_kind(&objects, "Deployment").next().unwrap();
    let rolling = serde_json::json!({ "maxSurge": 0, "maxUnavailable": 1 });
    assert_eq!(deployment["spec"]["strategy"]["rollingUpdate"], rolling);
    let namespace = of_kind(&objects, "Namespace").next().unwrap();
    let level = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
    assert_eq!(level, "privileged");
}

#[test]
fn no_folder_that_is_applied_and_deleted_has_a_crd() {
    let overlays = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/overlays");
    let overlays = std::fs::read_dir(overlays).unwrap();
    let overlays = overlays.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let folders = overlays.map(|name| format!("overlays/{name}"));
    for folder in folders.chain(["base".to_owned()]) {
        let objects = kustomized(&folder);
        assert_eq!(of_kind(&objects, "Deployment").count(), 1, "{folder}");
        let crds = of_kind(&objects, "CustomResourceDefinition");
        assert_eq!(crds.count(), 0, "{folder}");
    }
}

#[test]
fn the_chart_and_kustomize_ship_the_same_crd() {
    let root = env!("CARGO_MANIFEST_DIR");
    let read = |folder: &str| {
        std::fs::read_to_string(format!("{root}/deploy/{folder}/targetgroupbindings.yaml"))
    };
    assert_eq!(read("chart/crds").unwrap(), read("crd").unwrap());
    let records = |folder: &str| {
        std::fs::read_to_string(format!("{root}/deploy/{folder}/targetrecords.yaml"))
    };
    assert_eq!(records("chart/files").unwrap(), records("targets").unwrap());
}

#[test]
fn no_tool_prunes_the_records_with_their_crd() {
    let crd = documents(include_str!("../deploy/targets/targetrecords.yaml")).remove(0);
    let bindings = documents(include_str!("../deploy/crd/targetgroupbindings.yaml")).remove(0);
    let mut expected = bindings["metadata"]["annotations"].clone();
    expected["helm.sh/resource-policy"] = "keep".into();
    assert_eq!(crd["metadata"]["annotations"], expected);
}

/// Flux leaves links out of the artifacts that it makes of Git repositories, and Windows checks them out as text.
#[test]
fn nothing_that_is_shipped_is_a_link() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            assert!(!kind.is_symlink(), "{}", entry.path().display());
            if kind.is_dir() {
                folders.push(entry.path());
            }
        }
    }
}

#[test]
fn in_auto_mode_its_own_bindings_give_gates() {
    let objects = overlay("auto-mode");
    let apis = variable(&objects, "TARGETGATE_GATE_APIS").unwrap();
    let words = ["targetgate", "serve", "--gate-apis", apis];
    let Command::Serve(settings) = Cli::parse_from(words).command else {
        panic!("the command is not serve");
    };
    assert!(settings.gates.gate_apis.contains(&BindingApi::Eks));
}

#[test]
fn roles_trust_our_service_account_and_no_other() {
    let accounts = documents(include_str!("../deploy/base/rbac.yaml"));
    let account = of_kind(&accounts, "ServiceAccount").next().unwrap();
    let name = account["metadata"]["name"].as_str().unwrap();
    let base = documents(include_str!("../deploy/base/kustomization.yaml")).remove(0);
    let namespace = base["namespace"].as_str().unwrap();

    let irsa: Value = serde_json::from_str(include_str!("../deploy/iam/trust-irsa.json")).unwrap();
    let statement = &irsa["Statement"][0];
    assert_eq!(statement["Action"], "sts:AssumeRoleWithWebIdentity");
    let provider = statement["Principal"]["Federated"].as_str().unwrap();
    let (_, provider) = provider.split_once(":oidc-provider/").unwrap();
    let expected = serde_json::json!({
        format!("{provider}:aud"): "sts.amazonaws.com",
        format!("{provider}:sub"): format!("system:serviceaccount:{namespace}:{name}"),
    });
    assert_eq!(statement["Condition"]["StringEquals"], expected);

    let text = include_str!("../deploy/iam/trust-pod-identity.json");
    let pod_identity: Value = serde_json::from_str(text).unwrap();
    let statement = &pod_identity["Statement"][0];
    assert_eq!(statement["Principal"]["Service"], "pods.eks.amazonaws.com");
    let actions = serde_json::json!(["sts:AssumeRole", "sts:TagSession"]);
    assert_eq!(statement["Action"], actions);
    let expected = serde_json::json!({
        "aws:SourceAccount": "ACCOUNT",
        "aws:RequestTag/eks-cluster-name": "CLUSTER",
        "aws:RequestTag/kubernetes-namespace": namespace,
        "aws:RequestTag/kubernetes-service-account": name,
    });
    assert_eq!(statement["Condition"]["StringEquals"], expected);
    let terraform = include_str!("../deploy/iam/main.tf");
    // A role of a fixed name cannot be created for the second cluster of an account.
    assert!(terraform.contains("targetgate-${var.cluster_name}"));
    for placeholder in ["\"ACCOUNT\"", "\"CLUSTER\""] {
        assert!(terraform.contains(placeholder), "{placeholder}");
    }
    for line in [
        format!("namespace       = \"{namespace}\""),
        format!("service_account = \"{name}\""),
    ] {
        assert!(terraform.contains(&line), "{line}");
    }
}

#[test]
fn targets_are_registered_by_a_policy_of_its_own_for_each_partition() {
    let policy = include_str!("../deploy/iam/policy-targets.json");
    assert_eq!(policy.matches("PARTITION").count(), 1);
    let terraform = include_str!("../deploy/iam/main.tf");
    assert!(terraform.contains("policy-targets.json") && terraform.contains("\"PARTITION\""));
    let policy: Value = serde_json::from_str(policy).unwrap();
    let expected = serde_json::json!([{
        "Effect": "Allow",
        "Action": [
            "elasticloadbalancing:DeregisterTargets",
            "elasticloadbalancing:RegisterTargets",
        ],
        "Resource": "arn:PARTITION:elasticloadbalancing:*:*:targetgroup/*/*",
    }]);
    assert_eq!(policy["Statement"], expected);
}

#[test]
fn aws_is_asked_for_two_read_actions_and_no_more() {
    let policy: Value = serde_json::from_str(include_str!("../deploy/iam/policy.json")).unwrap();
    let actions = &policy["Statement"][0]["Action"];
    let expected = [
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
    ];
    assert_eq!(*actions, serde_json::json!(expected));
    assert_eq!(policy["Statement"].as_array().unwrap().len(), 1);
}

#[test]
fn doctor_reads_more_of_aws_by_a_policy_of_its_own() {
    let policy = include_str!("../deploy/iam/policy-doctor.json");
    let policy: Value = serde_json::from_str(policy).unwrap();
    let expected = serde_json::json!([{
        "Effect": "Allow",
        "Action": [
            "elasticloadbalancing:DescribeLoadBalancerAttributes",
            "elasticloadbalancing:DescribeLoadBalancers",
            "elasticloadbalancing:DescribeTargetGroupAttributes",
        ],
        "Resource": "*",
    }]);
    assert_eq!(policy["Statement"], expected);
    // The account is named once in the trust policy that Terraform changes for doctor's.
    let trust = include_str!("../deploy/iam/trust-pod-identity.json");
    assert_eq!(trust.matches("\"targetgate\"").count(), 1);
    let terraform = include_str!("../deploy/iam/main.tf");
    for line in [
        r#"toset(["policy", "policy-doctor"])"#,
        r#"replace(local.trust, "\"targetgate\"", "\"targetgate-doctor\"")"#,
        r#"service_account = "targetgate-doctor""#,
    ] {
        assert!(terraform.contains(line), "{line}");
    }
}

/// krew refuses a manifest without these fields, and installs by version, operating system and architecture.
#[test]
fn the_manifest_of_the_kubectl_plugin_is_of_this_version() {
    let plugin = documents(include_str!("../deploy/krew/targetgate.yaml")).remove(0);
    let version = format!("v{}", env!("CARGO_PKG_VERSION"));
    let (name, spec) = (
        plugin["metadata"]["name"].as_str().unwrap(),
        &plugin["spec"],
    );
    assert_eq!(spec["version"], *version);
    // krew shows it on one line.
    let short = spec["shortDescription"].as_str().unwrap();
    assert!(short.len() <= 50 && !short.ends_with('.'), "{short}");
    let platforms = spec["platforms"].as_array().unwrap();
    assert_eq!(platforms.len(), 4);
    for platform in platforms {
        let labels = &platform["selector"]["matchLabels"];
        let [os, arch] = ["os", "arch"].map(|label| labels[label].as_str().unwrap());
        let archive = format!("RELEASES/{version}/{name}-{version}-{os}-{arch}.tar.gz");
        assert_eq!(platform["uri"], *archive);
        let checksum = format!("SHA256_{os}_{arch}").to_uppercase();
        assert_eq!(platform["sha256"], *checksum);
        let files = platform["files"].as_array().unwrap();
        assert!(files.iter().any(|file| file["from"] == platform["bin"]));
    }
}
