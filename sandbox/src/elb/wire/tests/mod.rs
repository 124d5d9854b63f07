//! Tests of the wire through the real SDK.

mod actions;
mod attributes;
mod faults;
mod protocol;
mod registration;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::Client;
use aws_sdk_elasticloadbalancingv2::config::retry::RetryConfig;
use aws_sdk_elasticloadbalancingv2::config::timeout::TimeoutConfig;
use aws_sdk_elasticloadbalancingv2::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_elasticloadbalancingv2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_elasticloadbalancingv2::types::{TargetDescription, TargetTypeEnum};
use rstest::rstest;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;
use crate::elb::check::{CheckOutcome, ScriptedProbe};
use crate::elb::faults::On;
use crate::elb::{Health, LoadBalancerKind, Options, TargetGroupSpec};

fn config() -> aws_sdk_elasticloadbalancingv2::config::Builder {
    Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
        .retry_config(RetryConfig::disabled())
}

fn client(elb: &Elb) -> Client {
    Client::from_conf(config().http_client(elb.http_client()).build())
}

fn simulated() -> Elb {
    Elb::new(Options {
        probe: Arc::new(ScriptedProbe::new(CheckOutcome::Passed)),
        ..Options::default()
    })
}

/// A group behind a load balancer.
fn attached(elb: &Elb, name: &str) -> String {
    let arn = elb.create_target_group(TargetGroupSpec::http(name));
    let balancer = elb.create_load_balancer(name, LoadBalancerKind::Application, &[]);
    elb.add_listener(&balancer, &[(&arn, 1)]).unwrap();
    arn
}

fn target(ip: &str, port: i32) -> TargetDescription {
    TargetDescription::builder().id(ip).port(port).build()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Option<&str> {
    error.code()
}

/// One line `ip:port state reason` for each target of a group.
async fn health(client: &Client, arn: &str) -> Vec<String> {
    let answer = client.describe_target_health().target_group_arn(arn);
    let answer = answer.send().await.unwrap();
    let lines = answer.target_health_descriptions().iter().map(|described| {
        let target = described.target().unwrap();
        let health = described.target_health().unwrap();
        format!(
            "{}:{} {} {}",
            target.id().unwrap(),
            target.port().unwrap(),
            health.state().unwrap(),
            health.reason().map_or("-", |reason| reason.as_str()),
        )
    });
    lines.collect()
}
