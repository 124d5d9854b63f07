//! Watches of single objects, which only tell that there may be something new to read: what is
//! decided is decided on what is then read, past every cache.

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

/// How long the API server may take to begin a watch.
const BEGIN: Duration = Duration::from_secs(30);
/// After how long the API server is asked to end a watch (`timeoutSeconds`). The next one begins with
/// the object as it is, so it is also the longest that a change can go unnoticed.
const SECONDS: u32 = 240;
/// A watch may carry nothing for as long as it lasts, and not much longer.
const SILENCE: Duration = Duration::from_secs(270);

/// Wakes whoever waits whenever the object of this name may have changed, for ever.
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
        // It may have changed in between.
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
