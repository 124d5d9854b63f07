//! A TCP proxy in place of a Service. It gives each connection to the next replica in turn.
//!
//! kube-apiserver keeps its connections, and would hardly ever see another certificate. So the proxy can close
//! them without losing a request: it shuts down its own side, and waits until the client has closed the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use targetgate_sandbox::harness::waiting::DEADLINE;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A running proxy, which stops when it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    #[expect(dead_code, reason = "held until dropped")]
    tasks: JoinSet<()>,
}

struct Shared {
    backends: Mutex<Vec<SocketAddr>>,
    /// Connections so far, by which the next backend is chosen.
    taken: AtomicUsize,
    /// Open connections.
    open: watch::Sender<usize>,
    /// Each increment closes the connections that are open.
    cut: watch::Sender<u64>,
}

impl Proxy {
    /// A proxy without a backend, which accepts no connection yet.
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener.into_std().unwrap())
    }

    /// A proxy without a backend, on a socket that is bound already.
    pub(crate) fn on(listener: std::net::TcpListener) -> Self {
        let listener = TcpListener::from_std(listener).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            backends: Mutex::default(),
            taken: AtomicUsize::new(0),
            open: watch::Sender::new(0),
            cut: watch::Sender::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, shared.clone()));
        Self {
            address,
            shared,
            tasks,
        }
    }

    /// Sends new connections to these replicas from now on.
    pub(crate) fn backends(&self, backends: Vec<SocketAddr>) {
        *self.shared.backends.lock() = backends;
    }

    /// Closes all connections, so that the next request needs a new one, with a handshake of its own.
    pub(crate) async fn cut(&self) {
        self.shared.cut.send_modify(|cuts| *cuts += 1);
        let mut open = self.shared.open.subscribe();
        let closed = open.wait_for(|open| *open == 0);
        timeout(DEADLINE, closed).await.unwrap().unwrap();
    }

    /// Connections so far.
    pub(crate) fn taken(&self) -> usize {
        self.shared.taken.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let number = shared.taken.fetch_add(1, Ordering::Relaxed);
        let backend = {
            let backends = shared.backends.lock();
            backends.get(number % backends.len().max(1)).copied()
        };
        let Some(backend) = backend else { continue };
        let shared = shared.clone();
        connections.spawn(async move {
            shared.open.send_modify(|open| *open += 1);
            let cut = shared.cut.subscribe();
            // A dead replica refuses the connection.
            if let Ok(backend) = TcpStream::connect(backend).await {
                between(client, backend, cut).await;
            }
            shared.open.send_modify(|open| *open -= 1);
        });
    }
}

async fn between(client: TcpStream, backend: TcpStream, mut cut: watch::Receiver<u64>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_backend, mut to_backend) = backend.into_split();
    let forward = async {
        let up = copy(&mut from_client, &mut to_backend);
        let down = copy(&mut from_backend, &mut to_client);
        tokio::select! {
            _ = up => {}
            _ = down => {}
        }
    };
    tokio::select! {
        () = forward => {}
        _ = cut.changed() => part(&mut from_client, &mut to_client).await,
    }
}

/// Shuts down our side, and waits until the client has closed its own.
async fn part(from_client: &mut OwnedReadHalf, to_client: &mut OwnedWriteHalf) {
    let _ = to_client.shutdown().await;
    let mut rest = Vec::new();
    // A reset closes the connection as well.
    let _ = from_client.read_to_end(&mut rest).await;
}
