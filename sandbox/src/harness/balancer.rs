//! A stand-in for kube-proxy and a Service: it forwards each new TCP connection to one of the
//! current endpoints, in turn, and keeps it there for as long as both ends want.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail as the tests themselves do"
)]

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub struct Balancer {
    /// The address on which it listens.
    pub address: SocketAddr,
    endpoints: Arc<Mutex<Vec<SocketAddr>>>,
    #[expect(dead_code, reason = "held until dropped")]
    accepting: JoinSet<()>,
}

impl Balancer {
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoints = Arc::<Mutex<Vec<SocketAddr>>>::default();
        let mut accepting = JoinSet::new();
        let address = listener.local_addr().unwrap();
        accepting.spawn(accept(listener, endpoints.clone()));
        Self {
            address,
            endpoints,
            accepting,
        }
    }

    pub fn add(&self, endpoint: SocketAddr) {
        self.endpoints.lock().push(endpoint);
    }

    pub fn remove(&self, endpoint: SocketAddr) {
        self.endpoints.lock().retain(|known| *known != endpoint);
    }
}

async fn accept(listener: TcpListener, endpoints: Arc<Mutex<Vec<SocketAddr>>>) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let next = {
            let mut endpoints = endpoints.lock();
            if !endpoints.is_empty() {
                endpoints.rotate_left(1);
            }
            endpoints.last().copied()
        };
        // Without an endpoint the connection is closed.
        if let Some(endpoint) = next {
            connections.spawn(forward(client, endpoint));
        }
    }
}

async fn forward(mut client: TcpStream, endpoint: SocketAddr) {
    // A failure of one end closes the other as well.
    if let Ok(mut server) = TcpStream::connect(endpoint).await {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
