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

/// What a hook answers to a request.
pub(crate) enum Answer {
    /// A response. A `uid` is added to it if it lacks one.
    Response(Value),
    /// An HTTP status without a review.
    Status(u16),
    /// The hook never answers.
    Never,
}

/// A call as the hook received it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The path with its query.
    pub(crate) path: String,
    pub(crate) content_type: String,
    /// The protocol that the client chose by ALPN.
    pub(crate) protocol: Option<Vec<u8>>,
    /// The `request` of the review.
    pub(crate) request: Value,
}

type Handler = dyn Fn(&Call) -> Answer + Send + Sync;

/// A hook that listens until it is dropped. It speaks HTTP/1.1 only, as our hooks do.
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

    /// A hook that allows every request.
    pub(crate) async fn allowing() -> Self {
        Self::new(|_| allowed()).await
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().clone()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// The `clientConfig` of a registration: the URL, and the CA to trust.
    pub(crate) fn client_config(&self, path: &str) -> Value {
        json!({ "url": self.url(path), "caBundle": self.ca })
    }

    /// A webhook for the creation and update of config maps in the test's namespace, at the path `/name`,
    /// merged with `more`.
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

pub(crate) fn in_namespace(cluster: &Cluster) -> Value {
    json!({ "matchLabels": { "kubernetes.io/metadata.name": cluster.namespace } })
}

/// A selector that leaves out the object by which `register` probes.
fn not_the_probe() -> Value {
    json!({ "matchExpressions": [{ "key": "probe", "operator": "DoesNotExist" }] })
}

pub(crate) fn allowed() -> Answer {
    Answer::Response(json!({ "allowed": true }))
}

/// An answer that allows the object with a JSON Patch.
pub(crate) fn patched(operations: Value) -> Answer {
    Answer::Response(json!({
        "allowed": true,
        "patchType": "JSONPatch",
        "patch": STANDARD.encode(operations.to_string()),
    }))
}

impl Cluster {
    /// Registers mutating webhooks, and waits until the server calls them.
    pub(crate) async fn mutating(&self, webhooks: Vec<Value>) {
        self.register("MutatingWebhookConfiguration", webhooks)
            .await;
    }

    /// Registers validating webhooks, and waits until the server calls them.
    pub(crate) async fn validating(&self, webhooks: Vec<Value>) {
        self.register("ValidatingWebhookConfiguration", webhooks)
            .await;
    }

    /// Registers webhooks, which the server learns of after a while. So one more webhook is registered with
    /// them, which denies a config map that only this function creates, and the server is asked until it denies
    /// it.
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
        until("the webhooks are called", async || {
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
    // A client that does not trust the certificate closes the connection.
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let service = service_fn(|request| {
        let (calls, handler, protocol) = (calls.clone(), handler.clone(), protocol.clone());
        async move { Ok::<_, Infallible>(answered(request, protocol, &calls, &*handler).await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A client that gives up is not a failure of the hook.
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
