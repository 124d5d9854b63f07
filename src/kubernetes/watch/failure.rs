//! Why a watch ends.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::kubernetes::why;

/// Why a watch ends, which decides how it is restarted.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum Failure {
    /// The CRD is absent, or not established yet.
    #[error("the API server does not serve it")]
    NotServed,
    /// The API server has compacted the history since our last event, or the continue token of our list.
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
    /// Classifies an error of a call with this verb.
    pub(super) fn of(verb: &'static str, error: &kube::Error) -> Self {
        let why = why(error);
        let kube::Error::Api(status) = error else {
            return Self::Refused { verb, why };
        };
        match status.code {
            // Any JSON object parses as an empty Status.
            0 => Self::Garbled { why },
            404 => Self::NotServed,
            410 => Self::Expired,
            403 => Self::Forbidden { verb, why },
            _ => Self::Refused { verb, why },
        }
    }

    /// The failure of a response to this verb that broke off.
    pub(super) fn broken(verb: &'static str, error: &io::Error) -> Self {
        let why = error.to_string();
        Self::Refused { verb, why }
    }

    /// The failure of a response that does not parse as JSON of its shape.
    pub(super) fn garbled(error: &serde_json::Error) -> Self {
        // The text of the error could quote the response.
        let why = format!("line {}, column {}", error.line(), error.column());
        Self::Garbled { why }
    }

    /// Whether the watch must list again, because the API server does not accept the last seen version any more.
    pub(super) fn lists_again(&self) -> bool {
        matches!(self, Self::NotServed | Self::Expired | Self::Garbled { .. })
    }
}
