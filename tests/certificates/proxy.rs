//! What stands for a Service: a TCP proxy before the replicas, each connection to the next of them.
//!
//! An API server keeps its connections, and would hardly ever see another certificate. So the proxy
//! can end those that it has, in a way that loses no request: it says that nothing more will come,
//! and waits until the client has closed its side, too.

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

/// A running proxy; ended when dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    #[expect(dead_code, reason = "held until dropped")]
    tasks: JoinSet<()>,
}

struct Shared {
    backends: Mutex<Vec<SocketAddr>>,
    /// Connections so far; each counts the backends on.
    taken: AtomicUsize,
    /// Connections that are open.
    open: watch::Sender<usize>,
    /// Goes up when those that are open are to end.
    cut: watch::Sender<u64>,
}

impl Proxy {
    /// One without a backend: it takes no connection yet.
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener.into_std().unwrap())
    }

    /// The same, on an address that was taken before.
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

    /// Connections go to these from now on.
    pub(crate) fn backends(&self, backends: Vec<SocketAddr>) {
        *self.shared.backends.lock() = backends;
    }

    /// Ends all connections; the next request needs a new one, with a handshake of its own.
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
            // A replica that is gone refuses.
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

/// Says the last word, and waits for the client's.
async fn part(from_client: &mut OwnedReadHalf, to_client: &mut OwnedWriteHalf) {
    let _ = to_client.shutdown().await;
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = from_client.read_to_end(&mut rest).await;
}
