//! `targetgate watch` on a terminal: the real binary under a pseudo-terminal, and a terminal emulator that reads it.

use std::num::NonZeroU16;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;

use parking_lot::Mutex;
use pty_process::{OwnedWritePty, Pts, Size};
use rstest::rstest;
use serde_json::json;
use targetgate_sandbox::harness::waiting::until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use vt100::Parser;

use crate::explain::scene::{IP, Scene};
use crate::explain::watch::waiting;
use crate::install::Installed;

const ROWS: u16 = 30;
const COLUMNS: u16 = 160;
/// The byte that a terminal turns into SIGINT.
const CTRL_C: &[u8] = b"\x03";

/// `targetgate watch` in a terminal.
struct Watching {
    child: Child,
    keyboard: OwnedWritePty,
    /// Kept open: what is still unread is lost once nothing has the other end open.
    _end: Pts,
    shown: Arc<Mutex<Shown>>,
}

/// What a terminal was sent, and what it shows.
struct Shown {
    bytes: Vec<u8>,
    parser: Parser,
}

fn size(rows: u16, columns: u16) -> (NonZeroU16, NonZeroU16) {
    let some = |number| NonZeroU16::new(number).unwrap();
    (some(rows), some(columns))
}

impl Watching {
    /// Starts it in a terminal of this size, with these variables, on what this kubeconfig names.
    fn start(
        scene: &Scene<'_>,
        kubeconfig: &Path,
        (rows, columns): (u16, u16),
        variables: &[(&str, &str)],
    ) -> Self {
        let (pty, end) = pty_process::open().unwrap();
        pty.resize(Size::new(rows, columns)).unwrap();
        let command = Command::from(scene.installed.program.tool());
        let mut command = pty_process::Command::from(command)
            .args(["watch", "-n", &scene.namespace, "--kubeconfig"])
            .arg(kubeconfig)
            .envs(variables.iter().copied())
            .kill_on_drop(true);
        let child = command.spawn_borrowed(&end).unwrap();
        let (mut screen, keyboard) = pty.into_split();
        let (rows, columns) = size(rows, columns);
        let shown = Arc::new(Mutex::new(Shown {
            bytes: vec![],
            parser: Parser::new(rows, columns, 100),
        }));
        let seen = shown.clone();
        tokio::spawn(async move {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut bytes).await {
                let mut shown = seen.lock();
                shown.bytes.extend_from_slice(&bytes[..read]);
                shown.parser.process(&bytes[..read]);
            }
        });
        Self {
            child,
            keyboard,
            _end: end,
            shown,
        }
    }

    /// Starts it in a terminal of this size.
    fn sized(scene: &Scene<'_>, rows: u16, columns: u16) -> Self {
        let kubeconfig = &scene.installed.program.kubeconfig;
        let variables = [("TERM", "xterm-256color")];
        Self::start(scene, kubeconfig, (rows, columns), &variables)
    }

    /// The lines of the screen, without the blanks at their ends.
    fn screen(&self) -> Vec<String> {
        let shown = self.shown.lock();
        let columns = shown.parser.screen().size().1.get();
        let rows = shown.parser.screen().rows(0, columns);
        rows.map(|row| row.trim_end().to_owned()).collect()
    }

    /// The screen once this stands on it.
    async fn shows(&self, what: &str) -> Vec<String> {
        until(&format!("the screen shows {what:?}"), async || {
            let screen = self.screen();
            screen
                .iter()
                .any(|line| line.contains(what))
                .then_some(screen)
        })
        .await
    }

    async fn resize(&self, rows: u16, columns: u16) {
        self.keyboard.resize(Size::new(rows, columns)).unwrap();
        let (rows, columns) = size(rows, columns);
        let mut shown = self.shown.lock();
        shown.parser.set_size(rows, columns);
    }

    async fn press_ctrl_c(&mut self) -> ExitStatus {
        self.keyboard.write_all(CTRL_C).await.unwrap();
        self.child.wait().await.unwrap()
    }
}

/// The pods, open gates, waiting ones and ending pods of binding `web`, out of its only row.
fn row(screen: &[String]) -> Vec<&str> {
    let rows = screen.iter().filter(|line| line.starts_with("  web "));
    let [row] = rows.collect::<Vec<_>>().try_into().unwrap();
    row.split_whitespace().skip(1).take(4).collect()
}

#[tokio::test]
async fn the_rows_of_a_rollout_are_redrawn_in_place() {
    let installed = Installed::new().await;
    let scene = Scene::new(&installed, "screen").await;
    let arn = waiting(&scene).await;
    let mut watching = Watching::sized(&scene, ROWS, COLUMNS);
    let first = watching.shows("NotRegistered: 1 pod").await;
    assert_eq!(row(&first), ["1", "0", "1", "0"], "{first:#?}");
    installed.register(&arn, IP);
    let last = watching.shows("yes, Healthy: 1 pod, 1 open").await;
    assert_eq!(row(&last), ["1", "1", "0", "0"], "{last:#?}");
    let left = |word: &str| last.iter().filter(|line| line.contains(word)).count();
    // Nothing is left of the first frame, which had more lines.
    assert_eq!(
        (left("Waiting"), left("NotRegistered")),
        (0, 0),
        "{last:#?}"
    );
    assert_eq!((left("namespace "), left("BINDING")), (1, 1), "{last:#?}");
    assert!(last[0].contains("namespace "), "{last:#?}");
    assert_eq!(watching.press_ctrl_c().await.code(), Some(0));
}

