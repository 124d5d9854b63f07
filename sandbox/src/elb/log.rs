//! The log of the model: target states, API calls, and the traffic of the data plane.

use std::collections::VecDeque;
use std::net::IpAddr;

use jiff::Timestamp;

use super::health::State;

/// At most this many entries are kept in a log; the oldest are dropped first. Chosen.
pub const LOG_LENGTH: usize = 100_000;

/// A change of a target's state, or of the reason for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The time of the change, by the clock of the [`super::Options`].
    pub at: Timestamp,
    /// The ARN of the target group.
    pub arn: String,
    pub ip: IpAddr,
    pub port: u16,
    /// The former state; `None` if the target was not registered.
    pub from: Option<State>,
    /// The new state; `None` if the target is no longer registered.
    pub to: Option<State>,
    /// The reason code of the new state.
    pub reason: Option<String>,
}

/// One call of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The time at which the call arrived, by the clock of the [`super::Options`].
    pub at: Timestamp,
    /// The action, as the caller named it; empty if the caller named none.
    pub action: String,
    /// The target groups that the call names by ARN.
    pub arns: Vec<String>,
    pub outcome: CallOutcome,
}

/// The outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// The call has not been answered yet.
    Pending,
    /// The call was answered with 200.
    Ok,
    /// The call was answered with this error code, such as `Throttling`.
    Error(String),
    /// The caller went away before the answer.
    Abandoned,
}

/// The outcomes of the requests or connections that the data plane accepted, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// A target answered, whatever its status, or accepted the connection.
    pub answered: u64,
    /// No target was registered, which led to a 503 or a reset connection.
    pub no_target: u64,
    /// The target refused the connection, which led to a 502 or a reset connection.
    pub refused: u64,
    /// The target broke off its answer, or did not speak HTTP, which led to a 502 or a truncated
    /// answer.
    pub reset: u64,
    /// The target did not answer in time, which led to a 504.
    pub timeout: u64,
}

impl Traffic {
    /// The number of requests or connections that were not answered.
    pub fn lost(&self) -> u64 {
        self.no_target + self.refused + self.reset + self.timeout
    }

    /// Counts one request or connection; `None` means that it was answered.
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
    /// No target was registered.
    NoTarget,
    /// The target refused the connection.
    Refused,
    /// The target broke off its answer, or did not speak HTTP.
    Reset,
    /// The target did not answer in time.
    Timeout,
}

impl Cause {
    /// The value of the header `x-sandbox-cause`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoTarget => "no-target",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
        }
    }
}

/// A log that drops its oldest entries. The number of an entry does not change.
#[derive(Debug)]
pub(super) struct Bounded<T> {
    entries: VecDeque<T>,
    forgotten: usize,
}

impl<T> Bounded<T> {
    /// Appends an entry and returns its number.
    pub(super) fn push(&mut self, entry: T) -> usize {
        if self.entries.len() == LOG_LENGTH {
            self.entries.pop_front();
            self.forgotten += 1;
        }
        self.entries.push_back(entry);
        self.forgotten + self.entries.len() - 1
    }

    /// The entry with this number, unless it has been dropped.
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
