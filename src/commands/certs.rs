//! `targetgate certs dev`: a certificate authority and a serving certificate for development.
//!
//! The command uses the CA's key once and discards it: another certificate needs another CA.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use targetgate_core::rotation::Lifetimes;
use thiserror::Error;

use crate::args::DevCerts;
use crate::pki::make;

/// Validity of both certificates. Chosen.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The Service of the webhook.
const SERVICE: &str = "targetgate";

/// Why the certificates were not made.
#[derive(Debug, Error)]
pub enum DevCertsError {
    /// A file exists already.
    #[error("{} exists; give --force to replace it, or another --out", .0.display())]
    Exists(PathBuf),
    #[error("cannot write {}; give --out a folder that can be written", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot make the certificates; is every --san a DNS name or an IP address?")]
    Make(#[source] rcgen::Error),
}

/// The certificates and the key, as PEM.
pub struct Made {
    /// The CA's certificate, for a webhook's `caBundle`.
    pub ca: String,
    /// The serving certificate, signed by the CA directly, without an intermediate.
    pub certificate: String,
    /// The serving certificate's private key.
    pub key: String,
}

/// Makes the certificates and writes `ca.crt`, `tls.crt` and `tls.key` (mode 0600). Returns the
/// paths.
pub fn write(wanted: &DevCerts, now: Timestamp) -> Result<[PathBuf; 3], DevCertsError> {
    let paths = ["ca.crt", "tls.crt", "tls.key"].map(|name| wanted.out.join(name));
    if let Some(there) = paths.iter().find(|path| !wanted.force && path.exists()) {
        return Err(DevCertsError::Exists(there.clone()));
    }
    let made = make(&wanted.namespace, &wanted.sans, now).map_err(DevCertsError::Make)?;
    fs::create_dir_all(&wanted.out).map_err(|source| DevCertsError::Write {
        path: wanted.out.clone(),
        source,
    })?;
    let [ca, certificate, key] = &paths;
    for (path, text, mode) in [
        (ca, &made.ca, 0o644),
        (certificate, &made.certificate, 0o644),
        (key, &made.key, 0o600),
    ] {
        put(path, text, mode).map_err(|source| DevCertsError::Write {
            path: path.clone(),
            source,
        })?;
    }
    Ok(paths)
}

/// Makes a CA and a serving certificate for the Service `targetgate` in this namespace, for loopback,
/// and for `sans`.
pub fn make(namespace: &str, sans: &[String], now: Timestamp) -> Result<Made, rcgen::Error> {
    let lifetimes = Lifetimes {
        ca: LIFETIME,
        ..Lifetimes::default()
    };
    let validity = lifetimes.of_ca(now);
    let ca = make::ca("targetgate development CA", validity)?;
    let mut names = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    names.extend(make::service_names(SERVICE, namespace));
    names.extend_from_slice(sans);
    let leaf = make::leaf(&ca.certificate, &ca.key, SERVICE, &names, validity)?;
    Ok(Made {
        ca: ca.certificate,
        certificate: leaf.certificate,
        key: leaf.key,
    })
}

/// Writes a new file and renames it over the old one, so that a reader never sees half of it
/// and a key's mode is right from its first byte.
fn put(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let beside = path.with_extension("new");
    let _ = fs::remove_file(&beside);
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn wanted(folder: &Path) -> DevCerts {
        DevCerts {
            out: folder.join("certs"),
            namespace: "shop".to_owned(),
            sans: vec![],
            force: false,
        }
    }

    #[test]
    fn the_key_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let [_, _, key] = write(&wanted(folder.path()), Timestamp::now()).unwrap();
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn files_that_are_there_are_replaced_only_by_force() {
        let folder = tempfile::tempdir().unwrap();
        let mut wanted = wanted(folder.path());
        let [ca, ..] = write(&wanted, Timestamp::now()).unwrap();
        let first = fs::read(&ca).unwrap();
        let refused = write(&wanted, Timestamp::now());
        assert!(matches!(refused, Err(DevCertsError::Exists(path)) if path == ca));
        assert_eq!(fs::read(&ca).unwrap(), first);
        wanted.force = true;
        write(&wanted, Timestamp::now()).unwrap();
        assert_ne!(fs::read(&ca).unwrap(), first);
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        assert!(make("shop", &["caf\u{e9}".to_owned()], Timestamp::now()).is_err());
    }
}
