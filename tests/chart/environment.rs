//! The environment variables that the chart sets reach the AWS SDK.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rstest::rstest;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use targetgate_sandbox::harness::process::{Process, isolated, serve};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::documented::{blocks, section};
use crate::helm::{Helm, find};
use crate::server::within;

const BINARY: &str = env!("CARGO_BIN_EXE_targetgate");
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

/// A process with the environment of the chart and of the IRSA webhook: the first AWS call of it assumes this role.
struct Proxied {
    proxy: TcpListener,
    folder: TempDir,
    #[expect(dead_code, reason = "held until dropped")]
    process: Process,
}

impl Proxied {
    /// Starts it. The values get the proxy and the Region.
    async fn started(mut values: Value, folder: TempDir) -> Self {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxied = format!("http://{}", proxy.local_addr().unwrap());
        values["proxy"] = json!({ "https": proxied, "bypass": ["10.0.0.0/8"] });
        values["aws"]["region"] = json!("us-east-1");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let mut command = isolated(Path::new(BINARY));
        serve(&mut command, Ipv4Addr::LOCALHOST.into())
            .arg("--kubeconfig")
            .arg(file("kubeconfig", KUBECONFIG))
            .envs(environment(&values))
            .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/targetgate")
            .env("AWS_WEB_IDENTITY_TOKEN_FILE", file("token", "token"));
        // The process gets no requests, so this call is all that a test waits for.
        let process = Process::spawn(&mut command, &folder.path().join("log")).unwrap();
        Self {
            proxy,
            folder,
            process,
        }
    }

    /// The connection on which the proxy is asked for this host.
    async fn asked_for(&self, host: &str) -> TcpStream {
        let expected = format!("CONNECT {host}");
        within("the proxy is asked", async {
            let (mut connection, _) = self.proxy.accept().await.unwrap();
            let mut first = vec![0; expected.len()];
            connection.read_exact(&mut first).await.unwrap();
            assert_eq!(String::from_utf8(first).unwrap(), expected);
            connection
        })
        .await
    }
}

#[rstest]
#[case(json!({}), "sts.us-east-1.amazonaws.com:443")]
#[case(json!({ "useFipsEndpoint": true }), "sts-fips.us-east-1.amazonaws.com:443")]
#[case(json!({ "useDualstackEndpoint": true }), "sts.us-east-1.api.aws:443")]
#[tokio::test]
async fn aws_is_called_through_the_proxy_at_the_endpoint_that_was_chosen(
    #[case] aws: Value,
    #[case] endpoint: &str,
) {
    let values = json!({ "aws": aws });
    let proxied = Proxied::started(values, tempfile::tempdir().unwrap()).await;
    proxied.asked_for(endpoint).await;
}

/// Reads the rest of a request's head, and answers that the connection is made.
async fn connected(connection: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.unwrap());
    }
    let answer = b"HTTP/1.1 200 Connection established\r\n\r\n";
    connection.write_all(answer).await.unwrap();
}

/// TLS with the certificate in this folder.
fn tls(folder: &Path) -> TlsAcceptor {
    let leaf = CertificateDer::from_pem_file(folder.join("tls.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("tls.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key);
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

#[tokio::test]
async fn a_proxy_that_decrypts_is_trusted_by_a_ca_of_ones_own() {
    const STS: &str = "sts.us-east-1.amazonaws.com";
    let folder = tempfile::tempdir().unwrap();
    let dev = ["certs", "dev", "--san", STS, "--out"];
    let made = Command::new(BINARY).args(dev).arg(folder.path()).output();
    assert!(made.unwrap().status.success());
    let page = section("docs/installing.md", "## A proxy's CA");
    let mut values: Value = serde_saphyr::from_str(&blocks(&page, "yaml")[0]).unwrap();
    // The container finds the file where the volume is mounted.
    assert_eq!(values["extraVolumeMounts"][0]["mountPath"], "/proxy-ca");
    let file = values["env"][0]["value"].as_str().unwrap();
    assert_eq!(file, "/proxy-ca/ca.crt");
    values["env"][0]["value"] = json!(folder.path().join("ca.crt"));

    let proxied = Proxied::started(values, folder).await;
    let mut connection = proxied.asked_for(&format!("{STS}:443")).await;
    let asked = within("AWS is asked over TLS", async {
        connected(&mut connection).await;
        let accepted = tls(proxied.folder.path()).accept(connection).await;
        let mut first = [0; 4];
        accepted.unwrap().read_exact(&mut first).await.unwrap();
        first
    })
    .await;
    assert_eq!(&asked, b"POST");
}
