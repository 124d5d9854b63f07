//! ELB for a run: its API on a socket, and load balancers that forward traffic.

use std::future::pending;
use std::net::SocketAddr;

use aws_sdk_elasticloadbalancingv2 as elbv2;

use super::{Parts, listen};
use crate::elb::{self, Elb, LoadBalancerKind};

#[derive(Clone)]
pub struct Aws {
    /// The model itself, for access without the API.
    pub elb: Elb,
    /// A client of its API over the wire.
    pub client: elbv2::Client,
    /// The URL of its API, for other processes.
    pub endpoint: String,
}

impl Aws {
    /// Starts an empty account with the default options.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub async fn start(parts: &mut Parts) -> anyhow::Result<Self> {
        Self::start_with(parts, elb::Options::default()).await
    }

    /// Starts an empty account with delays, checks and a seed of the caller's.
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

    /// The variables by which a shell's programs call its API.
    pub fn variables(&self) -> String {
        let region = elb::Options::default().region;
        format!(
            "AWS_REGION={region} AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2={} \
             AWS_ACCESS_KEY_ID=sandbox AWS_SECRET_ACCESS_KEY=sandbox",
            self.endpoint
        )
    }

    /// Creates a load balancer that forwards to these groups by weight. Returns its ARN and the
    /// address of its listener.
    ///
    /// # Errors
    ///
    /// When a group does not exist, or the load balancer cannot listen.
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
