//! Reads the bodies of reviews, bounded in size, time, number and memory.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::admission::refusal::Refusal;
use crate::admission::room::{Held, Room, Taken};

/// Bytes that are kept of a shed review. Chosen: kube-apiserver writes `kind`, `apiVersion` and
/// `request.uid` first.
const START: usize = 4096;
/// The memory limit of the shipped Deployment, in bytes.
pub const SHIPPED_MEMORY: usize = 256 << 20;
/// Each byte of a body is counted twice: its segments are joined at the end, and then the members that are parsed
/// are copied.
const COPIES: usize = 2;
/// Bytes that are allocated at a time, so that a body frees its memory in pieces that the next body can
/// reuse: with one buffer for each body, glibc's heap kept 100 MiB of the memory of 40 bodies (measured). Most
/// reviews are shorter, and are not joined at all.
const SEGMENT: usize = 256 * 1024;

/// The bounds of the hooks. The defaults are chosen; the deadline is below the 10 s that the webhooks of bindings are
/// registered with.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Maximum number of concurrent reviews, for the pod hook and for the binding hooks each.
    pub reviews: usize,
    /// Maximum length of one body, in bytes. An `UPDATE` may have two objects of 1.5 MiB, escaped, and an envelope.
    pub body: usize,
    /// Maximum memory of all bodies together, and of a copy of each, in bytes.
    pub bodies: usize,
    /// Maximum time from a request's head to the last byte of its body.
    pub deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reviews: 256,
            body: 7 << 20,
            // Chosen: a quarter, so that the rest suffices for the index and for connections.
            bodies: SHIPPED_MEMORY / 4,
            deadline: Duration::from_secs(8),
        }
    }
}

/// Receives the reviews of one kind of hook.
#[derive(Debug)]
pub(super) struct Intake {
    limits: Limits,
    reviews: Semaphore,
    room: Arc<Room>,
}

/// A received review.
#[derive(Debug)]
pub(super) enum Received<'a> {
    /// The whole body, with its place among the reviews in progress.
    Whole(Bytes, Place<'a>),
    /// A shed review: only the first bytes of its body.
    Shed(Bytes),
}

/// A place among the reviews in progress and in the room for bodies.
type Place<'a> = (SemaphorePermit<'a>, Held);

impl Intake {
    /// An intake that shares the room for bodies with others.
    pub(super) fn new(limits: &Limits, room: &Arc<Room>) -> Self {
        Self {
            reviews: Semaphore::new(limits.reviews),
            room: room.clone(),
            limits: limits.clone(),
        }
    }

    /// Receives a request's body. Beyond the bounds of number and memory it keeps only the start.
    pub(super) async fn receive(&self, request: Request) -> Result<Received<'_>, Refusal> {
        if !is_json(request.headers()) {
            return Err(Refusal::ContentType);
        }
        let limit = self.limits.body;
        let body = request.into_body();
        // A body whose declared length is too large need not be read.
        if body
            .size_hint()
            .exact()
            .is_some_and(|length| length > limit as u64)
        {
            return Err(Refusal::TooLarge { limit });
        }
        let read = timeout(self.limits.deadline, self.read(body)).await;
        let seconds = self.limits.deadline.as_secs();
        let (kept, held) = read.map_err(|_| Refusal::TooSlow { seconds })??;
        // Take the place only now, so that slow senders do not take places from others.
        let review = self.reviews.try_acquire().ok();
        Ok(match (review, held) {
            (Some(review), Some(held)) => Received::Whole(kept, (review, held)),
            _ => Received::Shed(kept.slice(..kept.len().min(START))),
        })
    }

    /// Reads a body to its end. Counts memory as bytes arrive; if memory is exhausted, keeps only the start.
    async fn read(&self, mut body: Body) -> Result<(Bytes, Option<Held>), Refusal> {
        let limit = self.limits.body;
        let mut held = Some(self.room.enter());
        let mut kept = Kept::default();
        let mut length = 0;
        while let Some(data) = next(&mut body, held.as_ref()).await? {
            length += data.len();
            if length > limit {
                return Err(Refusal::TooLarge { limit });
            }
            let rest = body.size_hint().exact();
            if let Some(room) = &mut held {
                match room.take(data.len() * COPIES, rest == Some(0)).await {
                    Taken::Room => {
                        kept.add(data, rest);
                        continue;
                    }
                    Taken::Nothing => held = None,
                    Taken::Ended => return Err(Refusal::SlowestBody),
                }
            }
            kept = kept.start_with(&data);
        }
        if let Some(held) = &mut held {
            held.whole();
        }
        Ok((kept.into_bytes(), held))
    }
}

/// The next piece of a body, unless the body must end before.
async fn next(body: &mut Body, held: Option<&Held>) -> Result<Option<Bytes>, Refusal> {
    let ended = async {
        match held {
            Some(held) => held.ended().await,
            None => pending().await,
        }
    };
    let piece = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refusal::CutOff)?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    };
    tokio::select! {
        biased;
        () = ended => Err(Refusal::SlowestBody),
        piece = piece => piece,
    }
}

/// The received part of a body.
#[derive(Debug)]
enum Kept {
    /// A single piece, which is not copied: most bodies consist of one.
    Piece(Bytes),
    /// Several pieces, copied as they arrive. hyper's pieces are slices of its read buffers: a body that arrives byte
    /// by byte would hold 8 KiB of buffers for each byte.
    Segments(Vec<Vec<u8>>),
}

impl Default for Kept {
    fn default() -> Self {
        Self::Piece(Bytes::new())
    }
}

impl Kept {
    /// Adds a piece; `rest` is the number of bytes that follow it, if known.
    fn add(&mut self, data: Bytes, rest: Option<u64>) {
        let rest = rest.map_or(SEGMENT, |rest| usize::try_from(rest).unwrap_or(SEGMENT));
        match self {
            Self::Piece(first) if first.is_empty() && rest == 0 => *first = data,
            Self::Piece(first) => {
                let mut segments = vec![];
                copy(first, &mut segments, data.len() + rest);
                copy(&data, &mut segments, rest);
                *self = Self::Segments(segments);
            }
            Self::Segments(segments) => copy(&data, segments, rest),
        }
    }

    /// The start of the body, with this piece added if the start is not yet complete.
    fn start_with(self, data: &[u8]) -> Self {
        let before = match self {
            Self::Piece(piece) => piece,
            // A segment that is not the last is longer than the start.
            Self::Segments(segments) => segments.into_iter().next().unwrap_or_default().into(),
        };
        let start = before.iter().chain(data).copied();
        Self::Piece(start.take(START).collect())
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Piece(piece) => piece,
            Self::Segments(segments) if segments.len() > 1 => segments.concat().into(),
            Self::Segments(segments) => segments.into_iter().next().unwrap_or_default().into(),
        }
    }
}

/// Appends a piece to the segments; `rest` is the number of bytes that follow it.
fn copy(mut data: &[u8], segments: &mut Vec<Vec<u8>>, rest: usize) {
    while !data.is_empty() {
        match segments.last_mut() {
            Some(last) if last.len() < last.capacity() => {
                let (fits, more) = data.split_at(data.len().min(last.capacity() - last.len()));
                last.extend_from_slice(fits);
                data = more;
            }
            _ => segments.push(Vec::with_capacity(SEGMENT.min(data.len() + rest))),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let media_type = value.and_then(|v| v.split(';').next());
    media_type.is_some_and(|m| m.trim().eq_ignore_ascii_case("application/json"))
}
