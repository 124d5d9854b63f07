//! Waiting for what happens in other processes.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{sleep, timeout};

/// Everything awaited comes long before.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// The pause between two looks.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What should become true, looked for until it is.
///
/// # Panics
///
/// When it has not become true within [`DEADLINE`]: it is for tests.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            sleep(LOOK_EVERY).await;
        }
    };
    timeout(DEADLINE, looking)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"))
}

/// Waits until `check` says so. `what` completes "waited in vain for …".
///
/// # Errors
///
/// When the check fails, or has not said so within [`DEADLINE`].
pub async fn try_until(
    what: &str,
    mut check: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let checking = async {
        while !check().await? {
            sleep(LOOK_EVERY).await;
        }
        anyhow::Ok(())
    };
    // Boxed, for the compiler refuses futures that are nested too deeply.
    let checked = timeout(DEADLINE, Box::pin(checking)).await;
    let checked =
        checked.with_context(|| format!("waited {} s in vain for {what}", DEADLINE.as_secs()))?;
    checked.with_context(|| format!("while waiting for {what}"))
}
