//! `targetgate watch`: a namespace, again and again: its pods, gates and targets, and what waits for what.

use std::io;
use std::io::Write;
use std::time::Duration;

use targetgate_core::explain::{Answer, Frame, Verdict};
use tokio::signal::ctrl_c;
use tokio::time::{Instant, sleep};

use crate::args::{Output, Watch};
use crate::commands::cluster;
use crate::commands::explain::look::Look;
use crate::commands::explain::{ExplainError, LINE_EVERY, exit_status, in_reach, write_line};

/// The pause between two looks. Chosen: a flip is seen soon, at a handful of requests each time.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The pause is at least this many times as long as the look took, so that a large namespace costs the API server a
/// fifth of what it can do for one client. Chosen.
const REST: u32 = 4;
/// Puts the cursor into the corner and clears what is below it. ECMA-48.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Shows a namespace until Ctrl-C, or until nothing waits if that is wanted. Returns the exit status.
///
/// # Errors
/// The namespace cannot be read, and time does not change that.
pub async fn run(
    settings: &Watch,
    is_terminal: bool,
    out: &mut impl Write,
) -> Result<u8, ExplainError> {
    let client = cluster::of_flags(&settings.look.cluster).await;
    let client = client.map_err(ExplainError::NoCluster)?;
    let namespace = settings.look.namespace.clone();
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let look = Look::new(&settings.look, client, namespace).await;
    let mut screen = Screen {
        form: settings.output,
        redraws: is_terminal && settings.output == Output::Text,
        last: None,
    };
    let mut status = exit_status(Verdict::NotYet);
    let mut ended = std::pin::pin!(ctrl_c());
    loop {
        let began = Instant::now();
        let looked = tokio::select! {
            looked = look.frame() => looked,
            _ = &mut ended => return Ok(status),
        };
        if let Some(frame) = in_reach(looked)? {
            status = exit_status(frame.verdict());
            screen.show(&frame, out)?;
            if settings.until_open && frame.verdict() == Verdict::Yes {
                return Ok(status);
            }
        }
        let pause = LOOK_EVERY.max(began.elapsed() * REST);
        tokio::select! {
            () = sleep(pause) => {}
            _ = &mut ended => return Ok(status),
        }
    }
}

/// Where frames are written.
struct Screen {
    form: Output,
    /// Whether each frame takes the place of the last one.
    redraws: bool,
    last: Option<(String, Instant)>,
}

impl Screen {
    fn show(&mut self, frame: &Frame, out: &mut impl Write) -> io::Result<()> {
        if self.redraws {
            write!(out, "{CLEAR}{}", frame.render())?;
            return out.flush();
        }
        let line = frame.line();
        let last = self.last.as_ref();
        // The next look comes too late for the line that is due before it.
        let due = |at: &Instant| at.elapsed() + LOOK_EVERY > LINE_EVERY;
        if last.is_none_or(|(known, at)| *known != line || due(at)) {
            let answer = Answer::Namespace(Box::new(frame.namespace.clone()));
            write_line(self.form, &answer, &line, out)?;
            self.last = Some((line, Instant::now()));
        }
        Ok(())
    }
}
