//! Answers of ELB: for any bytes, the SDK's parser and our conversion do not panic and do not accept an
//! incomplete answer, and errors stay short.

use std::sync::{Arc, Mutex};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_elasticloadbalancingv2::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use targetgate::aws::budget::Budget;
use targetgate::aws::client::{ElbClient, Timeouts};
use targetgate::aws::error::ElbError;
use targetgate::metrics::Metrics;
use targetgate_core::elb::query::GroupSelector;
use targetgate_core::names::GroupKey;
use tokio::runtime::{Builder, Runtime};

const REGION: &str = "eu-west-1";
const ARN: &str =
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef";
/// The most characters of a message and of a code, which go into logs, conditions and Events.
const MAX_MESSAGE: usize = 600;
const MAX_CODE: usize = 64;

thread_local! {
    static AWS: Aws = Aws::new();
}

/// Answers both of our calls with the bytes, as a success and as an error.
///
/// # Panics
///
/// If bytes that are not an answer are accepted, or if an error is too long.
pub fn holds(bytes: &[u8]) {
    AWS.with(|aws| {
        for status in [200, 400] {
            *aws.reply.0.lock().expect("its holder never panics") = (status, bytes.to_vec());
            let health = aws
                .runtime
                .block_on(aws.client.target_health(&aws.group, &[]));
            judge(
                health.map(drop),
                status,
                bytes,
                b"DescribeTargetHealthResponse",
            );
            let arns = [GroupSelector::Arn(aws.group.arn.clone())];
            let groups = aws.client.target_groups(None, None, &arns);
            let groups = aws.runtime.block_on(groups);
            judge(
                groups.map(drop),
                status,
                bytes,
                b"DescribeTargetGroupsResponse",
            );
        }
    });
}

/// `root` is the root element of the API's answer, with which a complete answer begins and ends.
fn judge(answer: Result<(), ElbError>, status: u16, bytes: &[u8], root: &[u8]) {
    let Err(error) = answer else {
        let named = bytes.windows(root.len()).any(|window| window == root);
        let whole = bytes.trim_ascii_end().ends_with(b"Response>");
        assert!(status == 200 && named && whole, "{status} is not an answer");
        return;
    };
    assert!(error.code().chars().count() <= MAX_CODE, "{}", error.code());
    assert!(error.message.chars().count() <= MAX_MESSAGE, "{error}");
    assert!(!error.to_string().contains('\n'), "{error:?}");
}

/// Our client, and the answer that it gets in place of AWS's.
struct Aws {
    runtime: Runtime,
    client: ElbClient,
    group: GroupKey,
    reply: Reply,
}

impl Aws {
    fn new() -> Self {
        let reply = Reply::default();
        let connector = SharedHttpConnector::new(reply.clone());
        let credentials = Credentials::new("fuzz", "fuzz", None, None, "fuzz");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .sleep_impl(TokioSleep::new())
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .build();
        let metrics = Arc::new(Metrics::default());
        let budget = Budget::new(1_000.0, 1_000.0, 1_000, &metrics);
        let runtime = Builder::new_current_thread().enable_time().build();
        Self {
            runtime: runtime.expect("it needs no socket and no thread"),
            client: ElbClient::new(config, Timeouts::default(), budget, &metrics),
            group: GroupKey {
                arn: ARN.parse().expect("it is one"),
                role: None,
            },
            reply,
        }
    }
}

/// The status and the body of each answer.
#[derive(Clone, Debug, Default)]
struct Reply(Arc<Mutex<(u16, Vec<u8>)>>);

impl HttpConnector for Reply {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let (status, body) = self.0.lock().expect("its holder never panics").clone();
        let status = status.try_into().expect("it is one of HTTP's");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(body))))
    }
}
