//! `--tls files`: compares the served certificate with the bundles, which another program writes.
//!
//! An injector of bundles that is away leaves them empty or old. Then no review arrives here, and nothing else would
//! tell: pods are created without gates, and bindings are refused. `/readyz` passes: it would not help to be unready.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{join, join_all};
use kube::Client;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::clock::Now;
use crate::controllers::certificates::configurations::{Hooks, Kind};
use crate::controllers::certificates::watch_one::wake;
use crate::kubernetes::events::Events;
use crate::kubernetes::{CALL_TIMEOUT, why};
use crate::serve::certificates::Certificates;

/// Longest pause between two comparisons: a reloaded certificate is compared by then. Chosen.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Pause before a configuration that cannot be read is read again. Chosen: most likely the right is missing.
const TRY_AGAIN: Duration = Duration::from_secs(300);
/// Pause after a change, in which the injector writes the other bundles. Chosen.
const SETTLES: Duration = Duration::from_millis(500);

/// Compares the served certificate with the bundles of webhook configurations. Needs the verbs `get` and `watch` on
/// each by name, and without them says that it does not know.
pub struct TrustCheck {
    pub kube: Client,
    pub configurations: Vec<(Kind, String)>,
    pub certificates: Arc<Certificates>,
    pub events: Arc<Events>,
    pub now: Now,
}

impl TrustCheck {
    /// Compares for ever.
    pub async fn run(self) {
        let configurations = self.configurations.iter();
        let mut hooks: Vec<Hooks> = configurations
            .map(|(kind, name)| Hooks::new(&self.kube, *kind, name))
            .collect();
        // Without the right to read them, a watch would fail every few seconds.
        let mut told = false;
        while let Err(why) = read(&mut hooks).await {
            if !told {
                info!("whether API servers trust the served certificate is not known: {why}");
            }
            told = true;
            sleep(TRY_AGAIN).await;
        }
        let changed = Notify::new();
        let watches = hooks.iter().zip(&self.configurations);
        let watches =
            watches.map(|(hooks, (_, name))| wake(hooks.api(), name.clone(), &changed).boxed());
        let watches = join_all(watches.collect::<Vec<_>>());
        join(watches, self.rounds(hooks, &changed)).await;
    }

    async fn rounds(&self, mut hooks: Vec<Hooks>, changed: &Notify) {
        let mut untrusting = vec![];
        loop {
            // What cannot be read stays as it was known.
            let _ = read(&mut hooks).await;
            let before = std::mem::replace(&mut untrusting, self.untrusting(&hooks));
            self.certificates.trusted(untrusting.is_empty(), false);
            let begun = hooks.iter().filter(|hooks| {
                let title = hooks.title();
                untrusting.contains(&title) && !before.contains(&title)
            });
            for hooks in begun {
                self.tell(hooks).await;
            }
            if !before.is_empty() && untrusting.is_empty() {
                info!("every caBundle verifies the served certificate again");
            }
            tokio::select! {
                () = changed.notified() => sleep(SETTLES).await,
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// The titles of the configurations of which a bundle does not verify what is served.
    fn untrusting(&self, hooks: &[Hooks]) -> Vec<String> {
        let Some(served) = self.certificates.served() else {
            return vec![];
        };
        let now = (self.now)();
        let untrusting = hooks.iter().filter(|hooks| !hooks.verify(&served, now));
        untrusting.map(Hooks::title).collect()
    }

    async fn tell(&self, hooks: &Hooks) {
        const NOTE: &str = "The API server does not trust targetgate: a caBundle does not verify the certificate that is \
            served. Pods are created without gates, and bindings may be refused. Does what writes the bundle (an \
            injector, or you) work, and is it the CA of --tls-cert?";
        warn!(object = hooks.title(), "{NOTE}");
        let events = &self.events;
        events
            .warn(
                &hooks.reference(),
                "CompareBundle",
                "CertificateUntrusted",
                NOTE,
            )
            .await;
    }
}

/// Reads all of them, as far as that works.
async fn read(hooks: &mut [Hooks]) -> Result<(), String> {
    let mut failure = Ok(());
    for hooks in hooks {
        let title = hooks.title();
        match timeout(CALL_TIMEOUT, hooks.read()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failure = Err(format!("cannot read {title}: {}", why(&error))),
            Err(_) => failure = Err(format!("cannot read {title}: no answer in time")),
        }
    }
    failure
}
