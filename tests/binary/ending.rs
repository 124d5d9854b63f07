//! How the process ends: after SIGTERM or SIGINT, and at once after a second signal.

use k8s_openapi::api::coordination::v1::Lease;
use rstest::rstest;
use targetgate_sandbox::api::{Api, Options};
use targetgate_sandbox::harness::standalone::{CLOSE, Standalone, rest, review, status};
use targetgate_sandbox::harness::waiting::until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::program::{SMALL, binary};

/// A connection on which a review is in flight: the process waits for its body.
async fn in_flight(process: &Standalone) -> TlsStream<TcpStream> {
    let whole = review(SMALL, "Expect: 100-continue\r\n");
    let (head, _) = whole.split_at(whole.len() - SMALL.len());
    let mut stream = process.tls().await.unwrap();
    stream.write_all(head).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

#[tokio::test]
async fn sigterm_answers_what_is_in_flight_with_connection_close_then_exits_0() {
    let mut process = Standalone::ready(binary()).await;
    let mut idle = process.tls().await.unwrap();
    let mut stream = in_flight(&process).await;
    process.signal("TERM");
    until("not ready", || async {
        let (status, checks) = process.admin("/readyz").await;
        (status == 503 && checks.contains("[-]shutdown failed: ")).then_some(())
    })
    .await;
    stream.write_all(SMALL).await.unwrap();
    let answer = rest(&mut stream).await;
    assert_eq!(status(&answer), 200);
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(answer.contains(r#""allowed":true"#), "{answer}");
    // Reviews on an idle connection, and on a new one, are still answered, because kube-proxy may still send
    // them here.
    idle.write_all(&review(SMALL, "")).await.unwrap();
    assert!(rest(&mut idle).await.contains("connection: close"));
    let late = process.answer(&review(SMALL, CLOSE)).await;
    assert_eq!(status(&late), 200);
    assert_eq!(process.exit_code().await, 0);
}

#[tokio::test]
async fn the_lease_is_given_back_at_the_end() {
    let api = Api::new(Options::default());
    let leases: kube::Api<Lease> = kube::Api::namespaced(api.client(), "default");
    let mut process = Standalone::started(binary(), api).await;
    until("it leads", || async {
        let (_, metrics) = process.admin("/metrics").await;
        metrics.contains("\ntargetgate_leader 1\n").then_some(())
    })
    .await;
    let holder = || async {
        let lease = leases.get("targetgate").await.unwrap();
        lease.spec.unwrap().holder_identity.unwrap()
    };
    assert!(holder().await.contains('_'), "{}", holder().await);
    process.signal("TERM");
    assert_eq!(process.exit_code().await, 0);
    assert_eq!(holder().await, "");
}

#[tokio::test]
async fn sigint_ends_it_as_well() {
    let mut process = Standalone::ready(binary()).await;
    process.signal("INT");
    assert_eq!(process.exit_code().await, 0);
}

#[rstest]
#[case::again("TERM", "TERM", 15)]
#[case::ctrl_c_twice("INT", "INT", 2)]
#[case::another("TERM", "INT", 2)]
#[tokio::test]
async fn a_second_signal_does_not_wait_for_what_is_in_flight_and_its_number_is_in_the_exit_status(
    #[case] first: &str,
    #[case] second: &str,
    #[case] number: i32,
) {
    let mut process = Standalone::ready(binary()).await;
    let _stream = in_flight(&process).await;
    process.signal(first);
    process.logs("ending: ").await;
    process.signal(second);
    assert_eq!(process.exit_code().await, 128 + number);
}
