//! moto's server as a child process on loopback: a double of AWS that others wrote, and so a check of
//! what we believe of the wire ([`crate::elb`] is our own belief). It answers ELBv2, STS and IAM at one
//! address, and holds callers to their signatures and policies when it is told to. Of health it knows
//! little: a registered target is healthy at once.
//!
//! `tests/moto/install` installs it. The process is ended when the value is dropped, and also when this
//! process ends without dropping it, however it does.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

pub use crate::supervised::ProcessError;
use crate::supervised::{Folder, Supervised};

/// Where `tests/moto/install` puts it, with the `requirements.txt` that it was made from.
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/moto");
/// What is to be installed.
const PINNED: &str = include_str!("../../tests/moto/requirements.txt");
/// What its log says before the address, once it listens.
const LISTENS: &str = "Running on http://";

/// Why there is no moto.
#[derive(Debug, thiserror::Error)]
pub enum MotoError {
    /// None has been installed, or by an older `requirements.txt`.
    #[error(
        "{0} does not hold what tests/moto/requirements.txt pins; install it with `make fetch-moto`, \
         which needs Python"
    )]
    NotInstalled(PathBuf),
    /// It does not run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Its log cannot be read.
    #[error("cannot read {0}, where moto says on which port it listens")]
    Log(PathBuf, #[source] io::Error),
    /// Its log names no address.
    #[error("moto's log does not say on which port it listens:\n{0}")]
    Address(String),
}

/// A running moto: an AWS of its own, with nothing in it yet.
pub struct Moto {
    // Ended in this order, the folder last.
    _server: Supervised,
    _folder: Folder,
    address: SocketAddr,
}

impl Moto {
    /// Starts it, and returns when it listens: after 2 s.
    ///
    /// # Errors
    /// When it is not installed, cannot be started, or does not listen in time.
    pub async fn start() -> Result<Moto, MotoError> {
        let python = installed(Path::new(INSTALLED))?;
        let folder = Folder::new()?;
        let log = folder.path().join("moto.log");
        // Isolated, so that Python's own variables change nothing. The system chooses the port.
        let arguments = ["-I", "-m", "moto.server", "--host=127.0.0.1", "--port=0"];
        let mut server = folder.start("moto", &python, &arguments.map(str::to_owned))?;
        server
            .until(|| async { fs::read_to_string(&log).is_ok_and(|log| listens(&log)) })
            .await?;
        let said = fs::read_to_string(&log).map_err(|error| MotoError::Log(log, error))?;
        Ok(Moto {
            address: address(&said).ok_or(MotoError::Address(said))?,
            _server: server,
            _folder: folder,
        })
    }

    /// Where it serves all of AWS, over plain HTTP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The interpreter of the virtual environment.
fn installed(folder: &Path) -> Result<PathBuf, MotoError> {
    match fs::read_to_string(folder.join("requirements.txt")) {
        Ok(from) if from == PINNED => Ok(folder.join("bin/python")),
        _ => Err(MotoError::NotInstalled(folder.to_owned())),
    }
}

/// Whether the line with the address is there, to its end.
fn listens(log: &str) -> bool {
    log.split_once(LISTENS)
        .is_some_and(|(_, rest)| rest.contains('\n'))
}

fn address(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once(LISTENS)?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moto_of_other_requirements_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let is_not_installed = || {
            matches!(
                installed(folder.path()),
                Err(MotoError::NotInstalled(path)) if path == folder.path()
            )
        };
        assert!(is_not_installed());
        let requirements = folder.path().join("requirements.txt");
        fs::write(&requirements, PINNED.replace("moto", "tomo")).unwrap();
        assert!(is_not_installed());
        fs::write(&requirements, PINNED).unwrap();
        let python = installed(folder.path()).unwrap();
        assert_eq!(python, folder.path().join("bin/python"));
    }

    #[test]
    fn the_address_is_read_once_its_line_is_whole() {
        let log = "WARNING: This is a development server.\n * Running on http://127.0.0.1:46583";
        assert!(!listens(log));
        let log = format!("{log}\nPress CTRL+C to quit\n");
        assert!(listens(&log));
        assert_eq!(address(&log), "127.0.0.1:46583".parse().ok());
    }
}
