//! The accepted versions and cipher suites of TLS.

use rstest::rstest;

use super::*;
use crate::serve::clients::Clients;
use crate::serve::clients::testing::{NOW, ca};

/// Suites of TLS 1.2 for an ECDSA certificate, with their IANA numbers.
const ECDHE_WITH_GCM: u16 = 0xc02b;
const ECDHE_WITH_CBC: [u16; 4] = [0xc009, 0xc00a, 0xc023, 0xc024];
const RSA_KEY_EXCHANGE: [u16; 5] = [0x000a, 0x002f, 0x0035, 0x009c, 0x009d];

const ALERT: u8 = 21;
const HANDSHAKE_FAILURE: u8 = 40;
const PROTOCOL_VERSION: u8 = 70;
const HANDSHAKE: u8 = 22;
const SERVER_HELLO: u8 = 2;

/// The record of a ClientHello of this version that offers these suites. Without `supported_versions`
/// it is one of TLS 1.2 or before.
fn hello(version: u16, suites: &[u16]) -> Vec<u8> {
    let suites: Vec<u8> = suites
        .iter()
        .flat_map(|suite| suite.to_be_bytes())
        .collect();
    let extensions: &[u8] = &[
        0, 10, 0, 6, 0, 4, 0, 29, 0, 23, // supported_groups: x25519, secp256r1
        0, 11, 0, 2, 1, 0, // ec_point_formats: uncompressed
        0, 13, 0, 4, 0, 2, 4, 3, // signature_algorithms: ecdsa_secp256r1_sha256
    ];
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]); // random
    body.push(0); // no session
    body.extend(length(suites.len()));
    body.extend(suites);
    body.extend([1, 0]); // no compression
    body.extend(length(extensions.len()));
    body.extend(extensions);
    let mut record = vec![HANDSHAKE, 3, 1];
    record.extend(length(body.len() + 4));
    record.extend([1, 0]); // a ClientHello, of a length in three bytes
    record.extend(length(body.len()));
    record.extend(body);
    record
}

fn length(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap().to_be_bytes()
}

#[rstest]
#[case::a_good_suite(0x0303, &[ECDHE_WITH_GCM], &[HANDSHAKE, SERVER_HELLO])]
#[case::cbc(0x0303, &ECDHE_WITH_CBC, &[ALERT, HANDSHAKE_FAILURE])]
#[case::no_forward_secrecy(0x0303, &RSA_KEY_EXCHANGE, &[ALERT, HANDSHAKE_FAILURE])]
#[case::tls_1_1(0x0302, &[ECDHE_WITH_GCM], &[ALERT, PROTOCOL_VERSION])]
#[tokio::test]
async fn tls_before_1_2_and_weak_suites_are_refused(
    #[case] version: u16,
    #[case] suites: &[u16],
    #[case] expected: &[u8],
) {
    let (_, tls) = acceptor();
    let mut served = serve(Some(tls));
    served
        .peer
        .write_all(&hello(version, suites))
        .await
        .unwrap();
    let mut record = [0; 7];
    timeout(LONG, served.peer.read_exact(&mut record))
        .await
        .unwrap()
        .unwrap();
    // After type, version and length, an alert has its level, and a handshake message its type.
    let said = match record[0] {
        ALERT => record[6],
        _ => record[5],
    };
    assert_eq!([record[0], said], expected);
    drop(served.peer);
    served.connection.await.unwrap();
    let text = served.metrics.encode();
    let incompatible = r#"tls_failures_total{cause="Incompatible"} 1"#;
    assert_eq!(text.contains(incompatible), record[0] == ALERT, "{text}");
}

#[test]
fn every_suite_has_forward_secrecy_and_an_aead_with_and_without_client_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.crt");
    std::fs::write(&file, ca().certificate).unwrap();
    let clients = Clients::read(file, vec![], &Metrics::default()).unwrap();
    let (_, certificate) = certificate();
    let mutual = mutual_tls(certificate, Arc::new(clients), Arc::new(|| NOW));
    for acceptor in [acceptor().1, mutual.unwrap()] {
        let suites = &acceptor.config().crypto_provider().cipher_suites;
        assert!(!suites.is_empty());
        for suite in suites {
            let name = format!("{:?}", suite.suite());
            let forward = name.starts_with("TLS13_") || name.starts_with("TLS_ECDHE_");
            let aead = name.contains("_GCM_") || name.contains("_CHACHA20_POLY1305_");
            assert!(forward && aead, "{name}");
        }
    }
}
