//! Users, who send requests at a steady rate through the load balancer. Each request is counted.
//!
//! The rate does not depend on the answers, because real users do not know of each other. A failed
//! request is one that a user would have seen fail, so it is not retried, except with
//! [`KeepAlive::YesAndResend`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

/// The largest answer that is read, in bytes. Chosen.
const MAX_BODY: usize = 64 * 1024;
/// The header by which the sandbox's load balancer names the cause of an answer that is its own.
const CAUSE_HEADER: &str = "x-sandbox-cause";

#[derive(Clone, Debug)]
pub struct Options {
    /// The address of the load balancer.
    pub address: SocketAddr,
    pub path: String,
    /// Requests per second, over all connections.
    pub rate: f64,
    /// The number of users, each with a connection of its own.
    pub connections: usize,
    /// How long a user waits for an answer, connecting included.
    pub timeout: Duration,
    /// What happens to a connection after an answer.
    pub keep_alive: KeepAlive,
}

/// What happens to a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// It is closed, so that each request has its own.
    No,
    /// It is kept for the next request, and no request is retried.
    Yes,
    /// It is kept. A request is sent once more, on a new connection, if its kept connection ends
    /// before any of the answer has arrived: a server may close an idle connection at the moment at
    /// which a client sends. RFC 9112, 9.3.1 allows this for a GET, and browsers and most libraries
    /// do it.
    YesAndResend,
}

/// Why a request was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// 503, because the load balancer had no target.
    NoTarget,
    /// 502, because the target refused the load balancer's connection.
    TargetRefused,
    /// 502, because the target broke the connection off.
    TargetReset,
    /// 504, because the target did not answer in time.
    TargetTimeout,
    /// Another status that is not 2xx.
    Status,
    /// The load balancer refused the connection.
    Refused,
    /// The connection to the load balancer broke off.
    Reset,
    /// No answer arrived within [`Options::timeout`].
    Timeout,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoTarget => "no healthy target (503)",
            Self::TargetRefused => "refused by the target (502)",
            Self::TargetReset => "reset by the target (502)",
            Self::TargetTimeout => "target too slow (504)",
            Self::Status => "another status",
            Self::Refused => "refused",
            Self::Reset => "connection reset",
            Self::Timeout => "timeout",
        })
    }
}

/// The outcomes of the requests, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// The requests that were sent, those under way included.
    pub sent: u64,
    /// The requests that were answered with 2xx.
    pub ok: u64,
    /// The lost requests, by cause.
    pub lost: BTreeMap<Cause, u64>,
    /// The requests that were sent once more: see [`KeepAlive::YesAndResend`].
    pub resent: u64,
}

impl Counts {
    /// The number of lost requests, whatever the cause.
    pub fn lost(&self) -> u64 {
        self.lost.values().sum()
    }

    /// The causes with their numbers, as text; a dash if no request was lost.
    pub fn causes(&self) -> String {
        let causes = self.lost.iter();
        let causes: Vec<String> = causes
            .map(|(cause, count)| format!("{cause} {count}"))
            .collect();
        if causes.is_empty() {
            return "–".to_owned();
        }
        causes.join(", ")
    }
}

/// Users that send requests until this is stopped or dropped.
pub struct Traffic {
    counts: Arc<Mutex<Counts>>,
    stop: tokio::sync::watch::Sender<bool>,
    connections: JoinSet<()>,
}

impl Traffic {
    pub fn start(options: &Options) -> Self {
        let counts = Arc::new(Mutex::new(Counts::default()));
        let stop = tokio::sync::watch::Sender::new(false);
        let mut connections = JoinSet::new();
        let connections_wanted = u32::try_from(options.connections.max(1)).unwrap_or(u32::MAX);
        let gap = Duration::from_secs(1).div_f64(options.rate.clamp(0.001, 1e6));
        for number in 0..connections_wanted {
            let user = User {
                options: options.clone(),
                counts: Arc::clone(&counts),
                connection: None,
            };
            let first = Instant::now() + gap * number;
            connections.spawn(user.send(first, gap * connections_wanted, stop.subscribe()));
        }
        Self {
            counts,
            stop,
            connections,
        }
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }

