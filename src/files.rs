//! Files that change while we run, such as those of a Secret or ConfigMap volume, which the kubelet replaces.

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

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::metrics::{Labels, MetricSet, Registered};

/// Longest time between two reads of a file, in case its watch misses a change. Chosen.
pub const POLL: Duration = Duration::from_secs(60);
/// Debounce after the first sign of a change, because files that belong together are replaced one after the other.
/// Chosen.
const SETTLE: Duration = Duration::from_millis(300);

/// Notifies of possible changes of files. It watches their folders, because the kubelet replaces a volume by
/// swapping a link beside the files.
///
/// Source: <https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically>
struct Changes {
    changed: Arc<Notify>,
    #[expect(dead_code, reason = "it watches until it is dropped")]
    watcher: Option<RecommendedWatcher>,
}

impl Changes {
    /// Watches these files. If their folders cannot be watched, it logs that, and [`Self::next`] returns
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

    /// Returns when the files may have changed since [`Self::of`] or the last call.
    async fn next(&self) {
        // A timeout is the poll, which finds the changes that the watch misses.
        if timeout(POLL, self.changed.notified()).await.is_ok() {
            sleep(SETTLE).await;
        }
    }
}

/// Reads a file; `None` if it is longer than `at_most` bytes. Blocks on the file system.
///
/// # Errors
/// The file cannot be read.
pub fn read(path: &Path, at_most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut held = vec![];
    File::open(path)?
        .take(at_most.saturating_add(1))
        .read_to_end(&mut held)?;
    Ok((held.len() as u64 <= at_most).then_some(held))
}

/// Calls `reload` at once, and again whenever these files may have changed, for ever. `reload` receives the last error,
/// and returns the current one.
pub async fn follow<'a, F>(
    files: impl IntoIterator<Item = &'a Path>,
    reload: impl Fn(LastError) -> F,
) where
    F: Future<Output = LastError>,
{
    let changes = Changes::of(files);
    let mut complaint = None;
    loop {
        // Reload first: the files may have changed before the watch began.
        complaint = reload(complaint).await;
        changes.next().await;
    }
}

/// The last error of a watched file, so that the same error is logged once.
pub type LastError = Option<String>;

/// Metrics of the followed files.
#[derive(Clone)]
pub struct FileMetrics(Family<Labels<1>, Gauge>);

impl MetricSet for FileMetrics {
    fn register(registered: &mut Registered) -> Self {
        Self(registered.add(
            "file_broken",
            "1 while a changed file cannot be used and its previous content stays in force, by flag",
            Family::default(),
        ))
    }
}

impl FileMetrics {
    /// Sets whether the followed file of this flag could not be used when it was last read.
    fn set_broken(&self, flag: &'static str, broken: bool) {
        self.0.get_or_create(&[("flag", flag)]).set(broken.into());
    }
}

/// Files that are followed.
pub struct WatchedFile<'a> {
    /// The name of their content, for logs.
    pub what: &'static str,
    /// The flag that names them.
    pub flag: &'static str,
    /// Exports whether they are broken.
    pub metrics: &'a FileMetrics,
}

impl WatchedFile<'_> {
    /// Loads and takes their content. If that fails, it logs the error, an equal one only once, and keeps
    /// the previous content. `complaint` is the result of the last call.
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
            // The panic hook has logged a load that panicked; the previous content stays all the same.
            Err(_) => None,
        };
        self.metrics.set_broken(self.flag, complaint.is_some());
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

/// Whether an event can be a change: inotify also reports our own reads, which would make us read for ever.
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
