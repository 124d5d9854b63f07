//! What is answered over real sockets, above all to what is no review.

use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::process::{CLOSE, Process, SMALL, rest, review, status};
use crate::waiting::until;

#[tokio::test]
async fn a_review_is_answered_and_the_connection_kept() {
    let process = Process::ready().await;
    let mut stream = process.tls().await.unwrap();
    for headers in ["", CLOSE] {
        stream.write_all(&review(SMALL, headers)).await.unwrap();
    }
    let answers = rest(&mut stream).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
    let uid = r#""uid":"705ab4f5-6393-11e8-b7cc-42010a800002","allowed":true"#;
    assert_eq!(answers.matches(uid).count(), 2, "{answers}");
    let (_, metrics) = process.admin("/metrics").await;
    let counted = r#"targetgate_admissions_total{hook="pod",reason="NoBinding"} 2"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[rstest]
#[case::path("POST /mutate HTTP/1.1", "application/json", 404)]
#[case::method("GET /mutate-v1-pod HTTP/1.1", "application/json", 405)]
#[case::content_type("POST /mutate-v1-pod HTTP/1.1", "text/plain", 415)]
#[case::empty("POST /mutate-v1-pod HTTP/1.1", "application/json", 400)]
#[tokio::test]
async fn what_is_no_review_gets_its_status(
    #[case] line: &str,
    #[case] content_type: &str,
    #[case] expected: u16,
) {
    let process = Process::ready().await;
    let request =
        format!("{line}\r\nHost: localhost\r\nContent-Type: {content_type}\r\n{CLOSE}\r\n");
    let answer = process.answer(request.as_bytes()).await;
    assert_eq!(status(&answer), expected, "{answer}");
    assert_eq!(process.admin("/livez").await.0, 200);
}

#[tokio::test]
async fn plain_http_on_the_https_port_is_told_so() {
    let process = Process::ready().await;
    let mut stream = process.tcp().await;
    stream.write_all(&review(SMALL, "")).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.0 400 Bad Request\r\n"),
        "{answer}"
    );
    let (_, metrics) = process.admin("/metrics").await;
    let counted = r#"targetgate_tls_failures_total{cause="PlainHttp"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn a_body_that_comes_byte_by_byte_is_ended_and_others_are_served_meanwhile() {
    let process = Process::ready().await;
    let whole = review(SMALL, "");
    let (head, body) = whole.split_at(whole.len() - SMALL.len());
    let (mut reader, mut writer) = tokio::io::split(process.tls().await.unwrap());
    writer.write_all(head).await.unwrap();
    let body = body.to_vec();
    let trickle = tokio::spawn(async move {
        for byte in body {
            if writer.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    });
    let other = process.answer(&review(SMALL, CLOSE)).await;
    assert_eq!(status(&other), 200);
    assert!(!trickle.is_finished());
    let mut start = [0; 12];
    reader.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 408");
    trickle.abort();
}

#[tokio::test]
async fn a_new_certificate_is_served_without_a_restart() {
    let mut process = Process::ready().await;
    let mut before = process.tls().await.unwrap();
    process.files.swap_certificate("second");
    until("a handshake with the new CA", || async {
        process.tls().await.ok()
    })
    .await;
    // Who is connected stays so.
    before.write_all(&review(SMALL, CLOSE)).await.unwrap();
    assert_eq!(status(&rest(&mut before).await), 200);
    process.logs("serving a new certificate").await;
}
