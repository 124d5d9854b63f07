//! `/livez`, `/readyz` and `/metrics`, in the formats of Kubernetes and Prometheus.
//!
//! Source: <https://kubernetes.io/docs/reference/using-api/health-checks/>

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{ACCEPT, CONTENT_TYPE, VARY};
use http::{HeaderMap, StatusCode};
use tokio::runtime::Handle;

use crate::metrics;
use crate::metrics::Metrics;
use crate::serve::metrics::ProcessMetrics;
use crate::serve::readiness::{Check, Health};

/// The router of `--admin-listen`.
pub fn router(health: Arc<Health>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(health)
        .route("/metrics", get(scrape).with_state(metrics))
}

async fn livez(State(health): State<Arc<Health>>) -> Response {
    report("livez", &health.live())
}

async fn readyz(State(health): State<Arc<Health>>) -> Response {
    report("readyz", &health.ready())
}

async fn scrape(State(metrics): State<Arc<Metrics>>, headers: HeaderMap) -> Response {
    let tasks = Handle::current().metrics().num_alive_tasks();
    metrics.of::<ProcessMetrics>().set_tasks(tasks);
    let (kind, text) = match accepts_openmetrics(&headers) {
        true => (metrics::OPENMETRICS, metrics.encode()),
        false => (metrics::PROMETHEUS, metrics.encode_for_prometheus()),
    };
    ([(CONTENT_TYPE, kind), (VARY, "accept")], text).into_response()
}

/// Whether a scraper asks for OpenMetrics. One that asks for anything, or for nothing, may not know it.
fn accepts_openmetrics(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(ACCEPT).iter();
    let lists = lists.filter_map(|list| list.to_str().ok());
    let mut kinds = lists.flat_map(|list| list.split(','));
    kinds.any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default();
        kind.trim()
            .eq_ignore_ascii_case("application/openmetrics-text")
    })
}

