//! The data plane: traffic from a loopback port to targets.
//!
//! Requests (ALB) or connections (NLB) go to the targets in service, round robin. Without a target
//! in service the load balancer fails open, as AWS documents it: it sends them to all registered
//! targets that it knows. A deregistered target still gets new traffic for
//! [`super::Delays::propagation_lag`], and may finish what it has begun by then.

mod application;
mod network;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use super::log::Cause;
use super::model::Pick;
use super::{Elb, LoadBalancerKind, NotFound};

/// The timeout of a connection to a target, as at AWS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The choice for the next request or connection.
#[derive(Clone, Debug)]
struct Route {
    arn: String,
    pick: Pick,
    idle_timeout: Duration,
}

impl Route {
    fn target(&self) -> SocketAddr {
        self.pick.target
    }
}

impl Elb {
    /// Forwards the traffic that arrives on this listener to the load balancer's targets until
    /// `shutdown`.
    ///
    /// An Application Load Balancer proxies HTTP/1.1. It answers 502, 503 or 504 itself when no
    /// target did, and names the cause in the header `x-sandbox-cause`: `refused`, `reset`,
    /// `no-target` or `timeout`. A Network Load Balancer forwards connections, and resets those
    /// that it cannot forward.
    ///
    /// # Errors
    ///
    /// When the load balancer does not exist.
    pub async fn balance(
        self,
        load_balancer: impl Into<String>,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), NotFound> {
        let load_balancer = load_balancer.into();
        match self.load_balancer_kind(&load_balancer)? {
            LoadBalancerKind::Application => {
                application::balance(self, load_balancer, listener, shutdown).await;
            }
            LoadBalancerKind::Network => {
                network::balance(self, load_balancer, listener, shutdown).await;
            }
        }
        Ok(())
    }

    fn route(&self, load_balancer: &str) -> Option<Route> {
        self.with_model(|model, now| {
            let (arn, pick) = model.pick(load_balancer, now)?;
            let idle_timeout = model.groups.get(&arn)?.delays.idle_timeout;
            Some(Route {
                arn,
                pick,
                idle_timeout,
            })
        })
    }

    fn keeps_connection(&self, route: &Route) -> bool {
        self.with_model(|model, _| model.keeps_connection(&route.arn, route.pick))
    }

    /// Counts a request or a connection, as lost for this cause or as answered.
    fn count(&self, cause: Option<Cause>) {
        self.inner.state.lock().traffic.count(cause);
        self.something_has_changed();
    }
}

#[cfg(test)]
mod tests;
