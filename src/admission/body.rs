//! Reads the bodies of reviews, within bounds of size, time, number and memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::admission::refusal::Refusal;

/// How much of a review is kept where it is not read: kube-apiserver writes `kind`, `apiVersion` and
/// `request.uid` first.
const START: usize = 4096;

/// What the hooks take at most.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Reviews in progress, for the pod hook and for the binding hooks each.
    pub reviews: usize,
    /// Bytes of one body. An `UPDATE` may carry two objects of 1.5 MiB, escaped, and an envelope.
    pub body: usize,
    /// Bytes of all bodies that are held at once.
    pub bodies: usize,
    /// Time from a request's head to its body's last byte.
    pub deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reviews: 256,
            body: 7 << 20,
            bodies: 256 << 20,
            deadline: Duration::from_secs(8),
        }
    }
}

/// Takes in the reviews of one kind of hook.
#[derive(Debug)]
pub(super) struct Intake {
    limits: Limits,
    reviews: Semaphore,
    memory: Arc<Semaphore>,
}

/// What came in.
#[derive(Debug)]
pub(super) enum Received<'a> {
    /// The whole body, and its place among the reviews in progress.
    Whole(Bytes, Place<'a>),
    /// There was no place: only the body's first bytes are kept.
    Shed(Bytes),
}

/// A place among the reviews in progress and in the memory for bodies.
type Place<'a> = (SemaphorePermit<'a>, SemaphorePermit<'a>);

impl Intake {
    /// An intake of its own that shares the memory for bodies with others.
    pub(super) fn new(limits: &Limits, memory: &Arc<Semaphore>) -> Self {
        Self {
            reviews: Semaphore::new(limits.reviews),
            memory: memory.clone(),
            limits: limits.clone(),
        }
    }

    /// Takes in a request's body. Past the bounds of number and memory it keeps the start.
    pub(super) async fn receive(&self, request: Request) -> Result<Received<'_>, Refusal> {
        if !is_json(request.headers()) {
            return Err(Refusal::ContentType);
        }
        let limit = self.limits.body;
        let body = request.into_body();
        // What says beforehand that it is too large need not be read.
        if body
            .size_hint()
            .exact()
            .is_some_and(|length| length > limit as u64)
        {
            return Err(Refusal::TooLarge { limit });
        }
        let read = timeout(self.limits.deadline, self.read(body)).await;
        let seconds = self.limits.deadline.as_secs();
        let (kept, memory) = read.map_err(|_| Refusal::TooSlow { seconds })??;
        // The place is taken only now: who sends slowly takes none from others.
        let review = self.reviews.try_acquire().ok();
        Ok(match (review, memory) {
            (Some(review), Some(memory)) => Received::Whole(kept, (review, memory)),
            _ => Received::Shed(kept.slice(..kept.len().min(START))),
        })
    }

    /// Reads a body to its end. Memory is counted as bytes arrive; once there is none left, only the
    /// start is kept.
    async fn read(&self, mut body: Body) -> Result<(Bytes, Option<SemaphorePermit<'_>>), Refusal> {
        let limit = self.limits.body;
        // Pieces are put together once, at the end: growing one buffer would copy them again and
        // again, and most bodies are one piece, which is not copied at all.
        let mut pieces = Vec::new();
        let mut length = 0;
        let mut memory = self.memory.try_acquire_many(0).ok();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refusal::CutOff)?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            length += data.len();
            if length > limit {
                return Err(Refusal::TooLarge { limit });
            }
            // A body may come byte by byte, so what holds a piece counts as well.
            let needed = data.len() + size_of::<Bytes>();
            memory = memory.and_then(|held| self.more_memory(held, needed));
            pieces.push(data);
            if memory.is_none() {
                pieces = vec![joined(&pieces, START)];
            }
        }
        Ok((joined(&pieces, limit), memory))
    }

    /// What is held, and so many bytes more; `None` where there are not so many.
    fn more_memory<'a>(
        &'a self,
        mut held: SemaphorePermit<'a>,
        bytes: usize,
    ) -> Option<SemaphorePermit<'a>> {
        let more = self
            .memory
            .try_acquire_many(u32::try_from(bytes).ok()?)
            .ok()?;
        held.merge(more);
        Some(held)
    }
}

/// The pieces as one, up to so many bytes.
fn joined(pieces: &[Bytes], most: usize) -> Bytes {
    if let [piece] = pieces {
        return piece.slice(..piece.len().min(most));
    }
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let mut whole = BytesMut::with_capacity(length.min(most));
    for piece in pieces {
        let room = most - whole.len();
        whole.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    whole.freeze()
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let media_type = value.and_then(|v| v.split(';').next());
    media_type.is_some_and(|m| m.trim().eq_ignore_ascii_case("application/json"))
}
