//! When a review has to be answered: in time for the API server, which otherwise answers without our reason.

use std::time::Duration;

use http::Uri;
use tokio::time::Instant;

/// The timeout of a webhook that is registered without one: Kubernetes' default.
const DEFAULT: Duration = Duration::from_secs(10);
/// The longest timeout of a webhook: Kubernetes' limit.
const LONGEST: Duration = Duration::from_secs(30);
/// How long before the timeout the answer is sent. Contract 3.
const BEFORE: Duration = Duration::from_secs(1);

/// The instant by which to answer a request that arrived at `arrived`: a second before the `?timeout=` that the API
/// server adds to the URL, or half of it if it is less than two seconds.
pub(super) fn answer_by(uri: &Uri, arrived: Instant) -> Instant {
    let timeout = timeout(uri.query().unwrap_or_default());
    let timeout = timeout.unwrap_or(DEFAULT).min(LONGEST);
    arrived + (timeout / 2).max(timeout.saturating_sub(BEFORE))
}

/// Reads Go's form of a duration, such as `10s`.
fn timeout(query: &str) -> Option<Duration> {
    let mut parameters = query.split('&');
    let text = parameters.find_map(|parameter| parameter.strip_prefix("timeout="))?;
    humantime::parse_duration(text).ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::as_shipped("/hook?timeout=10s", 9_000)]
    #[case::short("/hook?timeout=3s", 2_000)]
    #[case::two_seconds("/hook?timeout=2s", 1_000)]
    #[case::the_shortest("/hook?timeout=1s", 500)]
    #[case::the_longest("/hook?timeout=30s", 29_000)]
    #[case::beside_others("/hook?a=b&timeout=5s&c", 4_000)]
    #[case::none("/hook", 9_000)]
    #[case::empty("/hook?timeout=", 9_000)]
    #[case::nonsense("/hook?timeout=soon", 9_000)]
    #[case::nothing("/hook?timeout=0s", 0)]
    #[case::too_long_for_a_number("/hook?timeout=99999999999999999999s", 9_000)]
    #[case::longer_than_any("/hook?timeout=1h", 29_000)]
    fn an_answer_is_due_before_the_api_servers_timeout(#[case] uri: &str, #[case] millis: u64) {
        let arrived = Instant::now();
        let by = answer_by(&uri.parse().unwrap(), arrived);
        assert_eq!(by - arrived, Duration::from_millis(millis), "{uri}");
    }
}
