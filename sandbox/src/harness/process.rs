//! The one runner of `targetgate serve` as a process. It sets free ports of loopback; all other
//! settings are its callers': [`Start`](super::Start) for a namespace of a cluster,
//! [`Program`](super::Program) for the shipped Deployment,
//! [`Standalone`](super::standalone::Standalone) for an API of the test's own.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek as _, SeekFrom, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use http::StatusCode;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::waiting::{DEADLINE, LOOK_EVERY, try_until};
use crate::elb;
use crate::get::get;

/// The number of lines of the log that an error shows. Chosen.
const LOG_TAIL: usize = 12;
/// A process that has closed its output ends within this time. Chosen.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// A command of the binary, without the variables of this machine's environment that could change
/// its behaviour.
pub fn isolated(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command
        .env_clear()
        .env("AWS_REGION", elb::Options::default().region)
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

/// Writes a shell script that can be executed at once.
///
/// Another process writes it. A file that this process has open for writing is inherited by each
/// process that another thread starts at that moment, and until that one has executed its program,
/// the system refuses to execute the file ("Text file busy").
///
/// # Errors
///
/// When the shell cannot be started, or cannot write the file.
pub fn write_script(path: &Path, text: &str) -> anyhow::Result<()> {
    let written = Command::new("sh")
        .args([
            "-c",
            "printf '#!/bin/sh\n%s\n' \"$1\" >\"$0\" && chmod +x \"$0\"",
        ])
        .arg(path)
        .arg(text)
        .status();
    let written = written.context("cannot run sh")?;
    ensure!(
        written.success(),
        "cannot write {}: {written}",
        path.display()
    );
    Ok(())
}

/// Makes the command run `serve` with its hooks at this address, all ports chosen by the system,
/// and its log in JSON.
pub fn serve(command: &mut Command, hooks: IpAddr) -> &mut Command {
    command
        .arg("serve")
        .arg(format!("--listen={}", SocketAddr::new(hooks, 0)))
        .arg("--admin-listen=127.0.0.1:0")
        .arg("--explain-listen=127.0.0.1:0")
        .arg("--log-format=json")
}

/// Makes the command call the ELB at this URL, with credentials that the sandbox accepts.
pub fn call_elb<'a>(command: &'a mut Command, url: &str) -> &'a mut Command {
    command
        .env("AWS_REGION", elb::Options::default().region)
        .env("AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2", url)
        .env("AWS_ACCESS_KEY_ID", "sandbox")
        .env("AWS_SECRET_ACCESS_KEY", "sandbox")
        .env("AWS_EC2_METADATA_DISABLED", "true")
}

/// A running process, which is killed when this is dropped.
pub struct Process {
    child: Child,
    /// The address at which it answers reviews.
    pub hooks: SocketAddr,
    /// The address at which it answers probes and serves metrics.
    pub admin: SocketAddr,
    /// The loopback listener for `explain`, if there is one.
    pub explain: Option<SocketAddr>,
    log: Log,
}

