//! Bounds on what one client can take from the others: connections, memory, the log.

use std::time::Duration;

use futures::StreamExt as _;
use rstest::rstest;
use targetgate::serve::listener::Limits;
use targetgate_sandbox::harness::standalone::{CLOSE, Standalone, rest, review, status};
use targetgate_sandbox::harness::waiting::DEADLINE;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::program::{AT_ONCE, SMALL, binary};

/// The longest body that the HTTPS listener reads (`src/admission/body.rs`).
const LONGEST: usize = 7 << 20;
const MIB: usize = 1 << 20;

/// Makes `count` of these, 16 at a time.
async fn many<T>(count: usize, make: impl AsyncFn() -> T) -> Vec<T> {
    let made = futures::stream::iter(0..count).map(|_| make());
    made.buffer_unordered(16).collect().await
}

#[rstest]
#[tokio::test]
async fn silent_connections_do_not_keep_probes_out(#[values(200, 600)] silent: usize) {
    let process = Standalone::ready(binary()).await;
    let _silent = many(silent, async || process.admin_tcp().await).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = timeout(AT_ONCE, process.admin(path)).await;
        assert_eq!(answer.expect("no answer at once").0, 200);
    }
}

/// A client that occupies one connection of the listener.
enum Holder {
    Silent { _stream: TcpStream },
    Idle { _stream: Box<TlsStream<TcpStream>> },
}

impl Holder {
    async fn silent(process: &Standalone) -> Self {
        Self::Silent {
            _stream: process.tcp().await,
        }
    }

    /// A client that is idle after its handshake.
    async fn idle(process: &Standalone) -> Self {
        Self::Idle {
            _stream: Box::new(process.tls().await.unwrap()),
        }
    }

    /// A client that is idle after one answered review.
    async fn answered(process: &Standalone) -> Self {
        let mut stream = process.tls().await.unwrap();
        stream.write_all(&review(SMALL, "")).await.unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        Self::Idle {
            _stream: Box::new(stream),
        }
    }
}

#[rstest]
// More clients than there are places. The listener itself ends some of them, whose handshake takes too long.
#[case::silent(500, async |process: &Standalone| Holder::silent(process).await)]
#[case::idle_after_the_handshake(0, async |process: &Standalone| Holder::idle(process).await)]
#[case::at_rest_after_a_review(0, async |process: &Standalone| Holder::answered(process).await)]
#[tokio::test]
async fn a_review_is_answered_while_every_place_is_taken(
    #[case] more: usize,
    #[case] hold: impl AsyncFn(&Standalone) -> Holder,
) {
    let process = Standalone::ready(binary()).await;
    let holders = Limits::default().connections + more;
    let _holders = many(holders, async || hold(&process).await).await;
    for _ in 0..3 {
        let answer = timeout(AT_ONCE, process.answer(&review(SMALL, CLOSE))).await;
        let answer = answer.expect("no answer at once");
        assert_eq!(status(&answer), 200, "{answer}");
    }
}

/// A review of a pod, padded to about `length` bytes by an annotation.
fn review_of(length: usize) -> Vec<u8> {
    let small = std::str::from_utf8(SMALL).unwrap();
    let text = "x".repeat(length - SMALL.len() - 100);
    let before = r#""creationTimestamp":null,"#;
    assert!(small.contains(before));
    let annotated = format!(r#"{before}"annotations":{{"text":"{text}"}},"#);
    review(small.replacen(before, &annotated, 1).as_bytes(), "")
}

/// Sends a body without its last 16 bytes, unless it is answered before.
async fn hold_back(stream: &mut TlsStream<TcpStream>, whole: &[u8]) {
    let sending = async {
        stream.write_all(&whole[..whole.len() - 16]).await?;
        stream.flush().await
    };
    // The listener may refuse the body meanwhile, or have no room left for it.
    let _ = timeout(Duration::from_secs(3), sending).await;
}

#[tokio::test]
async fn bodies_that_are_held_back_take_neither_the_memory_nor_the_room_of_a_review() {
    let process = Standalone::ready(binary()).await;
    let legal = review_of(3 * MIB);
    let whole = review_of(LONGEST);
    // The handshakes come first: on a busy machine, one beside bodies that are sent may take longer than it may.
    let mut held = many(40, async || process.tls().await.unwrap()).await;
    let holding = held.iter_mut().map(|stream| hold_back(stream, &whole));
    futures::future::join_all(holding).await;
    let mut stream = process.tls().await.unwrap();

    let answering = async {
        stream.write_all(&legal).await.unwrap();
        let mut start = vec![];
        while !start.ends_with(b"\"decision\":\"NoBinding\"") {
            let Ok(byte) = stream.read_u8().await else {
                panic!("not NoBinding: {:?}", String::from_utf8_lossy(&start));
            };
            start.push(byte);
        }
    };
    let answered = timeout(AT_ONCE, answering).await;
    answered.expect("not decided at once");

    let peak = process.peak_memory();
    assert!(peak < 128 * MIB, "{} MiB", peak / MIB);
    let (_, metrics) = process.admin("/metrics").await;
    let ended = r#"targetgate_refusals_total{cause="SlowestBody"} "#;
    assert!(metrics.contains(ended), "{metrics}");
}

#[tokio::test]
async fn wrong_requests_cannot_fill_the_log() {
    let mut process = Standalone::ready(binary()).await;
    let mut requests = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(500);
    requests.extend_from_slice(&review(SMALL, CLOSE));
    let (mut reader, mut writer) = tokio::io::split(process.tls().await.unwrap());
    let (sent, answers) = tokio::join!(writer.write_all(&requests), rest(&mut reader));
    sent.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 404").count(), 500);
    let lines = process.whole_log().await;
    let refused = lines.iter().filter(|line| line.contains("refused"));
    assert_eq!(refused.count(), 1, "{lines:#?}");
}

#[tokio::test]
async fn a_review_cannot_write_a_long_line() {
    let mut process = Standalone::ready(binary()).await;
    let long = "x".repeat(3 * MIB);
    let text = std::str::from_utf8(SMALL).unwrap();
    let uid = "705ab4f5-6393-11e8-b7cc-42010a800002";
    assert!(text.contains(uid) && text.contains(r#""namespace":"shop""#));
    let of_long_uid = text.replace(uid, &long);
    let namespace = format!(r#""namespace":"{long}""#);
    let of_long_namespace = text.replace(r#""namespace":"shop""#, &namespace);
    // A review without an object is answered with a warning, which is logged.
    for text in [of_long_uid, of_long_namespace] {
        let text = text.replacen(r#""object":{"#, r#""object":null,"x":{"#, 1);
        timeout(DEADLINE, process.answer(&review(text.as_bytes(), CLOSE)))
            .await
            .unwrap();
    }
    for line in process.whole_log().await {
        let start: String = line.chars().take(200).collect();
        assert!(line.len() < 4096, "{} bytes: {start}", line.len());
    }
}
