//! Credentials as users configure them: the binary runs as a process, with the environment that the cluster
//! gives to a pod. A new binding makes it call AWS, because it has to look up the target type.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;
use serde_json::{Value, json};
use targetgate_sandbox::api::{Api, Options};
use targetgate_sandbox::harness::process::isolated;
use targetgate_sandbox::harness::standalone::{CLOSE, Standalone, status};
use targetgate_sandbox::harness::waiting::until;
use tempfile::TempDir;

use crate::account::{Account, demand_signatures, started};
use crate::issuer::{Asked, Issuer, key_for};

const ROLE: &str = "arn:aws:iam::123456789012:role/web";
const HOOK: &str = "/mutate-elbv2-k8s-aws-v1beta1-targetgroupbinding";

/// A token as the kubelet projects it, rotated by a rename.
struct Token(TempDir);

impl Token {
    fn new(text: &str) -> Self {
        let token = Self(tempfile::tempdir().unwrap());
        token.rotate(text);
        token
    }

    fn rotate(&self, text: &str) {
        let new = self.0.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path()).unwrap();
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("token")
    }
}

/// The binary, in an environment without variables of this machine that could change what it does.
fn binary() -> Command {
    isolated(Path::new(env!("CARGO_BIN_EXE_targetgate")))
}

/// The binary with the environment that the webhook of EKS adds to pods for IRSA.
fn with_irsa(aws: &str, role: &str, token: &Path) -> Command {
    let mut binary = binary();
    binary
        .env("AWS_ENDPOINT_URL", aws)
        .env("AWS_ROLE_ARN", role)
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", token);
    binary
}

/// The binary with the environment of Pod Identity.
fn with_pod_identity(aws: &str, agent: &str, token: &Path) -> Command {
    let mut binary = binary();
    binary
        .env("AWS_ENDPOINT_URL", aws)
        .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent)
        .env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token);
    binary
}

/// Starts a process, and waits until it is ready and has logged whether it has credentials.
async fn ready(binary: Command, told: &str) -> (Standalone, Value) {
    let mut process = Standalone::started(binary, Api::new(Options::default())).await;
    let line = process.logs(told).await;
    process.becomes_ready().await;
    (process, line)
}

async fn with_credentials(binary: Command) -> Standalone {
    ready(binary, "AWS credentials found").await.0
}

/// The answer of the hook to a new binding of this group.
async fn bind(process: &Standalone, arn: &str) -> Value {
    let kind =
        json!({ "group": "elbv2.k8s.aws", "version": "v1beta1", "kind": "TargetGroupBinding" });
    let resource = json!({
        "group": "elbv2.k8s.aws", "version": "v1beta1", "resource": "targetgroupbindings",
    });
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": kind,
            "resource": resource,
            "operation": "CREATE",
            "namespace": "shop",
            "name": "web",
            "userInfo": {},
            "object": {
                "apiVersion": "elbv2.k8s.aws/v1beta1",
                "kind": "TargetGroupBinding",
                "metadata": { "namespace": "shop", "name": "web" },
                "spec": { "serviceRef": { "name": "web", "port": 80 }, "targetGroupARN": arn },
            },
        },
    });
    let body = review.to_string();
    let length = body.len();
    let request = format!(
        "POST {HOOK} HTTP/1.1\r\nHost: targetgate.shop.svc\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n{CLOSE}\r\n{body}"
    );
    let answer = process.answer(request.as_bytes()).await;
    assert_eq!(status(&answer), 200, "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let review: Value = serde_json::from_str(body).unwrap();
    review["response"].clone()
}

/// Creates a binding of a group, and checks that AWS told its type. On a busy machine the product's timeouts
/// may be too short, so it tries again, as a user would.
async fn binds(process: &Standalone, arn: &str) {
    let response = until("AWS answers in time", async || {
        let response = bind(process, arn).await;
        let message = response["status"]["message"].as_str().unwrap_or("");
        (!message.contains("Timeout")).then_some(response)
    })
    .await;
    assert_eq!(response["allowed"], true, "{response}");
    let patch = response["patch"].as_str().unwrap();
    let patch = String::from_utf8(STANDARD.decode(patch).unwrap()).unwrap();
    assert!(patch.contains("/spec/targetType"), "{patch}");
}

#[tokio::test]
async fn keys_of_the_environment_sign_the_calls() {
    let issuer = Issuer::new().await;
    let mut binary = binary();
    binary
        .env("AWS_ENDPOINT_URL", issuer.url())
        .env("AWS_ACCESS_KEY_ID", "AKIASTATIC")
        .env("AWS_SECRET_ACCESS_KEY", "secret");
    let process = with_credentials(binary).await;
    binds(&process, &issuer.target_group("web")).await;
    let key = "AKIASTATIC".to_owned();
    issuer.was_asked_last(&[Asked::Elb { key }]);
}

/// A `credential_process`, as IAM Roles Anywhere uses it outside of AWS.
#[tokio::test]
async fn a_process_that_a_profile_names_gives_credentials() {
    let issuer = Issuer::new().await;
    let files = tempfile::tempdir().unwrap();
    let (config, said) = (files.path().join("config"), files.path().join("said"));
    let credentials = json!({
        "Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "from-a-process",
    });
    std::fs::write(&said, credentials.to_string()).unwrap();
    let profile = format!(
        "[default]\ncredential_process = /bin/cat {}\n",
        said.display()
    );
    std::fs::write(&config, profile).unwrap();
    let mut binary = binary();
    binary
        .env("AWS_ENDPOINT_URL", issuer.url())
        .env("AWS_CONFIG_FILE", config);
    let process = with_credentials(binary).await;
    binds(&process, &issuer.target_group("web")).await;
    let key = "AKIAPROCESS".to_owned();
    issuer.was_asked_last(&[Asked::Elb { key }]);
}

