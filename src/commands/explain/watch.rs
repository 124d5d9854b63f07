//! `targetgate watch`: a namespace, again and again: its pods, gates and targets, and what waits for what.

use std::io::Write;
use std::time::Duration;

use targetgate_core::explain::Verdict;
use tokio::signal::ctrl_c;
use tokio::time::{Instant, sleep};

use crate::args::Watch;
use crate::commands::cluster;
use crate::commands::explain::look::Look;
use crate::commands::explain::screen::Screen;
use crate::commands::explain::{ExplainError, exit_status, in_reach};

pub use crate::commands::explain::screen::can_redraw;

/// The pause between two looks. Chosen: a flip is seen soon, at a handful of requests each time.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The pause is at least this many times as long as the look took, so that a large namespace costs the API server a
/// fifth of what it can do for one client. Chosen.
const REST: u32 = 4;

/// Shows a namespace until Ctrl-C, or until nothing waits if that is wanted. Returns the exit status.
///
/// # Errors
/// The namespace cannot be read, and time does not change that.
pub async fn run(
    settings: &Watch,
    can_redraw: bool,
    out: &mut impl Write,
) -> Result<u8, ExplainError> {
    let mut screen = Screen::new(settings.output, can_redraw, LOOK_EVERY, out);
    let mut status = exit_status(Verdict::NotYet);
    // Biased, so that Ctrl-C counts from before the first request on.
    let ended = tokio::select! {
        biased;
        Ok(()) = ctrl_c() => screen.leave().map_err(ExplainError::Output),
        ended = follow(settings, &mut screen, &mut status) => ended,
    };
    ended.map(|()| status)
}

/// Shows frame after frame, and the exit status of the last one, until nothing waits if that is wanted.
async fn follow(
    settings: &Watch,
    screen: &mut Screen<'_, impl Write>,
    status: &mut u8,
) -> Result<(), ExplainError> {
    let client = cluster::of_flags(&settings.look.cluster).await;
    let client = client.map_err(ExplainError::NoCluster)?;
    let namespace = settings.look.namespace.clone();
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let look = Look::new(&settings.look, client, namespace).await;
    loop {
        let began = Instant::now();
        match in_reach(look.frame().await)? {
            Ok(frame) => {
                *status = exit_status(frame.verdict());
                screen.show(&frame)?;
                if settings.until_open && frame.verdict() == Verdict::Yes {
                    return Ok(());
                }
            }
            Err(why) => screen.tell(&why.to_string())?,
        }
        sleep(LOOK_EVERY.max(began.elapsed() * REST)).await;
    }
}
