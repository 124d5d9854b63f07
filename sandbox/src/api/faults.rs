//! Faults of the API server that tests ask for.

use std::{collections::BTreeMap, time::Duration};

use super::{
    calls::{Call, Verb},
    status::Status,
};
use crate::signal::{Listener, Signal};
use parking_lot::Mutex;

/// How the server is unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    /// The server refuses connections: in process by an I/O error, on a socket by closing the
    /// connection.
    Refusing,
    /// The server answers every request with this code.
    Answering(u16),
}

/// Whether a request that fails is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The request is not carried out.
    Before,
    /// The request is carried out, but its caller gets an error, as after a timeout of a write that
    /// succeeded.
    After,
}

/// Which requests a fault applies to. A field that is `None` or empty matches all requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    pub verb: Option<Verb>,
    /// The resource with its subresource: `pods/status`.
    pub resource: String,
    pub name: String,
}

impl Match {
    /// Matches a verb on a resource.
    pub fn new(verb: Verb, resource: &str) -> Match {
        Match {
            verb: Some(verb),
            resource: resource.to_owned(),
            name: String::new(),
        }
    }

    fn hits(&self, call: &Call) -> bool {
        self.verb.is_none_or(|verb| verb == call.verb)
            && (self.resource.is_empty() || self.resource == call.resource)
            && (self.name.is_empty() || self.name == call.name)
    }
}

/// The faults in force.
#[derive(Default)]
pub struct Faults {
    switches: Mutex<Switches>,
    /// Counts how often all watches were closed.
    closed: Signal,
}

#[derive(Default)]
struct Switches {
    away: Option<Away>,
    failing: Vec<Failing>,
    delays: BTreeMap<String, Duration>,
}

struct Failing {
    times: usize,
    which: Match,
    status: Status,
    when: When,
}

impl Faults {
    /// Closes every open watch, as a restart of the server does.
    pub fn close_watches(&self) {
        self.closed.raise();
    }

    /// Makes the server unavailable, and closes open watches; `None` makes it available again.
    pub fn away(&self, away: Option<Away>) {
        self.switches.lock().away = away;
        if away.is_some() {
            self.close_watches();
        }
    }

    /// Fails the next `times` requests that match.
    pub fn fail(&self, times: usize, which: Match, status: Status, when: When) {
        self.switches.lock().failing.push(Failing {
            times,
            which,
            status,
            when,
        });
    }

    /// Delays the changes of a resource (its plural) in all watches; zero ends the delay. A watch
    /// that already holds a change back reads the new delay when the old one is over.
    pub fn delay_watch(&self, resource: &str, delay: Duration) {
        let mut switches = self.switches.lock();
        if delay.is_zero() {
            switches.delays.remove(resource);
        } else {
            switches.delays.insert(resource.to_owned(), delay);
        }
    }

    pub(super) fn is_away(&self) -> Option<Away> {
        self.switches.lock().away
    }

    pub(super) fn next_failure(&self, call: &Call) -> Option<(Status, When)> {
        let failing = &mut self.switches.lock().failing;
        let at = failing
            .iter()
            .position(|failing| failing.times > 0 && failing.which.hits(call))?;
        failing[at].times -= 1;
        let failure = (failing[at].status.clone(), failing[at].when);
        failing.retain(|failing| failing.times > 0);
        Some(failure)
    }

    pub(super) fn watch_delay(&self, resource: &str) -> Duration {
        let switches = self.switches.lock();
        switches.delays.get(resource).copied().unwrap_or_default()
    }

    pub(super) fn closings(&self) -> Listener {
        self.closed.listen()
    }
}
