//! Deadlines of a connection, kept where its bytes pass.
//!
//! hyper's `header_read_timeout` starts when a connection becomes idle, so it cannot be short for a
//! header that trickles and long for a connection that rests. These two are told apart here: a head
//! must be whole within [`Deadlines::head`] of its first byte, and a connection from which nothing
//! comes ends after [`Deadlines::idle`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a peer may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// From a request head's first byte to its last.
    pub(super) head: Duration,
    /// Without a byte from the peer.
    pub(super) idle: Duration,
    /// For the peer to take what was written.
    pub(super) write: Duration,
}

/// What the service knows of a connection and the stream does not: whether a request is being
/// answered. Odd numbers mean that one is.
#[derive(Debug, Default)]
pub(super) struct Turns {
    turn: AtomicU64,
    slow_head: AtomicBool,
}

impl Turns {
    /// A head is whole, or its answer is: the other side's turn.
    pub(super) fn next(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the connection was ended because a head did not come to its end in time.
    pub(super) fn ended_by_slow_head(&self) -> bool {
        self.slow_head.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }
}

/// A stream whose reads and writes fail with `TimedOut` once a deadline has passed.
pub(super) struct Timed<IO> {
    io: IO,
    deadlines: Deadlines,
    turns: Arc<Turns>,
    /// The turn in which a head began to come, and when.
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
        if turn.is_multiple_of(2) && !known {
            self.head = Some((turn, self.last_read));
        }
    }

    /// When the peer must have sent something, and whether that is about a head.
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
        // A timer that is early is moved only when it fires: most requests never get there.
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

    /// Passes on what a write came to, unless it has made no progress for too long.
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
