//! The log of requests, for tests to assert on.

use std::{
    collections::VecDeque,
    fmt::{self, Display},
};

use parking_lot::Mutex;

/// At most this many calls are kept; the oldest are dropped first. Chosen.
const KEPT: usize = 100_000;

/// What a request does, in RBAC's verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// GET of one object.
    Get,
    /// GET of a collection.
    List,
    /// GET of a stream of changes.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// DELETE of one object.
    Delete,
    /// DELETE of all objects that match.
    DeleteCollection,
}

impl Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        })
    }
}

/// One request for a resource that is served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    pub verb: Verb,
    /// The plural, with the subresource: `pods/status`.
    pub resource: String,
    /// The namespace; empty for a request about all namespaces, and for resources that have none.
    pub namespace: String,
    /// The name; empty for a collection.
    pub name: String,
}

/// The log of calls, the newest last.
#[derive(Default)]
pub struct Calls(Mutex<VecDeque<Call>>);

impl Calls {
    /// All calls that are kept.
    pub fn all(&self) -> Vec<Call> {
        self.0.lock().iter().cloned().collect()
    }

    /// The number of calls with this verb on this resource (with its subresource).
    pub fn count(&self, verb: Verb, resource: &str) -> usize {
        let calls = self.0.lock();
        calls
            .iter()
            .filter(|call| call.verb == verb && call.resource == resource)
            .count()
    }

    /// Removes all calls from the log.
    pub fn clear(&self) {
        self.0.lock().clear();
    }

    pub(super) fn record(&self, call: Call) {
        let mut calls = self.0.lock();
        if calls.len() == KEPT {
            calls.pop_front();
        }
        calls.push_back(call);
    }
}
