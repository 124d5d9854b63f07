//! What was asked of the server, for tests to assert on.

use std::{
    collections::VecDeque,
    fmt::{self, Display},
};

use parking_lot::Mutex;

/// How many calls are kept; older ones go.
const KEPT: usize = 100_000;

/// What a request does, in the words of RBAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// One object.
    Get,
    /// A collection.
    List,
    /// A stream of changes.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// One object.
    Delete,
    /// All that match.
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
    /// What it does.
    pub verb: Verb,
    /// The plural, with the subresource: `pods/status`.
    pub resource: String,
    /// Empty for all of them, and for what has none.
    pub namespace: String,
    /// Empty for a collection.
    pub name: String,
}

/// The log of calls, the newest last.
#[derive(Default)]
pub struct Calls(Mutex<VecDeque<Call>>);

impl Calls {
    /// Every call that is kept.
    pub fn all(&self) -> Vec<Call> {
        self.0.lock().iter().cloned().collect()
    }

    /// How many calls did this to this resource (with its subresource).
    pub fn count(&self, verb: Verb, resource: &str) -> usize {
        let calls = self.0.lock();
        calls
            .iter()
            .filter(|call| call.verb == verb && call.resource == resource)
            .count()
    }

    /// Starts anew.
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
