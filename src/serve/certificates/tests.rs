use std::fs;
use std::os::unix::fs::symlink;

use rstest::rstest;
use tempfile::TempDir;

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::*;
use crate::commands::certs;
use crate::files::POLL;

const MADE_AT: i64 = 1_800_000_000;

/// A folder with the layout of a Secret volume: `tls.crt` → `..data/tls.crt`, `..data` → a folder.
struct Volume(TempDir);

impl Volume {
    fn new() -> Self {
        let volume = Self(tempfile::tempdir().unwrap());
        volume.swap("first", MADE_AT);
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), volume.0.path().join(name)).unwrap();
        }
        volume
    }

    /// Replaces the certificate in the way of the kubelet.
    fn swap(&self, name: &str, made_at: i64) {
        let folder = self.0.path().join(name);
        fs::create_dir(&folder).unwrap();
        let made_at = Timestamp::from_second(made_at).unwrap();
        let made = certs::make("shop", &[], made_at).unwrap();
        fs::write(folder.join("tls.crt"), made.certificate).unwrap();
        fs::write(folder.join("tls.key"), made.key).unwrap();
        let link = self.0.path().join("..data_tmp");
        symlink(name, &link).unwrap();
        fs::rename(link, self.0.path().join("..data")).unwrap();
    }

    fn files(&self) -> PemFiles {
        PemFiles {
            certificate: self.0.path().join("tls.crt"),
            key: self.0.path().join("tls.key"),
        }
    }
}

/// 30 days after the certificate was made.
fn expiry(made_at: i64) -> Timestamp {
    Timestamp::from_second(made_at + 30 * 24 * 3600).unwrap()
}

#[test]
fn the_leafs_expiry_is_known() {
    let certificate = Volume::new().files().load().unwrap();
    assert_eq!(certificate.expiry, expiry(MADE_AT));
    let metrics = Arc::new(Metrics::default());
    Certificates::new(certificate, &metrics);
    let line = format!(
        "certificate_expiry_timestamp_seconds {}",
        expiry(MADE_AT).as_second()
    );
    assert!(metrics.encode().contains(&line), "{}", metrics.encode());
}

#[rstest]
#[case::absent("tls.crt", None, "--tls-cert: cannot read")]
#[case::empty("tls.crt", Some(""), "--tls-cert: ")]
#[case::torn("tls.crt", Some("-----BEGIN CERTIFICATE-----\nMII"), "--tls-cert: ")]
#[case::not_x509(
    "tls.crt",
    Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    "--tls-cert: the first certificate"
)]
#[case::no_key("tls.key", None, "--tls-key: cannot read")]
#[case::empty_key("tls.key", Some(""), "--tls-key: ")]
fn what_cannot_be_served_is_refused_by_the_flags_name(
    #[case] file: &str,
    #[case] text: Option<&str>,
    #[case] begins: &str,
) {
    let volume = Volume::new();
    let path = volume.0.path().join("first").join(file);
    fs::remove_file(&path).unwrap();
    if let Some(text) = text {
        fs::write(&path, text).unwrap();
    }
    let error = volume.files().load().unwrap_err().to_string();
    assert!(error.starts_with(begins), "{error}");
    assert!(error.contains(file), "{error}");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (volume, other) = (Volume::new(), Volume::new());
    let files = PemFiles {
        key: other.files().key,
        ..volume.files()
    };
    let error = files.load().unwrap_err();
    assert!(matches!(error, CertificateError::Key { .. }), "{error}");
}

#[tokio::test]
async fn a_swapped_link_is_noticed_and_a_broken_pair_keeps_the_former() {
    let volume = Volume::new();
    let files = volume.files();
    let certificate = files.load().unwrap();
    let metrics = Arc::new(Metrics::default());
    let certificates = Arc::new(Certificates::new(certificate, &metrics));
    let following = tokio::spawn(follow(files.clone(), certificates.clone()));

    fs::write(volume.0.path().join("first/tls.key"), "nonsense").unwrap();
    volume.swap("second", MADE_AT + 60);
    let noticed = async {
        while certificates.expiry() != Some(expiry(MADE_AT + 60)) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    // Well before the poll.
    timeout(POLL / 2, noticed).await.unwrap();
    following.abort();

    fs::write(volume.0.path().join("second/tls.key"), "nonsense").unwrap();
    let complaint = reload(&files, &certificates, None).await;
    assert!(complaint.is_some_and(|c| c.starts_with("--tls-key")));
    let broken = r#"file_broken{flag="tls-cert"} 1"#;
    assert!(metrics.encode().contains(broken), "{}", metrics.encode());
    assert_eq!(certificates.expiry(), Some(expiry(MADE_AT + 60)));
}

#[tokio::test]
async fn the_same_files_are_not_served_anew() {
    let volume = Volume::new();
    let certificate = volume.files().load().unwrap();
    let certificates = Certificates::new(certificate.clone(), &Metrics::default());
    assert!(reload(&volume.files(), &certificates, None).await.is_none());
    let served = certificates.current.load_full().unwrap().key.clone();
    assert!(Arc::ptr_eq(&served, &certificate.key));
}
