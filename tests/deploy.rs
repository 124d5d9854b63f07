//! What a cluster is given agrees with what the binary does.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use serde_json::Value;
use targetgate::admission::{MUTATE_BINDING_PATH, POD_PATH, VALIDATE_BINDING_PATH};
use targetgate::args::{Cli, Command, Settings, Tls};
use targetgate::cluster::lease::RELEASE_WITHIN;
use targetgate::serve::edge::Limits;

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

/// What `serve` is told by the shipped Deployment, which sets nothing about certificates.
fn settings() -> Box<Settings> {
    match Cli::parse_from(["targetgate", "serve"]).command {
        Command::Serve(settings) => settings,
        other => panic!("{other:?} is not what was asked for"),
    }
}

/// The shipped objects of this kind, from this file.
fn of_kind(yaml: &str, kind: &str) -> Vec<Value> {
    let mut objects = documents(yaml);
    objects.retain(|object| object["kind"] == kind);
    objects
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
        assert!(known.contains(&name), "{name} is none of {known:?}");
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
fn no_certificate_is_shipped_and_what_keeps_them_finds_everything_by_name() {
    let tls = settings().tls;
    assert!(matches!(tls.source(), Ok(Tls::Own(_))));
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    let hooks = include_str!("../deploy/base/webhooks.yaml");
    for (kind, names) in [
        ("MutatingWebhookConfiguration", &tls.tls_mutating),
        ("ValidatingWebhookConfiguration", &tls.tls_validating),
    ] {
        let shipped: Vec<String> = of_kind(hooks, kind).iter().map(name).collect();
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
    let rbac = include_str!("../deploy/base/rbac.yaml");
    let roles = ["Role", "ClusterRole"].map(|kind| of_kind(rbac, kind));
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
        // Only a creation has no name that could be compared.
        let creates = rule["verbs"] == serde_json::json!(["create"]);
        let unnamed = rule["resourceNames"].is_null();
        assert_eq!(creates, unnamed, "{rule}");
        named += usize::from(!unnamed);
    }
    assert_eq!(named, 4);
}

#[test]
fn everything_there_is_to_install_is_installed() {
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
