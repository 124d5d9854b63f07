//! AWS's side of the wire for tests: an HTTP client for the SDK that returns scripted answers, in the
//! XML of the ELBv2 API, without a socket.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_elasticloadbalancingv2::config::Credentials;
use aws_sdk_elasticloadbalancingv2::config::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use parking_lot::Mutex;
use targetgate_core::model::{HealthChecks, IpFamily, TargetGroup};
use tokio::time::Instant;

use crate::aws::budget::Budget;
use crate::aws::client::{ElbClient, Timeouts};
use crate::metrics::Metrics;
use targetgate_core::elb::query::{GroupQuery, GroupSelector};

/// One received request.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) at: Instant,
    pub(super) host: String,
    pub(super) authorization: String,
    pub(super) form: Vec<(String, String)>,
}

impl Asked {
    /// The values of `prefix.member.1`, `prefix.member.2`, …
    pub(super) fn members(&self, prefix: &str) -> Vec<&str> {
        let prefix = format!("{prefix}.member.");
        self.form
            .iter()
            .filter(|(name, _)| name.starts_with(&prefix))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The value of one field.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let found = self.form.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// How the fake replies to a request.
pub(super) enum Reply {
    /// Responds with this status and body.
    Say(u16, String),
    /// Responds after this delay.
    After(Duration, u16, String),
    Hang,
    Break,
}

type Script = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A script of replies, and the requests received so far.
#[derive(Clone)]
pub(super) struct Aws {
    script: Arc<Script>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aws")
    }
}

impl Aws {
    pub(super) fn new(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self {
            script: Arc::new(script),
            asked: Arc::default(),
        }
    }

    /// Replies to requests with these, one after the other, then hangs.
    pub(super) fn saying(replies: impl IntoIterator<Item = Reply>) -> Self {
        let replies = Mutex::new(replies.into_iter().collect::<VecDeque<_>>());
        Self::new(move |_| replies.lock().pop_front().unwrap_or(Reply::Hang))
    }

    /// The requests received so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    /// The SDK's configuration with this fake as its HTTP client.
    pub(super) fn config(&self) -> SdkConfig {
        let credentials = Credentials::new(ACCESS_KEY, SECRET, Some(TOKEN.into()), None, "test");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .sleep_impl(TokioSleep::new())
            .http_client(self.clone())
            .build()
    }

    /// A client of this fake with a budget that never delays a call.
    pub(super) fn client(&self) -> (ElbClient, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::default());
        let budget = Budget::new(1_000.0, 1_000.0, 1_000, &metrics);
        let client = ElbClient::new(self.config(), Timeouts::default(), budget, &metrics);
        (client, metrics)
    }
}

/// Credentials that must not appear in any text.
pub(super) const ACCESS_KEY: &str = "AKIDEXAMPLE";
pub(super) const SECRET: &str = "wJalrXUtnFEMI-not-a-secret";
pub(super) const TOKEN: &str = "session-token-of-a-test";

impl HttpClient for Aws {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Aws {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let host = request.uri().split('/').nth(2).unwrap_or("").to_owned();
        let body = request.body().bytes().unwrap_or_default();
        let form = form(std::str::from_utf8(body).unwrap_or(""));
        let at = Instant::now();
        let authorization = request.headers().get("authorization").unwrap_or("");
        let asked = Asked {
            at,
            host,
            authorization: authorization.to_owned(),
            form,
        };
        let reply = (self.script)(&asked);
        self.asked.lock().push(asked);
        HttpConnectorFuture::new(async move {
            let (status, body) = match reply {
                Reply::Say(status, body) => (status, body),
                Reply::After(wait, status, body) => {
                    tokio::time::sleep(wait).await;
                    (status, body)
                }
                Reply::Hang => std::future::pending().await,
                Reply::Break => return Err(ConnectorError::io("connection reset".into())),
            };
            let status = status.try_into().unwrap();
            Ok(HttpResponse::new(status, SdkBody::from(body)))
        })
    }
}

/// Reads `application/x-www-form-urlencoded`.
fn form(body: &str) -> Vec<(String, String)> {
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or("").as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(hex, 16).unwrap());
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).unwrap()
}

/// The ARN of the group of this number.
pub(super) fn arn(number: usize) -> String {
    format!(
        "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/group-{number}/{number:016x}"
    )
}

/// Asks for the group of this number by its ARN.
pub(super) fn by_arn(number: usize) -> GroupQuery {
    GroupQuery {
        selector: GroupSelector::Arn(arn(number).parse().unwrap()),
        role: None,
    }
}

/// Asks for the group of this number by its name.
pub(super) fn by_name(number: usize) -> GroupQuery {
    GroupQuery {
        selector: GroupSelector::Name(format!("group-{number}")),
        role: None,
    }
}

/// The group of this number in the types of the model.
pub(super) fn group(number: usize) -> TargetGroup {
    TargetGroup {
        arn: arn(number).parse().unwrap(),
        name: format!("group-{number}").into(),
        target_type: "ip".into(),
        family: IpFamily::V4,
        vpc_id: Some("vpc-0123456789abcdef0".into()),
        protocol: Some("HTTP".into()),
        health_checks: Some(HealthChecks {
            interval: Duration::from_secs(15),
            healthy_threshold: 3,
            unhealthy_threshold: 4,
        }),
    }
}

/// A response of `DescribeTargetGroups` with these groups.
pub(super) fn groups_xml(numbers: impl IntoIterator<Item = usize>) -> String {
    let members: String = numbers
        .into_iter()
        .map(|number| {
            format!(
                "<member><TargetGroupArn>{}</TargetGroupArn><TargetGroupName>group-{number}</TargetGroupName>\
                 <Protocol>HTTP</Protocol><Port>80</Port><VpcId>vpc-0123456789abcdef0</VpcId>\
                 <TargetType>ip</TargetType><IpAddressType>ipv4</IpAddressType>\
                 <HealthCheckIntervalSeconds>15</HealthCheckIntervalSeconds>\
                 <HealthyThresholdCount>3</HealthyThresholdCount>\
                 <UnhealthyThresholdCount>4</UnhealthyThresholdCount></member>",
                arn(number)
            )
        })
        .collect();
    wrapped(
        "DescribeTargetGroups",
        &format!("<TargetGroups>{members}</TargetGroups>"),
    )
}

/// A response of `DescribeTargetHealth` with these members' XML.
pub(super) fn health_xml(members: &[&str]) -> String {
    let members = members.concat();
    let descriptions = format!("<TargetHealthDescriptions>{members}</TargetHealthDescriptions>");
    wrapped("DescribeTargetHealth", &descriptions)
}

pub(super) fn wrapped(action: &str, result: &str) -> String {
    format!(
        "<{action}Response xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\">\
         <{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>00000000-0000-4000-8000-000000000000</RequestId></ResponseMetadata>\
         </{action}Response>"
    )
}

/// An error response in the API's XML.
pub(super) fn error_xml(status: u16, code: &str, message: &str) -> Reply {
    let body = format!(
        "<ErrorResponse xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\">\
         <Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
         <RequestId>00000000-0000-4000-8000-000000000000</RequestId></ErrorResponse>"
    );
    Reply::Say(status, body)
}
