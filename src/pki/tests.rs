use std::time::Duration;

use jiff::Timestamp;
use rstest::rstest;
use targetgate_core::rotation::{Ca, Lifetimes, Validity};

use crate::pki::make;
use crate::pki::make::Made;
use crate::pki::read;
use crate::pki::read::ReadError;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn validity() -> Validity {
    Lifetimes::default().of_ca(NOW)
}

fn new_ca() -> (Made, Ca) {
    let made = make::ca("test CA", validity()).unwrap();
    let ca = read::ca(&made.certificate).unwrap();
    (made, ca)
}

fn names() -> Vec<String> {
    vec!["targetgate.shop.svc".to_owned(), "127.0.0.1".to_owned()]
}

fn new_leaf(ca: &Made) -> Made {
    make::leaf(&ca.certificate, &ca.key, "targetgate", &names(), validity()).unwrap()
}

#[test]
fn what_is_made_is_read_as_it_was_meant() {
    let (made, ca) = new_ca();
    assert_eq!(ca.validity, validity());
    assert!(read::ca_key(&made.certificate, &made.key).is_ok());
    let leaf = new_leaf(&made);
    let read = read::leaf(&leaf.certificate, &leaf.key, Some(&ca), &names()).unwrap();
    assert_eq!(read.validity, validity());
    assert!(read.fits && read.signed);
    assert_eq!(&*read.chain, leaf.certificate);
}

#[test]
fn a_leaf_of_another_ca_or_for_other_names_is_told_apart() {
    let (made, _) = new_ca();
    let (_, other) = new_ca();
    let leaf = new_leaf(&made);
    let mut wanted = names();
    wanted.push("10.0.0.1".to_owned());
    let read = read::leaf(&leaf.certificate, &leaf.key, Some(&other), &wanted).unwrap();
    assert!(!read.fits && !read.signed);
    let read = read::leaf(&leaf.certificate, &leaf.key, None, &names()).unwrap();
    assert!(read.fits && !read.signed);
}

#[test]
fn a_leaf_verifies_against_any_ca_of_a_bundle_while_it_is_valid() {
    let (made, ca) = new_ca();
    let (_, other) = new_ca();
    let leaf = new_leaf(&made);
    let chain = read::chain(&leaf.certificate, &leaf.key).unwrap();
    assert!(read::verifies(&chain.key.cert, [&other, &ca], NOW));
    assert!(!read::verifies(&chain.key.cert, [&other], NOW));
    assert!(!read::verifies(&chain.key.cert, [], NOW));
    let over = validity().not_after + Duration::from_secs(1);
    assert!(!read::verifies(&chain.key.cert, [&ca], over));
}

#[test]
fn a_bundle_is_read_as_far_as_it_can_be() {
    let (first, ca) = new_ca();
    let (second, other) = new_ca();
    let both = format!("{}\nby hand\n{}", first.certificate, second.certificate);
    let read = read::bundle(both.as_bytes());
    assert!(read.sound);
    assert_eq!(read.cas, [ca, other.clone()]);
    let torn = format!(
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{}",
        second.certificate
    );
    let read = read::bundle(torn.as_bytes());
    assert!(!read.sound);
    assert_eq!(read.cas, [other]);
    assert!(read::bundle(b"").sound);
    assert!(!read::bundle(b"nothing of ours").sound);
}

#[test]
fn a_key_that_signs_for_another_ca_or_for_no_ca_is_refused() {
    let (made, _) = new_ca();
    let (other, _) = new_ca();
    let refused = read::ca_key(&made.certificate, &other.key);
    assert!(matches!(refused, Err(ReadError::CaKey)), "{refused:?}");
    let refused = read::ca_key(&made.certificate, "nonsense");
    assert!(matches!(refused, Err(ReadError::CaKey)), "{refused:?}");
    let leaf = new_leaf(&made);
    let refused = read::ca_key(&leaf.certificate, &leaf.key);
    assert!(matches!(refused, Err(ReadError::NoCa)), "{refused:?}");
}

#[rstest]
#[case::empty("")]
#[case::torn("-----BEGIN CERTIFICATE-----\nMII")]
#[case::not_x509("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")]
#[case::text("hello")]
fn what_is_no_certificate_is_an_error_and_no_panic(#[case] text: &str) {
    let (made, _) = new_ca();
    assert!(read::ca(text).is_err());
    assert!(read::chain(text, &made.key).is_err());
    assert!(read::ca_key(text, &made.key).is_err());
    assert!(read::chain(&made.certificate, text).is_err());
}

#[test]
fn no_key_is_ever_printed() {
    let (made, _) = new_ca();
    let key = read::ca_key(&made.certificate, &made.key).unwrap();
    assert_eq!(format!("{key:?}"), "PrivateKey(..)");
    let leaf = new_leaf(&made);
    let leaf = read::leaf(&leaf.certificate, &leaf.key, None, &[]).unwrap();
    assert!(!format!("{leaf:?}").contains("PRIVATE KEY"));
}
