//! What goes wrong on request.

use std::{collections::BTreeMap, time::Duration};

use super::{
    calls::{Call, Verb},
    status::Status,
};
use crate::signal::{Listener, Signal};
use parking_lot::Mutex;

/// How the server is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    /// No connection: in process an I/O error, on a socket a connection that closes.
    Refusing,
    /// Every request is answered with this code.
    Answering(u16),
}

/// When a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Nothing is done.
    Before,
    /// It is done, and the caller is told that it failed: a timeout that worked.
    After,
}

/// Which requests a fault hits; what is `None` or empty hits all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Only this verb.
    pub verb: Option<Verb>,
    /// Only this resource, with its subresource: `pods/status`.
    pub resource: String,
    /// Only this name.
    pub name: String,
}

impl Match {
    /// A verb on a resource.
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

/// The switches.
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
    /// Ends every open watch now, as a restart of the server does.
    pub fn close_watches(&self) {
        self.closed.raise();
    }

    /// Is away until told otherwise; open watches end.
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

    /// Shows each change of a resource (its plural) to watches this much later; zero ends it.
    /// A watch that already waits with a change looks at the new delay when the old one is over.
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
