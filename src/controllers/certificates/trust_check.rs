//! `--tls files`: compares the served certificate with the bundles, which another program writes.
//!
//! An injector of bundles that is away leaves them empty or old. Then no review arrives here, and nothing else would
//! tell: pods are created without gates, and bindings are refused. `/readyz` passes: it would not help to be unready.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{join, join_all};
use kube::Client;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::clock::Now;
use crate::controllers::certificates::TELL_AGAIN;
use crate::controllers::certificates::configurations::{Hooks, Kind};
use crate::controllers::certificates::reconcile::in_time;
use crate::controllers::certificates::watch_one::wake;
use crate::kubernetes::CALL_TIMEOUT;
use crate::kubernetes::events::Events;
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
        let mut told = Told::default();
        loop {
            // What cannot be read stays as it was known.
            let _ = read(&mut hooks).await;
            let untrusting = self.untrusting(&hooks);
            self.certificates.trusted(untrusting.is_empty(), false);
            let due = told.see(untrusting, Instant::now());
            let begun = hooks
                .iter()
                .filter(|hooks| due.begun.contains(&hooks.title()));
            for hooks in begun {
                self.tell(hooks).await;
            }
            if due.over {
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

/// The configurations of which it was told that a bundle does not verify what is served, by their titles. A bundle can
/// be changed to and fro each second, and is told of as rarely as repairs are.
#[derive(Default)]
struct Told {
    /// When each was told last.
    at: BTreeMap<String, Instant>,
    /// Those that did not verify all the time since.
    lasting: Vec<String>,
}

/// What is told of a comparison.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    /// The configurations that do not verify, of which that was not told yet.
    begun: Vec<String>,
    /// Whether all verify again, after it was told that one does not.
    over: bool,
}

impl Told {
    /// Takes in which configurations do not verify now.
    fn see(&mut self, untrusting: Vec<String>, now: Instant) -> Due {
        let before = mem::take(&mut self.lasting);
        let over = !before.is_empty() && untrusting.is_empty();
        let (lasting, begun): (Vec<_>, Vec<_>) = untrusting
            .into_iter()
            .partition(|title| before.contains(title));
        let lately = |title: &String| self.at.get(title).is_some_and(|at| now < *at + TELL_AGAIN);
        let begun: Vec<String> = begun.into_iter().filter(|title| !lately(title)).collect();
        self.at
            .extend(begun.iter().map(|title| (title.clone(), now)));
        self.lasting = lasting.into_iter().chain(begun.iter().cloned()).collect();
        Due { begun, over }
    }
}

/// Reads all of them, as far as that works.
async fn read(hooks: &mut [Hooks]) -> Result<(), String> {
    let mut failure = Ok(());
    for hooks in hooks {
        let title = hooks.title();
        if let Err(why) = in_time(timeout(CALL_TIMEOUT, hooks.read()).await) {
            failure = Err(format!("cannot read {title}: {why}"));
        }
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told when these do not verify, seconds after the first comparison.
    fn seen(
        told: &mut Told,
        begun: Instant,
        seconds: u64,
        untrusting: &[&str],
    ) -> (Vec<String>, bool) {
        let untrusting = untrusting.iter().map(ToString::to_string).collect();
        let due = told.see(untrusting, begun + Duration::from_secs(seconds));
        (due.begun, due.over)
    }

    #[test]
    fn a_bundle_that_does_not_verify_is_told_when_that_begins_and_when_it_is_over() {
        let (mut told, begun) = (Told::default(), Instant::now());
        let mut at = |seconds, untrusting: &[&str]| seen(&mut told, begun, seconds, untrusting);
        assert_eq!(at(0, &[]), (vec![], false));
        assert_eq!(at(1, &["mutating"]), (vec!["mutating".to_owned()], false));
        let both = ["mutating", "validating"];
        assert_eq!(at(2, &both), (vec!["validating".to_owned()], false));
        assert_eq!(at(3600, &both), (vec![], false));
        assert_eq!(at(3601, &["validating"]), (vec![], false));
        assert_eq!(at(3602, &[]), (vec![], true));
        assert_eq!(at(3603, &[]), (vec![], false));
    }

    #[test]
    fn a_bundle_that_goes_to_and_fro_is_told_once_in_ten_minutes_and_what_lasts_then() {
        let (mut told, begun) = (Told::default(), Instant::now());
        let mut at = |seconds, untrusting: &[&str]| seen(&mut told, begun, seconds, untrusting);
        let first = vec!["mutating".to_owned()];
        assert_eq!(at(0, &["mutating"]), (first.clone(), false));
        assert_eq!(at(1, &[]), (vec![], true));
        for second in 2..600 {
            let untrusting: &[&str] = if second % 2 == 0 { &["mutating"] } else { &[] };
            assert_eq!(at(second, untrusting), (vec![], false), "{second}");
        }
        assert_eq!(at(600, &["mutating"]), (first, false));
        assert_eq!(at(1800, &["mutating"]), (vec![], false));
    }
}
