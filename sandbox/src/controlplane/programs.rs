//! The location of the programs.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// The variable by which users of envtest name the folder of the programs.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
/// The folder into which `tests/controlplane/build` puts the programs, with the `go.mod` that they
/// were built from.
const BUILT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/controlplane");
/// The `go.mod` from which they have to be built.
const PINNED: &str = include_str!("../../../tests/controlplane/go.mod");

/// The error for a program that does not exist.
#[derive(Debug, thiserror::Error)]
pub enum MissingProgram {
    /// The programs have not been built, or were built from another `go.mod`.
    #[error(
        "{0} does not hold what tests/controlplane/go.mod pins; build it with \
         `make build-controlplane`, which needs Go, or set {ASSETS}"
    )]
    NotBuilt(PathBuf),
    /// The folder lacks this program.
    #[error(
        "there is no {name} in {folder}; `make build-controlplane` builds all of them, where \
         {ASSETS} is not set"
    )]
    Absent { name: &'static str, folder: PathBuf },
}

pub(super) struct Programs(PathBuf);

impl Programs {
    pub(super) fn find() -> Result<Programs, MissingProgram> {
        let assets = env::var_os(ASSETS).filter(|assets| !assets.is_empty());
        Programs::find_in(assets.map(PathBuf::from), Path::new(BUILT))
    }

    fn find_in(assets: Option<PathBuf>, built: &Path) -> Result<Programs, MissingProgram> {
        if let Some(assets) = assets {
            return Ok(Programs(assets));
        }
        match fs::read_to_string(built.join("go.mod")) {
            Ok(from) if from == PINNED => Ok(Programs(built.to_owned())),
            _ => Err(MissingProgram::NotBuilt(built.to_owned())),
        }
    }

    pub(super) fn program(&self, name: &'static str) -> Result<PathBuf, MissingProgram> {
        let path = self.0.join(name);
        match path.is_file() {
            true => Ok(path),
            false => Err(MissingProgram::Absent {
                name,
                folder: self.0.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_built_from_another_go_mod_count_as_not_built() {
        let folder = tempfile::tempdir().unwrap();
        let found = |folder| Programs::find_in(None, folder).map(|_| ());
        assert!(matches!(
            found(folder.path()),
            Err(MissingProgram::NotBuilt(_))
        ));
        let go_mod = folder.path().join("go.mod");
        fs::write(&go_mod, PINNED.replace("v1.", "v0.")).unwrap();
        assert!(matches!(
            found(folder.path()),
            Err(MissingProgram::NotBuilt(_))
        ));
        fs::write(&go_mod, PINNED).unwrap();
        found(folder.path()).unwrap();
    }

    #[test]
    fn the_folder_of_the_environment_comes_first_and_may_lack_a_program() {
        let (assets, built) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(built.path().join("go.mod"), PINNED).unwrap();
        fs::write(assets.path().join("etcd"), "").unwrap();
        let programs = Programs::find_in(Some(assets.path().to_owned()), built.path()).unwrap();
        let etcd = programs.program("etcd").unwrap();
        assert_eq!(etcd, assets.path().join("etcd"));
        let absent = programs.program("kube-controller-manager").unwrap_err();
        assert!(
            absent
                .to_string()
                .starts_with("there is no kube-controller-manager in")
        );
    }
}