    /// The counts, which grow while the users send.
    pub fn shared(&self) -> Arc<Mutex<Counts>> {
        Arc::clone(&self.counts)
    }

    /// Stops sending, waits for the answers under way, and returns the counts.
    pub async fn stop(mut self) -> Counts {
        self.stop.send_replace(true);
        while self.connections.join_next().await.is_some() {}
        self.counts()
    }
}

/// A user, who has one connection.
struct User {
    options: Options,
    counts: Arc<Mutex<Counts>>,
    connection: Option<Connection>,
}

/// A connection to the load balancer, which is closed when this is dropped.
struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    _driver: JoinSet<()>,
}

impl User {
    /// Sends a request every `period`. Requests that became due during a slow answer are skipped.
    async fn send(
        mut self,
        first: Instant,
        period: Duration,
        mut stop: tokio::sync::watch::Receiver<bool>,
    ) {
        let mut due = interval_at(first, period);
        due.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = due.tick() => {}
            }
            self.counts.lock().sent += 1;
            let result = timeout(self.options.timeout, self.request()).await;
            let lost = result.map_or(Some(Cause::Timeout), Result::err);
            if lost.is_some() {
                self.connection = None;
            }
            let mut counts = self.counts.lock();
            match lost {
                None => counts.ok += 1,
                Some(cause) => *counts.lost.entry(cause).or_default() += 1,
            }
        }
    }

    async fn request(&mut self) -> Result<(), Cause> {
        // Any client notices before it sends that its connection was closed while idle.
        let kept = self.connection.take();
        let kept = kept.filter(|connection| !connection.sender.is_closed());
        let (mut connection, again) = match kept {
            Some(connection) => (
                connection,
                self.options.keep_alive == KeepAlive::YesAndResend,
            ),
            None => (self.connect().await?, false),
        };
        let answer = match self.ask(&mut connection).await {
            Err(Cause::Reset) if again => {
                self.counts.lock().resent += 1;
                connection = self.connect().await?;
                self.ask(&mut connection).await?
            }
            answer => answer?,
        };
        let lost = classify(answer.status(), answer.headers());
        let body = Limited::new(answer.into_body(), MAX_BODY).collect().await;
        match lost {
            Some(cause) => Err(cause),
            None => {
                body.map_err(|_| Cause::Reset)?;
                if self.options.keep_alive != KeepAlive::No {
                    self.connection = Some(connection);
                }
                Ok(())
            }
        }
    }

    /// Sends the request, and returns the head of the answer.
    async fn ask(&self, connection: &mut Connection) -> Result<Response<Incoming>, Cause> {
        let request = Request::get(&self.options.path)
            .header(http::header::HOST, self.options.address.to_string())
            .body(Empty::new())
            .map_err(|_| Cause::Status)?;
        connection.sender.ready().await.map_err(|_| Cause::Reset)?;
        let answer = connection.sender.send_request(request).await;
        answer.map_err(|_| Cause::Reset)
    }

    async fn connect(&self) -> Result<Connection, Cause> {
        let stream = TcpStream::connect(self.options.address)
            .await
            .map_err(|_| Cause::Refused)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Cause::Reset)?;
        let mut drivers = JoinSet::new();
        drivers.spawn(async move {
            // An error of the connection fails the request that is under way.
            let _ = driver.await;
        });
        Ok(Connection {
            sender,
            _driver: drivers,
        })
    }
}

