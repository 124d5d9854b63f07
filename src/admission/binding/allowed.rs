//! The operator's allow-list, loaded from a file that may change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use targetgate_core::binding::allow_list::{AllowList, AllowListError};
use thiserror::Error;
use tracing::info;

use crate::files;
use crate::files::{FileMetrics, LastError, WatchedFile};
use crate::metrics::Metrics;

/// Maximum length of the file, in bytes: the limit of Kubernetes on a ConfigMap.
const MAX_FILE: u64 = 1 << 20;

/// Why the allow-list cannot be loaded.
#[derive(Debug, Error)]
pub enum AllowedError {
    #[error("--allow-arns: cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("--allow-arns: {} is longer than {MAX_FILE} bytes", path.display())]
    TooLong { path: PathBuf },
    /// The file does not hold an allow-list.
    #[error("--allow-arns: {} does not hold an allow-list", path.display())]
    Parse {
        path: PathBuf,
        source: AllowListError,
    },
}

/// The current allow-list.
pub struct Allowed {
    path: PathBuf,
    list: ArcSwap<AllowList>,
    metrics: FileMetrics,
}

impl Allowed {
    /// Reads the file. Blocks on the file system.
    ///
    /// # Errors
    /// The file does not hold an allow-list.
    pub fn read(path: PathBuf, metrics: &Metrics) -> Result<Self, AllowedError> {
        let list = ArcSwap::from_pointee(load(&path)?);
        Ok(Self {
            path,
            list,
            metrics: metrics.of(),
        })
    }

    /// The list of the last successful read.
    pub fn list(&self) -> Arc<AllowList> {
        self.list.load_full()
    }

    /// Reloads the file when it changes, for ever. An unusable file is logged once, and the previous list
    /// stays in force, so that a mistake in the file does not allow everything.
    pub async fn follow(self: Arc<Self>) {
        files::follow([self.path.as_path()], |complaint| self.reload(complaint)).await;
    }

    async fn reload(&self, complaint: LastError) -> LastError {
        let path = self.path.clone();
        let take = |list| {
            if *self.list.load_full() != list {
                self.list.store(Arc::new(list));
                info!(path = %self.path.display(), "going by a new allow-list");
            }
        };
        let followed = WatchedFile {
            what: "allow-list",
            flag: "allow-arns",
            metrics: &self.metrics,
        };
        followed.reload(move || load(&path), take, complaint).await
    }
}

fn load(path: &Path) -> Result<AllowList, AllowedError> {
    let path = path.to_owned();
    let read = files::read(&path, MAX_FILE);
    let text = read.and_then(|held| held.map(|held| io::read_to_string(&*held)).transpose());
    let text = match text {
        Ok(Some(text)) => text,
        Ok(None) => return Err(AllowedError::TooLong { path }),
        Err(source) => return Err(AllowedError::Read { path, source }),
    };
    AllowList::parse(&text).map_err(|source| AllowedError::Parse { path, source })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;
    use targetgate_core::fixtures::arn;

    const NOTHING: &str = "[]";
    const ALL: &str = "[{name: all, namespaces: ['*'], targetGroupARNs: ['*']}]";

    #[tokio::test]
    async fn a_new_list_counts_and_a_broken_one_keeps_the_former() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("allow.yaml");
        fs::write(&file, NOTHING).unwrap();
        let metrics = Arc::new(Metrics::default());
        let allowed = Allowed::read(file.clone(), &metrics).unwrap();
        let allowed = Arc::new(allowed);
        let may = || allowed.list().check("shop", &arn("web")).is_ok();
        assert!(!may());
        let following = tokio::spawn(allowed.clone().follow());
        fs::write(&file, ALL).unwrap();
        let noticed = async {
            while !may() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(60), noticed).await.unwrap();
        fs::write(&file, "nonsense").unwrap();
        let broken = r#"file_broken{flag="allow-arns"} 1"#;
        let told = async {
            while !metrics.encode().contains(broken) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(60), told).await.unwrap();
        following.abort();
        let complaint = allowed.reload(None).await;
        assert!(complaint.is_some_and(|c| c.starts_with("--allow-arns")));
        fs::remove_file(&file).unwrap();
        assert!(allowed.reload(None).await.is_some() && may());
    }

    #[test]
    fn what_is_no_list_ends_the_start_with_the_flag() {
        let folder = tempfile::tempdir().unwrap();
        let read = |file| Allowed::read(file, &Metrics::default()).err();
        let absent = read(folder.path().join("absent")).unwrap();
        assert!(absent.to_string().starts_with("--allow-arns: cannot read"));
        let file = folder.path().join("allow.yaml");
        fs::write(&file, "a: b").unwrap();
        let broken = read(file.clone()).unwrap().to_string();
        assert!(broken.ends_with("does not hold an allow-list"), "{broken}");
        fs::write(&file, " ".repeat((1 << 20) + 1)).unwrap();
        assert!(matches!(read(file), Some(AllowedError::TooLong { .. })));
    }
}
