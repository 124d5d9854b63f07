use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::super::frame::{Frame as Drawn, Row};
use super::super::super::settings::Settings;
use super::*;
use crate::harness::observer::{Gate, Stage};

/// The deadline of every wait here. Chosen, far above what any of them takes.
const ENOUGH: Duration = Duration::from_secs(60);

async fn server() -> (Page, Server) {
    let page = Page::new(&Settings::scaled(0.1), ["(a)", "(b)"]);
    let server = Server::start(page.clone(), 0).await.unwrap();
    (page, server)
}

/// A frame of a rollout in which this many pods have been seen.
fn drawn(title: &'static str, pods: usize) -> Drawn {
    drawn_at(title, pods, "127.1.0.2:80")
}

fn drawn_at(title: &'static str, pods: usize, address: &str) -> Drawn {
    let row = |number| Row {
        pod: format!("web-{number}"),
        template: String::new(),
        address: address.to_owned(),
        stage: Stage::Ready,
        gate: Gate::Open,
        target: None,
    };
    Drawn {
        title,
        doing: "rolling",
        seconds: 1.0,
        rows: (0..pods).map(row).collect(),
        ..Drawn::default()
    }
}

async fn ask(address: SocketAddr, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// The whole answer to a request after which the connection closes.
async fn answer(address: SocketAddr, line: &str, headers: &str) -> String {
    let head = format!("{line} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
    let mut stream = ask(address, &head).await;
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    timeout(ENOUGH, read).await.unwrap().unwrap();
    answer
}

fn status(answer: &str) -> u16 {
    answer[9..12].parse().unwrap()
}

/// A client of the stream, which reads when it is told to.
struct Client {
    stream: TcpStream,
    text: String,
}

impl Client {
    async fn follow(address: SocketAddr) -> Self {
        let head = "GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n";
        Self {
            stream: ask(address, head).await,
            text: String::new(),
        }
    }

    /// Reads until the text has this, and returns all that was read since the last call.
    async fn until(&mut self, wanted: &str) -> String {
        let reading = async {
            while !self.text.contains(wanted) {
                let mut part = vec![0; 64 * 1024];
                let length = self.stream.read(&mut part).await.unwrap();
                assert_ne!(
                    length, 0,
                    "the stream ended without {wanted}: {}",
                    self.text
                );
                self.text.push_str(str::from_utf8(&part[..length]).unwrap());
            }
        };
        timeout(ENOUGH, reading).await.unwrap();
        std::mem::take(&mut self.text)
    }
}

#[rstest]
#[case::the_page("/", "text/html")]
#[case::its_style("/page.css", "text/css")]
#[case::its_script("/page.js", "text/javascript")]
#[case::its_icon("/icon.svg", "image/svg+xml")]
#[tokio::test]
async fn each_file_is_served_and_may_load_nothing_from_elsewhere(
    #[case] path: &str,
    #[case] media_type: &str,
) {
    let (_page, server) = server().await;
    let line = format!("GET {path}");
    let answer = answer(server.address(), &line, "host: localhost\r\n").await;
    assert_eq!(status(&answer), 200, "{answer}");
    let (head, content) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("content-type: {media_type}")),
        "{head}"
    );
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    assert!(
        head.contains("content-security-policy: default-src 'none'; "),
        "{head}"
    );
    assert!(!content.is_empty());
    let outside = content.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("://"), "{path} names another site");
}

#[rstest]
#[case::an_address("host: 127.0.0.1\r\n", 200)]
#[case::with_a_port("host: 127.0.0.1:8080\r\n", 200)]
#[case::version_6("host: [::1]:8080\r\n", 200)]
#[case::the_name_in_any_case("host: LocalHost:1\r\n", 200)]
#[case::a_rebound_name("host: localhost.example.org\r\n", 421)]
#[case::a_name_with_an_address("host: 127.0.0.1.example.org\r\n", 421)]
#[case::another_address("host: 10.0.0.1\r\n", 421)]
#[case::two("host: localhost\r\nhost: localhost\r\n", 421)]
#[case::none("", 421)]
#[case::nonsense("host: a b\r\n", 421)]
#[tokio::test]
async fn only_requests_to_loopback_are_answered(#[case] host: &str, #[case] expected: u16) {
    let (_page, server) = server().await;
    let page = answer(server.address(), "GET /", host).await;
    assert_eq!(status(&page), expected, "{page}");
    if expected != 200 {
        let events = answer(server.address(), "GET /events", host).await;
        assert_eq!(status(&events), expected, "{events}");
    }
}

