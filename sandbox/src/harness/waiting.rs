//! Waiting for events in other processes.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{sleep, timeout};

/// The deadline of every wait. Chosen, far above what any of them takes.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// The pause between two looks. Chosen.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `look` returns a value. `what` says what is waited for.
///
/// # Panics
///
/// When `look` has not returned a value within [`DEADLINE`]. It is meant for tests.
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

/// Waits until `check` returns true. `what` completes "waited in vain for …".
///
/// # Errors
///
/// When the check fails, or has not returned true within [`DEADLINE`].
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
    // Boxed, because the compiler refuses futures that are nested too deeply.
    let checked = timeout(DEADLINE, Box::pin(checking)).await;
    let checked =
        checked.with_context(|| format!("waited {} s in vain for {what}", DEADLINE.as_secs()))?;
    checked.with_context(|| format!("while waiting for {what}"))
}
