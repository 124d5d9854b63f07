//! The demo as a user starts it: the sandbox's program, as a process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// The deadline of the demo, which takes less than a minute at this scale on an idle machine. Chosen.
const ENDS_WITHIN: Duration = Duration::from_secs(300);
/// The factor of the demo's delays. Chosen, as short as leaves each state for several frames.
const SCALE: &str = "0.06";
/// The text before the page's address.
const ADDRESS: &str = "As a moving picture: ";

/// A demo, which is killed when this is dropped.
pub(crate) struct Demo {
    child: Child,
    folder: TempDir,
    pub(crate) url: String,
}

impl Demo {
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let targetgate = Path::new(env!("CARGO_BIN_EXE_targetgate"));
        let sandbox = targetgate.with_file_name("targetgate-sandbox");
        assert!(
            sandbox.exists(),
            "{} does not exist; `make test-page` builds it",
            sandbox.display()
        );
        let folder = tempfile::tempdir().unwrap();
        let output = File::create(folder.path().join("output")).unwrap();
        let mut command = Command::new(sandbox);
        command.args(["demo", "--scale", SCALE, "--targetgate"]);
        command.arg(targetgate).args(arguments);
        command
            .arg("--json")
            .arg(folder.path().join("results.json"));
        command.stdin(Stdio::null());
        command.stderr(output.try_clone().unwrap()).stdout(output);
        let child = command.kill_on_drop(true).spawn().unwrap();
        let mut demo = Self {
            child,
            folder,
            url: String::new(),
        };
        demo.url = demo.address().await;
        demo
    }

    async fn address(&mut self) -> String {
        let reading = async {
            loop {
                let output = self.output();
                let address = output.split_once(ADDRESS);
                if let Some((address, _)) = address.and_then(|(_, rest)| rest.split_once('\n')) {
                    return address.to_owned();
                }
                let ended = self.child.try_wait().unwrap();
                assert!(ended.is_none(), "the demo has ended: {output}");
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(ENDS_WITHIN, reading).await.unwrap()
    }

    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(self.file("output")).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The results that the demo has written, once it has any.
    pub(crate) fn results(&self) -> Option<Value> {
        let text = std::fs::read_to_string(self.file("results.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let ended = timeout(ENDS_WITHIN, self.child.wait()).await;
        ended.unwrap().unwrap()
    }

    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}