#[rstest]
#[case::post("POST /", 405)]
#[case::head("HEAD /events", 405)]
#[case::elsewhere("GET /page.html", 404)]
#[tokio::test]
async fn nothing_else_is_answered(#[case] line: &str, #[case] expected: u16) {
    let (_page, server) = server().await;
    let answer = answer(server.address(), line, "host: localhost\r\n").await;
    assert_eq!(status(&answer), expected, "{answer}");
    assert_eq!(answer.contains("allow: GET"), expected == 405, "{answer}");
}

#[tokio::test]
async fn a_client_gets_everything_first_then_the_present_rollout_and_at_last_the_end() {
    let (page, server) = server().await;
    page.show(&drawn("(a)", 0));
    page.show(&drawn("(a)", 1));
    let mut client = Client::follow(server.address()).await;
    let first = client.until("}\n\n").await;
    assert!(first.contains("content-type: text/event-stream"), "{first}");
    assert!(first.contains("event: picture\n"), "{first}");
    assert!(
        first.contains("web-0") && first.contains("\"(b)\""),
        "{first}"
    );

    page.show(&drawn("(a)", 2));
    let second = client.until("}\n\n").await;
    assert!(second.contains("event: rollout\n"), "{second}");
    assert!(
        second.contains("web-1") && !second.contains("\"(b)\""),
        "{second}"
    );

    // The next rollout changes more than itself.
    page.show(&drawn("(b)", 0));
    let third = client.until("}\n\n").await;
    assert!(third.contains("event: picture\n"), "{third}");

    page.judged(&["It rained.".to_owned()]);
    server.close().await;
    let last = client.until("event: end\n").await;
    assert!(last.contains("It rained."), "{last}");
    let mut rest = String::new();
    let read = client.stream.read_to_string(&mut rest);
    timeout(ENOUGH, read).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_comes_back_gets_everything_again() {
    let (page, server) = server().await;
    page.show(&drawn("(a)", 0));
    page.show(&drawn("(a)", 3));
    for _ in 0..2 {
        let mut client = Client::follow(server.address()).await;
        let first = client.until("}\n\n").await;
        assert!(
            first.contains("event: picture\n") && first.contains("web-2"),
            "{first}"
        );
    }
}

#[tokio::test]
async fn a_client_beyond_the_bound_is_refused_until_another_leaves() {
    let (_page, server) = server().await;
    let mut clients = Vec::new();
    for _ in 0..STREAMS {
        let mut client = Client::follow(server.address()).await;
        client.until("event: picture").await;
        clients.push(client);
    }
    let refused = answer(server.address(), "GET /events", "host: localhost\r\n").await;
    assert_eq!(status(&refused), 503, "{refused}");
    clients.pop();
    let again = async {
        loop {
            let mut client = Client::follow(server.address()).await;
            if client.until("HTTP/1.1 ").await.contains("HTTP/1.1 200") {
                return;
            }
        }
    };
    timeout(ENOUGH, again).await.unwrap();
}

/// Each change makes an event of 200 kB, so that a client that reads nothing could be owed far more
/// than its socket holds.
#[tokio::test]
async fn a_client_that_reads_slowly_is_owed_the_newest_state_and_not_all_of_them() {
    const BYTES: usize = 200_000;
    const CHANGES: u64 = 500;
    let (page, server) = server().await;
    page.show(&drawn("(a)", 0));
    let mut frame = drawn_at("(a)", 1, &"1".repeat(BYTES));
    page.show(&frame);
    let mut client = Client::follow(server.address()).await;
    client.until("event: picture").await;
    for change in 1..=CHANGES {
        frame.counts.sent = change;
        page.show(&frame);
        tokio::task::yield_now().await;
    }
    let newest = client.until(&format!("\"sent\":{CHANGES},")).await;
    let events = newest.matches("event: rollout\n").count() as u64;
    assert!((1..CHANGES / 5).contains(&events), "{events} events");
}

/// The end of the demo does not wait for a client that has stopped to read.
#[tokio::test]
async fn a_client_that_does_not_read_does_not_hold_up_the_end() {
    let (page, server) = server().await;
    page.show(&drawn("(a)", 0));
    // More than the sockets of both sides hold.
    page.show(&drawn_at("(a)", 1, &"1".repeat(50_000_000)));
    let client = Client::follow(server.address()).await;
    client.stream.readable().await.unwrap();
    timeout(ENOUGH, server.close()).await.unwrap();
}
