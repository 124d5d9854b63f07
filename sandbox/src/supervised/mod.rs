//! Processes and a folder that end with this process, however it ends. Each has a shell that reads
//! a pipe to which only this process can write, and that acts when the pipe is closed.

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

/// A program may take this long until it serves, even on a busy machine. Chosen.
const STARTS_WITHIN: Duration = Duration::from_secs(300);
/// The pause between two looks at a running program. Chosen.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Runs a program until it ends, or kills it when the shell's input ends. The program does not
/// inherit the pipe.
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
/// Removes a folder when the shell's input ends. It tries repeatedly, because programs that write
/// to the folder are being killed at the same time.
const REMOVE: &str = r#"
read -r _
for _ in 1 2 3 4 5 6 7 8 9 10; do
  rm -rf "$1" 2>/dev/null && exit
  sleep 0.2
done
rm -rf "$1"
"#;
/// The number of bytes of a log that an error shows. Chosen.
const LOG_TAIL: usize = 2000;

#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The temporary folder, or a file in it, could not be written.
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] io::Error),
    /// The program could not be started.
    #[error("cannot start {0}")]
    Start(&'static str, #[source] io::Error),
    /// The program ended, or did not serve in time.
    #[error("{name} {what}; the end of its log:\n{log}")]
    Failed {
        name: &'static str,
        /// What happened to the program.
        what: String,
        /// The end of its log.
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

    /// Starts a program whose output is written to a log in the folder.
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

/// A program, which is killed when this is dropped or this process ends.
pub(crate) struct Supervised {
    name: &'static str,
    supervisor: Child,
    log: PathBuf,
}

impl Supervised {
    /// Waits until `serves` returns true. The error says that the program ended or did not serve in
    /// time.
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

    /// The failure of the program, if it has ended.
    pub(crate) fn failure(&mut self) -> Option<ProcessError> {
        match self.supervisor.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(self.failed(format!("ended by itself, {status}"))),
            Err(error) => Some(ProcessError::Start(self.name, error)),
        }
    }

    /// An error with the end of the program's log.
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

/// A shell that runs a script with a pipe as its input. It has a process group of its own, so that
/// a Ctrl-C in the terminal does not end it before it has done its work.
fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh"])
        .stdin(Stdio::piped())
        .process_group(0);
    command
}

/// Closes the shell's input, and waits until the shell has done its work.
fn end(shell: &mut Child) {
    drop(shell.stdin.take());
    // Waiting fails only for a process that was waited for already, which this one was not.
    let _: io::Result<_> = shell.wait();
}
