use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::timeout;

use super::{Folder, ProcessError};
use crate::harness::process::write_script;

/// The deadline of every wait here. Chosen, far above what any of them takes.
const WITHIN: Duration = Duration::from_secs(30);

/// A program: a script in a folder of its own.
fn program(script: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("etcd");
    write_script(&path, script).unwrap();
    (folder, path)
}

fn runs(pid: &str) -> bool {
    let kill = Command::new("kill").args(["-0", pid]).output().unwrap();
    kill.status.success()
}

async fn written(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.ends_with('\n'))
}

#[tokio::test]
async fn what_is_dropped_is_killed_and_its_folder_removed() {
    let (_kept, script) = program("trap '' TERM INT HUP\necho $$ > pid\nexec sleep 1000");
    let folder = Folder::new().unwrap();
    let path = folder.path().to_owned();
    let mut program = folder.start("etcd", &script, &[]).unwrap();
    let pid = path.join("pid");
    let started = timeout(WITHIN, program.until(|| written(&pid)));
    started.await.unwrap().unwrap();
    let pid = fs::read_to_string(pid).unwrap();
    let pid = pid.trim();
    assert!(runs(pid));
    drop(program);
    assert!(!runs(pid));
    drop(folder);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_program_that_ends_is_an_error_with_the_end_of_its_log() {
    let (_kept, script) = program("echo \"no such flag: $1\" >&2\nexit 3");
    let folder = Folder::new().unwrap();
    let arguments = ["--colour".to_owned()];
    let mut program = folder.start("etcd", &script, &arguments).unwrap();
    let ended = timeout(WITHIN, program.until(|| async { false }))
        .await
        .unwrap();
    match ended {
        Err(ProcessError::Failed { name, what, log }) => {
            assert_eq!(
                (name, what.as_str()),
                ("etcd", "ended by itself, exit status: 3")
            );
            assert_eq!(log, "no such flag: --colour\n");
        }
        other => panic!("{other:?}"),
    }
}
