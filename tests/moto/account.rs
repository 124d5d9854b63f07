//! An account in moto: what a test creates in it beforehand, and the product's client for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::TokioSleep;
use form_urlencoded::Serializer;
use targetgate::aws::budget::Budget;
use targetgate::aws::client::{ElbClient, Timeouts};
use targetgate::metrics::Metrics;
use targetgate_sandbox::moto::Moto;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use targetgate_sandbox::harness::standalone::{rest, status};

pub(crate) const REGION: &str = "eu-west-1";
/// A generous timeout of a call. Chosen: each answer comes long before it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The range of a VPC.
const VPC_RANGE: &str = "10.0.0.0/16";

/// The moto that accepts unsigned calls, which tests share. It ends with this process.
pub(crate) async fn open() -> &'static Moto {
    static OPEN: OnceCell<Moto> = OnceCell::const_new();
    OPEN.get_or_init(started).await
}

/// A moto of the test's own.
pub(crate) async fn started() -> Moto {
    Moto::start()
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Makes moto require, after the next `unsigned` calls, that each call is signed by a key of its own and
/// allowed by the policies of the key's owner.
pub(crate) async fn demand_signatures(moto: &Moto, unsigned: u32) {
    let headers = "Content-Type: text/plain\r\n";
    post(
        moto.address(),
        "/moto-api/reset-auth",
        headers,
        &unsigned.to_string(),
    )
    .await;
}

/// An account in moto. It need not be created, because moto takes any twelve digits for an account.
pub(crate) struct Account<'a> {
    pub(crate) moto: &'a Moto,
    pub(crate) id: &'a str,
}

impl Account<'_> {
    /// Makes one unsigned call of a Query API. Returns the XML of the answer.
    async fn call(&self, service: &str, version: &str, parameters: &[(&str, &str)]) -> String {
        let body = Serializer::new(String::new())
            .append_pair("Version", version)
            .extend_pairs(parameters)
            .finish();
        let headers = format!("X-Moto-Account-Id: {}\r\n{}", self.id, unsigned(service));
        post(self.moto.address(), "/", &headers, &body).await
    }

    async fn iam(&self, parameters: &[(&str, &str)]) -> String {
        self.call("iam", "2010-05-08", parameters).await
    }

    /// Creates a group of `ip` targets in a VPC of its own. Returns its ARN.
    pub(crate) async fn target_group(&self, name: &str) -> String {
        let vpc_id = self.vpc().await;
        let parameters = [
            ("Action", "CreateTargetGroup"),
            ("Name", name),
            ("TargetType", "ip"),
            ("Protocol", "HTTP"),
            ("Port", "80"),
            ("VpcId", &vpc_id),
        ];
        let made = self.call("elasticloadbalancing", "2015-12-01", &parameters);
        element(&made.await, "TargetGroupArn")
    }

    /// Creates a VPC. Returns its id.
    pub(crate) async fn vpc(&self) -> String {
        let parameters = [("Action", "CreateVpc"), ("CidrBlock", VPC_RANGE)];
        let made = self.call("ec2", "2016-11-15", &parameters).await;
        element(&made, "vpcId")
    }

    /// Creates a load balancer of this type, in two zones of the VPC. Returns its ARN.
    pub(crate) async fn balancer(&self, name: &str, kind: &str, vpc_id: &str) -> String {
        let mut subnets = vec![];
        for (zone, block) in [("a", "10.0.1.0/24"), ("b", "10.0.2.0/24")] {
            let zone = format!("{REGION}{zone}");
            let parameters = [
                ("Action", "CreateSubnet"),
                ("VpcId", vpc_id),
                ("CidrBlock", block),
                ("AvailabilityZone", &zone),
            ];
            let made = self.call("ec2", "2016-11-15", &parameters).await;
            subnets.push(element(&made, "subnetId"));
        }
        let parameters = [
            ("Action", "CreateLoadBalancer"),
            ("Name", name),
            ("Type", kind),
            ("Subnets.member.1", &subnets[0]),
            ("Subnets.member.2", &subnets[1]),
        ];
        let made = self.call("elasticloadbalancing", "2015-12-01", &parameters);
        element(&made.await, "LoadBalancerArn")
    }

    /// Lets a load balancer's listener forward to a group.
    pub(crate) async fn listener(&self, balancer: &str, group: &str) {
        let parameters = [
            ("Action", "CreateListener"),
            ("LoadBalancerArn", balancer),
            ("Protocol", "HTTP"),
            ("Port", "80"),
            ("DefaultActions.member.1.Type", "forward"),
            ("DefaultActions.member.1.TargetGroupArn", group),
        ];
        let made = self.call("elasticloadbalancing", "2015-12-01", &parameters);
        element(&made.await, "ListenerArn");
    }

    /// Creates a user with this policy. Returns a key of the user.
    pub(crate) async fn user(&self, name: &str, policy: &str) -> Credentials {
        let user = ("UserName", name);
        self.iam(&[("Action", "CreateUser"), user]).await;
        let policy = [
            ("Action", "PutUserPolicy"),
            user,
            ("PolicyName", "its-own"),
            ("PolicyDocument", policy),
        ];
        self.iam(&policy).await;
        let made = self.iam(&[("Action", "CreateAccessKey"), user]).await;
        let key = element(&made, "AccessKeyId");
        Credentials::new(key, element(&made, "SecretAccessKey"), None, None, "moto")
    }

    /// Creates a role with these trust and permission policies. Returns its ARN.
    pub(crate) async fn role(&self, name: &str, trust: &str, policy: &str) -> String {
        let role = ("RoleName", name);
        let trust = ("AssumeRolePolicyDocument", trust);
        let made = self.iam(&[("Action", "CreateRole"), role, trust]).await;
        let policy = [
            ("Action", "PutRolePolicy"),
            role,
            ("PolicyName", "its-own"),
            ("PolicyDocument", policy),
        ];
        self.iam(&policy).await;
        element(&made, "Arn")
    }
}

