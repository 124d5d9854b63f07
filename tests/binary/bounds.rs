//! What whoever reaches a port can take from the others: the log.

use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::process::{CLOSE, Process, SMALL, rest, review};
use crate::waiting::DEADLINE;

const MIB: usize = 1 << 20;

#[tokio::test]
async fn wrong_requests_cannot_fill_the_log() {
    let mut process = Process::ready().await;
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
    let mut process = Process::ready().await;
    let long = "x".repeat(3 * MIB);
    let text = std::str::from_utf8(SMALL).unwrap();
    let uid = "705ab4f5-6393-11e8-b7cc-42010a800002";
    assert!(text.contains(uid) && text.contains(r#""namespace":"shop""#));
    let of_long_uid = text.replace(uid, &long);
    let namespace = format!(r#""namespace":"{long}""#);
    let of_long_namespace = text.replace(r#""namespace":"shop""#, &namespace);
    // Without an object it is answered with a warning, which is logged.
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
