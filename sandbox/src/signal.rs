//! A number whose changes wake the tasks that listen. Unlike `tokio::sync::watch`, which picks at
//! random whom it wakes first, it wakes tasks in the order in which they began to wait: a
//! simulation must repeat itself.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// The side that sets the number.
#[derive(Debug, Default)]
pub(crate) struct Signal(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    number: AtomicU64,
    changed: Notify,
}

impl Signal {
    pub(crate) fn new(number: u64) -> Self {
        let signal = Self::default();
        signal.0.number.store(number, Ordering::Release);
        signal
    }

    pub(crate) fn set(&self, number: u64) {
        self.0.number.store(number, Ordering::Release);
        self.0.changed.notify_waiters();
    }

    /// Increments the number.
    pub(crate) fn raise(&self) {
        self.0.number.fetch_add(1, Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }

    /// A listener that has seen the current number.
    pub(crate) fn listen(&self) -> Listener {
        Listener {
            shared: self.0.clone(),
            seen: self.0.number.load(Ordering::Acquire),
        }
    }
}

/// The side that is woken. Each listener has its own last seen number.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    shared: Arc<Shared>,
    seen: u64,
}

impl Listener {
    /// Waits until the number differs from the one last seen, and marks it as seen. A signal that
    /// was dropped never changes.
    pub(crate) async fn changed(&mut self) {
        let shared = self.shared.clone();
        loop {
            let mut told = pin!(shared.changed.notified());
            // From here on no change is missed.
            told.as_mut().enable();
            if self.has_changed() {
                return self.mark_unchanged();
            }
            told.await;
        }
    }

    pub(crate) fn has_changed(&self) -> bool {
        self.shared.number.load(Ordering::Acquire) != self.seen
    }

    pub(crate) fn mark_unchanged(&mut self) {
        self.seen = self.shared.number.load(Ordering::Acquire);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn listeners_are_woken_in_the_order_in_which_they_came() {
        let (signal, woken) = (Signal::new(7), Arc::<Mutex<Vec<u8>>>::default());
        let waiters: Vec<_> = (0..20)
            .map(|waiter| {
                let (mut listener, woken) = (signal.listen(), woken.clone());
                tokio::spawn(async move {
                    listener.changed().await;
                    woken.lock().unwrap().push(waiter);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        signal.raise();
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert_eq!(*woken.lock().unwrap(), Vec::from_iter(0..20));
    }

    #[tokio::test]
    async fn a_change_before_the_wait_is_seen_once() {
        let signal = Signal::new(1);
        let mut listener = signal.listen();
        signal.set(5);
        assert!(listener.has_changed());
        listener.changed().await;
        assert!(!listener.has_changed());
    }
}
