//! A model of Elastic Load Balancing v2: its states, its Query API, and its data plane.
//!
//! - `model` is pure: registrations, listeners, health checks and deadlines go in, target states
//!   come out.
//! - [`check`] makes the health checks, over sockets or from a script.
//! - [`wire`] speaks the Query protocol, in process ([`Elb::service`], [`Elb::http_client`]) or on
//!   a socket ([`Elb::serve`]). Signatures are not checked.
//! - `balance` forwards traffic ([`Elb::balance`]): requests as an Application Load Balancer,
//!   connections as a Network Load Balancer.
//! - [`faults`] make the API slow, throttled, failing or stale.
//!
//! With a [`check::ScriptedProbe`] and without the sockets everything works while tokio's time is
//! paused, as in a simulation.

mod balance;
pub mod check;
mod control;
pub mod delays;
pub mod faults;
pub mod group;
pub mod health;
pub mod limits;
pub mod log;
mod model;
mod sdk;
pub(crate) mod serve;
pub mod wire;

use std::fmt;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::SharedHttpClient;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::check::{HttpProbe, Probe};
pub use self::delays::Delays;
use self::faults::Faults;
pub use self::group::{HealthCheck, LoadBalancerKind, TargetGroupSpec};
pub use self::health::{Health, State};
pub use self::limits::{Quotas, Subnet};
use self::log::{Bounded, Call, CallOutcome, Traffic, Transition};
use self::model::{Change, Model};
use crate::clock::{self, Now};
use crate::signal::Signal;

#[derive(Clone)]
pub struct Options {
    /// The wall clock of the logs. Timers follow tokio's clock.
    pub now: Now,
    /// The probe that makes the health checks.
    pub probe: Arc<dyn Probe>,
    /// The delays of groups that have none of their own.
    pub delays: Delays,
    /// The AWS Region in ARNs.
    pub region: String,
    /// The AWS account in ARNs, 12 digits.
    pub account: String,
    /// The seed of identifiers, of the times of first health checks, and of weighted choices.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            now: clock::system(),
            probe: Arc::new(HttpProbe),
            delays: Delays::alb(),
            region: "eu-west-1".to_owned(),
            account: "123456789012".to_owned(),
            seed: 1,
        }
    }
}

/// One account's load balancers in one Region. Clones share their state.
#[derive(Clone)]
pub struct Elb {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    state: Mutex<Records>,
    faults: Faults,
    /// Counts changes of targets, groups and listeners.
    model_changed: Signal,
    /// Counts changes of the model, API calls, their answers, and traffic.
    anything_changed: Signal,
}

#[derive(Default)]
struct Records {
    model: Model,
    transitions: Bounded<Transition>,
    calls: Bounded<Call>,
    traffic: Traffic,
}

/// The error for a target group or load balancer that does not exist.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no {kind} with the ARN '{arn}' here; create it first")]
pub struct NotFound {
    kind: &'static str,
    arn: String,
}

impl Elb {
    /// An empty account. Its targets are checked only while [`Elb::run`] is polled.
    pub fn new(options: Options) -> Self {
        let records = Records {
            model: Model::new(options.seed),
            ..Records::default()
        };
        Self {
            inner: Arc::new(Inner {
                options,
                state: Mutex::new(records),
                faults: Faults::default(),
                model_changed: Signal::default(),
                anything_changed: Signal::default(),
            }),
        }
    }

