//! The parts that the demo, the tests and the benches have in common: a cluster, load balancers
//! with pods behind them, and targetgate as its own process ([`process`] is the one runner of it).
//!
//! A run with [`Start`] takes one namespace of a cluster that others may use as well. Its pods run
//! only in that namespace and on nodes of the run's own, its hooks are called for no other
//! namespace, and the cluster-scoped objects that it creates carry its label ([`Claim`]).

mod aws;
mod balancer;
mod claim;
mod cluster;
mod creation;
pub mod detour;
pub mod ending;
pub mod many_groups;
mod nodes;
pub mod object;
pub mod observer;
mod opening;
mod openings;
pub mod process;
mod program;
mod setup;
pub mod site;
pub mod standalone;
mod start;
pub mod waiting;
pub mod workload;

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub use self::aws::Aws;
pub use self::balancer::Balancer;
pub use self::claim::Claim;
pub use self::cluster::Cluster;
pub use self::creation::Creation;
pub use self::nodes::Nodes;
pub use self::openings::Openings;
pub use self::process::Process;
pub use self::program::{OWN_CERTIFICATE, Program};
pub use self::setup::{Registrar, Setup};
pub use self::start::{Start, define_bindings};

/// Servers and actors that run until this is dropped.
#[derive(Default)]
pub struct Parts(JoinSet<anyhow::Result<()>>);

impl Parts {
    /// Runs a part that should not end.
    pub fn spawn(&mut self, part: impl Future<Output = ()> + Send + 'static) {
        self.try_spawn(async {
            part.await;
            Ok(())
        });
    }

    /// Runs a part that should not end, and can fail.
    pub fn try_spawn(&mut self, part: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.0.spawn(part);
    }

    /// Waits until a part has ended, and returns the reason as an error.
    pub async fn broken(&mut self) -> anyhow::Error {
        let error = match self.0.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => error.into(),
            Some(Ok(Ok(()))) | None => {
                return anyhow::anyhow!("a part of the sandbox has ended by itself");
            }
        };
        error.context("a part of the sandbox has failed")
    }
}

/// A listener on a free port of loopback.
pub(crate) async fn listen() -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .context("cannot listen on a port of 127.0.0.1")?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
