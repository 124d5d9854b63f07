//! ELB for a run: its API on a socket, and load balancers that carry traffic.

use std::future::pending;
use std::net::SocketAddr;

use aws_sdk_elasticloadbalancingv2 as elbv2;

use super::{Parts, listen};
use crate::elb::{self, Elb, LoadBalancerKind};

/// An account of ELB.
#[derive(Clone)]
pub struct Aws {
    /// The model itself, past the API.
    pub elb: Elb,
    /// Of its API, over the wire.
    pub client: elbv2::Client,
    /// Of its API, for processes.
    pub endpoint: String,
}

impl Aws {
    /// Starts it, with nothing in the account.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub async fn start(parts: &mut Parts) -> anyhow::Result<Self> {
        Self::start_with(parts, elb::Options::default()).await
    }

    /// The same, with times, checks and a seed of its own.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub async fn start_with(parts: &mut Parts, options: elb::Options) -> anyhow::Result<Self> {
        let elb = Elb::new(options);
        parts.spawn(elb.run());
        let (listener, address) = listen().await?;
        parts.spawn(elb.clone().serve(listener, pending()));
        let endpoint = format!("http://{address}");
        Ok(Self {
            client: client(&endpoint),
            elb,
            endpoint,
        })
    }

    /// Makes a load balancer that sends to these groups by weight. Returns its ARN and its listener.
    ///
    /// # Errors
    ///
    /// When a group does not exist, or it cannot listen.
    pub async fn balance(
        &self,
        parts: &mut Parts,
        name: &str,
        kind: LoadBalancerKind,
        groups: &[(&str, u32)],
    ) -> anyhow::Result<(String, SocketAddr)> {
        let balancer = self.elb.create_load_balancer(name, kind, &[]);
        self.elb.add_listener(&balancer, groups)?;
        let (listener, address) = listen().await?;
        let balance = self
            .elb
            .clone()
            .balance(balancer.clone(), listener, pending());
        parts.try_spawn(async { Ok(balance.await?) });
        Ok((balancer, address))
    }
}

fn client(endpoint: &str) -> elbv2::Client {
    let config = elbv2::Config::builder()
        .behavior_version(elbv2::config::BehaviorVersion::latest())
        .region(elbv2::config::Region::new(elb::Options::default().region))
        .credentials_provider(elbv2::config::Credentials::new(
            "sandbox", "sandbox", None, None, "sandbox",
        ))
        .endpoint_url(endpoint)
        .build();
    elbv2::Client::from_conf(config)
}
