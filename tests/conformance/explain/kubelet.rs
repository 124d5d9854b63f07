//! A node whose kubelet forwards ports, and nothing else: the API server that is tested has none. It stands at the end
//! of what kube-apiserver itself proxies, over TLS and a WebSocket, and connects to this machine's loopback.
//!
//! Source: <https://github.com/kubernetes/kubernetes/blob/master/staging/src/k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go>

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use futures::{SinkExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, Patch, PatchParams};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::install::{Installed, NAMESPACE};
use crate::servers::{create, pod};

const NODE: &str = "node-of-the-leader";
/// The protocol of ports over a WebSocket, as the kubelet answers it.
const PROTOCOL: &str = "v4.channel.k8s.io";

/// A running kubelet, which ends when dropped.
pub(super) struct Kubelet {
    /// What it was asked for.
    asked: Arc<Mutex<Vec<String>>>,
    #[expect(dead_code, reason = "held until dropped")]
    tasks: JoinSet<()>,
}

impl Kubelet {
    /// A node with this kubelet, on which pod `targetgate-0` of the installation runs.
    pub(super) async fn of(installed: &Installed) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = installed.cluster.client.clone();
        let nodes: Api<Node> = Api::all(client.clone());
        create(&nodes, json!({ "metadata": { "name": NODE } }))
            .await
            .unwrap();
        let status = json!({ "status": {
            "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": port } } } });
        let params = PatchParams::default();
        nodes
            .patch_status(NODE, &params, &Patch::Merge(status))
            .await
            .unwrap();
        let pods: Api<Pod> = Api::namespaced(client, NAMESPACE);
        // As the namespace's level of Pod Security wants it.
        let context = json!({ "allowPrivilegeEscalation": false, "runAsNonRoot": true,
            "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" } });
        let container = json!({ "name": "web", "image": "web", "securityContext": context });
        let on_node = json!({ "metadata": { "labels": { "app": "targetgate" } },
            "spec": { "nodeName": NODE, "containers": [container] } });
        let made = create(&pods, pod("targetgate-0", on_node)).await.unwrap();
        let running = json!({ "status": { "phase": "Running" } });
        let name = made.metadata.name.unwrap();
        pods.patch_status(&name, &params, &Patch::Merge(running))
            .await
            .unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, asked.clone()));
        Self { asked, tasks }
    }

    /// The paths that it was asked for.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(listener: TcpListener, asked: Arc<Mutex<Vec<String>>>) {
    let acceptor = acceptor();
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, asked) = (acceptor.clone(), asked.clone());
        connections.spawn(async move {
            // An API server that gives up closes the connection.
            _ = forward(acceptor, stream, &asked).await;
        });
    }
}

fn acceptor() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![made.cert.der().clone()], key);
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

async fn forward(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    asked: &Mutex<Vec<String>>,
) -> anyhow::Result<()> {
    let stream = acceptor.accept(stream).await?;
    let mut port = 0;
    #[allow(clippy::result_large_err, reason = "it is the library's type")]
    let answer = |request: &Request, mut response: Response| {
        let query = request.uri().query().unwrap_or_default();
        let named = query.split('&').find_map(|pair| pair.strip_prefix("port="));
        port = named.and_then(|port| port.parse().ok()).unwrap_or_default();
        asked.lock().unwrap().push(request.uri().path().to_owned());
        let protocol = PROTOCOL.parse().unwrap();
        response
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", protocol);
        Ok(response)
    };
    let (mut out, mut input) = accept_hdr_async(stream, answer).await?.split();
    let [low, high] = u16::to_le_bytes(port);
    // Each port has a channel of data and one of errors, which begin with the port.
    for channel in [0, 1] {
        out.send(Message::binary(vec![channel, low, high])).await?;
    }
    let (mut from, mut to) = match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
        Ok(pod) => pod.into_split(),
        Err(error) => {
            let told = [&[1][..], error.to_string().as_bytes()].concat();
            out.send(Message::binary(told)).await?;
            return Ok(out.close().await?);
        }
    };
    let mut buffer = vec![0; 4096];
    loop {
        tokio::select! {
            read = from.read(&mut buffer) => match read? {
                0 => return Ok(out.close().await?),
                length => {
                    let data = [&[0][..], &buffer[..length]].concat();
                    out.send(Message::binary(data)).await?;
                }
            },
            message = input.next() => match message {
                Some(Ok(Message::Binary(data))) if data.len() > 1 => to.write_all(&data[1..]).await?,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
                Some(Ok(_)) => {}
            },
        }
    }
}
