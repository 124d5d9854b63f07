//! The memory for bodies, shared by all that are held; when it is exhausted, the slowest body is refused.
//!
//! The slowest body is the one that has held the most memory for the longest: the bytes that it holds ×
//! the time since its last 64 KiB began to arrive. So a body that arrives quickly is the last to be
//! refused, however large it is, and a client that holds back the end of a large body is the first. One body is
//! refused at a time, and another only after the first has freed its bytes.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Bytes that count as progress: 64 KiB of a body, and their copy. Chosen: a body in transit brings them
/// within milliseconds, a trickle does not.
const PROGRESS: usize = 2 * 64 * 1024;

/// The shared memory for bodies.
#[derive(Debug)]
pub(super) struct Room {
    state: Mutex<State>,
    /// Notified when bytes were freed, or when the body that was told to end has completed instead: waiters try again.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// Incomplete bodies of more than one piece.
    under_way: HashMap<u64, UnderWay>,
    entered: u64,
    /// The body that was told to end and has not freed its bytes yet.
    ending: Option<u64>,
}

#[derive(Debug)]
struct UnderWay {
    held: usize,
    /// When its current [`PROGRESS`] began, and the bytes of it so far.
    since: Instant,
    came: usize,
    end: Arc<Notify>,
}

/// The result of a request for bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The body may keep the bytes.
    Room,
    /// Memory is exhausted, and ending another body would not free any.
    Nothing,
    /// Memory is exhausted, and this body is the slowest.
    Ended,
}

impl Room {
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                free: bytes,
                under_way: HashMap::new(),
                entered: 0,
                ending: None,
            }),
            changed: Notify::new(),
        })
    }

    /// Registers a body that begins to arrive.
    pub(super) fn enter(self: &Arc<Self>) -> Held {
        Held {
            room: self.clone(),
            bytes: 0,
            under_way: None,
        }
    }
}

/// The bytes of one body, freed on drop.
#[derive(Debug)]
pub(super) struct Held {
    room: Arc<Room>,
    bytes: usize,
    under_way: Option<(u64, Arc<Notify>)>,
}

impl Held {
    /// Takes more bytes, and makes room for them if memory is exhausted. `last` says that the body is complete with
    /// them.
    pub(super) async fn take(&mut self, bytes: usize, last: bool) -> Taken {
        let only = last && self.under_way.is_none();
        if only && self.room.state.lock().take(bytes) {
            self.bytes += bytes;
            return Taken::Room;
        }
        let (id, end) = self
            .under_way
            .get_or_insert_with(|| self.room.state.lock().enter());
        loop {
            let mut changed = pin!(self.room.changed.notified());
            changed.as_mut().enable();
            match self.room.state.lock().take_for(*id, bytes) {
                None => {}
                Some(Taken::Room) => {
                    self.bytes += bytes;
                    return Taken::Room;
                }
                Some(none) => return none,
            }
            tokio::select! {
                biased;
                () = end.notified() => return Taken::Ended,
                () = changed => {}
            }
        }
    }

    /// Returns once the body must end because memory is exhausted.
    pub(super) async fn ended(&self) {
        match &self.under_way {
            Some((_, end)) => end.notified().await,
            None => pending().await,
        }
    }

    /// Notes that the body is complete, so that it is not refused any more.
    pub(super) fn whole(&mut self) {
        self.leave(0);
    }

    fn leave(&mut self, bytes: usize) {
        let mut state = self.room.state.lock();
        state.free += bytes;
        if let Some((id, _)) = self.under_way.take() {
            state.under_way.remove(&id);
            state.ending = state.ending.filter(|ending| *ending != id);
        }
        drop(state);
        self.room.changed.notify_waiters();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.leave(self.bytes);
    }
}

impl State {
    fn enter(&mut self) -> (u64, Arc<Notify>) {
        let end = Arc::new(Notify::new());
        let begins = UnderWay {
            held: 0,
            since: Instant::now(),
            came: 0,
            end: end.clone(),
        };
        self.entered += 1;
        self.under_way.insert(self.entered, begins);
        (self.entered, end)
    }

    fn take(&mut self, bytes: usize) -> bool {
        let left = self.free.checked_sub(bytes);
        self.free = left.unwrap_or(self.free);
        left.is_some()
    }

    /// Takes bytes for an incomplete body. If memory is exhausted, tells the slowest body to end; `None` while that
    /// body has not freed its bytes.
    fn take_for(&mut self, id: u64, bytes: usize) -> Option<Taken> {
        let now = Instant::now();
        if self.take(bytes) {
            if let Some(body) = self.under_way.get_mut(&id) {
                body.came(bytes, now);
            }
            return Some(Taken::Room);
        }
        if self.ending.is_some() {
            return None;
        }
        match self.slowest(id, now) {
            None => Some(Taken::Nothing),
            Some((slowest, _)) if slowest == id => Some(Taken::Ended),
            Some((slowest, end)) => {
                end.notify_one();
                self.ending = Some(slowest);
                None
            }
        }
    }

