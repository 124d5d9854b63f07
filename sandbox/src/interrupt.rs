//! Waits for the signals that end a program of the sandbox: Ctrl-C and SIGTERM.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from its creation on. A signal that comes between two waits is received by the second:
/// `tokio::signal::ctrl_c` would lose it, since each of its calls listens anew.
#[derive(Debug)]
pub struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    /// # Errors
    ///
    /// When the handlers of the signals cannot be installed.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Chosen, far above what a signal takes.
    const DEADLINE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_signal_that_comes_between_two_waits_is_received_by_the_second() {
        let mut interrupt = Interrupt::listen().unwrap();
        let mut other = signal(SignalKind::interrupt()).unwrap();
        tokio::select! {
            biased;
            () = interrupt.received() => panic!("no signal was sent"),
            () = std::future::ready(()) => {}
        }
        let this = std::process::id().to_string();
        let sent = Command::new("kill").args(["-s", "INT", &this]).status();
        assert!(sent.unwrap().success());
        // Until this listener has received it, tokio may not have handed it out yet.
        timeout(DEADLINE, other.recv()).await.unwrap().unwrap();
        timeout(DEADLINE, interrupt.received()).await.unwrap();
    }
}