    /// Makes health checks and advances the model to its deadlines, until it is dropped.
    ///
    /// Without it, a reader of the model still sees targets registered and drained in time, but no
    /// target is ever checked.
    pub fn run(&self) -> impl Future<Output = ()> + Send + 'static {
        check::drive(self.clone())
    }

    pub fn service(&self) -> wire::QueryApi {
        wire::QueryApi::new(self.clone())
    }

    /// An HTTP client for the AWS SDK that calls [`Elb::service`] in process, whatever the endpoint
    /// URL.
    pub fn http_client(&self) -> SharedHttpClient {
        sdk::http_client(self.service())
    }

    /// The faults of the API.
    pub fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// The changes of targets' states in order, at most the last [`log::LOG_LENGTH`].
    pub fn log(&self) -> Vec<Transition> {
        self.with_model(|_, _| ());
        self.inner.state.lock().transitions.to_vec()
    }

    /// The calls of the API in order of arrival, at most the last [`log::LOG_LENGTH`].
    pub fn calls(&self) -> Vec<Call> {
        self.inner.state.lock().calls.to_vec()
    }

    /// The outcomes of the data plane's requests and connections so far.
    pub fn traffic(&self) -> Traffic {
        self.inner.state.lock().traffic
    }

    /// Waits until `so` returns true. It is evaluated again whenever a target's state changes, a
    /// call arrives or is answered, or the data plane counts a request.
    pub async fn until(&self, so: impl Fn(&Self) -> bool) {
        let mut changes = self.inner.anything_changed.listen();
        while !so(self) {
            changes.changed().await;
        }
    }

    fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Advances the model to now, reads or changes it, and logs what changed.
    fn with_model<T>(&self, act: impl FnOnce(&mut Model, Instant) -> T) -> T {
        let mut state = self.inner.state.lock();
        let now = Instant::now();
        state.model.advance(now);
        let result = act(&mut state.model, now);
        let changes = state.model.take_changes();
        if changes.is_empty() {
            return result;
        }
        let wall_clock = (self.options().now)();
        for change in changes {
            let ago = now.saturating_duration_since(change.at);
            state.transitions.push(transition(change, wall_clock - ago));
        }
        drop(state);
        self.model_has_changed();
        result
    }

    /// Wakes all listeners of the model. The loop of the health checks then plans anew.
    fn model_has_changed(&self) {
        self.inner.model_changed.raise();
        self.something_has_changed();
    }

    fn something_has_changed(&self) {
        self.inner.anything_changed.raise();
    }

    /// Logs a call that arrived. The guard logs its outcome.
    fn call_began(&self, action: &str, arns: Vec<String>) -> CallGuard {
        let call = Call {
            at: (self.options().now)(),
            action: action.to_owned(),
            arns,
            outcome: CallOutcome::Pending,
        };
        let number = self.inner.state.lock().calls.push(call);
        self.something_has_changed();
        CallGuard {
            elb: self.clone(),
            number,
            outcome: CallOutcome::Abandoned,
        }
    }
}

/// Logs a call's outcome when it is dropped, which also happens when the caller goes away.
struct CallGuard {
    elb: Elb,
    number: usize,
    outcome: CallOutcome,
}

impl CallGuard {
    fn finish(mut self, outcome: CallOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, CallOutcome::Pending);
        let mut state = self.elb.inner.state.lock();
        if let Some(call) = state.calls.entry_mut(self.number) {
            call.outcome = outcome;
        }
        drop(state);
        self.elb.something_has_changed();
    }
}

fn transition(change: Change, at: Timestamp) -> Transition {
    Transition {
        at,
        arn: change.arn,
        ip: change.target.ip(),
        port: change.target.port(),
        from: change.from.map(|health| health.state),
        reason: change
            .to
            .as_ref()
            .and_then(|health| health.reason.as_ref())
            .map(|reason| reason.to_string()),
        to: change.to.map(|health| health.state),
    }
}

impl fmt::Debug for Elb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = self.options();
        write!(f, "Elb({} in {})", options.account, options.region)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;
    use crate::elb::check::{CheckOutcome, ScriptedProbe};

    /// The log of the first minute of ten targets.
    async fn history(seed: u64) -> Vec<Transition> {
        let elb = Elb::new(Options {
            now: clock::simulated("2026-01-01T00:00:00Z".parse().unwrap()),
            probe: Arc::new(ScriptedProbe::new(CheckOutcome::Passed)),
            seed,
            ..Options::default()
        });
        let arn = elb.create_target_group(TargetGroupSpec::http("web"));
        let balancer = elb.create_load_balancer("lb", LoadBalancerKind::Application, &[]);
        elb.add_listener(&balancer, &[(&arn, 1)]).unwrap();
        for last in 1..=10 {
            elb.register(&arn, IpAddr::from([10, 0, 0, last]), 80)
                .unwrap();
        }
        let minute = tokio::time::timeout(Duration::from_secs(60), elb.run());
        minute.await.unwrap_err();
        elb.log()
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_seed_makes_the_same_history_and_another_makes_another() {
        let first = history(1).await;
        assert_eq!(first.len(), 30, "registered, known, healthy: {first:?}");
        assert_eq!(history(1).await, first);
        assert_ne!(history(2).await, first);
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_tells_when_a_thing_happened_not_when_it_was_seen() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let elb = Elb::new(Options {
            now: clock::simulated(start),
            ..Options::default()
        });
        let arn = elb.create_target_group(TargetGroupSpec::http("web"));
        let balancer = elb.create_load_balancer("lb", LoadBalancerKind::Application, &[]);
        elb.add_listener(&balancer, &[(&arn, 1)]).unwrap();
        let ip = IpAddr::from([10, 0, 0, 1]);
        elb.register(&arn, ip, 80).unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        let times: Vec<Timestamp> = elb.log().iter().map(|entry| entry.at).collect();
        assert_eq!(times, [start, start + Duration::from_secs(4)]);
    }
}
