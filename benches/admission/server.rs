//! The server that is measured: our hooks, and beside them the routes that do nothing.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::IntoResponse;
use axum::routing::post;
use bytes::Bytes;
use http::Request;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use targetgate::admission::body::Limits as BodyLimits;
use targetgate::admission::{self, Hooks};
use targetgate::cluster::cache::{Cache, FirstLook, Watched};
use targetgate::dev_certs;
use targetgate::metrics::Metrics;
use targetgate::model::{Binding, IpFamily, Namespace, PortRef, Service, ServicePort, TargetType};
use targetgate::names::{BindingApi, ObjectKey};
use targetgate::rules::gates::GatePolicy;
use targetgate::serve::certificates::{Certificates, PemFiles};
use targetgate::serve::edge::{self, Edge, Limits};
use targetgate::serve::phases;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use crate::load::body;

/// The two that are compared: nothing, and ours.
pub(crate) const ROUTES: [&str; 2] = ["/no-op", HOOK];
const HOOK: &str = "/mutate-v1-pod";
const NAMESPACE: &str = "shop";
const SERVICES: usize = 50;

/// Starts it on a free port of loopback, with one thread, for as long as the process lives. Its CA is
/// written to `ca`.
pub(crate) fn start(ca: &Path) -> SocketAddr {
    let made = dev_certs::make(NAMESPACE, &[], Timestamp::now()).unwrap();
    let files = PemFiles {
        certificate: ca.with_file_name("tls.crt"),
        key: ca.with_file_name("tls.key"),
    };
    std::fs::write(ca, made.ca).unwrap();
    std::fs::write(&files.certificate, made.certificate).unwrap();
    std::fs::write(&files.key, made.key).unwrap();
    let metrics = Arc::new(Metrics::default());
    let certificates = Certificates::new(files.load().unwrap(), metrics.clone());
    let tls = edge::tls(Arc::new(certificates)).unwrap();

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let hooks = hooks(metrics.clone());
    let router = runtime.block_on(with_no_ops(hooks));
    let edge = Arc::new(Edge::https(router, tls, Limits::default(), metrics));
    std::thread::spawn(move || {
        let (_phase, phases) = phases();
        runtime.block_on(edge.serve(listener, phases));
    });
    address
}

fn hooks(metrics: Arc<Metrics>) -> Router {
    admission::router(Hooks {
        cache: Arc::new(cache()),
        policy: GatePolicy::default(),
        metrics,
        bindings: None,
        limits: BodyLimits::default(),
    })
}

/// A namespace of 50 Services with a binding each, of which the reviews' pods belong to one.
fn cache() -> Cache {
    let cache = Cache::default();
    cache.write(|index| {
        index.apply_namespace(&NAMESPACE.into(), Namespace { opted_in: true });
        for number in 0..SERVICES {
            let name = format!("checkout-{number}");
            index.apply_service(&ObjectKey::new(NAMESPACE, &*name), service(&name));
            index.apply_binding(&NAMESPACE.into(), binding(&name));
        }
    });
    for watched in Watched::ALL {
        cache.looked(watched, FirstLook::Listed);
    }
    cache
}

fn service(name: &str) -> Service {
    Service {
        selector: [
            ("app.kubernetes.io/name".into(), name.into()),
            ("app.kubernetes.io/component".into(), "api".into()),
        ]
        .into(),
        external_name: false,
        ports: vec![ServicePort {
            name: Some("http".into()),
            port: 80,
            target_port: Some(PortRef::Number(8080)),
        }],
        opted_out: false,
    }
}

fn binding(service: &str) -> Binding {
    Binding {
        api: BindingApi::Elbv2,
        name: format!("k8s-shop-{service}").into(),
        arn: None,
        target_type: Some(TargetType::Ip),
        family: IpFamily::V4,
        service: service.into(),
        port: Some(PortRef::Number(80)),
        role: None,
        multi_cluster: false,
        opted_out: false,
    }
}

/// Adds a route for each review that reads the body and answers what the hook would, as a constant.
async fn with_no_ops(hooks: Router) -> Router {
    let mut router = hooks.clone();
    for review in ["small", "typical", "large"] {
        let request = Request::post(HOOK).header(CONTENT_TYPE, "application/json");
        let request = request.body(Body::from(body(review))).unwrap();
        let answer = hooks.clone().oneshot(request).await.unwrap();
        let answer = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains(r#""patch":"#), "one gate is due: {text}");
        let no_op = async move |_: Bytes| {
            ([(CONTENT_TYPE, "application/json")], answer.clone()).into_response()
        };
        router = router.route(&format!("/no-op/{review}"), post(no_op));
    }
    router
}
