//! How the server connects to the hosts of webhooks.

use std::{collections::BTreeMap, io, sync::Arc};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::TcpStream,
    sync::mpsc,
};

/// A byte stream to a host.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

pub trait Dial: Send + Sync {
    /// Connects to a host by name or address.
    fn dial(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<Box<dyn Io>>>;
}

/// Dials over TCP, and resolves names as the system does.
pub struct Tcp;

impl Dial for Tcp {
    fn dial(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let host = host.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

/// At most this many connections to one host wait to be accepted; more are refused. Chosen.
const BACKLOG: usize = 128;
/// The buffer of a stream in each direction, in bytes. Chosen.
const BUFFER: usize = 64 * 1024;

/// Dials hosts that listen in this process, without a socket.
#[derive(Clone, Default)]
pub struct Switchboard(Arc<Mutex<Listeners>>);

type Listeners = BTreeMap<(String, u16), mpsc::Sender<DuplexStream>>;

impl Switchboard {
    /// Listens as this host and port, and replaces the previous listener. Each stream from the
    /// receiver is one connection; once the receiver is dropped, connections are refused.
    pub fn listen(&self, host: &str, port: u16) -> mpsc::Receiver<DuplexStream> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        self.0.lock().insert((host.to_owned(), port), sender);
        receiver
    }
}

impl Dial for Switchboard {
    fn dial(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let listener = self.0.lock().get(&(host.to_owned(), port)).cloned();
        let refused = io::Error::new(
            io::ErrorKind::ConnectionRefused,
            format!("dial tcp {host}:{port}: connect: connection refused"),
        );
        Box::pin(async move {
            let (near, far) = tokio::io::duplex(BUFFER);
            match listener.map(|listener| listener.try_send(far)) {
                Some(Ok(())) => Ok(Box::new(near) as Box<dyn Io>),
                _ => Err(refused),
            }
        })
    }
}
