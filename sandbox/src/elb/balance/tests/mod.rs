//! Tests of the data plane over real sockets on loopback.

mod application;
mod network;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use crate::elb::log::Traffic;
use crate::elb::{Delays, Elb, Health, LoadBalancerKind, Options, TargetGroupSpec};

/// The deadline of every wait here. Chosen, far above what any of them takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// A load balancer with one group, on a port of its own.
struct World {
    elb: Elb,
    arn: String,
    address: SocketAddr,
}

impl World {
    async fn new(kind: LoadBalancerKind, spec: TargetGroupSpec, delays: Delays) -> Self {
        let elb = Elb::new(Options::default());
        let arn = elb.create_target_group(spec.delays(delays));
        let balancer = elb.create_load_balancer("lb", kind, &[]);
        elb.add_listener(&balancer, &[(&arn, 1)]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let forever = std::future::pending();
        tokio::spawn(elb.clone().balance(balancer, listener, forever));
        tokio::spawn(elb.run());
        Self { elb, arn, address }
    }

    /// Registers a target and scripts it as healthy, so that it is in service.
    fn in_service(&self, target: SocketAddr) {
        self.register(target);
        let healthy = Health::healthy();
        let (ip, port) = (target.ip(), target.port());
        self.elb.script(&self.arn, ip, port, healthy).unwrap();
    }

    fn register(&self, target: SocketAddr) {
        let (ip, port) = (target.ip(), target.port());
        self.elb.register(&self.arn, ip, port).unwrap();
    }

    fn deregister(&self, target: SocketAddr) {
        let (ip, port) = (target.ip(), target.port());
        self.elb.unscript(&self.arn, ip, port).unwrap();
        self.elb.deregister(&self.arn, ip, port).unwrap();
    }

    /// Waits until what ELB says about the target is as wanted.
    async fn until(&self, target: SocketAddr, wanted: impl Fn(Option<Health>) -> bool) {
        let (ip, port) = (target.ip(), target.port());
        within(
            self.elb
                .until(|elb| wanted(elb.health(&self.arn, ip, port))),
        )
        .await;
    }

    /// Waits until the counts of the traffic are as wanted.
    async fn until_traffic(&self, wanted: Traffic) {
        let so = self.elb.until(|elb| elb.traffic() == wanted);
        if tokio::time::timeout(DEADLINE, so).await.is_err() {
            assert_eq!(self.elb.traffic(), wanted);
        }
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("this takes far less than the deadline")
}

/// The behaviour of a target on a connection, after it has read a request.
#[derive(Clone)]
enum Behaviour {
    /// The target answers each request with these bytes.
    Answers(String),
    /// The target answers each request with the head of that request.
    Echoes,
    /// The target answers with these bytes after a permit of the second semaphore. It adds a permit
    /// to the first one when `GET /hello` has arrived.
    AnswersLate(String, [Arc<Semaphore>; 2]),
    /// The target sends these bytes and closes the connection.
    Breaks(&'static str),
    /// The target reads and sends nothing.
    Silent,
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Starts a target that listens.
async fn target(behaviour: Behaviour) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(behave(stream, behaviour.clone()));
        }
    });
    address
}

/// An address on which no program listens while the socket is held, which is bound to it.
fn nobody() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

async fn behave(mut stream: TcpStream, behaviour: Behaviour) {
    let mut buffer = vec![0; 4_096];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let answer = match &behaviour {
            Behaviour::Answers(answer) => answer.clone(),
            Behaviour::Echoes => ok(&String::from_utf8_lossy(&buffer[..length])),
            Behaviour::AnswersLate(answer, [arrived, told]) => {
                if buffer.starts_with(b"GET /hello") {
                    arrived.add_permits(1);
                }
                told.acquire().await.unwrap().forget();
                answer.clone()
            }
            Behaviour::Breaks(last) => {
                let _ = stream.write_all(last.as_bytes()).await;
                return;
            }
            Behaviour::Silent => continue,
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
