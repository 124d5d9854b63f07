//! Failure log: which failures are told, so that thousands of things that fail at once, and go on failing, cost
//! few lines of the log (contract 5.10).
//!
//! A line tells that something began to fail, or fails for another reason; then a count tells now and then how
//! many go on. Time is passed in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// At most this many lines tell at once that something began to fail. Chosen.
const LINES: u32 = 10;
/// After so long, there is room for one more such line. Chosen: two a minute tell of each kind of trouble.
const LINE_EVERY: Duration = Duration::from_secs(30);
/// Failures that were not told one by one are counted for this long. Chosen, equal to the five minutes of
/// contract 5.7.
const COUNT_EVERY: Duration = Duration::from_secs(300);
/// At most this many things are remembered as failing; those beyond are only counted. Chosen, more than there
/// are groups or gates that fail at a time.
const MOST: usize = 10_000;
/// Counts have at most this many codes; more are counted together. Chosen.
const MOST_CODES: usize = 10;
/// The code under which they are counted.
const OTHERS: &str = "others";
/// What did not fail for this long is forgotten. Chosen, longer than the pauses between two attempts.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// The failures of one kind of work, by what the work is about.
#[derive(Debug)]
pub struct FailureLog<K> {
    failing: BTreeMap<K, Failing>,
    lines: u32,
    /// When `lines` last grew.
    line_at: Option<Instant>,
    counts: BTreeMap<String, u64>,
    /// When the counts are told; `None` while nothing is counted.
    count_at: Option<Instant>,
}

/// What work about one thing fails with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// The last code.
    pub code: String,
    /// Since when it has not succeeded.
    pub since: Instant,
    last: Instant,
}

/// How often work failed with a code since the last count, the failures that were told left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    pub code: String,
    pub failures: u64,
    /// How many things fail with this code by now.
    pub of: usize,
}

impl<K> Default for FailureLog<K> {
    fn default() -> Self {
        Self {
            failing: BTreeMap::new(),
            lines: LINES,
            line_at: None,
            counts: BTreeMap::new(),
            count_at: None,
        }
    }
}

impl<K: Ord> FailureLog<K> {
    /// Notes that work about `key` failed with this code. Returns whether to tell it; otherwise it is counted.
    pub fn failed(&mut self, key: K, code: &str, now: Instant) -> bool {
        let begins = match self.failing.get_mut(&key) {
            Some(failing) => {
                failing.last = now;
                let other = failing.code != code;
                if other {
                    code.clone_into(&mut failing.code);
                }
                other
            }
            None => {
                if self.failing.len() < MOST {
                    let failing = Failing {
                        code: code.to_owned(),
                        since: now,
                        last: now,
                    };
                    self.failing.insert(key, failing);
                }
                true
            }
        };
        let told = begins && self.take_line(now);
        if !told {
            self.count(code, now);
        }
        told
    }

    /// Notes that work about `key` succeeded.
    pub fn worked(&mut self, key: &K) {
        self.failing.remove(key);
    }

    /// What work about `key` fails with, if that is remembered.
    pub fn failing(&self, key: &K) -> Option<&Failing> {
        self.failing.get(key)
    }

    /// When [`Self::counts`] has something to tell.
    pub fn wake(&self) -> Option<Instant> {
        self.count_at
    }

    /// The counts, if it is time to tell them.
    pub fn counts(&mut self, now: Instant) -> Vec<Count> {
        if self.count_at.is_none_or(|at| now < at) {
            return vec![];
        }
        self.count_at = None;
        self.failing
            .retain(|_, failing| now < failing.last + FORGOTTEN);
        let of = |code: &str| {
            let failing = self.failing.values();
            failing.filter(|failing| failing.code == code).count()
        };
        let counts = std::mem::take(&mut self.counts).into_iter();
        let counts = counts.map(|(code, failures)| Count {
            of: of(&code),
            code,
            failures,
        });
        counts.collect()
    }

