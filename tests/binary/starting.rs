//! What the process reports when its start fails, and while it has not started yet.

use std::net::TcpListener;
use std::path::Path;

use rstest::rstest;
use targetgate_sandbox::api::{Api, Away, Options};
use targetgate_sandbox::harness::process::isolated;
use targetgate_sandbox::harness::standalone::{CLOSE, Files, Standalone, review};
use targetgate_sandbox::harness::waiting::until;

use crate::program::{BINARY, SMALL, binary, run};

#[rstest]
#[case("--tls-cert", "/nonexistent/tls.crt")]
#[case("--tls-key", "/nonexistent/tls.key")]
#[case("--client-ca", "/nonexistent/ca.crt")]
#[case("--kubeconfig", "/nonexistent/kubeconfig")]
#[case("--listen", "192.0.2.1:9443")]
#[case("--admin-listen", "192.0.2.1:8080")]
#[case("--elb-rate", "-1")]
#[case("--elb-rate-max", "5")]
#[case("--lease-duration", "9s")]
#[case("--lease-retry-period", "7s")]
fn a_start_that_fails_names_the_flag(#[case] flag: &str, #[case] value: &str) {
    let files = Files::new(Path::new(BINARY), "127.0.0.1:9".parse().unwrap());
    let mut flags = files.flags();
    match flags.iter().position(|known| known == flag) {
        Some(at) => flags[at + 1] = value.to_owned(),
        None => flags.push(format!("{flag}={value}")),
    }
    let output = binary().arg("serve").args(flags).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(said.contains(flag) && said.contains(value), "{said}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let files = Files::new(Path::new(BINARY), "127.0.0.1:9".parse().unwrap());
    let mut flags = files.flags();
    flags[1] = address.clone();
    let output = binary().arg("serve").args(flags).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("--listen") && said.contains(&address),
        "{said}"
    );
}

#[test]
fn an_environment_variable_is_as_good_as_its_flag() {
    let output = binary()
        .arg("serve")
        .env("TARGETGATE_TLS_CERT", "/nonexistent/from-variable")
        .env("TARGETGATE_TLS_KEY", "/nonexistent/tls.key")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("/nonexistent/from-variable"), "{said}");
}

#[test]
fn as_a_plugin_of_kubectl_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-targetgate");
    std::os::unix::fs::symlink(BINARY, &plugin).unwrap();
    let help = |program: &Path| {
        let output = isolated(program).args(["explain", "-h"]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let said = help(&plugin);
    assert!(said.contains("Usage: kubectl targetgate explain"), "{said}");
    let said = help(Path::new(BINARY));
    assert!(said.contains("Usage: targetgate explain"), "{said}");
}

#[test]
fn the_crd_is_printed() {
    let output = run(&["crd"]);
    let yaml = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(yaml.contains("kind: CustomResourceDefinition"), "{yaml}");
}

#[tokio::test]
async fn without_an_api_server_it_is_alive_but_not_ready_and_lets_pods_through() {
    let api = Api::new(Options::default());
    api.faults().away(Some(Away::Refusing));
    let process = Standalone::started(binary(), api.clone()).await;
    let (status, checks) = process.admin("/readyz").await;
    assert_eq!(status, 503);
    assert!(checks.contains("[-]watch pods failed: "), "{checks}");
    assert_eq!(process.admin("/livez").await.0, 200);

    let answer = process.answer(&review(SMALL, CLOSE)).await;
    assert!(answer.contains(r#""allowed":true"#), "{answer}");
    assert!(answer.contains(r#""warnings":["#), "{answer}");

    api.faults().away(None);
    process.becomes_ready().await;
}

#[tokio::test]
async fn an_api_server_that_is_overloaded_is_asked_again_after_our_own_pauses() {
    let api = Api::new(Options::default());
    api.faults().away(Some(Away::Answering(503)));
    let process = Standalone::started(binary(), api.clone()).await;
    let restarts = r#"targetgate_watch_restarts_total{resource="pods"} "#;
    until("a second failure that is counted", || async {
        let (_, metrics) = process.admin("/metrics").await;
        let count = metrics.lines().find_map(|line| line.strip_prefix(restarts));
        count.filter(|count| *count != "1").map(drop)
    })
    .await;
    api.faults().away(None);
    process.becomes_ready().await;
}
