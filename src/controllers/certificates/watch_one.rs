//! Watches of single objects, which only wake the keeper: it decides on a live read that follows.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::TryStreamExt as _;
use kube::api::{Api, WatchParams};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::kubernetes::watch::JitteredBackoff;
use crate::kubernetes::why;

/// How long the API server may take to begin a watch. Chosen.
const BEGIN: Duration = Duration::from_secs(30);
/// How long we ask the API server to keep a watch open (`timeoutSeconds`). Chosen: the next one begins with
/// the current object, so it is also the longest that a change can go unnoticed.
const SECONDS: u32 = 240;
/// How long a watch may be silent: a little longer than it lasts.
const SILENCE: Duration = Duration::from_secs(270);

/// Notifies `changed` whenever the object of this name may have changed, for ever.
pub(super) async fn wake<K>(api: Api<K>, name: String, changed: &Notify)
where
    K: Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut backoff = JitteredBackoff::new(&name);
    loop {
        match watch(&api, &name, changed, &mut backoff).await {
            Ok(()) => debug!(name, "watch ended"),
            Err(why) => debug!(name, why, "not watched"),
        }
        // The object may have changed between two watches.
        changed.notify_one();
        sleep(backoff.next()).await;
    }
}

async fn watch<K>(
    api: &Api<K>,
    name: &str,
    changed: &Notify,
    backoff: &mut JitteredBackoff,
) -> Result<(), String>
where
    K: Clone + DeserializeOwned + Debug + Send + 'static,
{
    let params = WatchParams::default()
        .fields(&format!("metadata.name={name}"))
        .timeout(SECONDS);
    let begun = timeout(BEGIN, api.watch_metadata(&params, "")).await;
    let begun = begun.map_err(|_| format!("no answer within {BEGIN:?}"))?;
    let mut events = pin!(begun.map_err(|error| why(&error))?);
    loop {
        let event = timeout(SILENCE, events.try_next()).await;
        let event = event.map_err(|_| format!("silent for {SILENCE:?}"))?;
        match event.map_err(|error| why(&error))? {
            Some(kube::api::WatchEvent::Error(status)) => return Err(status.message.clone()),
            Some(_) => {
                backoff.reset();
                changed.notify_one();
            }
            None => return Ok(()),
        }
    }
}
