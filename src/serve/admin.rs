//! `/livez`, `/readyz` and `/metrics`, in the forms that Kubernetes and Prometheus are used to.
//!
//! Source: <https://kubernetes.io/docs/reference/using-api/health-checks/>

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::health::{Check, Health};
use crate::metrics::{self, Metrics};

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

async fn scrape(State(metrics): State<Arc<Metrics>>) -> Response {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.encode()).into_response()
}

/// Every check by name, and the status that probes go by.
fn report(endpoint: &str, checks: &[Check]) -> Response {
    let mut text = String::new();
    for Check { name, failure } in checks {
        // Writing into a String does not fail.
        let _ = match failure {
            None => writeln!(text, "[+]{name} ok"),
            Some(failure) => writeln!(text, "[-]{name} failed: {failure}"),
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
