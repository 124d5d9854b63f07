//! A proxy before the API server that can hold up what a process sends, so that it arrives late, even after the
//! process has been stopped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) struct Line {
    /// The address on which it listens.
    pub(crate) address: SocketAddr,
    hold: watch::Sender<bool>,
    held: Arc<AtomicUsize>,
    #[expect(dead_code, reason = "held until dropped")]
    accepting: JoinSet<()>,
}

impl Line {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hold = watch::Sender::new(false);
        let held = Arc::<AtomicUsize>::default();
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, server, hold.subscribe(), held.clone()));
        Self {
            address,
            hold,
            held,
            accepting,
        }
    }

    /// Holds up requests, or lets them pass again. Answers are never held up.
    pub(crate) fn hold(&self, hold: bool) {
        self.hold.send_replace(hold);
    }

    /// Connections on which a request is held up.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    hold: watch::Receiver<bool>,
    held: Arc<AtomicUsize>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let (from_client, mut to_client) = client.into_split();
        let (mut from_server, to_server) = TcpStream::connect(server).await.unwrap().into_split();
        connections.spawn(send(from_client, to_server, hold.clone(), held.clone()));
        connections.spawn(async move {
            // A reset ends the connection as well.
            let _ = copy(&mut from_server, &mut to_client).await;
        });
    }
}

/// The content type of a TLS record with application data. In TLS 1.3, the first such record of a client ends
/// its handshake.
/// Source: <https://www.rfc-editor.org/rfc/rfc8446#section-5.1>
const APPLICATION_DATA: u8 = 23;

/// Forwards records. The handshake always passes, so only requests are held up.
async fn send(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut hold: watch::Receiver<bool>,
    held: Arc<AtomicUsize>,
) {
    let mut shaken = false;
    while let Ok(record) = record(&mut from).await {
        let request = record[0] == APPLICATION_DATA && shaken;
        shaken |= record[0] == APPLICATION_DATA;
        if request && *hold.borrow() {
            held.fetch_add(1, Ordering::Relaxed);
            let _ = hold.wait_for(|hold| !*hold).await;
            held.fetch_sub(1, Ordering::Relaxed);
        }
        if to.write_all(&record).await.is_err() {
            break;
        }
    }
}

/// The next TLS record, with its header.
async fn record(from: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let mut record = vec![0; 5];
    from.read_exact(&mut record).await?;
    let length = u16::from_be_bytes([record[3], record[4]]);
    record.resize(5 + usize::from(length), 0);
    from.read_exact(&mut record[5..]).await?;
    Ok(record)
}
