//! Failures of a controller's work, told once and then counted (contract 5.10).

use std::time::Instant;

use targetgate_core::failure_log::FailureLog;
use tracing::warn;

/// Notes how work about `key` ended. Returns the error if it is to be told.
pub(super) fn news<'e, K: Ord + Clone, E: ?Sized>(
    log: &mut FailureLog<K>,
    key: &K,
    error: Option<&'e E>,
    code: impl Fn(&'e E) -> &'e str,
    now: Instant,
) -> Option<&'e E> {
    let Some(error) = error else {
        log.worked(key);
        return None;
    };
    log.failed(key.clone(), code(error), now).then_some(error)
}

/// Tells the counts of a log that are due. Returns when more will be.
pub(super) fn count<K: Ord>(log: &mut FailureLog<K>, work: &str, now: Instant) -> Option<Instant> {
    for count in log.counts(now) {
        let (code, failures, of) = (count.code, count.failures, count.of);
        warn!(
            work,
            code, failures, of, "more failures that were not told one by one"
        );
    }
    log.wake()
}
