//! Files that others replace while we run, such as those of a Secret or ConfigMap volume.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::metrics::Metrics;

/// Files are read this often even if nothing tells of a change.
pub const POLL: Duration = Duration::from_secs(60);
/// Files that belong together are replaced one after the other: they are read so long after the first
/// sign of it.
const SETTLE: Duration = Duration::from_millis(300);

/// Tells when files may have changed. Their folders are watched, because a volume is replaced by
/// swapping a link beside them.
///
/// Source: <https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically>
struct Changes {
    changed: Arc<Notify>,
    #[expect(dead_code, reason = "it watches until it is dropped")]
    watcher: Option<RecommendedWatcher>,
}

impl Changes {
    /// Of these files. Where their folders cannot be watched, that is logged, and [`Self::next`] returns
    /// every minute.
    fn of<'a>(files: impl IntoIterator<Item = &'a Path>) -> Self {
        let changed = Arc::new(Notify::new());
        let folders = files.into_iter().map(folder);
        let watcher = match watch(folders, &changed) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                warn!(
                    source = &error as &dyn Error,
                    "cannot watch a folder; the files there are read every {POLL:?} instead"
                );
                None
            }
        };
        Self { changed, watcher }
    }

    /// Returns when they may have changed since [`Self::of`] or the last call.
    async fn next(&self) {
        // The poll finds what the watch does not tell.
        if timeout(POLL, self.changed.notified()).await.is_ok() {
            sleep(SETTLE).await;
        }
    }
}

/// What a file holds; `None` where that is more than so many bytes. Blocks on the file system.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path, at_most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut held = vec![];
    File::open(path)?
        .take(at_most.saturating_add(1))
        .read_to_end(&mut held)?;
    Ok((held.len() as u64 <= at_most).then_some(held))
}

/// Reloads at once, and again whenever these files may have changed, for ever. `reload` is told what was
/// wrong the last time, and returns what is wrong now.
pub async fn follow<'a, F>(
    files: impl IntoIterator<Item = &'a Path>,
    reload: impl Fn(LastError) -> F,
) where
    F: Future<Output = LastError>,
{
    let changes = Changes::of(files);
    let mut complaint = None;
    loop {
        // First of all: the files may have changed before the watch began.
        complaint = reload(complaint).await;
        changes.next().await;
    }
}

/// What is wrong with files, in words.
pub type LastError = Option<String>;

/// Files that are followed.
pub struct WatchedFile<'a> {
    /// What they hold, for logs.
    pub what: &'static str,
    /// The flag that names them.
    pub flag: &'static str,
    /// Shows whether they are broken.
    pub metrics: &'a Metrics,
}

impl WatchedFile<'_> {
    /// Loads what they hold and takes it. What cannot be loaded is logged, the same twice only once, and
    /// the former stays. `complaint` is what the last call returned.
    pub async fn reload<T, E>(
        self,
        load: impl FnOnce() -> Result<T, E> + Send + 'static,
        take: impl FnOnce(T),
        complaint: LastError,
    ) -> LastError
    where
        T: Send + 'static,
        E: Error + Send + 'static,
    {
        let complaint = match tokio::task::spawn_blocking(load).await {
            Ok(Ok(loaded)) => {
                take(loaded);
                None
            }
            Ok(Err(error)) => Some(self.complain(&error, complaint)),
            // A load that panicked says so itself; the former stays all the same.
            Err(_) => None,
        };
        self.metrics.file_broken(self.flag, complaint.is_some());
        complaint
    }

    fn complain(&self, error: &dyn Error, complaint: LastError) -> String {
        let source = error.source().map(ToString::to_string);
        let now = format!("{error}: {}", source.unwrap_or_default());
        if complaint.as_ref() != Some(&now) {
            let what = self.what;
            warn!(
                source = error.source(),
                "keeping the former {what}: {error}"
            );
        }
        now
    }
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn watch<'a>(
    folders: impl Iterator<Item = &'a Path>,
    changed: &Arc<Notify>,
) -> notify::Result<RecommendedWatcher> {
    let changed = changed.clone();
    let mut watcher = notify::recommended_watcher(move |told| {
        if may_be_a_change(&told) {
            changed.notify_one();
        }
    })?;
    for folder in folders {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

/// Our own reading is told of as well, and would make us read for ever.
fn may_be_a_change(told: &notify::Result<Event>) -> bool {
    let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
    match told {
        Ok(event) => !event.kind.is_access() || event.kind == written,
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_only_read_has_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tls.crt");
        std::fs::write(&file, "a").unwrap();
        let changes = Changes::of([&*file]);
        std::fs::read(&file).unwrap();
        let read = timeout(Duration::from_secs(1), changes.next()).await;
        assert!(read.is_err(), "reading it was taken for a change");
        std::fs::write(&file, "b").unwrap();
        let written = timeout(Duration::from_secs(30), changes.next()).await;
        assert!(written.is_ok(), "writing it was not noticed");
    }
}
