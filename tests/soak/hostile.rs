//! Clients that take what they can of both ports of a replica, in waves.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rustls::pki_types::ServerName;
use targetgate_sandbox::harness::site::Site;
use targetgate_sandbox::harness::standalone::review;
use targetgate_sandbox::harness::waiting::until;
use targetgate_sandbox::load::client_config;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::replicas::PAUSE;

/// Silent connections of one wave to each port: more than either has places (2048 and 256).
const SILENT: [usize; 2] = [2_300, 400];
/// Wrong requests of one wave. Chosen.
const WRONG: usize = 500;
/// Bodies of one wave whose last bytes are held back. Chosen: together twice the room for bodies.
const HELD_BACK: usize = 10;
/// The length of each of these bodies: just below the longest that is read.
const BODY: usize = (7 << 20) - 1024;
/// The time for a client to do its part, and for a wave to stay. Chosen.
const STAYS: Duration = Duration::from_millis(600);
/// The kubelet's default for the `timeoutSeconds` of a probe.
const PROBE: Duration = Duration::from_secs(1);
/// The time for `/livez` to answer during a wave: four probes, and the time for which a round may pause the replica.
/// It is shorter than the ten seconds after which a silent connection frees its place by itself.
const ALIVE_WITHIN: Duration = PROBE.saturating_mul(4).saturating_add(PAUSE);

/// The two ports of a replica.
struct Ports {
    hooks: SocketAddr,
    admin: SocketAddr,
    /// The CA of its certificate, which rounds replace.
    ca: PathBuf,
    name: ServerName<'static>,
}

/// Attacks the replica that stays, wave after wave, and counts the waves. Panics if a wave keeps the kubelet's
/// probe out.
pub(crate) async fn attack(site: &Site, waves: &mut u32) {
    let name = format!("targetgate.{}.svc", site.namespace);
    let ports = Ports {
        hooks: site.product.hooks,
        admin: site.product.admin,
        ca: site.start.directory.join("certs/ca.crt"),
        name: ServerName::try_from(name).unwrap(),
    };
    loop {
        let (_silent, _probes, _held, _) = tokio::join!(
            join_all((0..SILENT[0]).map(|_| within(TcpStream::connect(ports.hooks)))),
            join_all((0..SILENT[1]).map(|_| within(TcpStream::connect(ports.admin)))),
            join_all((0..HELD_BACK).map(|_| within(ports.held_back()))),
            within(ports.wrong_requests()),
        );
        let probe = until("a probe that is answered", async || alive(site).await);
        let answered = timeout(ALIVE_WITHIN, probe).await;
        answered.expect("a wave keeps the kubelet's probes out");
        *waves += 1;
        sleep(STAYS).await;
    }
}

/// Probes as the kubelet does, which takes three failures in a row for the end of a container.
async fn alive(site: &Site) -> Option<()> {
    let answer = timeout(PROBE, site.product.admin("/livez")).await.ok()?;
    answer
        .is_ok_and(|(status, _)| status.is_success())
        .then_some(())
}

/// What a client has achieved in its time. It may be refused, cut off or starved.
async fn within<T>(work: impl Future<Output = std::io::Result<T>>) -> Option<T> {
    timeout(STAYS, work).await.ok()?.ok()
}

impl Ports {
    async fn tls(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::new(client_config(&self.ca)));
        let stream = TcpStream::connect(self.hooks).await?;
        connector.connect(self.name.clone(), stream).await
    }

    /// Sends a body without its end.
    async fn held_back(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let mut stream = self.tls().await?;
        let request = review(&vec![b' '; BODY], "");
        stream.write_all(&request[..request.len() - 16]).await?;
        stream.flush().await?;
        Ok(stream)
    }

    async fn wrong_requests(&self) -> std::io::Result<()> {
        let mut stream = self.tls().await?;
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(&request.repeat(WRONG)).await
    }
}