/// The cause for which an answer counts as lost; `None` if it does not.
fn classify(status: StatusCode, headers: &HeaderMap) -> Option<Cause> {
    if status.is_success() {
        return None;
    }
    let cause = headers
        .get(CAUSE_HEADER)
        .and_then(|cause| cause.to_str().ok());
    Some(match (status.as_u16(), cause) {
        (503, Some("no-target")) => Cause::NoTarget,
        (502, Some("refused")) => Cause::TargetRefused,
        (502, Some("reset")) => Cause::TargetReset,
        (504, _) => Cause::TargetTimeout,
        _ => Cause::Status,
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rstest::rstest;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[rstest]
    #[case::fine(200, None, None)]
    #[case::no_content(204, None, None)]
    #[case::no_target(503, Some("no-target"), Some(Cause::NoTarget))]
    #[case::refused(502, Some("refused"), Some(Cause::TargetRefused))]
    #[case::reset(502, Some("reset"), Some(Cause::TargetReset))]
    #[case::slow(504, Some("timeout"), Some(Cause::TargetTimeout))]
    #[case::the_targets_own_503(503, None, Some(Cause::Status))]
    #[case::not_found(404, None, Some(Cause::Status))]
    #[case::moved(301, None, Some(Cause::Status))]
    fn an_answer_is_counted_by_its_status_and_cause(
        #[case] status: u16,
        #[case] header: Option<&'static str>,
        #[case] expected: Option<Cause>,
    ) {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(CAUSE_HEADER, http::HeaderValue::from_static(header));
        }
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(classify(status, &headers), expected);
    }

    /// A timeout that no answer takes, even on a busy machine. Chosen.
    const AMPLE: Duration = Duration::from_secs(15);

    /// Sends requests for a while to a server that treats each connection as `behave` does.
    async fn counted<F>(
        keep_alive: KeepAlive,
        timeout: Duration,
        behave: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Counts
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(behave(stream));
            }
        });
        send_ten(address, keep_alive, timeout).await
    }

    async fn send_ten(address: SocketAddr, keep_alive: KeepAlive, each: Duration) -> Counts {
        let traffic = Traffic::start(&Options {
            address,
            path: "/".to_owned(),
            rate: 200.0,
            connections: 2,
            timeout: each,
            keep_alive,
        });
        let enough = async {
            while traffic.counts().sent < 10 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(AMPLE * 2, enough).await.unwrap();
        traffic.stop().await
    }

    fn all_lost_as(counts: &Counts, cause: Cause) {
        assert_eq!(
            (counts.ok, counts.lost.get(&cause)),
            (0, Some(&counts.sent)),
            "{counts:?}"
        );
    }

    #[tokio::test]
    async fn every_request_is_counted_once_and_connections_are_kept() {
        let opened = Arc::new(Mutex::new(0));
        let count = Arc::clone(&opened);
        let counts = counted(KeepAlive::Yes, AMPLE, move |stream| {
            *count.lock() += 1;
            answer(stream, u32::MAX)
        })
        .await;
        assert!(counts.sent >= 10 && counts.ok == counts.sent, "{counts:?}");
        assert_eq!(*opened.lock(), 2);
    }

    #[tokio::test]
    async fn a_connection_that_breaks_off_is_a_reset() {
        all_lost_as(
            &counted(KeepAlive::YesAndResend, AMPLE, |stream| async move {
                drop(stream)
            })
            .await,
            Cause::Reset,
        );
    }

    #[tokio::test]
    async fn silence_is_a_timeout() {
        let short = Duration::from_millis(300);
        let counts = counted(KeepAlive::Yes, short, |stream| async move {
            std::future::pending::<()>().await;
            drop(stream);
        })
        .await;
        all_lost_as(&counts, Cause::Timeout);
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_refuses() {
        // Bound for as long as the test runs, so that no other test listens on the port.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = socket.local_addr().unwrap();
        all_lost_as(
            &send_ten(address, KeepAlive::Yes, AMPLE).await,
            Cause::Refused,
        );
    }

    /// Answers this many requests of a connection, and breaks it off at the next.
    async fn answer(mut stream: TcpStream, mut requests: u32) {
        let mut request = [0; 1024];
        while stream.read(&mut request).await.is_ok_and(|read| read > 0) && requests > 0 {
            requests -= 1;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
        }
    }

    #[rstest]
    #[case::kept(KeepAlive::Yes, true, false)]
    #[case::kept_and_resent(KeepAlive::YesAndResend, false, true)]
    #[case::not_kept(KeepAlive::No, false, false)]
    #[tokio::test]
    async fn a_kept_connection_that_breaks_off_loses_a_request_unless_it_is_sent_again(
        #[case] keep_alive: KeepAlive,
        #[case] lost: bool,
        #[case] resent: bool,
    ) {
        let counts = counted(keep_alive, AMPLE, |stream| answer(stream, 1)).await;
        assert_eq!(counts.lost() > 0, lost, "{counts:?}");
        assert_eq!(counts.resent > 0, resent, "{counts:?}");
        assert_eq!(counts.sent, counts.ok + counts.lost());
    }
}
