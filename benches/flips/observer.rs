//! Observes when gates open, by a watch of its own.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use http::Request;
use jiff::Timestamp;
use kube::Client;
use kube::core::WatchEvent;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::requests::GATE;

/// The fields of a pod that are read. They are few, so that the watch costs little.
#[derive(Clone, Deserialize)]
struct Pod {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Clone, Default, Deserialize)]
struct Status {
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Clone, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

/// The gates that were seen open. Clones share them.
#[derive(Clone)]
pub(crate) struct Observer {
    opened: Arc<Mutex<BTreeMap<String, Timestamp>>>,
    count: watch::Sender<usize>,
}

impl Observer {
    pub(crate) fn new() -> Self {
        Self {
            opened: Arc::default(),
            count: watch::Sender::new(0),
        }
    }

    /// Watches the pods of a namespace until it is dropped. A busy API server may end a watch. The next one
    /// begins with all pods, so a gate that opened in between is dated late, and never early.
    ///
    /// # Errors
    ///
    /// When the pods cannot be watched.
    pub(crate) async fn watch(self, client: Client, namespace: String) -> anyhow::Result<()> {
        let path = format!("/api/v1/namespaces/{namespace}/pods?watch=true");
        loop {
            self.watch_once(&client, &path).await?;
        }
    }

    async fn watch_once(&self, client: &Client, path: &str) -> anyhow::Result<()> {
        let request = Request::get(path).body(Vec::new())?;
        let events = client.request_events::<Pod>(request).await?;
        let mut events = pin!(events);
        while let Some(event) = events.try_next().await? {
            if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event {
                self.take_in(pod, Timestamp::now());
            }
        }
        Ok(())
    }

    /// When a pod's gate was first seen open.
    pub(crate) fn opened(&self, pod: &str) -> Option<Timestamp> {
        self.opened.lock().get(pod).copied()
    }

    /// How many gates have been seen open.
    pub(crate) fn open(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until this many gates have been seen open, those of former rollouts included.
    ///
    /// # Errors
    ///
    /// When they are not open within `patience`.
    pub(crate) async fn until_open(&self, gates: usize, patience: Duration) -> anyhow::Result<()> {
        let mut count = self.count.subscribe();
        let all = count.wait_for(|count| *count >= gates);
        let in_time = timeout(patience, all).await;
        in_time.with_context(|| {
            format!("{} of {gates} gates open after {patience:?}", self.open())
        })??;
        Ok(())
    }

    fn take_in(&self, pod: Pod, now: Timestamp) {
        let is_open =
            |condition: &Condition| condition.type_.starts_with(GATE) && condition.status == "True";
        if pod.status.conditions.iter().any(is_open) {
            let mut opened = self.opened.lock();
            opened.entry(pod.metadata.name).or_insert(now);
            self.count.send_replace(opened.len());
        }
    }
}
