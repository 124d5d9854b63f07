//! The environment variables that the chart sets reach the AWS SDK.

use std::net::Ipv4Addr;
use std::path::Path;

use rstest::rstest;
use serde_json::{Value, json};
use targetgate_sandbox::harness::process::{Process, isolated, serve};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::helm::{Helm, find};
use crate::server::within;

/// A kubeconfig for an address on which no process listens.
const KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
current-context: none
contexts: [{name: none, context: {cluster: none, user: none}}]
clusters: [{name: none, cluster: {server: \"http://127.0.0.1:9\"}}]
users: [{name: none, user: {}}]
";

/// The environment variables of the container that have a plain value.
fn environment(values: &Value) -> Vec<(String, String)> {
    let objects = Helm::new().template(values);
    let pod = &find(&objects, "Deployment")["spec"]["template"]["spec"];
    let variables = pod["containers"][0]["env"].as_array().unwrap().iter();
    let plain = variables.filter_map(|variable| {
        let name = variable["name"].as_str()?.to_owned();
        Some((name, variable["value"].as_str()?.to_owned()))
    });
    plain.collect()
}

/// With the environment of the IRSA webhook, the first AWS call of the process assumes this role.
#[rstest]
#[case(json!({}), "sts.us-east-1.amazonaws.com:443")]
#[case(json!({ "useFipsEndpoint": true }), "sts-fips.us-east-1.amazonaws.com:443")]
#[case(json!({ "useDualstackEndpoint": true }), "sts.us-east-1.api.aws:443")]
#[tokio::test]
async fn aws_is_called_through_the_proxy_at_the_endpoint_that_was_chosen(
    #[case] mut aws: Value,
    #[case] endpoint: &str,
) {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    aws["region"] = json!("us-east-1");
    let proxied = format!("http://{}", proxy.local_addr().unwrap());
    let values = json!({ "aws": aws, "proxy": { "https": proxied, "bypass": ["10.0.0.0/8"] } });
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut command = isolated(Path::new(env!("CARGO_BIN_EXE_targetgate")));
    serve(&mut command, Ipv4Addr::LOCALHOST.into())
        .arg("--kubeconfig")
        .arg(file("kubeconfig", KUBECONFIG))
        .envs(environment(&values))
        .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/targetgate")
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", file("token", "token"));
    // The process gets no requests, so this call is all that the test waits for.
    let process = Process::spawn(&mut command, &folder.path().join("log")).unwrap();
    let asked = within("the proxy is asked", async {
        let (mut connection, _) = proxy.accept().await.unwrap();
        let mut first = vec![0; "CONNECT ".len() + endpoint.len()];
        connection.read_exact(&mut first).await.unwrap();
        String::from_utf8(first).unwrap()
    })
    .await;
    drop(process);
    assert_eq!(asked, format!("CONNECT {endpoint}"));
}
