//! Asks the leader what it knows, by a port-forward to its pod (contract 10).
//!
//! Needs the verb `get` on the Lease, and `get` and `create` on `pods/portforward`: a WebSocket begins with a GET, and
//! API servers from 1.35 on ask for both.

use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::HOST;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::Api;
use targetgate_core::explain::leader::{API_VERSION, ReplicaView};
use targetgate_core::names::ObjectKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::kubernetes::why;

/// How long all of it may take. Chosen: a kubelet answers within a second, and who asks has other ways.
const PATIENCE: Duration = Duration::from_secs(5);
/// An answer is at most this long: its gates and bindings are bounded in number.
const MAX_LENGTH: usize = 8 << 20;

/// What the holder of this Lease knows of a namespace, or of one pod of it.
///
/// # Errors
/// Why the holder cannot be asked, or does not lead.
pub async fn leader(
    client: &Client,
    lease: &ObjectKey,
    port: u16,
    namespace: &str,
    pod: Option<&str>,
) -> Result<ReplicaView, String> {
    let asked = async {
        let holder = holder(client, lease).await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), &lease.namespace);
        let forwarded = pods.portforward(&holder, &[port]).await;
        let mut forwarded = forwarded.map_err(|error| {
            let why = why(&error);
            format!("no port-forward to pod {}/{holder}: {why}", lease.namespace)
        })?;
        let refused = forwarded.take_error(port);
        let stream = forwarded.take_stream(port).ok_or("no stream of the port")?;
        let path = match pod {
            Some(pod) => format!("/explain/v1/{namespace}/{pod}"),
            None => format!("/explain/v1/{namespace}"),
        };
        let answer = get(stream, &path).await;
        let answer = match (answer, refused) {
            (Err(error), Some(refused)) => {
                // The kubelet's own words say more than that the stream ended.
                let said = timeout(Duration::from_millis(100), refused).await;
                Err(said.ok().flatten().unwrap_or(error))
            }
            (answer, _) => answer,
        };
        let told = |why| format!("port {port} of pod {}/{holder}: {why}", lease.namespace);
        parsed(&answer.map_err(told)?).map_err(told)
    };
    let asked = timeout(PATIENCE, asked).await;
    asked.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")))
}

/// The name of the holder's pod, which stands before the last `_` of its identity.
async fn holder(client: &Client, lease: &ObjectKey) -> Result<String, String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), &lease.namespace);
    let found = leases.get_opt(&lease.name).await;
    let found = found.map_err(|error| format!("Lease {lease} cannot be read: {}", why(&error)))?;
    let found = found.ok_or_else(|| format!("Lease {lease} does not exist"))?;
    let identity = found.spec.and_then(|spec| spec.holder_identity);
    let identity = identity.filter(|identity| !identity.is_empty());
    let identity = identity.ok_or_else(|| format!("no replica holds Lease {lease}"))?;
    let pod = identity.rsplit_once('_').map(|(pod, _)| pod.to_owned());
    Ok(pod.unwrap_or(identity))
}

async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
) -> Result<Bytes, String> {
    let (mut sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let request = Request::get(path).header(HOST, "localhost");
    let request = request.body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let asked = async {
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_LENGTH).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        match status.is_success() {
            true => Ok(body),
            false => Err(format!(
                "{status}: {}",
                String::from_utf8_lossy(&body).trim()
            )),
        }
    };
    tokio::select! {
        answer = asked => answer,
        // The end of the connection shows in the answer.
        () = async { let _ = connection.await; pending().await } => Err("closed".to_owned()),
    }
}

fn parsed(answer: &[u8]) -> Result<ReplicaView, String> {
    let view: ReplicaView = serde_json::from_slice(answer)
        .map_err(|error| format!("an answer that cannot be read: {error}"))?;
    match (&*view.api_version, view.gates.leads) {
        (API_VERSION, true) => Ok(view),
        (API_VERSION, false) => Err("this replica does not lead yet, or not any more".to_owned()),
        (other, _) => Err(format!(
            "it answers as {other}, which this version does not know"
        )),
    }
}
