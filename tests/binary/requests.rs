//! Answers over real sockets, above all to requests that are not reviews.

use jiff::Timestamp;
use rstest::rstest;
use targetgate::commands::certs;
use targetgate_sandbox::api::{Api, Options};
use targetgate_sandbox::harness::standalone::{CLOSE, Standalone, rest, review, status};
use targetgate_sandbox::harness::waiting::until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::program::{SMALL, binary};

#[tokio::test]
async fn a_review_is_answered_and_the_connection_kept() {
    let process = Standalone::ready(binary()).await;
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
async fn a_request_that_is_not_a_review_gets_its_status(
    #[case] line: &str,
    #[case] content_type: &str,
    #[case] expected: u16,
) {
    let process = Standalone::ready(binary()).await;
    let request =
        format!("{line}\r\nHost: localhost\r\nContent-Type: {content_type}\r\n{CLOSE}\r\n");
    let answer = process.answer(request.as_bytes()).await;
    assert_eq!(status(&answer), expected, "{answer}");
    assert_eq!(process.admin("/livez").await.0, 200);
}

#[tokio::test]
async fn plain_http_on_the_https_port_is_told_so() {
    let process = Standalone::ready(binary()).await;
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
    let process = Standalone::ready(binary()).await;
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
    let mut process = Standalone::ready(binary()).await;
    let mut before = process.tls().await.unwrap();
    process.files.swap_certificate("second");
    until("a handshake with the new CA", || async {
        process.tls().await.ok()
    })
    .await;
    // A connection that is already open is not closed.
    before.write_all(&review(SMALL, CLOSE)).await.unwrap();
    assert_eq!(status(&rest(&mut before).await), 200);
    process.logs("serving a new certificate").await;
}

#[tokio::test]
async fn with_a_client_ca_only_the_admin_port_answers_a_client_without_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.crt");
    let made = certs::make("shop", &[], Timestamp::now()).unwrap();
    std::fs::write(&file, made.ca).unwrap();
    let mut binary = binary();
    binary.env("TARGETGATE_CLIENT_CA", file);
    let mut process = Standalone::started(binary, Api::new(Options::default())).await;
    process.becomes_ready().await;
    for _ in 0..3 {
        let mut stream = process.tls().await.unwrap();
        // The process may have refused the connection already.
        let _ = stream.write_all(&review(SMALL, CLOSE)).await;
        let refused = stream.read(&mut [0]).await.unwrap_err();
        let refused = refused.to_string();
        assert!(refused.contains("CertificateRequired"), "{refused}");
    }
    let counted = r#"targetgate_tls_failures_total{cause="NoClientCertificate"} 3"#;
    until("they are counted", || async {
        let (_, metrics) = process.admin("/metrics").await;
        metrics.contains(counted).then_some(())
    })
    .await;

    // Refused clients cannot fill the log: the next line about a dropped client has another cause.
    process.logs("it shows no client certificate").await;
    let mut stream = process.tcp().await;
    stream.write_all(&review(SMALL, CLOSE)).await.unwrap();
    let next = process.logs("client dropped").await;
    assert!(next["message"].to_string().contains("plain HTTP"), "{next}");
}
