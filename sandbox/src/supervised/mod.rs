//! Processes and a folder that end with this process, also when nothing of it runs any more: each
//! has a shell that reads a pipe which only this process writes to, and acts when it ends.

use std::{
    fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::{Instant, sleep};

#[cfg(test)]
mod tests;

/// How long a program may take until it serves, also on a machine with much to do.
const STARTS_WITHIN: Duration = Duration::from_secs(300);
/// The pause between two looks at a program that runs.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Runs a program until it ends or the shell's own input does. The program is not given the pipe.
const SUPERVISE: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
program=$!
{ read -r _ <&3; kill -9 "$program"; } &
guard=$!
wait "$program"
code=$?
kill "$guard" 2>/dev/null
exit "$code"
"#;
/// Removes a folder when the shell's input ends. Programs that write there are being killed at the
/// same moment, so one try may fail.
const REMOVE: &str = r#"
read -r _
for _ in 1 2 3 4 5 6 7 8 9 10; do
  rm -rf "$1" 2>/dev/null && exit
  sleep 0.2
done
rm -rf "$1"
"#;
/// Bytes of a log that an error shows.
const LOG_TAIL: usize = 2000;

/// Why a program does not run.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// No temporary folder, or no file in it, could be made for it.
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] io::Error),
    /// It could not be started.
    #[error("cannot start {0}")]
    Start(&'static str, #[source] io::Error),
    /// It ended, or did not serve in time.
    #[error("{name} {what}; the end of its log:\n{log}")]
    Failed {
        /// Which program.
        name: &'static str,
        /// What it did.
        what: String,
        /// Its last lines.
        log: String,
    },
}

/// A temporary folder, which is removed when this is dropped or this process ends.
pub(crate) struct Folder {
    path: PathBuf,
    remover: Child,
}

impl Folder {
    pub(crate) fn new() -> Result<Folder, ProcessError> {
        let made = tempfile::Builder::new()
            .prefix("targetgate-sandbox-")
            .tempdir()
            .map_err(|error| ProcessError::Write(std::env::temp_dir(), error))?;
        let remover = shell(REMOVE)
            .arg(made.path())
            .spawn()
            .map_err(|error| ProcessError::Start("sh", error))?;
        Ok(Folder {
            path: made.keep(),
            remover,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Starts a program whose output goes to a log in the folder.
    pub(crate) fn start(
        &self,
        name: &'static str,
        program: &Path,
        arguments: &[String],
    ) -> Result<Supervised, ProcessError> {
        let log = self.path.join(format!("{name}.log"));
        let file = fs::File::create(&log);
        let file = file.and_then(|out| Ok((out.try_clone()?, out)));
        let (out, err) = file.map_err(|error| ProcessError::Write(log.clone(), error))?;
        let supervisor = shell(SUPERVISE)
            .arg(program)
            .args(arguments)
            .current_dir(&self.path)
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|error| ProcessError::Start(name, error))?;
        Ok(Supervised {
            name,
            supervisor,
            log,
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        end(&mut self.remover);
    }
}

/// A program; it is killed when this is dropped or this process ends.
pub(crate) struct Supervised {
    name: &'static str,
    supervisor: Child,
    log: PathBuf,
}

impl Supervised {
    /// Waits until `serves` says yes, for as long as the program runs.
    pub(crate) async fn until<F>(&mut self, serves: impl Fn() -> F) -> Result<(), ProcessError>
    where
        F: Future<Output = bool>,
    {
        let deadline = Instant::now() + STARTS_WITHIN;
        while !serves().await {
            if let Some(failure) = self.failure() {
                return Err(failure);
            }
            if Instant::now() > deadline {
                return Err(self.failed(format!("did not serve within {STARTS_WITHIN:?}")));
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// How it ended, when it has.
    pub(crate) fn failure(&mut self) -> Option<ProcessError> {
        match self.supervisor.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(self.failed(format!("ended by itself, {status}"))),
            Err(error) => Some(ProcessError::Start(self.name, error)),
        }
    }

    /// An error with the end of its log.
    fn failed(&self, what: String) -> ProcessError {
        let log = fs::read(&self.log).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(LOG_TAIL)..];
        ProcessError::Failed {
            name: self.name,
            what,
            log: String::from_utf8_lossy(tail).into_owned(),
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        end(&mut self.supervisor);
    }
}

/// A shell that runs a script, with a pipe as its input. It is in a process group of its own, so that
/// a Ctrl-C in the terminal ends this process first, and the shell can do its work.
fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh"])
        .stdin(Stdio::piped())
        .process_group(0);
    command
}

/// Ends the shell's input, and waits until it has done its work.
fn end(shell: &mut Child) {
    drop(shell.stdin.take());
    // It cannot be waited for twice, and nothing else goes wrong.
    let _: io::Result<_> = shell.wait();
}