/// Lists every check by name; the status is that for probes.
fn report(endpoint: &str, checks: &[Check]) -> Response {
    let mut text = String::new();
    for check in checks {
        let name = &check.name;
        // Writing into a String does not fail.
        let _ = match (&check.failure, check.note) {
            (Some(failure), _) => writeln!(text, "[-]{name} failed: {failure}"),
            (None, Some(note)) => writeln!(text, "[+]{name} ok, but {note}"),
            (None, None) => writeln!(text, "[+]{name} ok"),
        };
    }
    let passed = checks.iter().all(|check| check.failure.is_none());
    let (status, word) = match passed {
        true => (StatusCode::OK, "passed"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
    };
    text.push_str(&format!("{endpoint} check {word}\n"));
    (status, text).into_response()
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use axum::body::{Body, to_bytes};
    use http::Request;
    use jiff::Timestamp;
    use rstest::rstest;
    use tower::ServiceExt as _;

    use super::*;
    use crate::commands::certs;
    use crate::serve::certificates::{Certificates, PemFiles};
    use crate::serve::readiness::{Heartbeat, STALLED_AFTER};
    use crate::serve::{Phase, PhaseSender, phases};
    use crate::state::cache::{Cache, InitialList, WatchedResource};

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    struct Admin {
        router: Router,
        cache: Arc<Cache>,
        certificates: Arc<Certificates>,
        heartbeat: Arc<Heartbeat>,
        phase: PhaseSender,
    }

    impl Admin {
        /// A healthy process whose initial lists are pending; its certificate was made at this time.
        fn new(made_at: Timestamp) -> Self {
            let made = certs::make("shop", &[], made_at).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let files = PemFiles {
                certificate: folder.path().join("tls.crt"),
                key: folder.path().join("tls.key"),
            };
            std::fs::write(&files.certificate, made.certificate).unwrap();
            std::fs::write(&files.key, made.key).unwrap();
            let metrics = Arc::new(Metrics::default());
            let (cache, heartbeat) = (Arc::<Cache>::default(), Arc::<Heartbeat>::default());
            let (phase, phases) = phases();
            let certificates = Certificates::new(files.load().unwrap(), &metrics);
            let certificates = Arc::new(certificates);
            let health = Health {
                cache: cache.clone(),
                certificates: certificates.clone(),
                heartbeat: heartbeat.clone(),
                phases,
                now: Arc::new(|| NOW),
            };
            Self {
                router: router(Arc::new(health), metrics),
                cache,
                certificates,
                heartbeat,
                phase,
            }
        }

        fn take_in_all_lists(&self) {
            for watched in WatchedResource::ALL {
                self.cache.looked(watched, InitialList::Listed);
            }
        }

        async fn get(&self, path: &str) -> (u16, String) {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let (status, _, text) = self.answer(request).await;
            (status, text)
        }

        /// Status, content type and text of an answer.
        async fn answer(&self, request: Request<Body>) -> (u16, String, String) {
            let response = self.router.clone().oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            let kind = response.headers().get(CONTENT_TYPE);
            let kind = kind.map_or("", |kind| kind.to_str().unwrap()).to_owned();
            let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            (status, kind, String::from_utf8(body.into()).unwrap())
        }
    }

    #[tokio::test]
    async fn ready_is_who_has_taken_in_every_first_list() {
        let admin = Admin::new(NOW);
        for watched in WatchedResource::ALL {
            let (status, text) = admin.get("/readyz").await;
            let line = format!("[-]watch {} failed: ", watched.as_str());
            assert_eq!(status, 503);
            assert!(text.contains(&line), "{text}");
            admin.cache.looked(watched, InitialList::NotServed);
        }
        let (status, text) = admin.get("/readyz").await;
        assert_eq!(status, 200);
        assert!(text.ends_with("readyz check passed\n"), "{text}");
        assert!(!text.contains("[-]"), "{text}");
    }

    #[tokio::test]
    async fn who_is_about_to_end_is_alive_but_not_ready() {
        let admin = Admin::new(NOW);
        admin.take_in_all_lists();
        admin.phase.send(Phase::Lingering).unwrap();
        let (status, text) = admin.get("/readyz").await;
        assert_eq!(status, 503);
        assert!(text.contains("[-]shutdown failed: "), "{text}");
        assert_eq!(admin.get("/livez").await.0, 200);
    }

    #[tokio::test]
    async fn an_expired_certificate_is_not_ready() {
        let admin = Admin::new(NOW - Duration::from_secs(31 * 24 * 3600));
        admin.take_in_all_lists();
        let (status, text) = admin.get("/readyz").await;
        assert_eq!(status, 503);
        assert!(
            text.contains("[-]certificate failed: expired at "),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_leaf_that_was_never_trusted_is_not_ready_and_one_that_was_stays_so() {
        let admin = Admin::new(NOW);
        admin.take_in_all_lists();
        admin.certificates.trusted(false, true);
        let (status, text) = admin.get("/readyz").await;
        assert_eq!(status, 503);
        assert!(text.contains("[-]certificate failed: no CA "), "{text}");
        admin.certificates.trusted(true, false);
        assert_eq!(admin.get("/readyz").await.0, 200);
        // All replicas would become unready at the same moment.
        admin.certificates.trusted(false, false);
        let (status, text) = admin.get("/readyz").await;
        assert_eq!(status, 200);
        assert!(text.contains("[+]certificate ok, but not every"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_does_not_come_round_is_not_alive() {
        let admin = Admin::new(NOW);
        assert_eq!(admin.get("/livez").await.0, 200);
        tokio::time::advance(STALLED_AFTER).await;
        let (status, text) = admin.get("/livez").await;
        assert_eq!(status, 503);
        assert!(text.contains("[-]health loop failed: "), "{text}");
        admin.heartbeat.beat();
        assert_eq!(admin.get("/livez").await.0, 200);
    }

    #[rstest]
    #[case::nothing(None, false)]
    #[case::anything(Some("*/*"), false)]
    #[case::the_older_format(Some("text/plain;version=0.0.4"), false)]
    #[case::as_prometheus_asks(
        Some(
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
        ),
        true
    )]
    #[case::in_capitals(Some("text/html, Application/OpenMetrics-Text"), true)]
    #[tokio::test]
    async fn metrics_are_served_as_openmetrics_to_who_asks_for_it(
        #[case] accept: Option<&str>,
        #[case] openmetrics: bool,
    ) {
        let mut request = Request::get("/metrics").body(Body::empty()).unwrap();
        if let Some(accept) = accept {
            let headers = request.headers_mut();
            headers.insert(ACCEPT, accept.parse().unwrap());
        }
        let admin = Admin::new(NOW);
        let (status, kind, text) = admin.answer(request).await;
        assert_eq!(status, 200);
        let expected = match openmetrics {
            true => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            false => "text/plain; version=0.0.4; charset=utf-8",
        };
        assert_eq!(kind, expected);
        assert_eq!(text.ends_with("# EOF\n"), openmetrics, "{text}");
        assert_eq!(admin.get("/").await.0, 404);
    }

    #[tokio::test]
    async fn the_tasks_that_are_alive_are_counted() {
        let tasks = [tokio::spawn(pending::<()>()), tokio::spawn(pending())];
        let (_, text) = Admin::new(NOW).get("/metrics").await;
        let counted = format!("\ntargetgate_tasks {}\n", tasks.len());
        assert!(text.contains(&counted), "{text}");
    }
}
