//! Its hooks of bindings, Services and Ingresses, which allow whatever they are asked, and without
//! which the API server refuses it.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::future::pending;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::core::ClusterResourceScope;
use kube::{Client, Resource};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::elb::serve::accept;
use crate::harness::listen;

/// The name of both configurations; an installation for one namespace has a suffix of its own.
const NAME: &str = "aws-load-balancer-webhook";
/// The longest review that is read, in bytes. The API server's own limit of an object is 3 MiB.
const MAX_REVIEW: usize = 8 << 20;
/// Nothing listens here: the address of hooks that have never been served.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

pub(super) struct Hooks {
    client: Client,
    namespace: Option<String>,
}

impl Hooks {
    pub(super) fn new(client: Client, namespace: Option<String>) -> Self {
        Self { client, namespace }
    }

    /// Registers both configurations, at an address where nothing listens.
    pub(super) async fn install(&self) -> anyhow::Result<()> {
        self.apply::<MutatingWebhookConfiguration>(self.mutating(NOWHERE, ""))
            .await?;
        self.apply::<ValidatingWebhookConfiguration>(self.validating(NOWHERE, ""))
            .await
    }

    pub(super) async fn remove(&self) -> anyhow::Result<()> {
        self.delete::<MutatingWebhookConfiguration>().await?;
        self.delete::<ValidatingWebhookConfiguration>().await
    }

    /// Listens, and makes what is registered of its configurations call there. Returns the server.
    pub(super) async fn serve(&self) -> anyhow::Result<impl Future<Output = ()> + use<>> {
        let (listener, address) = listen().await?;
        let (acceptor, authority) = certificate()?;
        if self.has::<MutatingWebhookConfiguration>().await? {
            let hooks = self.mutating(address, &authority);
            self.apply::<MutatingWebhookConfiguration>(hooks).await?;
        }
        if self.has::<ValidatingWebhookConfiguration>().await? {
            let hooks = self.validating(address, &authority);
            self.apply::<ValidatingWebhookConfiguration>(hooks).await?;
        }
        Ok(async move {
            // Connections end with the server, as those of a killed process do.
            let mut connections = tokio::task::JoinSet::new();
            let handle = |stream, permit| {
                while connections.try_join_next().is_some() {}
                let connection = answer_on(acceptor.clone(), stream);
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            };
            accept(&listener, pending(), handle).await;
        })
    }

    fn name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{NAME}-{namespace}"),
            None => NAME.to_owned(),
        }
    }

    fn mutating(&self, address: SocketAddr, authority: &str) -> Value {
        let bindings = bindings("mtargetgroupbinding.elbv2.k8s.aws");
        let services = json!({
            "name": "mservice.elbv2.k8s.aws",
            "rules": [rule("", "v1", "services", &["CREATE"])],
        });
        let hooks = [bindings, services];
        self.configuration("MutatingWebhookConfiguration", hooks, address, authority)
    }

    fn validating(&self, address: SocketAddr, authority: &str) -> Value {
        let bindings = bindings("vtargetgroupbinding.elbv2.k8s.aws");
        let ingresses = json!({
            "name": "vingress.elbv2.k8s.aws",
            "rules": [rule("networking.k8s.io", "v1", "ingresses", &["CREATE", "UPDATE"])],
        });
        let hooks = [bindings, ingresses];
        self.configuration("ValidatingWebhookConfiguration", hooks, address, authority)
    }

    fn configuration(
        &self,
        kind: &str,
        hooks: [Value; 2],
        address: SocketAddr,
        authority: &str,
    ) -> Value {
        let label = "kubernetes.io/metadata.name";
        let selector = match &self.namespace {
            Some(namespace) => json!({"matchLabels": {label: namespace}}),
            None => json!({}),
        };
        let whole = hooks.map(|mut hook| {
            hook["clientConfig"] = json!({"url": format!("https://{address}/")});
            if !authority.is_empty() {
                hook["clientConfig"]["caBundle"] = json!(STANDARD.encode(authority));
            }
            hook["namespaceSelector"] = selector.clone();
            hook["failurePolicy"] = json!("Fail");
            hook["sideEffects"] = json!("None");
            hook["admissionReviewVersions"] = json!(["v1"]);
            hook
        });
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": self.name()},
            "webhooks": whole,
        })
    }

    async fn has<K: Configuration>(&self) -> anyhow::Result<bool> {
        let api: Api<K> = Api::all(self.client.clone());
        let found = api.get_opt(&self.name()).await;
        Ok(found
            .context("cannot read the incumbent's hooks")?
            .is_some())
    }

    async fn apply<K: Configuration>(&self, configuration: Value) -> anyhow::Result<()> {
        let api: Api<K> = Api::all(self.client.clone());
        let params = PatchParams::apply("aws-load-balancer-controller").force();
        let applied = api
            .patch(&self.name(), &params, &Patch::Apply(configuration))
            .await;
        applied
            .map(drop)
            .context("cannot register the incumbent's hooks")
    }

    async fn delete<K: Configuration>(&self) -> anyhow::Result<()> {
        let api: Api<K> = Api::all(self.client.clone());
        match api.delete(&self.name(), &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            deleted => deleted
                .map(drop)
                .context("cannot remove the incumbent's hooks"),
        }
    }
}

/// Both kinds of configurations.
trait Configuration:
    Resource<Scope = ClusterResourceScope, DynamicType = ()>
    + Clone
    + std::fmt::Debug
    + DeserializeOwned
{
}

impl Configuration for MutatingWebhookConfiguration {}
impl Configuration for ValidatingWebhookConfiguration {}

fn bindings(name: &str) -> Value {
    let resource = "targetgroupbindings";
    let rule = rule("elbv2.k8s.aws", "v1beta1", resource, &["CREATE", "UPDATE"]);
    json!({"name": name, "rules": [rule]})
}

fn rule(group: &str, version: &str, resource: &str, operations: &[&str]) -> Value {
    json!({
        "apiGroups": [group],
        "apiVersions": [version],
        "resources": [resource],
        "operations": operations,
    })
}

/// A certificate for loopback, and its PEM.
fn certificate() -> anyhow::Result<(TlsAcceptor, String)> {
    let made = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()])?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::from(key))?;
    Ok((TlsAcceptor::from(Arc::new(config)), made.cert.pem()))
}

async fn answer_on(acceptor: TlsAcceptor, stream: TcpStream) {
    // A client that does not trust the certificate, or goes away, concerns only that client.
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ = connection.await;
}

async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let body = Limited::new(request.into_body(), MAX_REVIEW)
        .collect()
        .await;
    let review = body
        .ok()
        .and_then(|body| serde_json::from_slice::<Value>(&body.to_bytes()).ok());
    let Some(review) = review else {
        let mut refused = Response::new(Full::default());
        *refused.status_mut() = StatusCode::BAD_REQUEST;
        return refused;
    };
    let allowed = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": review["request"]["uid"], "allowed": true},
    });
    Response::new(Full::from(allowed.to_string()))
}
