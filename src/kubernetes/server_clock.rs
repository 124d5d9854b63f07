//! The API server's clock, by the `Date` of its answers: API servers judge our certificates by it.

use std::time::Duration;

use http::Request;
use http::header::DATE;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use kube::Client;
use kube::client::Body;
use tokio::time::{Instant, timeout};

use crate::kubernetes::CALL_TIMEOUT;

/// Every account may read it. Source: the ClusterRole `system:public-info-viewer`.
const PATH: &str = "/version";

/// What is known of the API server's clock.
pub(crate) struct ServerClock {
    client: Client,
    /// When it was last read, and what it said.
    read: Option<(Instant, Timestamp)>,
}

impl ServerClock {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, read: None }
    }

    /// Reads the clock; an API server that does not answer leaves what is known.
    pub(crate) async fn read(&mut self) {
        let Ok(request) = Request::get(PATH).body(Body::empty()) else {
            return;
        };
        let Ok(Ok(answer)) = timeout(CALL_TIMEOUT, self.client.send(request)).await else {
            return;
        };
        // A refusal has a date as well.
        let date = answer.headers().get(DATE).and_then(|d| d.to_str().ok());
        let date = date.and_then(|date| DateTimeParser::new().parse_timestamp(date).ok());
        if let Some(date) = date {
            self.read = Some((Instant::now(), date));
        }
    }

    /// The time by our own clock, or by the API server's where the two differ by more than `tolerance`.
    pub(crate) fn correct(&self, own: Timestamp, tolerance: Duration) -> Timestamp {
        let Some((at, date)) = self.read else {
            return own;
        };
        let server = date.checked_add(at.elapsed()).unwrap_or(date);
        match own.duration_since(server).unsigned_abs() > tolerance {
            true => server,
            false => own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::testing::{Answer, Scripted};

    const DATE: &str = "Mon, 30 Nov 2026 04:31:11 GMT";
    const TOLERANCE: Duration = Duration::from_secs(300);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_differs_by_more_than_the_tolerance_gives_way_to_the_api_servers() {
        let api = Scripted::default();
        let mut clock = ServerClock::new(api.client());
        let (ahead, near) = (at("2027-11-30T04:31:11Z"), at("2026-11-30T04:35:00Z"));
        assert_eq!(
            clock.correct(ahead, TOLERANCE),
            ahead,
            "nothing is read yet"
        );
        api.answer(PATH, Answer::Dated(DATE));
        clock.read().await;
        assert_eq!(clock.correct(near, TOLERANCE), near);
        assert_eq!(clock.correct(ahead, TOLERANCE), at("2026-11-30T04:31:11Z"));
        let behind = at("2020-01-01T00:00:00Z");
        assert_eq!(clock.correct(behind, TOLERANCE), at("2026-11-30T04:31:11Z"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_api_server_said_goes_on_while_it_does_not_answer() {
        let api = Scripted::default();
        let mut clock = ServerClock::new(api.client());
        api.answer(PATH, Answer::Dated(DATE));
        clock.read().await;
        api.answer(PATH, Answer::Refused);
        clock.read().await;
        tokio::time::advance(Duration::from_secs(60)).await;
        let ahead = at("2027-11-30T04:31:11Z");
        assert_eq!(clock.correct(ahead, TOLERANCE), at("2026-11-30T04:32:11Z"));
    }
}
