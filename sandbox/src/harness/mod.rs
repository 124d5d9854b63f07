//! What the demo and the tests of rollouts put together in the same way: a cluster, load balancers
//! with pods behind them, and targetgate as its own process.
//!
//! All of it takes one namespace of a cluster that may be others' as well: pods run only there and
//! only on nodes of the run's own, the hooks are asked about nothing else, and what the run makes
//! carries its mark ([`Claim`]).

mod aws;
mod claim;
mod cluster;
mod nodes;
pub mod observer;
mod openings;
mod product;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

pub use self::aws::Aws;
pub use self::claim::Claim;
pub use self::cluster::Cluster;
pub use self::nodes::Nodes;
pub use self::openings::Openings;
pub use self::product::{Product, Start};

/// The longest that anything here should take.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Servers and actors that run until this is dropped.
#[derive(Default)]
pub struct Parts(JoinSet<anyhow::Result<()>>);

impl Parts {
    /// Runs one that should not end.
    pub fn spawn(&mut self, part: impl Future<Output = ()> + Send + 'static) {
        self.try_spawn(async {
            part.await;
            Ok(())
        });
    }

    /// Runs one that should not end, and can fail.
    pub fn try_spawn(&mut self, part: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.0.spawn(part);
    }

    /// Waits for one that has ended, and says why.
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

/// A free port of loopback.
pub(crate) async fn listen() -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .context("cannot listen on a port of 127.0.0.1")?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Waits until `check` says so. `what` completes "waited in vain for …".
///
/// # Errors
///
/// When the check fails, or has not said so after a minute.
pub async fn until(
    what: &str,
    mut check: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !check()
        .await
        .with_context(|| format!("while waiting for {what}"))?
    {
        if Instant::now() > deadline {
            bail!("waited {} s in vain for {what}", PATIENCE.as_secs());
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}
