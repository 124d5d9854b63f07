//! The screen of `targetgate watch`: on a terminal each frame takes the place of the last one, elsewhere a line says
//! what has changed.

use std::env;
use std::io;
use std::io::{IsTerminal as _, Write};
use std::time::Duration;

use targetgate_core::explain::{Answer, Frame};
use terminal_size::{Height, Width, terminal_size_of};
use tokio::time::Instant;
use unicode_width::UnicodeWidthChar as _;

use crate::args::Output;
use crate::commands::explain::write_line;
use crate::commands::waiting::LINE_EVERY;

/// Puts the cursor into the corner. ECMA-48.
const HOME: &str = "\x1b[H";
/// Clears the rest of the line. ECMA-48.
const CLEAR_LINE: &str = "\x1b[K";
/// Clears the cursor's line and all below it. ECMA-48.
const CLEAR_BELOW: &str = "\x1b[J";
/// The size of a terminal that does not report one: that of a VT100.
const USUAL: Size = Size {
    lines: 24,
    columns: 80,
};
/// Stands where something was cut off.
const CUT: char = '…';

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    lines: usize,
    columns: usize,
}

/// Where frames are written.
pub(super) struct Screen<'a, W> {
    out: &'a mut W,
    form: Output,
    /// Whether each frame takes the place of the last one.
    redraws: bool,
    /// The pause between two looks.
    pause: Duration,
    /// The text that was written last, and when.
    last: Option<(String, Instant)>,
}

/// Whether standard output is a terminal that understands how frames are drawn; one of kind `dumb`, or of none, does
/// not.
pub fn can_redraw() -> bool {
    let kind = env::var_os("TERM").unwrap_or_default();
    io::stdout().is_terminal() && !kind.is_empty() && kind != "dumb"
}

impl<'a, W: Write> Screen<'a, W> {
    pub(super) fn new(form: Output, can_redraw: bool, pause: Duration, out: &'a mut W) -> Self {
        Self {
            out,
            form,
            redraws: can_redraw && form == Output::Text,
            pause,
            last: None,
        }
    }

    pub(super) fn show(&mut self, frame: &Frame) -> io::Result<()> {
        if self.redraws {
            return self.draw(frame.render(), None);
        }
        let line = frame.line();
        let last = self.last.as_ref();
        // The next look comes too late for the line that is due before it.
        let due = |at: &Instant| at.elapsed() + self.pause > LINE_EVERY;
        if last.is_none_or(|(known, at)| *known != line || due(at)) {
            let answer = Answer::Namespace(Box::new(frame.namespace.clone()));
            write_line(self.form, &answer, &line, self.out)?;
            self.last = Some((line, Instant::now()));
        }
        Ok(())
    }

    /// Tells that a look has failed, below the last frame, which stays.
    pub(super) fn tell(&mut self, trouble: &str) -> io::Result<()> {
        if !self.redraws {
            eprintln!("targetgate: {trouble}");
            return Ok(());
        }
        let last = self.last.take();
        let last = last.map_or_else(String::new, |(text, _)| text);
        self.draw(last, Some(trouble))
    }

    fn draw(&mut self, text: String, trouble: Option<&str>) -> io::Result<()> {
        let size = size();
        if self.last.is_none() && trouble.is_none() {
            // What stands on the screen goes up, to where it can be scrolled back to.
            self.out.write_all("\n".repeat(size.lines).as_bytes())?;
        }
        let mut shown = String::from(HOME);
        for line in fitted(&text, trouble, size) {
            shown.extend([&*line, CLEAR_LINE, "\n"]);
        }
        shown.push_str(CLEAR_BELOW);
        self.out.write_all(shown.as_bytes())?;
        self.last = Some((text, Instant::now()));
        self.out.flush()
    }

    /// Leaves the screen: what comes next begins below the last frame, and not behind the `^C` that a terminal echoes.
    pub(super) fn leave(&mut self) -> io::Result<()> {
        match self.redraws {
            true => writeln!(self.out),
            false => Ok(()),
        }
    }
}

fn size() -> Size {
    match terminal_size_of(io::stdout()) {
        Some((Width(columns @ 1..), Height(lines @ 1..))) => Size {
            lines: lines.into(),
            columns: columns.into(),
        },
        _ => USUAL,
    }
}

/// The lines of a frame, and below it what is wrong, as far as they fit: one line stays free for the cursor.
fn fitted(text: &str, trouble: Option<&str>, size: Size) -> Vec<String> {
    let room = size.lines.saturating_sub(1);
    let below = usize::from(trouble.is_some());
    let (all, mut lines) = (text.lines().count(), vec![]);
    if all + below > room {
        // One more line says how many are left out.
        let shown = room.saturating_sub(below + 1);
        lines.extend(text.lines().take(shown).map(str::to_owned));
        lines.push(format!("{CUT} {} more lines", all - shown));
    } else {
        lines.extend(text.lines().map(str::to_owned));
    }
    lines.extend(trouble.map(one_line));
    lines.truncate(room);
    lines.iter().map(|line| cut(line, size.columns)).collect()
}

/// Without the control characters that a text from outside may bring to a terminal.
fn one_line(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(visible).collect()
}

/// The line in as many columns, with a mark where something is cut off.
fn cut(line: &str, columns: usize) -> String {
    let width = |c: char| c.width().unwrap_or_default();
    if line.chars().map(width).sum::<usize>() <= columns {
        return line.to_owned();
    }
    let mut used = 1;
    let fits = |c: &char| {
        used += width(*c);
        used <= columns
    };
    let mut short: String = line.chars().take_while(fits).collect();
    short.push(CUT);
    short
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const SMALL: Size = Size {
        lines: 4,
        columns: 6,
    };

    #[rstest]
    #[case::that_fits("a\nb\nc", None, &["a", "b", "c"])]
    #[case::too_long("a\nb\nc\nd", None, &["a", "b", "… 2 m…"])]
    #[case::too_wide("123456\n1234567", None, &["123456", "12345…"])]
    #[case::of_wide_letters("漢字漢字", None, &["漢字…"])]
    #[case::with_trouble("a\nb", Some("x\x1by"), &["a", "b", "x y"])]
    #[case::with_trouble_below("a\nb\nc", Some("no"), &["a", "… 2 m…", "no"])]
    #[case::of_trouble_alone("", Some("no"), &["no"])]
    fn a_frame_fits_the_terminal(
        #[case] text: &str,
        #[case] trouble: Option<&str>,
        #[case] expected: &[&str],
    ) {
        assert_eq!(fitted(text, trouble, SMALL), expected);
    }

    #[rstest]
    fn a_terminal_of_any_size_is_never_exceeded(
        #[values(1, 2, 3)] lines: usize,
        #[values(1, 2)] columns: usize,
        #[values(None, Some("out of reach"))] trouble: Option<&str>,
    ) {
        let fitted = fitted("漢字\nb\nc", trouble, Size { lines, columns });
        assert!(fitted.len() < lines, "{fitted:?}");
        let narrow = |line: &String| line.chars().count() <= columns;
        assert!(fitted.iter().all(narrow), "{fitted:?}");
    }
}