    /// The slowest incomplete body, the first of equals; `None` if only this one holds bytes.
    fn slowest(&self, asking: u64, now: Instant) -> Option<(u64, Arc<Notify>)> {
        let holding = || self.under_way.iter().filter(|(_, body)| body.held > 0);
        if holding().all(|(id, _)| *id == asking) {
            return None;
        }
        let slowest =
            holding().max_by_key(|(id, body)| (body.slowness(now), **id != asking, Reverse(**id)));
        slowest.map(|(id, body)| (*id, body.end.clone()))
    }
}

impl UnderWay {
    fn came(&mut self, bytes: usize, now: Instant) {
        self.held += bytes;
        self.came += bytes;
        if self.came >= PROGRESS {
            (self.since, self.came) = (now, 0);
        }
    }

    fn slowness(&self, now: Instant) -> u128 {
        self.held as u128 * now.duration_since(self.since).as_nanos()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use tokio::time::advance;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Incomplete bodies that hold these bytes.
    async fn bodies<const N: usize>(room: &Arc<Room>, held: [usize; N]) -> [Held; N] {
        let mut bodies = held.map(|_| room.enter());
        for (body, bytes) in bodies.iter_mut().zip(held) {
            assert_eq!(body.take(bytes, false).await, Taken::Room);
        }
        bodies
    }

    fn is_ended(body: &Held) -> bool {
        body.ended().now_or_never().is_some()
    }

    /// Takes bytes while the body that is told to end frees its own, as its request does.
    async fn takes(asking: &mut Held, bytes: usize, ended: Held, others: &[&Held]) {
        let ending = async {
            ended.ended().await;
            assert!(others.iter().all(|other| !is_ended(other)));
            drop(ended);
        };
        let (taken, ()) = tokio::join!(asking.take(bytes, false), ending);
        assert_eq!(taken, Taken::Room);
    }

    #[tokio::test(start_paused = true)]
    async fn the_body_that_has_kept_the_most_waiting_for_the_longest_is_ended() {
        let room = Room::new(100);
        let [small] = bodies(&room, [10]).await;
        advance(MS).await;
        let [large, mut asking] = bodies(&room, [60, 30]).await;
        advance(MS).await;
        takes(&mut asking, 50, large, &[&small]).await;
        // The small one has waited for 2 ms now, the other for 1 ms only, but it is more than twice as large.
        let [late] = bodies(&room, [10]).await;
        takes(&mut { late }, 20, asking, &[&small]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_on_is_not_ended_though_it_is_the_largest() {
        let room = Room::new(10 * PROGRESS);
        let [stalled, mut quick] = bodies(&room, [PROGRESS / 2, PROGRESS]).await;
        for _ in 0..8 {
            advance(MS).await;
            assert_eq!(quick.take(PROGRESS, false).await, Taken::Room);
        }
        let mut asking = room.enter();
        takes(&mut asking, PROGRESS, stalled, &[&quick]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_is_no_progress() {
        let room = Room::new(10 * PROGRESS);
        let [mut trickle, quick] = bodies(&room, [1, 5 * PROGRESS]).await;
        for _ in 0..1000 {
            advance(MS).await;
            assert_eq!(trickle.take(100, false).await, Taken::Room);
        }
        drop(quick);
        let [quick] = bodies(&room, [9 * PROGRESS]).await;
        advance(MS).await;
        assert_eq!(trickle.take(PROGRESS, false).await, Taken::Ended);
        drop(trickle);
        assert!(!is_ended(&quick));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_whole_is_not_ended_and_where_nothing_else_is_there_is_no_room() {
        let room = Room::new(100);
        let [mut whole] = bodies(&room, [90]).await;
        advance(MS).await;
        whole.whole();
        let mut only = room.enter();
        assert_eq!(only.take(20, true).await, Taken::Nothing);
        drop(only);
        let [mut alone] = bodies(&room, [5]).await;
        assert_eq!(alone.take(20, false).await, Taken::Nothing);
        drop(whole);
        assert_eq!(alone.take(95, false).await, Taken::Room);
    }

    #[tokio::test(start_paused = true)]
    async fn one_is_ended_at_a_time_and_one_that_gets_whole_meanwhile_is_followed_by_the_next() {
        let room = Room::new(100);
        let [mut first, second] = bodies(&room, [60, 40]).await;
        advance(MS).await;
        let mut asking = [room.enter(), room.enter()];
        let [one, other] = &mut asking;
        let ending = async {
            first.ended().await;
            assert!(!is_ended(&second));
            first.whole();
            second.ended().await;
            drop(second);
        };
        let (one, other, ()) = tokio::join!(one.take(20, true), other.take(20, true), ending);
        assert_eq!([one, other], [Taken::Room, Taken::Room]);
        drop(asking);
        drop(first);
        assert_eq!(room.state.lock().free, 100);
    }
}
