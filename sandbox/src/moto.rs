//! moto's server as a child process on loopback. It is a fake of AWS that others wrote, and
//! therefore checks our understanding of the protocol, which [`crate::elb`] implements. It serves
//! ELBv2, STS and IAM at one address, and checks signatures and policies when it is told to. Its
//! model of health is simple: a registered target is healthy at once.
//!
//! `tests/moto/install` installs it. The process ends when the value is dropped, and also when this
//! process ends in any way without dropping it.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

pub use crate::supervised::ProcessError;
use crate::supervised::{Folder, Supervised};

/// The folder into which `tests/moto/install` installs it, with the `requirements.txt` that it was
/// made from.
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/moto");
/// The requirements that have to be installed.
const PINNED: &str = include_str!("../../tests/moto/requirements.txt");
/// The text before the address in its log, which it writes once it listens.
const LISTENS: &str = "Running on http://";

/// Why moto could not be started.
#[derive(Debug, thiserror::Error)]
pub enum MotoError {
    /// It has not been installed, or was installed from another `requirements.txt`.
    #[error(
        "{0} does not hold what tests/moto/requirements.txt pins; install it with `make fetch-moto`, \
         which needs Python"
    )]
    NotInstalled(PathBuf),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("cannot read {0}, where moto says on which port it listens")]
    Log(PathBuf, #[source] io::Error),
    /// Its log does not have the address.
    #[error("moto's log does not say on which port it listens:\n{0}")]
    Address(String),
}

/// A running moto, which is an AWS of its own without any resources at first.
pub struct Moto {
    // Fields are dropped in this order, which ends the server and then removes the folder.
    _server: Supervised,
    _folder: Folder,
    address: SocketAddr,
}

impl Moto {
    /// Starts it, and returns when it listens, which takes some 2 s.
    ///
    /// # Errors
    /// When it is not installed, cannot be started, or does not listen in time.
    pub async fn start() -> Result<Moto, MotoError> {
        let python = installed(Path::new(INSTALLED))?;
        let folder = Folder::new()?;
        let log = folder.path().join("moto.log");
        // Isolated mode ignores Python's environment variables. Port 0 lets the system choose.
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

    /// The address at which it serves all AWS APIs, over plain HTTP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The Python interpreter of the virtual environment.
fn installed(folder: &Path) -> Result<PathBuf, MotoError> {
    match fs::read_to_string(folder.join("requirements.txt")) {
        Ok(from) if from == PINNED => Ok(folder.join("bin/python")),
        _ => Err(MotoError::NotInstalled(folder.to_owned())),
    }
}

/// Whether the log has the whole line with the address.
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
    fn moto_of_other_requirements_counts_as_not_installed() {
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
