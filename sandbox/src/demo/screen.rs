//! The live timeline. On a terminal it is redrawn in place; elsewhere each change is printed as a
//! line.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::frame::{Frame, row};
use super::live::Live;
use super::page::Page;
use crate::elb::Elb;
use crate::harness::observer::Observer;

/// The picture is drawn this often. Chosen.
const REDRAW_EVERY: Duration = Duration::from_millis(100);
/// The width of a terminal that does not report one. Chosen.
const USUAL_WIDTH: usize = 100;

/// Draws the timeline, here and on the page, until it is dropped.
pub(super) async fn show(
    live: Live,
    observer: Observer,
    elb: Elb,
    target_group: String,
    page: Page,
) {
    let mut ticks = interval(REDRAW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pen = Pen::new();
    loop {
        ticks.tick().await;
        let scene = live.scene.lock().clone();
        let rows = observer
            .pods()
            .iter()
            .map(|pod| row(pod, &elb, &target_group))
            .collect();
        let frame = Frame {
            title: scene.title,
            doing: scene.doing,
            seconds: scene
                .began
                .map_or(0.0, |began| began.elapsed().as_secs_f64()),
            counts: scene
                .counts
                .map(|counts| counts.lock().clone())
                .unwrap_or_default(),
            rows,
        };
        page.show(&frame);
        pen.draw(&frame);
    }
}

struct Pen {
    terminal: bool,
    /// The number of lines on the terminal that the next frame replaces.
    drawn: usize,
    former: Frame,
    /// The time of the next line about lost requests. These are reported once a second, because
    /// hundreds can be lost.
    next_loss: f64,
}

impl Pen {
    fn new() -> Self {
        Self {
            terminal: io::stdout().is_terminal(),
            drawn: 0,
            former: Frame::default(),
            next_loss: 0.0,
        }
    }

    fn draw(&mut self, frame: &Frame) {
        let text = if self.terminal {
            self.redraw(frame)
        } else {
            self.tell(frame)
        };
        // The measurement goes on even if standard output is closed.
        let _ = io::stdout()
            .write_all(text.as_bytes())
            .and_then(|()| io::stdout().flush());
    }

    fn redraw(&mut self, frame: &Frame) -> String {
        let width = terminal_size::terminal_size().map_or(USUAL_WIDTH, |(width, _)| width.0.into());
        let lines = frame.picture();
        let mut text = String::new();
        if self.drawn > 0 {
            text = format!("\x1b[{}A\r\x1b[J", self.drawn);
        }
        for line in &lines {
            text.extend(line.chars().take(width));
            text.push('\n');
        }
        self.drawn = lines.len();
        text
    }

    fn tell(&mut self, frame: &Frame) -> String {
        let mut frame = frame.clone();
        if frame.title != self.former.title || frame.seconds < self.former.seconds {
            self.next_loss = 0.0;
        }
        if frame.counts.lost == self.former.counts.lost || frame.seconds < self.next_loss {
            frame.counts.lost.clone_from(&self.former.counts.lost);
        } else {
            self.next_loss = frame.seconds + 1.0;
        }
        let lines = frame.changes(&self.former);
        self.former = frame;
        lines.into_iter().map(|line| line + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Row;
    use super::*;
    use crate::elb::Health;
    use crate::harness::observer::{Gate, Stage};
    use crate::traffic::{Cause, Counts};

    fn row(pod: &str, stage: Stage, target: Option<Health>) -> Row {
        Row {
            pod: pod.to_owned(),
            template: String::new(),
            address: "127.1.0.2:80".to_owned(),
            stage,
            gate: Gate::Shut,
            target,
        }
    }

    fn frame(seconds: f64, lost: u64, rows: &[Row]) -> Frame {
        let mut counts = Counts {
            sent: 100,
            ok: 100 - lost,
            ..Counts::default()
        };
        if lost > 0 {
            counts.lost.insert(Cause::TargetRefused, lost);
        }
        Frame {
            title: "(b)",
            doing: "rolling",
            seconds,
            counts,
            rows: rows.to_vec(),
        }
    }

    fn pen() -> Pen {
        Pen {
            terminal: false,
            drawn: 0,
            former: Frame::default(),
            next_loss: 0.0,
        }
    }

    #[test]
    fn without_a_terminal_each_change_is_one_line() {
        let mut pen = pen();
        let old = row("web-1", Stage::Ready, Some(Health::healthy()));
        let first = pen.tell(&frame(0.0, 0, std::slice::from_ref(&old)));
        assert_eq!(
            first,
            "   0.0 s  (b): rolling; 100 requests sent, 0 lost\n   \
             0.0 s  web-1                127.1.0.2:80         ready        gate shut  healthy\n"
        );
        assert_eq!(pen.tell(&frame(0.1, 0, std::slice::from_ref(&old))), "");
        let rows = [old, row("web-2", Stage::Starting, None)];
        assert_eq!(
            pen.tell(&frame(0.2, 0, &rows)),
            "   0.2 s  web-2                127.1.0.2:80         starting     gate shut  no target\n"
        );
    }

    #[test]
    fn lost_requests_are_told_of_once_a_second_and_none_is_forgotten() {
        let mut pen = pen();
        pen.tell(&frame(0.0, 0, &[]));
        let told = |pen: &mut Pen, seconds, lost| pen.tell(&frame(seconds, lost, &[]));
        assert_eq!(
            told(&mut pen, 0.1, 3),
            "   0.1 s  100 requests sent, 3 lost\n"
        );
        assert_eq!(told(&mut pen, 0.5, 7), "");
        assert_eq!(
            told(&mut pen, 1.2, 7),
            "   1.2 s  100 requests sent, 7 lost\n"
        );
        assert_eq!(told(&mut pen, 9.0, 7), "");
    }

    #[test]
    fn a_pod_that_is_gone_stays_in_the_picture_while_its_target_does() {
        let rows = [
            row("web-1", Stage::Gone, Some(Health::draining())),
            row("web-2", Stage::Gone, None),
        ];
        let picture = frame(4.0, 0, &rows).picture();
        assert_eq!(picture.len(), 2);
        assert!(picture[1].starts_with("web-1"), "{picture:?}");
    }
}