#[tokio::test]
async fn a_small_terminal_cuts_lines_instead_of_wrapping_and_never_scrolls() {
    let installed = Installed::new().await;
    let scene = Scene::new(&installed, "small").await;
    waiting(&scene).await;
    let watching = Watching::sized(&scene, 8, 40);
    let small = watching.shows("BINDING").await;
    assert!(small[0].contains(" namespace "), "{small:#?}");
    assert_eq!(row(&small), ["1", "0", "1", "0"], "{small:#?}");
    assert!(small.iter().any(|line| line.ends_with('…')), "{small:#?}");
    let wraps = |watching: &Watching, rows| {
        let shown = watching.shown.lock();
        (0..rows).any(|row| shown.parser.screen().row_wrapped(row))
    };
    assert!(!wraps(&watching, 8), "{small:#?}");
    // One that grows is filled by the next frame.
    watching.resize(ROWS, COLUMNS).await;
    let large = watching.shows("0 without a gate, 0 ending").await;
    assert!(large[0].contains(" namespace "), "{large:#?}");
    assert_eq!(row(&large), ["1", "0", "1", "0"], "{large:#?}");
    assert!(!wraps(&watching, ROWS), "{large:#?}");
}

#[tokio::test]
async fn ctrl_c_leaves_the_cursor_shown_below_the_last_frame_and_says_not_yet() {
    let installed = Installed::new().await;
    let scene = Scene::new(&installed, "ctrl-c").await;
    waiting(&scene).await;
    let mut watching = Watching::sized(&scene, ROWS, COLUMNS);
    watching.shows("NotRegistered: 1 pod").await;
    assert_eq!(watching.press_ctrl_c().await.code(), Some(1));
    until("the cursor is on a line of its own", async || {
        let screen = watching.screen();
        let shown = watching.shown.lock();
        let emulated = shown.parser.screen();
        assert!(!emulated.hide_cursor() && !emulated.alternate_screen());
        let (line, column) = emulated.cursor_position();
        let below = screen.iter().skip(line.into()).all(String::is_empty);
        (below && column == 0 && screen[0].contains(" namespace ")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn ctrl_c_before_the_first_look_says_not_yet_as_well() {
    let installed = Installed::new().await;
    let scene = Scene::of(&installed, "shop");
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let server = format!("http://{}", silent.local_addr().unwrap());
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "silent",
        "clusters": [{ "name": "silent", "cluster": { "server": server } }],
        "contexts": [{ "name": "silent", "context": { "cluster": "silent", "user": "nobody" } }],
        "users": [{ "name": "nobody", "user": {} }],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let variables = [("TERM", "xterm")];
    let mut watching = Watching::start(&scene, &kubeconfig, (ROWS, COLUMNS), &variables);
    let _asked = silent.accept().await.unwrap();
    assert_eq!(watching.press_ctrl_c().await.code(), Some(1));
}

#[rstest]
#[case::dumb(&[("TERM", "dumb")])]
#[case::of_unknown_kind(&[])]
#[tokio::test]
async fn a_terminal_that_cannot_redraw_gets_lines(#[case] variables: &[(&str, &str)]) {
    let installed = Installed::new().await;
    let scene = Scene::new(&installed, "dumb").await;
    let arn = waiting(&scene).await;
    let kubeconfig = &installed.program.kubeconfig;
    let watching = Watching::start(&scene, kubeconfig, (ROWS, COLUMNS), variables);
    watching.shows("NotRegistered: 1 pod").await;
    installed.register(&arn, IP);
    let lines = watching.shows("yes, Healthy: 1 pod").await;
    assert!(lines[0].contains("NotRegistered: 1 pod"), "{lines:#?}");
    assert!(!watching.shown.lock().bytes.contains(&b'\x1b'));
}

#[tokio::test]
async fn no_color_is_used_at_all() {
    let installed = Installed::new().await;
    let scene = Scene::new(&installed, "color").await;
    waiting(&scene).await;
    let kubeconfig = &installed.program.kubeconfig;
    for variables in [
        &[("TERM", "xterm")][..],
        &[("TERM", "xterm"), ("NO_COLOR", "1")],
    ] {
        let watching = Watching::start(&scene, kubeconfig, (ROWS, COLUMNS), variables);
        watching.shows("NotRegistered: 1 pod").await;
        let shown = watching.shown.lock();
        let screen = shown.parser.screen();
        let cells = (0..ROWS).flat_map(|row| (0..COLUMNS).map(move |column| (row, column)));
        let plain = |(row, column)| {
            let cell = screen.cell(row, column).unwrap();
            (cell.fgcolor(), cell.bgcolor()) == Default::default()
        };
        assert!(cells.into_iter().all(plain));
    }
}
