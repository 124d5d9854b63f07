//! Reads the API server's version at the start and anew each hour, because a cluster is upgraded while targetgate runs.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use targetgate_core::backoff::Backoff;
use targetgate_core::drain::ServerVersion;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::kubernetes::{CALL_TIMEOUT, why};
use crate::state::api_server::ApiServer;

/// Pause between two reads. Contract 9.
const EACH: Duration = Duration::from_secs(3600);
/// Pause after a read that failed: 1, 2, 4 … 60 s. Chosen.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// Reads the version for ever. What was told stays known while it cannot be read.
pub async fn follow(kube: Client, server: Arc<ApiServer>) {
    let mut failures = 0;
    loop {
        match read(&kube).await {
            Ok(version) => {
                failures = 0;
                take_in(&server, version);
                sleep(EACH).await;
            }
            Err(why) => {
                failures += 1;
                if failures == 1 {
                    let known = server.version().map(|version| version.to_string());
                    warn!(
                        known,
                        "cannot read the API server's version at /version, without which pods get no drain: {why}"
                    );
                }
                sleep(BACKOFF.after(failures)).await;
            }
        }
    }
}

async fn read(kube: &Client) -> Result<ServerVersion, String> {
    let told = timeout(CALL_TIMEOUT, kube.apiserver_version());
    let told = told.await.map_err(|_| "no answer in time".to_owned())?;
    let told = told.map_err(|error| why(&error))?;
    let version = ServerVersion::of(&told.major, &told.minor);
    version.ok_or_else(|| format!("major {:?}, minor {:?}", told.major, told.minor))
}

fn take_in(server: &ApiServer, version: ServerVersion) {
    if server.told(version) != Some(version) {
        let drains = version.knows_sleep();
        info!(%version, drains, "the API server told its version");
    }
}
