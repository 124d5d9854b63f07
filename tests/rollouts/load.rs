//! The clients of a load balancer during a test, and the outcome of their requests.

use std::net::SocketAddr;
use std::time::Duration;

use targetgate_sandbox::harness::Openings;
use targetgate_sandbox::traffic::{Counts, KeepAlive, Options, Traffic};

use targetgate_sandbox::harness::site::Site;

/// Long requests per second. Chosen.
const LONG_RATE: f64 = 4.0;

/// Short requests over kept connections, and long ones.
pub(crate) struct Load {
    quick: Traffic,
    long: Traffic,
}

/// The outcome of the requests.
#[derive(Debug)]
pub(crate) struct Numbers {
    pub(crate) quick: Counts,
    pub(crate) long: Counts,
}

impl Load {
    /// Starts to send `rate` short requests a second, and a few long ones.
    pub(crate) fn start(address: SocketAddr, rate: f64) -> Self {
        Self::with_long(address, rate, Duration::from_millis(1_500))
    }

    /// The same with long requests that take `long`, of which there are always about four a second.
    pub(crate) fn with_long(address: SocketAddr, rate: f64, long: Duration) -> Self {
        let quick = Options {
            address,
            path: "/".to_owned(),
            rate,
            connections: 16,
            // A slow request is not a lost one.
            timeout: Duration::from_secs(30),
            keep_alive: KeepAlive::YesAndResend,
        };
        // These are not sent again, because that would hide an answer that was cut off.
        let long = Options {
            path: format!("/?work_ms={}", long.as_millis()),
            rate: LONG_RATE,
            // Two more than are busy at a time, so that none is skipped.
            connections: (LONG_RATE * long.as_secs_f64()).ceil() as usize + 2,
            keep_alive: KeepAlive::No,
            ..quick.clone()
        };
        Self {
            quick: Traffic::start(&quick),
            long: Traffic::start(&long),
        }
    }

    /// How many requests have been sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.quick.counts().sent + self.long.counts().sent
    }

    /// How many long requests have been sent so far.
    pub(crate) fn long(&self) -> u64 {
        self.long.counts().sent
    }

    /// Stops to send, and waits for the last answers.
    pub(crate) async fn stop(self) -> Numbers {
        let (quick, long) = tokio::join!(self.quick.stop(), self.long.stop());
        Numbers { quick, long }
    }
}

impl Numbers {
    pub(crate) fn sent(&self) -> u64 {
        self.quick.sent + self.long.sent
    }

    pub(crate) fn lost(&self) -> u64 {
        self.quick.lost() + self.long.lost()
    }

    /// Prints the line with which a test ends.
    pub(crate) fn print(&self, what: &str, site: &Site) {
        let openings = Openings::of(&site.observer.pods(), &site.aws.elb.log());
        let delays = &openings.delays;
        let opened = match delays.get(delays.len() / 2) {
            Some(median) => format!("{} gates opened, median {median:.1?}", delays.len()),
            None => "no gate opened".to_owned(),
        };
        println!(
            "{what}: sent {} (of them long {}), lost {}, cause {}; resent {}; {opened} after healthy",
            self.sent(),
            self.long.sent,
            self.lost(),
            match self.quick.lost() {
                0 => self.long.causes(),
                _ => self.quick.causes(),
            },
            self.quick.resent,
        );
    }
}
