//! Controllers: each observes, lets the core decide, carries out the decisions, and reports the results back.

pub mod certificates;
mod failures;
pub mod gate_rules;
pub mod gates;
pub mod metrics;
pub mod targets;

use std::iter;
use std::panic::resume_unwind;

use tokio::task::JoinSet;

/// Waits for a task, and returns the results of all that have ended by then; `None` if there are no tasks. A panic of a
/// task goes on in the caller.
///
/// It is cancel safe.
async fn ended<T: 'static>(tasks: &mut JoinSet<T>) -> Option<Vec<T>> {
    let first = tasks.join_next().await?;
    let more = iter::from_fn(|| tasks.try_join_next());
    let all = iter::once(first).chain(more);
    let done = all.map(|done| done.unwrap_or_else(|error| resume_unwind(error.into_panic())));
    Some(done.collect())
}
