//! Coalescing: a call waits a little for further targets, so that the pods of a rollout share it.

use std::time::{Duration, Instant};

use crate::targets::calls::Kind;

/// A registration waits for so long after the last target that came, ... Contract 8.
const REGISTER_QUIET: Duration = Duration::from_millis(50);
/// ... and for so long after the first at most. Contract 8.
const REGISTER_LONGEST: Duration = Duration::from_millis(500);
/// A deregistration waits for so long after the first. Contract 8.
const DEREGISTER: Duration = Duration::from_millis(20);

/// The time in which targets are collected for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    first: Instant,
    last: Instant,
}

impl Window {
    /// A window that opens with the first target.
    pub fn new(now: Instant) -> Self {
        let (first, last) = (now, now);
        Self { first, last }
    }

    /// Takes in that another target came.
    pub fn more(&mut self, now: Instant) {
        self.last = now;
    }

    /// When it closes, so that the call is due.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use targetgate_core::targets::calls::Kind;
    /// use targetgate_core::targets::calls::window::Window;
    ///
    /// let (now, ms) = (Instant::now(), Duration::from_millis(1));
    /// let mut window = Window::new(now);
    /// assert_eq!(window.closes(Kind::Deregister), now + 20 * ms);
    /// assert_eq!(window.closes(Kind::Register), now + 50 * ms);
    /// window.more(now + 30 * ms);
    /// assert_eq!(window.closes(Kind::Register), now + 80 * ms);
    /// window.more(now + 490 * ms);
    /// assert_eq!(window.closes(Kind::Register), now + 500 * ms);
    /// ```
    pub fn closes(&self, kind: Kind) -> Instant {
        match kind {
            Kind::Register => (self.last + REGISTER_QUIET).min(self.first + REGISTER_LONGEST),
            Kind::Deregister => self.first + DEREGISTER,
        }
    }

    /// When the first target came.
    pub fn opened(&self) -> Instant {
        self.first
    }
}
