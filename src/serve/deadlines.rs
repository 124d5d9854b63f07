//! Deadlines of a connection, enforced in its reads and writes.
//!
//! hyper's `header_read_timeout` starts when a connection becomes idle, so it cannot be short for a
//! header that trickles and long for an idle connection. This module distinguishes the two: a head
//! must be complete within [`Deadlines::head`] of its first byte, and a connection without a byte from the peer
//! ends after [`Deadlines::idle`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until};

/// The deadlines of a peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// From the first byte of a request's head to its last.
    pub(super) head: Duration,
    /// Without a byte from the peer.
    pub(super) idle: Duration,
    /// For the peer to accept written bytes.
    pub(super) write: Duration,
}

/// How many connections of a listener have carried an answered request.
pub(super) type Answered = Arc<AtomicUsize>;

/// The state of a connection that the service knows and the stream does not: whether a request is being
/// answered, and whether one ever was.
#[derive(Debug)]
pub(super) struct Turns {
    /// Odd numbers mean that a request is being answered.
    turn: AtomicU64,
    slow_head: AtomicBool,
    accepted: Instant,
    /// Milliseconds from `accepted` to the end of the last answer, plus one; 0 before the first answer.
    answered: AtomicU64,
    all_answered: Answered,
    leave: Notify,
}

/// The standing of a connection when one must be closed, in the order in which they are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// The connection has not yet carried an answered request.
    Unanswered,
    /// The connection has been idle since its last answer.
    Idle(Instant),
    /// The connection has carried an answered request, and the next is being answered.
    Busy,
}

impl Turns {
    /// The state of a connection that was just accepted; `all_answered` counts the connections of its listener.
    pub(super) fn new(all_answered: &Answered) -> Self {
        Self {
            turn: AtomicU64::new(0),
            slow_head: AtomicBool::new(false),
            accepted: Instant::now(),
            answered: AtomicU64::new(0),
            all_answered: all_answered.clone(),
            leave: Notify::new(),
        }
    }

    /// Notes that a head is complete, and that its answer begins.
    pub(super) fn begin(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that the answer is complete; a refusal does not count as `answered`.
    pub(super) fn end(&self, answered: bool) {
        if answered {
            // A u64 holds the milliseconds of half a billion years.
            let after = u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
            if self.answered.swap(after + 1, Ordering::Relaxed) == 0 {
                self.all_answered.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// The standing of this connection.
    pub(super) fn standing(&self) -> Standing {
        match self.answered.load(Ordering::Relaxed) {
            0 => Standing::Unanswered,
            _ if is_odd(self.now()) => Standing::Busy,
            after => Standing::Idle(self.accepted + Duration::from_millis(after)),
        }
    }

    /// Tells the connection to close: at once if it is idle, otherwise after its answer.
    pub(super) fn leave(&self) {
        self.leave.notify_one();
    }

    /// Returns once the connection is told to close.
    pub(super) async fn told_to_leave(&self) {
        self.leave.notified().await;
    }

    /// Whether the connection was closed because a head did not arrive in time.
    pub(super) fn ended_by_slow_head(&self) -> bool {
        self.slow_head.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        if *self.answered.get_mut() > 0 {
            self.all_answered.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn is_odd(turn: u64) -> bool {
    !turn.is_multiple_of(2)
}

/// A stream whose reads and writes fail with `TimedOut` once a deadline has passed.
pub(super) struct Timed<IO> {
    io: IO,
    deadlines: Deadlines,
    turns: Arc<Turns>,
    /// The turn in which a head began to arrive, and when.
    head: Option<(u64, Instant)>,
    last_read: Instant,
    read_timer: Option<Pin<Box<Sleep>>>,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl<IO> Timed<IO> {
    pub(super) fn new(io: IO, deadlines: Deadlines, turns: Arc<Turns>) -> Self {
        Self {
            io,
            deadlines,
            turns,
            head: None,
            last_read: Instant::now(),
            read_timer: None,
            write_timer: None,
        }
    }

    fn note_read(&mut self) {
        let turn = self.turns.now();
        self.last_read = Instant::now();
        let known = self.head.is_some_and(|(of, _)| of == turn);
        if !is_odd(turn) && !known {
            self.head = Some((turn, self.last_read));
        }
    }

    /// When the peer must have sent a byte, and whether this is the deadline of a head.
    fn read_deadline(&self) -> (Instant, bool) {
        let idle = self.last_read + self.deadlines.idle;
        let began = self.head.filter(|(turn, _)| *turn == self.turns.now());
        match began {
            Some((_, began)) => (began + self.deadlines.head, true),
            None => (idle, false),
        }
    }

    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let (deadline, head) = self.read_deadline();
        let timer = self
            .read_timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        // A timer that is early is moved only when it fires: most requests end before.
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                self.turns.slow_head.store(head, Ordering::Relaxed);
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            timer.as_mut().reset(deadline);
        }
    }

    /// Passes on the result of a write, unless writes have not made progress for too long.
    fn bounded_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_timer = None;
            return written;
        }
        let deadline = self.deadlines.write;
        let timer = self
            .write_timer
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + deadline)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Timed<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Ready(read) => {
                if buf.filled().len() > before {
                    this.note_read();
                }
                Poll::Ready(read)
            }
            Poll::Pending => this.poll_read_deadline(cx).map(Err),
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Timed<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.bounded_write(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.bounded_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        this.bounded_write(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.io).poll_shutdown(cx);
        this.bounded_write(cx, shut)
    }
}
