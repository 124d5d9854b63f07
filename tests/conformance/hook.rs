//! A webhook of the test's own, on a socket, and its registration.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DynamicObject, PostParams};
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use targetgate::commands::certs;
use targetgate_sandbox::harness::waiting::until;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::servers::{Cluster, create, resource};

/// What a hook answers a request.
pub(crate) enum Answer {
    /// A response, whose `uid` is added where it has none.
    Response(Value),
    /// An HTTP status and no review.
    Status(u16),
    /// Nothing, ever.
    Never,
}

/// A call as the hook has seen it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// With the query.
    pub(crate) path: String,
    pub(crate) content_type: String,
    /// What the client chose by ALPN.
    pub(crate) protocol: Option<Vec<u8>>,
    /// The review's `request`.
    pub(crate) request: Value,
}

type Handler = dyn Fn(&Call) -> Answer + Send + Sync;

/// A hook that listens until it is dropped, and speaks HTTP/1.1 only, as a Service's does.
pub(crate) struct Hook {
    address: SocketAddr,
    ca: String,
    calls: Arc<Mutex<Vec<Call>>>,
    #[expect(dead_code, reason = "held until dropped")]
    tasks: JoinSet<()>,
}

impl Hook {
    pub(crate) async fn new(answer: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        let made = certs::make("hooks", &[], Timestamp::now()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls(&made)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, acceptor, calls.clone(), Arc::new(answer)));
        Self {
            address,
            ca: STANDARD.encode(made.ca),
            calls,
            tasks,
        }
    }

    /// One that allows everything.
    pub(crate) async fn allowing() -> Self {
        Self::new(|_| allowed()).await
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().clone()
    }

    /// Its URL at a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// Where and whom to trust, as a registration has it.
    pub(crate) fn client_config(&self, path: &str) -> Value {
        json!({ "url": self.url(path), "caBundle": self.ca })
    }

    /// A webhook for the creation and update of config maps in the test's namespace, at the path of
    /// its name, with this on top.
    pub(crate) fn webhook(&self, cluster: &Cluster, name: &str, more: Value) -> Value {
        let mut webhook = json!({
            "name": format!("{name}.example.com"),
            "clientConfig": self.client_config(&format!("/{name}")),
            "rules": [{
                "operations": ["CREATE", "UPDATE"],
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "resources": ["configmaps"],
            }],
            "namespaceSelector": in_namespace(cluster),
            "objectSelector": not_the_probe(),
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 10,
        });
        json_patch::merge(&mut webhook, &more);
        webhook
    }
}

/// Selects the test's namespace.
pub(crate) fn in_namespace(cluster: &Cluster) -> Value {
    json!({ "matchLabels": { "kubernetes.io/metadata.name": cluster.namespace } })
}

/// Leaves out what `register` asks with.
fn not_the_probe() -> Value {
    json!({ "matchExpressions": [{ "key": "probe", "operator": "DoesNotExist" }] })
}

/// Allowed as it is.
pub(crate) fn allowed() -> Answer {
    Answer::Response(json!({ "allowed": true }))
}

/// Allowed with a JSON Patch.
pub(crate) fn patched(operations: Value) -> Answer {
    Answer::Response(json!({
        "allowed": true,
        "patchType": "JSONPatch",
        "patch": STANDARD.encode(operations.to_string()),
    }))
}

impl Cluster {
    /// Registers mutating webhooks, and returns when the server asks them.
    pub(crate) async fn mutating(&self, webhooks: Vec<Value>) {
        self.register("MutatingWebhookConfiguration", webhooks)
            .await;
    }

    /// The same for validating ones.
    pub(crate) async fn validating(&self, webhooks: Vec<Value>) {
        self.register("ValidatingWebhookConfiguration", webhooks)
            .await;
    }

    /// A server learns of a registration after a while. So one more webhook goes with it, which refuses
    /// a config map that nobody but this function makes, and the server is asked until it does.
    async fn register(&self, kind: &str, mut webhooks: Vec<Value>) {
        let probe = Hook::new(|_| Answer::Response(json!({ "allowed": false }))).await;
        let label = json!({ "probe": kind });
        webhooks.push(probe.webhook(
            self,
            "probe",
            json!({
                "objectSelector": { "matchLabels": label, "matchExpressions": null },
            }),
        ));
        let resource = resource("admissionregistration.k8s.io", "v1", kind);
        let configurations: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        let name = &self.namespace;
        let object = json!({ "metadata": { "name": name }, "webhooks": webhooks });
        create(&configurations, object).await.unwrap();

        let asked = json!({ "metadata": { "name": "probe", "labels": label } });
        let asked: ConfigMap = serde_json::from_value(asked).unwrap();
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        until("the webhooks are known", async || {
            self.config_maps().create(&dry, &asked).await.err()
        })
        .await;
    }
}

fn tls(made: &certs::Made) -> ServerConfig {
    let chain = CertificateDer::pem_slice_iter(made.certificate.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    calls: Arc<Mutex<Vec<Call>>>,
    handler: Arc<Handler>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, calls, handler) = (acceptor.clone(), calls.clone(), handler.clone());
        connections.spawn(serve(stream, acceptor, calls, handler));
    }
}

async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    calls: Arc<Mutex<Vec<Call>>>,
    handler: Arc<Handler>,
) {
    // Who does not trust the certificate goes away.
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let service = service_fn(|request| {
        let (calls, handler, protocol) = (calls.clone(), handler.clone(), protocol.clone());
        async move { Ok::<_, Infallible>(answered(request, protocol, &calls, &*handler).await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A client that gave up is no failure of the hook.
    let _ = connection.await;
}

async fn answered(
    request: Request<Incoming>,
    protocol: Option<Vec<u8>>,
    calls: &Mutex<Vec<Call>>,
    handler: &Handler,
) -> Response<Full<Bytes>> {
    let path = request.uri().to_string();
    let content_type = request.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let call = Call {
        path,
        content_type,
        protocol,
        request: review["request"].clone(),
    };
    calls.lock().push(call.clone());
    match handler(&call) {
        Answer::Response(mut response) => {
            if response["uid"].is_null() {
                response["uid"] = call.request["uid"].clone();
            }
            let review = json!({
                "apiVersion": "admission.k8s.io/v1",
                "kind": "AdmissionReview",
                "response": response,
            });
            Response::new(Full::new(Bytes::from(review.to_string())))
        }
        Answer::Status(code) => {
            let mut response = Response::new(Full::new(Bytes::from("no review")));
            *response.status_mut() = code.try_into().unwrap();
            response
        }
        Answer::Never => std::future::pending().await,
    }
}
