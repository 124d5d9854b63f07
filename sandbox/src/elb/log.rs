//! What ELB itself noted: target states, API calls, and the traffic of the data plane.

use std::collections::VecDeque;
use std::net::IpAddr;

use jiff::Timestamp;

use super::health::State;

/// Entries that a log keeps; the oldest go first.
pub const LOG_LENGTH: usize = 100_000;

/// A target whose state, or the reason for it, is another than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// When it happened, by the clock of the [`super::Options`].
    pub at: Timestamp,
    /// The target group.
    pub arn: String,
    /// The target's address.
    pub ip: IpAddr,
    /// The target's port.
    pub port: u16,
    /// The state before; none when it was not registered.
    pub from: Option<State>,
    /// The state from then on; none when it is no longer registered.
    pub to: Option<State>,
    /// The reason code of the new state.
    pub reason: Option<String>,
}

/// One call of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// When it came in, by the clock of the [`super::Options`].
    pub at: Timestamp,
    /// The action, as the caller named it; empty when there was none.
    pub action: String,
    /// The target groups that it names, by ARN.
    pub arns: Vec<String>,
    /// What became of it.
    pub outcome: CallOutcome,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// Not answered yet.
    Pending,
    /// Answered with 200.
    Ok,
    /// Answered with this error code, such as `Throttling`.
    Error(String),
    /// The caller went away before there was an answer.
    Abandoned,
}

/// What became of the requests or connections that the data plane took in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// A target answered, whatever its status; or took the connection.
    pub answered: u64,
    /// No registered target: 503, or a reset connection.
    pub no_target: u64,
    /// The target refused the connection: 502.
    pub refused: u64,
    /// The target broke off before its answer was whole, or spoke no HTTP: 502 or a cut answer.
    pub reset: u64,
    /// The target did not answer in time: 504.
    pub timeout: u64,
}

impl Traffic {
    /// All that were not answered.
    pub fn lost(&self) -> u64 {
        self.no_target + self.refused + self.reset + self.timeout
    }

    /// Counts one.
    pub(super) fn count(&mut self, cause: Option<Cause>) {
        *match cause {
            None => &mut self.answered,
            Some(Cause::NoTarget) => &mut self.no_target,
            Some(Cause::Refused) => &mut self.refused,
            Some(Cause::Reset) => &mut self.reset,
            Some(Cause::Timeout) => &mut self.timeout,
        } += 1;
    }
}

/// Why the data plane lost a request or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No registered target.
    NoTarget,
    /// The target refused the connection.
    Refused,
    /// The target broke off, or spoke no HTTP.
    Reset,
    /// The target did not answer in time.
    Timeout,
}

impl Cause {
    /// The word in the header `x-sandbox-cause`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoTarget => "no-target",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
        }
    }
}

/// A log that forgets its oldest entries. Entries have numbers that do not change.
#[derive(Debug)]
pub(super) struct Bounded<T> {
    entries: VecDeque<T>,
    forgotten: usize,
}

impl<T> Bounded<T> {
    /// Adds an entry and returns its number.
    pub(super) fn push(&mut self, entry: T) -> usize {
        if self.entries.len() == LOG_LENGTH {
            self.entries.pop_front();
            self.forgotten += 1;
        }
        self.entries.push_back(entry);
        self.forgotten + self.entries.len() - 1
    }

    /// The entry with this number, if it is still kept.
    pub(super) fn entry_mut(&mut self, number: usize) -> Option<&mut T> {
        self.entries.get_mut(number.checked_sub(self.forgotten)?)
    }
}

impl<T: Clone> Bounded<T> {
    pub(super) fn to_vec(&self) -> Vec<T> {
        self.entries.iter().cloned().collect()
    }
}

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            forgotten: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_forgets_its_oldest_entry_and_keeps_the_numbers() {
        let mut log = Bounded::default();
        let first = log.push(0);
        let second = log.push(1);
        (2..=LOG_LENGTH).for_each(|entry| {
            log.push(entry);
        });
        assert_eq!(log.entry_mut(first), None);
        assert_eq!(log.entry_mut(second), Some(&mut 1));
        assert_eq!(log.to_vec().len(), LOG_LENGTH);
    }
}
