use rstest::rstest;

use super::*;
use crate::commands::certs;
use crate::serve::clients::testing::{NOW, ca, client};

fn read_file(text: &str) -> Result<Clients, ClientCaError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.crt");
    std::fs::write(&file, text).unwrap();
    Clients::read(file, vec![], &Metrics::default())
}

#[rstest]
#[case::empty("", "does not hold PEM certificates")]
#[case::of_something_else("a: b", "does not hold PEM certificates")]
#[case::torn("-----BEGIN CERTIFICATE-----\nMII", "does not hold PEM certificates")]
#[case::not_x509(
    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "certificate 1 of"
)]
#[case::too_long(&" ".repeat((1 << 20) + 1), "is longer than")]
fn a_file_that_lets_nobody_in_is_refused_by_the_flags_name(
    #[case] text: &str,
    #[case] expected: &str,
) {
    let error = read_file(text).unwrap_err().to_string();
    assert!(error.starts_with("--client-ca: "), "{error}");
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_file_that_is_not_there_is_refused_by_the_flags_name() {
    let absent = Clients::read("/nonexistent/ca.crt".into(), vec![], &Metrics::default());
    let error = absent.unwrap_err().to_string();
    assert!(error.starts_with("--client-ca: cannot read /nonexistent/ca.crt"));
}

#[test]
fn a_leaf_among_the_cas_is_a_mistake_that_is_told() {
    let made = certs::make("shop", &[], NOW).unwrap();
    let error = read_file(&(made.ca + &made.certificate)).unwrap_err();
    assert!(
        matches!(error, ClientCaError::NoCa { number: 2, .. }),
        "{error}"
    );
}

#[test]
fn names_are_read_from_the_certificate() {
    let called_of = |common_name, dns_names: &[&str]| {
        let (chain, _) = client(&ca(), common_name, dns_names);
        pki::called(&chain[0], |called| called.to_string()).unwrap()
    };
    assert_eq!(called_of("kube-apiserver", &[]), r#""kube-apiserver""#);
    assert_eq!(
        called_of("a", &["b.c", "127.0.0.1", "d.e"]),
        r#""b.c", "d.e""#
    );
}
