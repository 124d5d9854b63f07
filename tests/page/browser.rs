//! A headless Chromium, driven by the DevTools protocol over a pair of pipes.
//!
//! Messages are JSON, each followed by a zero byte: <https://chromedevtools.github.io/devtools-protocol/>.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::time::{sleep, timeout};

/// The deadline of an answer. Chosen, far above what any takes on a busy machine.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// The deadline of a state of the page. Chosen: the demo takes a minute on an idle machine.
const SO_WITHIN: Duration = Duration::from_secs(300);
/// The pause between two looks at the page. Chosen, shorter than the page is drawn in.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(40);
/// The environment variable that names another program.
const PROGRAM: &str = "CHROMIUM";
/// Starts a program that reads its protocol from descriptor 3 and writes it to 4.
const START: &str = r#"log=$1; shift; exec "$@" 3<&0 4>&1 </dev/null >"$log" 2>&1"#;
/// What Chromium must not do: ask its maker for anything, and keep what it learned.
const ARGUMENTS: [&str; 9] = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--disable-gpu",
    "--disable-dev-shm-usage",
];

/// A running browser, which ends when this is dropped.
pub(crate) struct Browser {
    pipe: Pipe,
    child: Child,
    _profile: TempDir,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        let program = std::env::var(PROGRAM).unwrap_or_else(|_| "chromium".to_owned());
        let profile = tempfile::tempdir().unwrap();
        let log = profile.path().join("chromium.log");
        let mut command = Command::new("sh");
        command.args(["-c", START, "sh"]).arg(&log).arg(&program);
        command.args(ARGUMENTS);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        // Chromium refuses to run as root with its sandbox, as in most containers.
        if std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
            command.arg("--no-sandbox");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let pipe = Pipe::new(child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let version = pipe.call(None, "Browser.getVersion", json!({})).await;
        assert!(
            version.is_ok(),
            "this test needs Chromium, and '{program}' does not run: install it (Debian: apt-get install \
             --no-install-recommends chromium), or name another by {PROGRAM}. It said:\n{}",
            std::fs::read_to_string(&log).unwrap_or_default()
        );
        Self {
            pipe,
            child,
            _profile: profile,
        }
    }

    /// Opens a page whose console and requests are recorded from its beginning.
    pub(crate) async fn open(&self, url: &str) -> Tab {
        let blank = json!({"url": "about:blank"});
        let target = self.pipe.ask(None, "Target.createTarget", blank).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.pipe.ask(None, "Target.attachToTarget", attach).await;
        let tab = Tab {
            pipe: self.pipe.clone(),
            session: attached["sessionId"].as_str().unwrap().to_owned(),
        };
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            tab.call(&format!("{domain}.enable"), json!({})).await;
        }
        // A page in the background would not get keys.
        let focused = json!({"enabled": true});
        tab.call("Emulation.setFocusEmulationEnabled", focused)
            .await;
        tab.call("Page.navigate", json!({"url": url})).await;
        tab.until("document.readyState === 'complete'").await;
        tab
    }

    pub(crate) async fn close(mut self) {
        self.pipe.ask(None, "Browser.close", json!({})).await;
        timeout(ANSWERS_WITHIN, self.child.wait())
            .await
            .unwrap()
            .unwrap();
    }
}

/// A page in the browser.
pub(crate) struct Tab {
    pipe: Pipe,
    session: String,
}

impl Tab {
    pub(crate) async fn call(&self, method: &str, parameters: Value) -> Value {
        self.pipe.ask(Some(&self.session), method, parameters).await
    }