#[tokio::test]
async fn a_web_identity_becomes_its_roles_credentials_also_after_the_token_has_rotated() {
    let issuer = Issuer::new().await;
    let token = Token::new("first");
    let process = with_credentials(with_irsa(&issuer.url(), ROLE, &token.path())).await;
    for text in ["first", "second"] {
        token.rotate(text);
        binds(&process, &issuer.target_group(text)).await;
        let (role, token, key) = (ROLE.to_owned(), text.to_owned(), key_for(text));
        issuer.was_asked_last(&[Asked::Sts { role, token }, Asked::Elb { key }]);
    }
}

#[tokio::test]
async fn pod_identity_gives_credentials_also_after_the_token_has_rotated() {
    let issuer = Issuer::new().await;
    let token = Token::new("first");
    let binary = with_pod_identity(&issuer.url(), &issuer.agent_url(), &token.path());
    let process = with_credentials(binary).await;
    for text in ["first", "second"] {
        token.rotate(text);
        binds(&process, &issuer.target_group(text)).await;
        let (token, key) = (text.to_owned(), key_for(text));
        issuer.was_asked_last(&[Asked::Agent { token }, Asked::Elb { key }]);
    }
}

#[tokio::test]
async fn moto_accepts_the_credentials_that_it_gave_for_a_web_identity() {
    let moto = started().await;
    let account = Account {
        moto: &moto,
        id: "123456789012",
    };
    let arn = account.target_group("web").await;
    let trust = json!({ "Version": "2012-10-17", "Statement": [] }).to_string();
    let shipped = include_str!("../../deploy/iam/policy.json");
    let role = account.role("web", &trust, shipped).await;
    let token = Token::new("first");
    // `AssumeRoleWithWebIdentity` is unsigned, in AWS as well: the process calls it at its start, and for the
    // ELB call.
    demand_signatures(&moto, 2).await;
    let url = format!("http://{}", moto.address());
    let process = with_credentials(with_irsa(&url, &role, &token.path())).await;
    binds(&process, &arn).await;
}

/// A reason why the process has no credentials.
#[derive(Clone, Copy)]
enum Trouble {
    NothingConfigured,
    NoWebIdentityToken,
    RoleRefused,
    NoPodIdentityToken,
    AgentRefuses,
}

#[rstest]
#[case(
    Trouble::NothingConfigured,
    "WebIdentityToken: ",
    "AWS_EC2_METADATA_DISABLED=true"
)]
#[case(
    Trouble::NoWebIdentityToken,
    "No such file",
    "AWS_WEB_IDENTITY_TOKEN_FILE=/nonexistent/token"
)]
#[case(
    Trouble::RoleRefused,
    "Not authorized to perform sts:AssumeRoleWithWebIdentity",
    ROLE
)]
#[case(
    Trouble::NoPodIdentityToken,
    "No such file",
    "TOKEN_FILE=/nonexistent/token"
)]
#[case(Trouble::AgentRefuses, "403", "/v1/credentials")]
#[tokio::test]
async fn without_credentials_the_log_and_the_denial_say_why_and_what_to_do(
    #[case] trouble: Trouble,
    #[case] why: &str,
    #[case] from: &str,
) {
    let issuer = Issuer::new().await;
    issuer.refuse();
    let token = Token::new("first");
    let (url, agent, gone) = (
        issuer.url(),
        issuer.agent_url(),
        Path::new("/nonexistent/token"),
    );
    let binary = match trouble {
        Trouble::NothingConfigured => binary(),
        Trouble::NoWebIdentityToken => with_irsa(&url, ROLE, gone),
        Trouble::RoleRefused => with_irsa(&url, ROLE, &token.path()),
        Trouble::NoPodIdentityToken => with_pod_identity(&url, &agent, gone),
        Trouble::AgentRefuses => with_pod_identity(&url, &agent, &token.path()),
    };
    let (process, line) = ready(binary, "no AWS credentials").await;
    assert_eq!(line["level"], "WARN");
    let said = line.to_string();
    for part in [why, from, "IRSA or EKS Pod Identity"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    let response = bind(&process, &issuer.target_group("web")).await;
    assert_eq!(response["allowed"], false, "{response}");
    let message = response["status"]["message"].as_str().unwrap();
    for part in ["NoCredentials", why, "IRSA or EKS Pod Identity"] {
        assert!(message.contains(part), "no {part:?} in {message}");
    }
    assert_eq!(process.admin("/livez").await.0, 200);
}

#[tokio::test]
async fn credentials_that_come_late_are_taken_without_a_restart() {
    let issuer = Issuer::new().await;
    let token = Token::new("first");
    std::fs::remove_file(token.path()).unwrap();
    let binary = with_irsa(&issuer.url(), ROLE, &token.path());
    let (process, _) = ready(binary, "no AWS credentials").await;
    token.rotate("late");
    binds(&process, &issuer.target_group("web")).await;
    let key = key_for("late");
    issuer.was_asked_last(&[Asked::Elb { key }]);
}
