//! Why a watch does not go on.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::kubernetes::why;

/// Why a watch does not go on, and what follows from it.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum Failure {
    /// The CRD is absent, or not established yet.
    #[error("the API server does not serve it")]
    NotServed,
    /// The API server no longer knows what changed since our last event, or where our list stood.
    #[error("its last seen version is too old for the API server (410 Gone): it is listed again")]
    Expired,
    #[error(
        "RBAC does not allow us to {verb} it ({why}): give our ServiceAccount the verbs list and watch"
    )]
    Forbidden { verb: &'static str, why: String },
    #[error("cannot {verb} it: {why}")]
    Refused { verb: &'static str, why: String },
    #[error("cannot {verb} it: no answer within {within:?}")]
    Timeout {
        verb: &'static str,
        within: Duration,
    },
    #[error("the API server sent what cannot be read ({why}): it is listed again")]
    Garbled { why: String },
    #[error("the watch ends as soon as it is started")]
    EndedAtOnce,
}

impl Failure {
    /// What an error in a call with this verb means.
    pub(super) fn of(verb: &'static str, error: &kube::Error) -> Self {
        let why = why(error);
        let kube::Error::Api(status) = error else {
            return Self::Refused { verb, why };
        };
        match status.code {
            // Any JSON object can be read as an empty Status.
            0 => Self::Garbled { why },
            404 => Self::NotServed,
            410 => Self::Expired,
            403 => Self::Forbidden { verb, why },
            _ => Self::Refused { verb, why },
        }
    }

    /// An answer to this verb broke off.
    pub(super) fn broken(verb: &'static str, error: &io::Error) -> Self {
        let why = error.to_string();
        Self::Refused { verb, why }
    }

    /// An answer that is no JSON of the shape that it should be.
    pub(super) fn garbled(error: &serde_json::Error) -> Self {
        // Its text could repeat what was read.
        let why = format!("line {}, column {}", error.line(), error.column());
        Self::Garbled { why }
    }

    /// Whether to go on from a new list, because the last seen version is of no use any more.
    pub(super) fn lists_again(&self) -> bool {
        matches!(self, Self::NotServed | Self::Expired | Self::Garbled { .. })
    }
}
