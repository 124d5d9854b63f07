//! Faults on request: throttling, hangs, errors, slow answers, stale answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::model::Described;
use super::wire::ApiError;
use crate::signal::Signal;

/// The calls that a fault applies to. An absent part matches every call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct On {
    action: Option<String>,
    arn: Option<String>,
}

impl On {
    pub fn any() -> Self {
        Self::default()
    }

    /// Calls of one action, such as `DescribeTargetHealth`.
    pub fn action(action: impl Into<String>) -> Self {
        Self {
            action: Some(action.into()),
            arn: None,
        }
    }

    /// Calls that name this target group by ARN.
    pub fn arn(arn: impl Into<String>) -> Self {
        Self {
            action: None,
            arn: Some(arn.into()),
        }
    }

    /// The same calls, of this action only.
    #[must_use]
    pub fn and_action(mut self, action: impl Into<String>) -> Self {
        self.action = Some(action.into());
        self
    }

    fn matches(&self, action: &str, arns: &[String]) -> bool {
        self.action.as_deref().is_none_or(|wanted| wanted == action)
            && self.arn.as_ref().is_none_or(|wanted| arns.contains(wanted))
    }
}

/// The faults in force; see [`super::Elb::faults`].
#[derive(Debug, Default)]
pub struct Faults {
    state: Mutex<InForce>,
    /// Counts releases of hung calls.
    released: Signal,
}

#[derive(Debug, Default)]
struct InForce {
    bucket: Option<Bucket>,
    /// The bucket of RegisterTargets and DeregisterTargets, if they have one of their own.
    registration_bucket: Option<Bucket>,
    registration_lag: Duration,
    hangs: Vec<On>,
    failures: Vec<Failure>,
    delay: Duration,
    frozen: BTreeMap<String, BTreeMap<SocketAddr, Described>>,
}

#[derive(Debug)]
struct Failure {
    on: On,
    error: ApiError,
    /// The number of calls that will still fail; `None` means all, until
    /// [`Faults::clear_failures`].
    left: Option<u32>,
}

impl Faults {
    /// Answers `Throttling` to calls that exceed a token bucket of `rate` calls a second and
    /// `burst` calls at once. All callers of the account share the bucket.
    pub fn throttle(&self, rate: f64, burst: u32) {
        self.state.lock().bucket = Some(Bucket::full(rate, burst, Instant::now()));
    }

    /// The same for RegisterTargets and DeregisterTargets, which from now on share a bucket of their
    /// own, as they do at AWS.
    pub fn throttle_registration(&self, rate: f64, burst: u32) {
        let bucket = Bucket::full(rate, burst, Instant::now());
        self.state.lock().registration_bucket = Some(bucket);
    }

    /// Ends throttling.
    pub fn unthrottle(&self) {
        let mut state = self.state.lock();
        (state.bucket, state.registration_bucket) = (None, None);
    }

    /// From now on DescribeTargetHealth shows a registration only this long after it.
    pub fn show_registrations_after(&self, lag: Duration) {
        self.state.lock().registration_lag = lag;
    }

    pub(super) fn registration_lag(&self) -> Duration {
        self.state.lock().registration_lag
    }

    /// Gives matching calls no answer until [`Faults::release`].
    pub fn hang(&self, on: On) {
        self.state.lock().hangs.push(on);
    }

    /// Ends all hangs that were requested with an equal `on`; their waiting calls go on.
    pub fn release(&self, on: &On) {
        self.state.lock().hangs.retain(|hang| hang != on);
        self.released.raise();
    }

    /// Answers the next `times` matching calls with this error; `None` means all of them, until
    /// [`Faults::clear_failures`].
    pub fn fail(&self, on: On, code: &str, status: StatusCode, times: Option<u32>) {
        let error = ApiError::new(status, code, format!("{code}, on the sandbox's request"));
        let left = times;
        self.state.lock().failures.push(Failure { on, error, left });
    }

    /// Ends all failures that were requested.
    pub fn clear_failures(&self) {
        self.state.lock().failures.clear();
    }

    /// Delays every answer by at least this long.
    pub fn delay(&self, delay: Duration) {
        self.state.lock().delay = delay;
    }