/// The SDK's configuration for the AWS at this address.
pub(crate) fn config(address: SocketAddr, credentials: Credentials) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(format!("http://{address}"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .sleep_impl(TokioSleep::new())
        .build()
}

/// The product's client with these credentials.
pub(crate) fn client(address: SocketAddr, credentials: Credentials) -> ElbClient {
    let metrics = Arc::new(Metrics::default());
    let budget = Budget::new(10.0, 10.0, 40, &metrics);
    // Moto loads the code of an API at its first call, which takes time on a busy machine.
    let timeouts = Timeouts {
        connect: PATIENCE,
        target_health: PATIENCE,
        target_groups: PATIENCE,
        targets: PATIENCE,
    };
    ElbClient::new(config(address, credentials), timeouts, budget, &metrics)
}

/// The headers of an unsigned call of a Query API. Moto reads the service and the Region from the place of a
/// signature.
pub(crate) fn unsigned(service: &str) -> String {
    format!(
        "Content-Type: application/x-www-form-urlencoded\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=none/20260101/{REGION}/{service}/aws4_request, \
         SignedHeaders=host, Signature=none\r\n"
    )
}

/// The text of the first element of this name.
pub(crate) fn element(xml: &str, name: &str) -> String {
    let text = xml
        .split_once(&format!("<{name}>"))
        .and_then(|(_, rest)| rest.split_once('<'));
    let (text, _) = text.unwrap_or_else(|| panic!("no {name} in {xml}"));
    text.to_owned()
}

/// The body of the answer to a request that must succeed.
async fn post(address: SocketAddr, path: &str, headers: &str, body: &str) -> String {
    let answer = send(address, path, headers, body).await;
    assert_eq!(status(&answer), 200, "{answer}");
    answer
}

/// The complete answer to a POST.
pub(crate) async fn send(address: SocketAddr, path: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    rest(&mut stream).await
}
