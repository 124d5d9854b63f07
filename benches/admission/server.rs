//! The servers that are measured: our hooks with the no-op routes beside them, the same hooks in a namespace of
//! many bindings, and rustls alone.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use aws_config::{BehaviorVersion, SdkConfig};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::IntoResponse;
use axum::routing::post;
use bytes::Bytes;
use http::Request;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use kube::{Client, Config};
use targetgate::clock;
use targetgate::commands::certs;
use targetgate::compose::{Parts, Source, compose};
use targetgate::metrics::Metrics;
use targetgate::serve::certificates::{Certificate, Certificates, PemFiles};
use targetgate::serve::listener;
use targetgate::serve::listener::{Limits, Listener};
use targetgate::state::api_server::ApiServer;
use targetgate::state::cache::{Cache, InitialList, WatchedResource};
use targetgate_core::drain::{DrainMode, DrainPolicy, ServerVersion};
use targetgate_core::model::{
    Binding, IpFamily, Namespace, Policies, PortRef, Protocol, Registration, Service, ServicePort,
    TargetType,
};
use targetgate_core::names::{BindingApi, ObjectKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use targetgate_sandbox::load::body;

/// The two routes that are compared: the no-op, and our hook.
pub(crate) const ROUTES: [&str; 2] = ["/no-op", HOOK];
const HOOK: &str = "/mutate-v1-pod";
const NAMESPACE: &str = "shop";
/// The number of Services, and of bindings, in the namespace with few.
pub(crate) const FEW: usize = 50;
/// The number of Services, and of bindings, in the namespace with many.
pub(crate) const MANY: usize = 5_000;

/// The addresses of the servers.
pub(crate) struct Servers {
    /// Our hooks with few bindings.
    pub(crate) few: SocketAddr,
    /// Our hooks with many bindings.
    pub(crate) many: SocketAddr,
    /// Our hooks with few bindings, where drain is on.
    pub(crate) drain: SocketAddr,
    /// rustls, with a fixed answer after each request.
    pub(crate) rustls: SocketAddr,
}

/// Starts the servers on free ports of loopback, with one thread each, for as long as the process lives. Writes
/// their CA to `ca`.
pub(crate) fn start(ca: &Path) -> Servers {
    let made = certs::make(NAMESPACE, &[], Timestamp::now()).unwrap();
    let files = PemFiles {
        certificate: ca.with_file_name("tls.crt"),
        key: ca.with_file_name("tls.key"),
    };
    std::fs::write(ca, made.ca).unwrap();
    std::fs::write(&files.certificate, made.certificate).unwrap();
    std::fs::write(&files.key, made.key).unwrap();
    let certificate = files.load().unwrap();
    let certificates = Certificates::new(certificate.clone(), &Metrics::default());
    Servers {
        few: serve_hooks(FEW, DrainMode::Off, &certificate),
        many: serve_hooks(MANY, DrainMode::Off, &certificate),
        drain: serve_hooks(FEW, DrainMode::Sleep, &certificate),
        rustls: serve_rustls(listener::tls(Arc::new(certificates)).unwrap()),
    }
}

/// Serves the product's hooks, without the rest of the product.
fn serve_hooks(services: usize, mode: DrainMode, certificate: &Certificate) -> SocketAddr {
    let (runtime, listener) = listen();
    let address = listener.local_addr().unwrap();
    let product = {
        let _entered = runtime.enter();
        let api = Config::new("http://127.0.0.1:9".parse().unwrap());
        let aws = SdkConfig::builder().behavior_version(BehaviorVersion::latest());
        let kube = Client::try_from(api).unwrap();
        compose(Parts {
            cache: Arc::new(cache(services)),
            server: Arc::new(server()),
            drain: DrainPolicy {
                mode,
                ..DrainPolicy::default()
            },
            certificate: Source::Given(certificate.clone()),
            ..Parts::new(kube, aws.build(), clock::system())
        })
        .unwrap()
    };
    let router = runtime.block_on(with_no_ops(product.reviews));
    let (limits, metrics) = (Limits::default(), product.metrics);
    let edge = Arc::new(Listener::https(router, product.tls, limits, &metrics));
    std::thread::spawn(move || {
        let _serving = product.phase;
        runtime.block_on(edge.serve(listener, product.phases));
    });
    address
}

/// Accepts connections, makes their handshakes, reads requests, and gives the shortest answer of HTTP.
fn serve_rustls(tls: TlsAcceptor) -> SocketAddr {
    let (runtime, listener) = listen();
    let address = listener.local_addr().unwrap();
    let serve = async move || {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let tls = tls.clone();
            tokio::spawn(async move {
                let mut connection = tls.accept(stream).await.unwrap();
                // A small review arrives in one piece, as one TLS record.
                let mut request = vec![0; 16 * 1024];
                while let Ok(1..) = connection.read(&mut request).await {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    connection.write_all(answer).await.unwrap();
                    connection.flush().await.unwrap();
                }
            });
        }
    };
    std::thread::spawn(move || runtime.block_on(serve()));
    address
}

fn listen() -> (Runtime, TcpListener) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    (runtime, listener)
}

/// An API server whose pods can sleep.
fn server() -> ApiServer {
    let server = ApiServer::default();
    server.told(ServerVersion {
        major: 1,
        minor: 36,
    });
    server
}

/// A namespace of Services with one binding each. The pods of the reviews are selected by one of them.
fn cache(services: usize) -> Cache {
    let cache = Cache::default();
    cache.write(|index| {
        index.apply_namespace(
            &NAMESPACE.into(),
            Namespace {
                opted_in: true,
                ..Namespace::default()
            },
        );
        for number in 0..services {
            let name = format!("checkout-{number}");
            index.apply_service(&ObjectKey::new(NAMESPACE, &*name), service(&name));
            index.apply_binding(&NAMESPACE.into(), binding(&name));
        }
    });
    for watched in WatchedResource::ALL {
        cache.looked(watched, InitialList::Listed);
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
        publish_not_ready: false,
        ports: vec![ServicePort {
            name: Some("http".into()),
            port: 80,
            protocol: Protocol::Tcp,
            target_port: Some(PortRef::Number(8080)),
        }],
        opted_out: false,
    }
}

fn binding(service: &str) -> Binding {
    Binding {
        api: BindingApi::Elbv2,
        name: format!("k8s-shop-{service}").into(),
        uid: None,
        arn: None,
        group_name: Some("web".into()),
        target_type: Some(TargetType::Ip),
        family: IpFamily::V4,
        load_balancer: None,
        service: service.into(),
        port: Some(PortRef::Number(80)),
        role: None,
        multi_cluster: false,
        opted_out: false,
        terminating: false,
        policies: Policies::default(),
        registration: Registration::default(),
        unreadable: vec![],
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