    /// The value of an expression in the page.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        let parameters =
            json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", parameters).await;
        let failure = &answer["exceptionDetails"];
        assert!(failure.is_null(), "{expression}: {failure}");
        answer["result"]["value"].clone()
    }

    pub(crate) async fn text(&self, expression: &str) -> String {
        let value = self.value(expression).await;
        let text = value.as_str().map(str::to_owned);
        text.unwrap_or_else(|| panic!("{expression} is {value}"))
    }

    /// Waits until an expression in the page is true.
    pub(crate) async fn until(&self, expression: &str) {
        let waiting = async {
            while self.value(expression).await != json!(true) {
                sleep(LOOK_AGAIN).await;
            }
        };
        if timeout(SO_WITHIN, waiting).await.is_err() {
            panic!("not so within {SO_WITHIN:?}: {expression}");
        }
    }

    /// Presses and releases a key: `Tab`, or `Enter`.
    pub(crate) async fn press(&self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            _ => panic!("no such key here: {key}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({
                "type": kind,
                "key": key,
                "code": key,
                "windowsVirtualKeyCode": code,
                "text": if kind == "keyDown" { text } else { "" },
            });
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Shows the page at this width and height, in pixels of CSS.
    pub(crate) async fn resize(&self, width: u32, height: u32, scale: f64) {
        let metrics = json!({
            "width": width,
            "height": height,
            "deviceScaleFactor": scale,
            "mobile": width < 600,
        });
        let set = "Emulation.setDeviceMetricsOverride";
        self.call(set, metrics).await;
    }

    /// Shows the page to a user who prefers this colour scheme and this much motion.
    pub(crate) async fn prefer(&self, scheme: &str, motion: &str) {
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": motion},
        ]);
        let media = json!({"features": features});
        self.call("Emulation.setEmulatedMedia", media).await;
    }

    /// A picture of the whole page as a PNG.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        let size = "({x: 0, y: 0, width: innerWidth, height: document.documentElement.scrollHeight, scale: 1})";
        let clip = self.value(size).await;
        let parameters = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let answer = self.call("Page.captureScreenshot", parameters).await;
        let text = answer["data"].as_str().unwrap();
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap()
    }

    /// The recorded events of this method so far.
    pub(crate) fn events(&self, method: &str) -> Vec<Value> {
        let events = self.pipe.events.lock();
        let own = events
            .iter()
            .filter(|event| event["sessionId"] == self.session && event["method"] == method);
        own.map(|event| event["params"].clone()).collect()
    }
}

/// The protocol. Clones share it.
#[derive(Clone)]
struct Pipe {
    input: Arc<AsyncMutex<ChildStdin>>,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>,
    events: Arc<Mutex<Vec<Value>>>,
    number: Arc<AtomicU64>,
}

impl Pipe {
    fn new(input: ChildStdin, output: ChildStdout) -> Self {
        let pipe = Self {
            input: Arc::new(AsyncMutex::new(input)),
            waiting: Arc::default(),
            events: Arc::default(),
            number: Arc::default(),
        };
        let (waiting, events) = (Arc::clone(&pipe.waiting), Arc::clone(&pipe.events));
        tokio::spawn(async move {
            let mut messages = BufReader::new(output).split(0);
            while let Ok(Some(message)) = messages.next_segment().await {
                let message: Value = serde_json::from_slice(&message).unwrap();
                match message["id"].as_u64() {
                    None => events.lock().push(message),
                    Some(id) => {
                        let asked = waiting.lock().remove(&id);
                        // An error means that the test does not wait any more.
                        asked.and_then(|asked| asked.send(message).ok());
                    }
                }
            }
            // Whoever waits learns that the browser has ended.
            waiting.lock().clear();
        });
        pipe
    }

    async fn ask(&self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        let answer = self.call(session, method, parameters).await;
        answer.unwrap_or_else(|problem| panic!("{method}: {problem}"))
    }

    async fn call(
        &self,
        session: Option<&str>,
        method: &str,
        parameters: Value,
    ) -> Result<Value, String> {
        let id = self.number.fetch_add(1, Ordering::Relaxed);
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        let (asked, answer) = oneshot::channel();
        self.waiting.lock().insert(id, asked);
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        let written = self.input.lock().await.write_all(&bytes).await;
        written.map_err(|error| format!("the browser has ended: {error}"))?;
        let mut answer = timeout(ANSWERS_WITHIN, answer)
            .await
            .map_err(|_| "no answer in time".to_owned())?
            .map_err(|_| "the browser has ended".to_owned())?;
        match answer["error"].take() {
            Value::Null => Ok(answer["result"].take()),
            error => Err(error.to_string()),
        }
    }
}

/// Writes a picture to `target/page`, where a person may look at it.
pub(crate) fn keep(name: &str, picture: &[u8]) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/target/page");
    std::fs::create_dir_all(folder).unwrap();
    let mut file = File::create(format!("{folder}/{name}.png")).unwrap();
    std::io::Write::write_all(&mut file, picture).unwrap();
}
