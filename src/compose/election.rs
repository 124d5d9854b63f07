//! Standing for election for as long as the process runs.

use std::sync::Arc;

use anyhow::Context as _;
use futures::FutureExt as _;
use humantime::format_duration;
use kube::Client;
use targetgate_core::names::ObjectKey;
use tokio::sync::oneshot;
use tokio::task::{self, JoinError, JoinHandle};

use crate::args::Settings;
use crate::clock;
use crate::compose::{namespace, pod_name};
use crate::kubernetes::lease::{Candidate, Seat};
use crate::metrics::Metrics;
use crate::state::cache::Cache;
use crate::state::leadership::Leadership;

/// The Lease of all replicas of one namespace, as `deploy/base/rbac.yaml` names it.
const LEASE: &str = "targetgate";

/// The election, until it is started.
pub(super) struct Elected(Option<Candidate>);

impl Elected {
    pub(super) fn new(
        settings: &Settings,
        kube: &Client,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<(Self, Leadership)> {
        let timing = settings.lease_timing().with_context(|| {
            format!(
                "--lease-duration {}, --lease-renew-deadline {} and --lease-retry-period {} do not \
                 go together",
                format_duration(settings.lease_duration),
                format_duration(settings.lease_renew_deadline),
                format_duration(settings.lease_retry_period),
            )
        })?;
        let Some(timing) = timing else {
            metrics.leader(true);
            return Ok((Self(None), Leadership::alone()));
        };
        let pod = pod_name(settings).unwrap_or_else(|| "targetgate".to_owned());
        let seat = Seat {
            lease: ObjectKey::new(namespace(settings, kube), LEASE),
            // A container that is started anew in its pod is another candidate.
            identity: format!("{pod}_{:08x}", fastrand::u32(..)),
            timing,
        };
        let now = clock::system();
        let (candidate, leadership) = Candidate::new(kube, seat, metrics.clone(), now);
        Ok((Self(Some(candidate)), leadership))
    }

    pub(super) fn start(self, cache: Arc<Cache>) -> Election {
        let (stop, stopped) = oneshot::channel();
        let running = match self.0 {
            Some(candidate) => task::spawn(stand(candidate, cache, stopped)),
            None => task::spawn(stopped.map(drop)),
        };
        Election { stop, running }
    }
}

/// Stands for election from a warm cache only: a replica that knows nothing yet should not take the
/// lead from one that does.
async fn stand(candidate: Candidate, cache: Arc<Cache>, stopped: oneshot::Receiver<()>) {
    let mut stopped = stopped.map(drop);
    tokio::select! {
        biased;
        () = cache.warm() => candidate.run(stopped).await,
        () = &mut stopped => {}
    }
}

/// The running election.
pub(super) struct Election {
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Election {
    pub(super) async fn ended(&mut self) -> Result<(), JoinError> {
        (&mut self.running).await
    }

    /// Gives the Lease back.
    pub(super) async fn stop(self) {
        // It may have ended already.
        let _ = self.stop.send(());
        let _ = self.running.await;
    }
}
