//! The connection that a new one displaces.

use std::net::SocketAddr;

use super::*;

/// A listener of plain HTTP with a limit on connections, on loopback.
struct House {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    _phase: PhaseSender,
    edge: JoinHandle<()>,
}

impl Drop for House {
    fn drop(&mut self) {
        self.edge.abort();
    }
}

impl House {
    async fn new(places: usize) -> Self {
        let limits = Limits {
            connections: places,
            ..Limits::default()
        };
        let metrics = Arc::new(Metrics::default());
        let edge = Arc::new(Listener::http(router(), limits, &metrics));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (phase, phases) = phases();
        Self {
            address,
            metrics,
            _phase: phase,
            edge: tokio::spawn(edge.serve(listener, phases)),
        }
    }

    async fn silent(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// An idle connection.
    async fn answered(&self) -> TcpStream {
        let mut stream = self.silent().await;
        asks(&mut stream).await;
        stream
    }

    #[track_caller]
    fn assert_ended(&self, state: &str, count: usize) {
        let line = format!(
            "targetgate_connections_ended_total{{listener=\"http\",state=\"{state}\"}} {count}"
        );
        let text = self.metrics.encode();
        assert!(text.lines().any(|known| known == line), "{line} in {text}");
    }
}

/// Sends a request, and reads the answer.
async fn asks(stream: &mut TcpStream) -> String {
    stream.write_all(GET).await.unwrap();
    timeout(LONG, read_until(stream, "here")).await.unwrap()
}

/// Waits until the peer has closed it.
async fn ends(stream: &mut TcpStream) {
    let read = timeout(LONG, stream.read(&mut [0])).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
}

/// Whether it is still open.
fn is_open(stream: &TcpStream) -> bool {
    let read = stream.try_read(&mut [0]);
    matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

#[tokio::test]
async fn the_oldest_connection_without_an_answer_ends_first() {
    let house = House::new(3).await;
    let mut at_rest = house.answered().await;
    let mut oldest = house.silent().await;
    let mut begun = house.silent().await;
    begun.write_all(&GET[..10]).await.unwrap();

    let mut new = house.answered().await;
    ends(&mut oldest).await;
    assert!(is_open(&begun) && is_open(&at_rest));
    house.assert_ended("Unanswered", 1);

    let _silent = house.silent().await;
    ends(&mut begun).await;
    house.assert_ended("Unanswered", 2);
    asks(&mut at_rest).await;
    asks(&mut new).await;
}

#[tokio::test]
async fn a_first_request_that_takes_its_time_keeps_no_new_connection_out() {
    let house = House::new(1).await;
    let mut slow = house.silent().await;
    let request = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n";
    slow.write_all(request).await.unwrap();
    house.answered().await;
    ends(&mut slow).await;
}

#[tokio::test]
async fn where_all_were_answered_the_one_that_has_rested_the_longest_ends() {
    let house = House::new(2).await;
    let mut first = house.answered().await;
    sleep(Duration::from_millis(5)).await;
    let mut second = house.answered().await;
    let mut new = house.answered().await;
    ends(&mut first).await;
    house.assert_ended("Idle", 1);
    // While answered connections fill the limit, each closes with its next answer, which makes room.
    for stream in [&mut second, &mut new] {
        assert!(is_open(stream));
        let answer = asks(stream).await;
        assert!(answer.contains("connection: close"), "{answer}");
        ends(stream).await;
        house.answered().await;
    }
    house.assert_ended("Idle", 1);
}

#[tokio::test]
async fn where_all_are_being_answered_the_new_one_ends() {
    let house = House::new(1).await;
    let mut busy = house.answered().await;
    let request = b"POST /body HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
        Content-Length: 1\r\n\r\n";
    busy.write_all(request).await.unwrap();
    // Now its request is being answered.
    read_until(&mut busy, "100 Continue\r\n\r\n").await;
    let mut new = house.silent().await;
    ends(&mut new).await;
    house.assert_ended("New", 1);
    busy.write_all(b"x").await.unwrap();
    read_until(&mut busy, "\r\n\r\n1").await;
}

#[tokio::test]
async fn before_the_last_places_are_taken_answers_say_close_so_that_none_at_rest_is_ended() {
    let house = House::new(8).await;
    let mut at_rest = vec![];
    for _ in 0..7 {
        at_rest.push(house.answered().await);
    }
    for _ in 0..3 {
        let mut new = house.silent().await;
        let answer = asks(&mut new).await;
        assert!(answer.contains("connection: close"), "{answer}");
        ends(&mut new).await;
    }
    for stream in &mut at_rest {
        asks(stream).await;
    }
    let text = house.metrics.encode();
    assert!(!text.contains("connections_ended_total{"), "{text}");
}

#[tokio::test]
async fn without_keep_alive_no_connection_rests() {
    let limits = Limits {
        keep_alive: false,
        ..Limits::default()
    };
    let edge = Listener::http(router(), limits, &Metrics::default());
    let (_phase, phases) = phases();
    let (mut peer, stream) = duplex(64 * 1024);
    tokio::spawn(async move { edge.connection(stream, phases).await });
    peer.write_all(GET).await.unwrap();
    let answer = timeout(LONG, read_to_end(&mut peer)).await.unwrap();
    assert!(answer.contains("connection: close"), "{answer}");
}
