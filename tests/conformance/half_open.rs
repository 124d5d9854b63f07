//! Connections to the API server that stay open and carry nothing any more, as after the loss of a machine behind a
//! load balancer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use targetgate::kubernetes::client;
use targetgate::kubernetes::watch::{WatchOptions, watches};
use targetgate::metrics::Metrics;
use targetgate::state::cache::{Cache, WatchedResource};
use targetgate_core::names::ObjectKey;
use targetgate_sandbox::harness::waiting::until;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::servers::{Cluster, Server};

/// Contract 5.8.
const NOTICED_WITHIN: Duration = Duration::from_secs(45);

/// A TCP proxy that can cease to forward without closing a connection. Its kernel goes on acknowledging what arrives.
struct Proxy {
    address: SocketAddr,
    silenced: watch::Sender<u32>,
    #[expect(dead_code, reason = "held until dropped")]
    accepting: JoinSet<()>,
}

impl Proxy {
    async fn before(backend: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (silenced, silence) = watch::channel(0);
        let address = listener.local_addr().unwrap();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(backend).await.unwrap();
                // Only connections that exist by then fall silent.
                let mut silence = silence.clone();
                silence.mark_unchanged();
                connections.spawn(forward(client, server, silence));
            }
        });
        Self {
            address,
            silenced,
            accepting,
        }
    }

    /// Ceases to forward what its connections carry. New ones work.
    fn falls_silent(&self) {
        self.silenced.send_modify(|times| *times += 1);
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, mut silence: watch::Receiver<u32>) {
    let silent = tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => false,
        silent = silence.changed() => silent.is_ok(),
    };
    if silent {
        // Both connections stay open until the test ends.
        std::future::pending::<()>().await;
    }
}

/// The product's watches of this cluster, through a proxy.
async fn watched(cluster: &Cluster) -> (Arc<Cache>, Proxy, JoinSet<()>) {
    let file = Kubeconfig::read_from(cluster.control_plane().kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(file, &options)
        .await
        .unwrap();
    let backend = config.cluster_url.authority().unwrap().as_str();
    let proxy = Proxy::before(backend.parse().unwrap()).await;
    config.cluster_url = format!("https://{}", proxy.address).parse().unwrap();
    let (cache, metrics) = (Arc::<Cache>::default(), Metrics::default());
    let client = client::client(config).unwrap();
    let watches = watches(&client, &cache, &metrics, &WatchOptions::default());
    let mut running = JoinSet::new();
    running.spawn(async {
        join_all(watches.into_iter().map(|(_, watch)| watch)).await;
    });
    (cache, proxy, running)
}

#[tokio::test]
async fn a_watch_notices_within_45_seconds_that_its_connection_carries_nothing() {
    let cluster = Server::Kubernetes.cluster().await;
    let (cache, proxy, _running) = watched(&cluster).await;
    until("pods are watched", async || {
        let fails = cache.watch_fails_since(WatchedResource::Pods).is_some();
        (!fails).then_some(())
    })
    .await;
    proxy.falls_silent();
    let gate = "target-health.elbv2.k8s.aws/web";
    let gated = json!({ "spec": { "readinessGates": [{ "conditionType": gate }] } });
    let created = Instant::now();
    cluster.pod("web-1", gated).await.unwrap();
    let key = ObjectKey::new(cluster.namespace.as_str(), "web-1");
    until("the pod is known", async || {
        cache.read(|index| index.pod(&key).is_some()).then_some(())
    })
    .await;
    let took = created.elapsed();
    assert!(took <= NOTICED_WITHIN, "{took:?}");
}
