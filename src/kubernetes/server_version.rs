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
/// Pause after a read that failed: 1, 2, 4 … 15 s. Chosen: until it is known, pods get no drain.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15));

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

pub(super) async fn read(kube: &Client) -> Result<ServerVersion, String> {
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::task;
    use tokio::time::Instant;

    use super::*;
    use crate::kubernetes::testing::{Answer, Scripted, until};

    const PATH: &str = "/version";

    fn of(minor: &str) -> Answer {
        Answer::Json(200, json!({ "major": "1", "minor": minor }))
    }

    async fn is_known(server: &ApiServer, minor: u32) {
        let version = ServerVersion { major: 1, minor };
        let known = || server.version() == Some(version);
        until(&format!("1.{minor} is known"), known).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_version_is_read_until_it_is_known_and_anew_each_hour() {
        let (api, server) = (Scripted::default(), Arc::new(ApiServer::default()));
        for answer in [Answer::Refused, Answer::Silence, of(""), of("30+")] {
            api.answer(PATH, answer);
        }
        api.answer(PATH, Answer::Refused).answer(PATH, of("31"));
        let begun = Instant::now();
        let follow = task::spawn(follow(api.client(), server.clone()));
        is_known(&server, 30).await;
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert_eq!(api.seen(PATH).len(), 4);
        sleep(EACH - Duration::from_secs(1)).await;
        assert_eq!(api.seen(PATH).len(), 4);
        is_known(&server, 31).await;
        let took = begun.elapsed();
        assert!((EACH..EACH + Duration::from_secs(60)).contains(&took));
        follow.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_version_that_cannot_be_read_again_stays_known() {
        let (api, server) = (Scripted::default(), Arc::new(ApiServer::default()));
        api.answer(PATH, of("31"));
        let follow = task::spawn(follow(api.client(), server.clone()));
        is_known(&server, 31).await;
        // From here on the script answers with a list, which has no version.
        sleep(EACH * 3).await;
        assert!(api.seen(PATH).len() > 2);
        is_known(&server, 31).await;
        follow.abort();
    }
}
