//! WATCH: the changes since a version, then the changes as they happen.
//!
//! The reader pulls the stream, so that there is no task and no queue that could grow. A reader
//! that falls behind the kept history gets a 410, as from a real server.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::{
    Inner,
    list::{Query, Selection, too_large},
    object::Object,
    status::Status,
    store::{Change, Forgotten, Scan},
    target::Target,
    view::View,
};
use crate::signal::Listener;

/// A bookmark is sent this often to a client that asked for bookmarks. kube-apiserver's
/// `defaultBookmarkFrequency`.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// A watch without `timeoutSeconds` lasts this long, and no watch lasts longer. The default of
/// kube-apiserver's `--min-request-timeout`.
const LASTS: Duration = Duration::from_secs(1800);
/// At most this many changes are read from the history at once. Chosen.
const BATCH: usize = 100;

pub struct Watch {
    api: Arc<Inner>,
    target: Target,
    selection: Selection,
    view: View,
    seen: u64,
    ready: VecDeque<Bytes>,
    versions: Listener,
    closings: Listener,
    ends: Instant,
    next_bookmark: Option<Instant>,
    over: bool,
}

impl Watch {
    /// Opens a watch, or refuses it.
    pub fn open(
        api: &Arc<Inner>,
        target: &Target,
        query: &Query,
        view: View,
    ) -> Result<Watch, Status> {
        if query.flag("sendInitialEvents") {
            // A server without the WatchList feature refuses it in these words.
            let cause = super::status::Cause::forbidden(
                "sendInitialEvents",
                "sendInitialEvents is forbidden for watch unless the WatchList feature gate is \
                 enabled",
            );
            return Err(Status::invalid(&target.served.resource, "", &[cause]));
        }
        let now = Instant::now();
        let lasts = query.number("timeoutSeconds")?;
        let lasts = lasts.map_or(LASTS, Duration::from_secs).min(LASTS);
        let bookmarks = query.flag("allowWatchBookmarks");
        let mut watch = Watch {
            api: Arc::clone(api),
            target: target.clone(),
            selection: Selection::read(target, query)?,
            view,
            seen: 0,
            ready: VecDeque::new(),
            versions: api.store.versions(),
            closings: api.faults.closings(),
            ends: now + lasts,
            next_bookmark: bookmarks.then(|| now + BOOKMARK_EVERY),
            over: false,
        };
        match query.number("resourceVersion")?.unwrap_or(0) {
            0 => watch.begin_with_what_is_there(),
            from => watch.begin_after(from)?,
        }
        Ok(watch)
    }

    fn begin_with_what_is_there(&mut self) {
        let page = self.api.store.list(&Scan {
            keep: &|object| self.selection.matches(object),
            ..Scan::all(
                &self.target.served.resource,
                self.selection.namespace.as_deref(),
            )
        });
        self.seen = page.version;
        let added = page.items.iter();
        let added = added.map(|(_, object)| self.event("ADDED", object));
        self.ready = added.collect();
    }

    fn begin_after(&mut self, from: u64) -> Result<(), Status> {
        let (oldest, now) = (self.api.store.oldest(), self.api.store.version());
        if from < oldest {
            // The first event says that the version is too old: the watch itself is answered with
            // 200, as by a real server.
            self.finish(Some(line("ERROR", &too_old(from, oldest).body())));
        }
        if from > now {
            return Err(too_large(from, now));
        }
        self.seen = from;
        Ok(())
    }

    /// The next line; `None` once the watch has ended.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.over || self.closings.has_changed() {
                return None;
            }
            self.versions.mark_unchanged();
            let held = self.take_changes();
            if !self.ready.is_empty() {
                continue;
            }
            self.wait(held).await;
        }
    }

    /// Reads the next changes from the history. Returns the time at which a delayed change may be
    /// shown.
    fn take_changes(&mut self) -> Option<Instant> {
        let changes = match self.api.store.since(self.seen, BATCH) {
            Ok(changes) => changes,
            Err(Forgotten(oldest)) => {
                let status = too_old(self.seen, oldest).body();
                self.finish(Some(line("ERROR", &status)));
                return None;
            }
        };
        let delay = self
            .api
            .faults
            .watch_delay(&self.target.served.resource.plural);
        for change in &changes {
            if self.is_mine(change) {
                let shown = change.at + delay;
                if shown > Instant::now() {
                    return Some(shown);
                }
                self.show(change);
            }
            self.seen = change.version;
        }
        if changes.len() < BATCH && !self.still_served() {
            self.finish(None);
        }
        // After a full batch the history may hold more.
        (changes.len() == BATCH).then(Instant::now)
    }

    fn is_mine(&self, change: &Change) -> bool {
        let resource = &self.target.served.resource;
        change.key.group == resource.kept_in && change.key.resource == resource.plural
    }

    /// Shows a change as an event. An object that enters the selection is added; one that leaves it
    /// is deleted.
    fn show(&mut self, change: &Change) {
        let matches = |object: &Option<Arc<Object>>| {
            object.as_ref().is_some_and(|o| self.selection.matches(o))
        };
        let kind = match (matches(&change.before), matches(&change.after)) {
            (false, false) => return,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        let line = self.event(kind, &change.last);
        self.ready.push_back(line);
    }

    fn event(&self, kind: &str, object: &Object) -> Bytes {
        let shown = self.target.served.present(object);
        line(kind, &self.view.one(&self.target.served, shown, &self.api))
    }

    fn bookmark(&self) -> Bytes {
        let object = json!({
            "kind": self.target.served.resource.kind,
            "apiVersion": self.target.served.api_version(),
            "metadata": {"resourceVersion": self.seen.to_string(), "creationTimestamp": null},
        });
        line("BOOKMARK", &object)
    }

    async fn wait(&mut self, held: Option<Instant>) {
        let wake = [Some(self.ends), self.next_bookmark, held];
        let wake = wake.into_iter().flatten().min().unwrap_or(self.ends);
        tokio::select! {
            biased;
            () = self.closings.changed() => return self.finish(None),
            () = self.versions.changed() => return,
            () = sleep_until(wake) => {}
        }
        let now = Instant::now();
        if now >= self.ends {
            let last = self.next_bookmark.is_some().then(|| self.bookmark());
            self.finish(last);
        } else if self.next_bookmark.is_some_and(|at| at <= now) {
            self.next_bookmark = Some(now + BOOKMARK_EVERY);
            let bookmark = self.bookmark();
            self.ready.push_back(bookmark);
        }
    }

    fn finish(&mut self, last: Option<Bytes>) {
        self.ready.extend(last);
        self.over = true;
    }

    fn still_served(&self) -> bool {
        let served = &self.target.served;
        self.api
            .served(
                &served.resource.group,
                &served.version().name,
                &served.resource.plural,
            )
            .is_some()
    }
}

fn too_old(from: u64, oldest: u64) -> Status {
    Status::expired(format!("too old resource version: {from} ({oldest})"))
}

fn line(kind: &str, object: &Value) -> Bytes {
    let mut text = json!({"type": kind, "object": object}).to_string();
    text.push('\n');
    text.into()
}