impl Process {
    /// Starts it and waits until it listens, which may be long before it is ready. Its log is
    /// written to this file.
    ///
    /// # Errors
    ///
    /// When it cannot be started, ends, or does not listen in time; the error has the end of its
    /// log.
    pub async fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let mut process = Self::spawn(command, log)?;
        let started = process.logs(|line| line["message"] == "started").await;
        let Ok(started) = started else {
            let what = match timeout(ENDS_WITHIN, process.ended()).await {
                Ok(status) => format!("targetgate ended, {}", status?),
                Err(_) => "targetgate does not listen".to_owned(),
            };
            bail!(process.failure(&what));
        };
        let address = |name: &str| {
            let text = started[name].as_str().unwrap_or_default();
            text.parse::<SocketAddr>().with_context(|| {
                format!("'{name}' of the line 'started' is not an address: {started}")
            })
        };
        (process.hooks, process.admin) = (address("listen")?, address("admin")?);
        process.explain = address("explain").ok();
        Ok(process)
    }

    /// Starts it without waiting.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or the file cannot be written.
    pub fn spawn(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.with_context(|| {
            format!(
                "cannot start {}; build it, or name it with --targetgate",
                command.get_program().display()
            )
        })?;
        let output = child.stderr.take().context("it has no standard error")?;
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Ok(Self {
            child,
            hooks: nowhere,
            admin: nowhere,
            explain: None,
            log: Log::follow(output, file, log),
        })
    }

    /// Waits until it is ready: until it has a certificate and has read all initial lists.
    ///
    /// # Errors
    ///
    /// When it ends, or is not ready in time; the error has the reason that it gives, and the end
    /// of its log.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let ready = try_until("targetgate to be ready", async || {
            ensure!(!self.log.is_over(), "targetgate has ended");
            let answer = self.admin("/readyz").await;
            Ok(answer.is_ok_and(|(status, _)| status == StatusCode::OK))
        });
        let Err(error) = ready.await else {
            return Ok(());
        };
        let said = self.admin("/readyz").await.map(|(_, body)| body);
        bail!(self.failure(&format!("{error}; /readyz: {said:?}")))
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The status and body of an answer of its admin listener.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn admin(&self, path: &str) -> anyhow::Result<(StatusCode, String)> {
        let (status, body) = get(self.admin, path).await?;
        let text = String::from_utf8(body.into());
        Ok((status, text.with_context(|| format!("{path} is not text"))?))
    }

    /// Its metrics, as text.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let (status, text) = self.admin("/metrics").await?;
        ensure!(status == StatusCode::OK, "/metrics answers {status}");
        Ok(text)
    }

    /// The value of a metric, by its name and labels as they are printed; 0 if it is absent.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn metric(&self, sample: &str) -> anyhow::Result<f64> {
        Ok(sum(&self.metrics().await?, |known| known == sample))
    }

    /// The sum of a metric over all its labels.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn sum(&self, name: &str) -> anyhow::Result<f64> {
        let metrics = self.metrics().await?;
        Ok(sum(&metrics, |known| known.split('{').next() == Some(name)))
    }

    /// Whether it is the leader, by its own metric.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn leads(&self) -> anyhow::Result<bool> {
        Ok(self.metric("targetgate_leader").await? > 0.0)
    }

    /// Waits for the next line of its log for which `is` returns true.
    ///
    /// # Errors
    ///
    /// When it logs no such line in time, or before it ends; the error has the log.
    pub async fn logs(&mut self, is: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let looking = async {
            while let Some(line) = self.log.next().await? {
                let line = serde_json::from_str(&line).unwrap_or_default();
                if is(&line) {
                    return Ok(Some(line));
                }
            }
            anyhow::Ok(None)
        };
        // Boxed, because the compiler refuses futures that are nested too deeply.
        let found = timeout(DEADLINE, Box::pin(looking)).await;
        let found = found.unwrap_or(Ok(None))?;
        found.with_context(|| format!("the log has no such line:\n{}", self.log()))
    }

    /// The lines of its log from the one after the last that [`Process::logs`] found to the end.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub async fn last_lines(&mut self) -> anyhow::Result<Vec<String>> {
        let mut lines = vec![];
        while let Some(line) = self.log.next().await? {
            lines.push(line);
        }
        Ok(lines)
    }

    /// Its whole log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log.path).unwrap_or_default()
    }

    /// Sends it a signal, by name.
    ///
    /// # Errors
    ///
    /// When the signal cannot be sent.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        let sent = sent.context("cannot run kill")?;
        ensure!(sent.success(), "kill -s {name} {id}: {sent}");
        Ok(())
    }

    /// Kills it, as `kill -9` or the death of a node does.
    pub fn kill(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    ///
    /// When the system does not return it.
    pub fn try_ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .context("cannot see whether targetgate has ended")
    }

    /// Waits until it ends, without a deadline.
    ///
    /// # Errors
    ///
    /// When the system does not return its exit status.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        loop {
            if let Some(status) = self.try_ended()? {
                return Ok(status);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until it ends, which it should not do, and returns the reason as an error.
    pub async fn broken(&mut self) -> anyhow::Error {
        match self.ended().await {
            Ok(status) => self.failure(&format!("targetgate ended: {status}")),
            Err(error) => error,
        }
    }

    /// An error with the end of the log.
    fn failure(&self, what: &str) -> anyhow::Error {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n");
        anyhow::anyhow!("{what}; the end of its log:\n{tail}")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn sum(metrics: &str, is: impl Fn(&str) -> bool) -> f64 {
    let samples = metrics.lines().filter_map(|line| line.rsplit_once(' '));
    let of_name = samples.filter(|(sample, _)| is(sample));
    of_name
        .filter_map(|(_, value)| value.parse::<f64>().ok())
        // Not `sum`, which returns -0 for no values.
        .fold(0.0, |sum, value| sum + value)
}

/// The output of a process, kept in a file. A task that waits for a line is woken as soon as it is
/// written.
struct Log {
    path: PathBuf,
    /// The number of bytes in the file. The sender is dropped when the process has closed its
    /// output.
    written: watch::Receiver<u64>,
    /// The number of bytes that were read from the file.
    read: u64,
    lines: VecDeque<String>,
    begun: String,
}

impl Log {
    fn follow(output: impl Read + Send + 'static, file: File, path: &Path) -> Self {
        let (sender, written) = watch::channel(0);
        thread::spawn(move || copy(output, file, &sender));
        Self {
            path: path.to_owned(),
            written,
            read: 0,
            lines: VecDeque::new(),
            begun: String::new(),
        }
    }

    /// The next line; `None` once the process has closed its output and all lines are read.
    async fn next(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(Some(line));
            }
            let written = *self.written.borrow_and_update();
            if written > self.read {
                self.read_to(written)?;
            } else if self.written.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Whether the process has closed its output.
    fn is_over(&self) -> bool {
        self.written.has_changed().is_err()
    }

    fn read_to(&mut self, written: u64) -> anyhow::Result<()> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut new = Vec::new();
        file.take(written - self.read).read_to_end(&mut new)?;
        self.read = written;
        self.begun.push_str(&String::from_utf8_lossy(&new));
        while let Some((line, rest)) = self.begun.split_once('\n') {
            self.lines.push_back(line.to_owned());
            self.begun = rest.to_owned();
        }
        Ok(())
    }
}

/// Copies the output to the file until it ends. It goes on when the file cannot be written, because
/// a process whose output is not read would block.
fn copy(mut output: impl Read, mut file: File, written: &watch::Sender<u64>) {
    let mut buffer = [0; 16 * 1024];
    loop {
        match output.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) if file.write_all(&buffer[..read]).is_ok() => {
                written.send_modify(|written| *written += read as u64);
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that logs that it listens, then runs this script.
    fn script(then: &str) -> Command {
        let started =
            r#"{"message":"started","listen":"127.0.0.1:1","admin":"127.0.0.1:2","at":"ä"}"#;
        let mut command = Command::new("sh");
        command.args(["-c", &format!("echo '{started}' >&2; {then}")]);
        command
    }

    fn log() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        (folder, log)
    }

    #[tokio::test]
    async fn a_process_that_listens_says_where_and_its_lines_are_found_in_order() {
        let (_folder, log) = log();
        let lines = r#"for n in 1 2 3; do echo "{\"n\":$n}" >&2; sleep 0.05; done; sleep 60"#;
        let mut process = Process::start(&mut script(lines), &log).await.unwrap();
        assert_eq!((process.hooks.port(), process.admin.port()), (1, 2));
        for n in [1, 2, 3] {
            let line = process.logs(|line| line["n"].is_number()).await.unwrap();
            assert_eq!(line["n"], n);
        }
        assert_eq!(process.log().lines().count(), 4);
        process.kill();
        assert!(!process.ended().await.unwrap().success());
    }

    #[tokio::test]
    async fn a_process_that_ends_before_it_listens_is_told_with_its_log() {
        let (_folder, log) = log();
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'no such flag' >&2; exit 2"]);
        let failed = Process::start(&mut command, &log).await;
        let error = format!("{:#}", failed.err().unwrap());
        assert!(error.contains("exit status: 2"), "{error}");
        assert!(error.ends_with("no such flag"), "{error}");
    }

    #[tokio::test]
    async fn a_line_that_never_comes_is_not_awaited_beyond_the_end() {
        let (_folder, log) = log();
        let mut process = Process::start(&mut script("sleep 0.1"), &log)
            .await
            .unwrap();
        let never = process.logs(|line| line["message"] == "never").await;
        assert!(never.unwrap_err().to_string().contains("started"));
        assert!(process.ended().await.unwrap().success());
    }
}