    /// Ends the stale answers of a group; see [`super::Elb::freeze`].
    pub fn thaw(&self, arn: &str) {
        self.state.lock().frozen.remove(arn);
    }

    pub(super) fn freeze(&self, arn: &str, answer: BTreeMap<SocketAddr, Described>) {
        self.state.lock().frozen.insert(arn.to_owned(), answer);
    }

    pub(super) fn frozen(&self, arn: &str) -> Option<BTreeMap<SocketAddr, Described>> {
        self.state.lock().frozen.get(arn).cloned()
    }

    /// Applies the faults to a call before it is carried out, throttling first, as at AWS.
    pub(super) async fn apply(&self, action: &str, arns: &[String]) -> Result<(), ApiError> {
        let delay = {
            let mut state = self.state.lock();
            if let Some(bucket) = state.bucket_of(action)
                && !bucket.take(Instant::now())
            {
                return Err(ApiError::throttled());
            }
            state.delay
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.wait_while_hung(action, arns).await;
        self.state.lock().next_failure(action, arns)
    }

    async fn wait_while_hung(&self, action: &str, arns: &[String]) {
        let mut released = self.released.listen();
        let hung = || {
            let state = self.state.lock();
            state.hangs.iter().any(|on| on.matches(action, arns))
        };
        while hung() {
            released.changed().await;
        }
    }
}

impl InForce {
    fn bucket_of(&mut self, action: &str) -> Option<&mut Bucket> {
        match (action, &mut self.registration_bucket) {
            ("RegisterTargets" | "DeregisterTargets", Some(bucket)) => Some(bucket),
            _ => self.bucket.as_mut(),
        }
    }

    fn next_failure(&mut self, action: &str, arns: &[String]) -> Result<(), ApiError> {
        let matching = self
            .failures
            .iter_mut()
            .find(|failure| failure.left != Some(0) && failure.on.matches(action, arns));
        let Some(failure) = matching else {
            return Ok(());
        };
        failure.left = failure.left.map(|left| left - 1);
        Err(failure.error.clone())
    }
}

/// A token bucket on tokio's clock.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn full(rate: f64, burst: u32, at: Instant) -> Self {
        let burst = f64::from(burst);
        Self {
            rate,
            burst,
            tokens: burst,
            filled: at,
        }
    }

    fn take(&mut self, at: Instant) -> bool {
        let grown = self.rate * at.duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + grown).min(self.burst);
        self.filled = at;
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn the_bucket_grants_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::full(10.0, 4, start);
        let granted = |bucket: &mut Bucket, after: u64| {
            let at = start + Duration::from_millis(after);
            (0..100).filter(|_| bucket.take(at)).count()
        };
        assert_eq!(granted(&mut bucket, 0), 4);
        assert_eq!(granted(&mut bucket, 250), 2);
        assert_eq!(granted(&mut bucket, 10_000), 4);
    }

    #[test]
    fn a_failure_hits_matching_calls_as_often_as_asked() {
        let faults = Faults::default();
        let on = On::arn("a").and_action("DescribeTargetHealth");
        faults.fail(on, "AccessDenied", StatusCode::FORBIDDEN, Some(1));
        let call = |action: &str, arn: &str| {
            let arns = [arn.to_owned()];
            faults.state.lock().next_failure(action, &arns).is_err()
        };
        assert!(!call("RegisterTargets", "a"));
        assert!(!call("DescribeTargetHealth", "b"));
        assert!(call("DescribeTargetHealth", "a"));
        assert!(!call("DescribeTargetHealth", "a"));
    }

    #[rstest]
    #[case::any(On::any(), [true, true, true, true])]
    #[case::action(On::action("A"), [true, true, false, false])]
    #[case::arn(On::arn("x"), [true, false, true, false])]
    #[case::both(On::arn("x").and_action("A"), [true, false, false, false])]
    fn a_fault_matches_calls_by_action_and_group(#[case] on: On, #[case] expected: [bool; 4]) {
        let calls = [("A", "x"), ("A", "y"), ("B", "x"), ("B", "y")];
        let matched = calls.map(|(action, arn)| on.matches(action, &[arn.to_owned()]));
        assert_eq!(matched, expected);
    }
}
