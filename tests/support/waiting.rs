//! Waiting for what happens in other processes.

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Everything awaited comes long before.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// What should become true, looked for until it is.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, looking)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"))
}