    fn take_line(&mut self, now: Instant) -> bool {
        let since = *self.line_at.get_or_insert(now);
        let passed = now.saturating_duration_since(since).as_secs() / LINE_EVERY.as_secs();
        let grown = u32::try_from(passed).unwrap_or(LINES).min(LINES);
        if grown > 0 {
            self.lines = (self.lines + grown).min(LINES);
            self.line_at = Some(now);
        }
        let left = self.lines.checked_sub(1);
        self.lines = left.unwrap_or(0);
        left.is_some()
    }

    fn count(&mut self, code: &str, now: Instant) {
        let code = match self.counts.contains_key(code) || self.counts.len() < MOST_CODES {
            true => code,
            false => OTHERS,
        };
        *self.counts.entry(code.to_owned()).or_default() += 1;
        self.count_at.get_or_insert(now + COUNT_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::epoch;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn what_begins_to_fail_is_told_once_and_again_for_another_reason() {
        let now = epoch();
        let mut log = FailureLog::default();
        assert!(log.failed("web", "AccessDenied", now));
        assert!(!log.failed("web", "AccessDenied", now + S));
        assert!(log.failed("web", "Timeout", now + 2 * S));
        assert!(!log.failed("web", "Timeout", now + 3 * S));
        log.worked(&"web");
        assert!(log.failed("web", "Timeout", now + 4 * S));
    }

    #[test]
    fn what_goes_on_failing_is_counted_every_five_minutes() {
        let now = epoch();
        let mut log = FailureLog::default();
        for second in 0..10 {
            log.failed("web", "AccessDenied", now + second * S);
            log.failed("api", "Timeout", now + second * S);
        }
        log.worked(&"api");
        assert_eq!(log.wake(), Some(now + 301 * S));
        assert_eq!(log.counts(now + 300 * S), []);
        let count = |code: &str, failures, of| Count {
            code: code.into(),
            failures,
            of,
        };
        let counts = log.counts(now + 301 * S);
        assert_eq!(
            counts,
            [count("AccessDenied", 9, 1), count("Timeout", 9, 0)]
        );
        assert_eq!((log.wake(), log.counts(now + 900 * S)), (None, vec![]));
    }

    #[test]
    fn a_thousand_groups_that_are_denied_for_ten_minutes_cost_few_lines() {
        let mut now = epoch();
        let mut log = FailureLog::default();
        let mut lines = 0;
        for _ in 0..20 {
            for group in 0..1_000 {
                now += Duration::from_millis(30);
                lines += usize::from(log.failed(group, "AccessDenied", now));
                lines += log.counts(now).len();
            }
        }
        assert!((10..20).contains(&lines), "{lines}");
    }

    #[test]
    fn what_changes_its_code_all_the_time_costs_two_lines_a_minute() {
        let mut now = epoch();
        let mut log = FailureLog::default();
        let mut lines = 0;
        for second in 0..600 {
            now += S;
            lines += usize::from(log.failed("web", ["Timeout", "Other"][second % 2], now));
        }
        assert!((20..=30).contains(&lines), "{lines}");
    }

    #[test]
    fn what_fails_is_known_by_its_last_code_and_since_it_began_until_it_works() {
        let now = epoch();
        let mut log = FailureLog::default();
        log.failed("web", "Timeout", now);
        log.failed("web", "AccessDenied", now + S);
        let known = log
            .failing(&"web")
            .map(|failing| (&*failing.code, failing.since));
        assert_eq!(known, Some(("AccessDenied", now)));
        log.worked(&"web");
        assert_eq!(log.failing(&"web"), None);
    }

    #[test]
    fn codes_and_things_are_bounded() {
        let now = epoch();
        let mut log = FailureLog::default();
        for number in 0..MOST + 5 {
            log.failed(number, &format!("Code{number}"), now);
        }
        assert_eq!(log.failing.len(), MOST);
        let counts = log.counts(now + COUNT_EVERY);
        assert_eq!(counts.len(), MOST_CODES + 1);
        assert!(counts.iter().any(|count| count.code == OTHERS));
        log.failed(0, "Code0", now + FORGOTTEN);
        log.counts(now + FORGOTTEN + COUNT_EVERY);
        assert_eq!(log.failing.len(), 1);
    }
}
