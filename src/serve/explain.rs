//! What this replica knows of a namespace or pod, for `targetgate explain`: JSON on a loopback address, which only a
//! port-forward to the pod reaches (contract 10).

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use targetgate_core::explain::leader::{GatesView, RegistrarView, ReplicaView};

use crate::clock::Now;
use crate::state::questions::Asker;

/// Whom the listener asks.
#[derive(Clone)]
pub struct Known {
    pub gates: Asker<GatesView>,
    /// `None` without a registrar.
    pub registrar: Option<Asker<RegistrarView>>,
    /// The name of our own pod.
    pub pod: Option<String>,
    pub now: Now,
}

/// The router of `--explain-listen`.
pub fn router(known: Known) -> Router {
    Router::new()
        .route("/explain/v1/{namespace}", get(of_namespace))
        .route("/explain/v1/{namespace}/{pod}", get(of_pod))
        .with_state(known)
}

async fn of_namespace(State(known): State<Known>, Path(namespace): Path<String>) -> Response {
    answer(&known, &namespace, None).await
}

async fn of_pod(
    State(known): State<Known>,
    Path((namespace, pod)): Path<(String, String)>,
) -> Response {
    answer(&known, &namespace, Some(&pod)).await
}

async fn answer(known: &Known, namespace: &str, pod: Option<&str>) -> Response {
    let registrar = async {
        match &known.registrar {
            Some(registrar) => registrar.ask(namespace, None).await.map(Some),
            None => Some(None),
        }
    };
    let (gates, registrar) = tokio::join!(known.gates.ask(namespace, pod), registrar);
    let (Some(gates), Some(registrar)) = (gates, registrar) else {
        let stuck = "a loop of this replica does not answer\n";
        return (StatusCode::SERVICE_UNAVAILABLE, stuck).into_response();
    };
    let view = ReplicaView::new(
        known.pod.clone(),
        namespace,
        (known.now)(),
        gates,
        registrar,
    );
    match serde_json::to_string(&view) {
        Ok(json) => ([(CONTENT_TYPE, "application/json")], json).into_response(),
        // None of its maps has keys that are not strings.
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::{Body, to_bytes};
    use http::Request;
    use jiff::Timestamp;
    use tower::ServiceExt as _;

    use super::*;
    use crate::state::questions::{Questions, questions};

    fn known() -> (Known, Questions<GatesView>, Questions<RegistrarView>) {
        let (gates, of_gates) = questions();
        let (registrar, of_registrar) = questions();
        let known = Known {
            gates,
            registrar: Some(registrar),
            pod: Some("targetgate-0".to_owned()),
            now: Arc::new(|| Timestamp::UNIX_EPOCH),
        };
        (known, of_gates, of_registrar)
    }

    async fn get(known: Known, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router(known).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.into()).unwrap())
    }

    #[tokio::test]
    async fn a_replica_tells_what_its_loops_know_of_a_pod() {
        let (known, mut of_gates, mut of_registrar) = known();
        let answering = async {
            let question = of_gates.next().await.unwrap();
            assert_eq!(question.pod.as_deref(), Some("web-0"));
            question.answer(GatesView {
                leads: true,
                ..GatesView::default()
            });
            let question = of_registrar.next().await.unwrap();
            assert_eq!(
                (&*question.namespace, question.pod.as_deref()),
                ("shop", None)
            );
            question.answer(RegistrarView::default());
        };
        let ((status, body), ()) = tokio::join!(get(known, "/explain/v1/shop/web-0"), answering);
        assert_eq!(status, 200);
        let view: ReplicaView = serde_json::from_str(&body).unwrap();
        assert!(view.gates.leads && view.registrar.is_some());
        assert_eq!(
            (&*view.kind, view.pod.as_deref()),
            ("ReplicaView", Some("targetgate-0"))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_is_stuck_is_told_and_not_waited_for() {
        let (known, _of_gates, of_registrar) = known();
        drop(of_registrar);
        let (status, body) = get(known.clone(), "/explain/v1/shop").await;
        assert_eq!((status, body.contains("does not answer")), (503, true));
        assert_eq!(get(known, "/metrics").await.0, 404);
    }
}
