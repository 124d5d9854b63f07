//! Processes and a folder that end with this process, also when nothing of it runs any more: each
//! has a shell that reads a pipe which only this process writes to, and acts when it ends.

use std::{
    fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{ControlPlaneError, programs::Programs};

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

/// A temporary folder, which is removed when this is dropped or this process ends.
pub(super) struct Folder {
    path: PathBuf,
    remover: Child,
}

impl Folder {
    pub(super) fn new() -> Result<Folder, ControlPlaneError> {
        let made = tempfile::Builder::new()
            .prefix("targetgate-controlplane-")
            .tempdir()
            .map_err(|error| ControlPlaneError::Write(std::env::temp_dir(), error))?;
        let remover = shell(REMOVE)
            .arg(made.path())
            .spawn()
            .map_err(|error| ControlPlaneError::Start("sh", error))?;
        Ok(Folder {
            path: made.keep(),
            remover,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Starts a program whose output goes to a log in the folder.
    pub(super) fn start(
        &self,
        programs: &Programs,
        name: &'static str,
        arguments: &[String],
    ) -> Result<Supervised, ControlPlaneError> {
        let program = programs.program(name)?;
        let log = self.path.join(format!("{name}.log"));
        let file = fs::File::create(&log);
        let file = file.and_then(|out| Ok((out.try_clone()?, out)));
        let (out, err) = file.map_err(|error| ControlPlaneError::Write(log.clone(), error))?;
        let supervisor = shell(SUPERVISE)
            .arg(program)
            .args(arguments)
            .current_dir(&self.path)
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|error| ControlPlaneError::Start(name, error))?;
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
pub(super) struct Supervised {
    name: &'static str,
    supervisor: Child,
    log: PathBuf,
}

impl Supervised {
    /// How it ended, when it has.
    pub(super) fn failure(&mut self) -> Option<ControlPlaneError> {
        match self.supervisor.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(self.failed(format!("ended by itself, {status}"))),
            Err(error) => Some(ControlPlaneError::Start(self.name, error)),
        }
    }

    /// An error with the end of its log.
    pub(super) fn failed(&self, what: String) -> ControlPlaneError {
        let log = fs::read(&self.log).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(LOG_TAIL)..];
        ControlPlaneError::Failed {
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
