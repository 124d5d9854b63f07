//! The open connections of a listener, and the choice of the one that a new connection displaces.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::task::{self, AbortHandle, JoinSet};

use crate::serve::deadlines::{Standing, Turns};

/// The open connections, bounded in number.
///
/// A full listener closes the oldest connection that has not yet carried an answered request; else the one that has
/// been idle the longest; else, if all are being answered, the new one.
#[derive(Debug)]
pub(super) struct Connections {
    places: usize,
    tasks: JoinSet<()>,
    open: HashMap<task::Id, Open>,
    accepted: u64,
    /// Connections that were told to close, the oldest first; they do not count against the limit any more.
    leaving: VecDeque<AbortHandle>,
}

#[derive(Debug)]
struct Open {
    /// Its sequence number among the accepted connections.
    number: u64,
    turns: Arc<Turns>,
    task: AbortHandle,
}

/// The connection that is closed for a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// A connection that has not carried an answered request.
    Unanswered,
    /// An idle connection.
    Idle,
    /// The new connection itself.
    New,
}

impl Ended {
    /// The metric's label.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unanswered => "Unanswered",
            Self::Idle => "Idle",
            Self::New => "New",
        }
    }
}

impl Connections {
    pub(super) fn new(places: usize) -> Self {
        Self {
            places,
            tasks: JoinSet::new(),
            open: HashMap::new(),
            accepted: 0,
            leaving: VecDeque::new(),
        }
    }

    /// The number of open connections, including those that were told to close.
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Starts to serve a connection; the caller has made room for it.
    pub(super) fn start(
        &mut self,
        turns: Arc<Turns>,
        serve: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = self.tasks.spawn(serve);
        self.accepted += 1;
        let open = Open {
            number: self.accepted,
            turns,
            task: task.clone(),
        };
        self.open.insert(task.id(), open);
    }

    /// Returns once a connection has ended; `None` if none is open.
    pub(super) async fn next_end(&mut self) -> Option<()> {
        let ended = self.tasks.join_next_with_id().await?;
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => error.id(),
        };
        self.open.remove(&id);
        Some(())
    }

    /// Makes room for a new connection. Returns the connection that is closed for it, if any.
    pub(super) fn make_room(&mut self) -> Option<Ended> {
        if self.open.len() < self.places {
            return None;
        }
        let standings = self.open.iter().map(|(id, open)| {
            let standing = open.turns.standing();
            (standing, open.number, *id)
        });
        let first = standings.min_by_key(|(standing, number, _)| (*standing, *number));
        match first {
            Some((Standing::Unanswered, _, id)) => {
                if let Some(open) = self.open.remove(&id) {
                    open.task.abort();
                }
                Some(Ended::Unanswered)
            }
            Some((Standing::Idle(_), _, id)) => {
                if let Some(open) = self.open.remove(&id) {
                    open.turns.leave();
                    self.leaves(open.task);
                }
                Some(Ended::Idle)
            }
            Some((Standing::Busy, ..)) | None => Some(Ended::New),
        }
    }

    /// Notes a connection that was told to close. It may be at its next request already, or wait for its peer, so it
    /// is cut only when too many others have been told to close.
    fn leaves(&mut self, task: AbortHandle) {
        self.leaving.push_back(task);
        if self.leaving.len() > spare(self.places).max(1)
            && let Some(longest) = self.leaving.pop_front()
        {
            longest.abort();
        }
    }
}

/// An eighth of the limit, which is kept free for new connections. Chosen.
pub(super) fn spare(places: usize) -> usize {
    places / 8
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures::FutureExt as _;

    use super::*;
    use crate::serve::deadlines::Answered;

    /// The state of an idle connection.
    fn at_rest() -> Arc<Turns> {
        let turns = Turns::new(&Answered::default());
        turns.begin();
        turns.end(true);
        Arc::new(turns)
    }

    #[tokio::test]
    async fn those_that_are_told_to_end_and_do_not_are_cut_for_the_next() {
        let mut connections = Connections::new(16);
        for _ in 0..16 {
            assert_eq!(connections.make_room(), None);
            connections.start(at_rest(), pending());
        }
        for _ in 0..2 {
            assert_eq!(connections.make_room(), Some(Ended::Idle));
            connections.start(at_rest(), pending());
        }
        assert_eq!(connections.next_end().now_or_never(), None);
        for more in 0..10 {
            assert_eq!(connections.make_room(), Some(Ended::Idle));
            connections.start(at_rest(), pending());
            connections.next_end().await;
            assert_eq!(connections.len(), 18, "after {more} more");
        }
    }

    #[tokio::test]
    async fn one_that_ends_by_itself_leaves_its_place() {
        let mut connections = Connections::new(1);
        connections.start(at_rest(), async {});
        connections.next_end().await;
        assert_eq!((connections.make_room(), connections.len()), (None, 0));
    }
}
