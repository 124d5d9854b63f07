//! The limit of open files, which some container runtimes set low.

use std::process::Command;

use targetgate_sandbox::api::{Api, Away, Options};
use targetgate_sandbox::harness::process::{isolated, write_script};
use targetgate_sandbox::harness::standalone::{CLOSE, Standalone, review, status};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::program::{AT_ONCE, BINARY, SMALL};

/// The binary under these limits of open files, as a program in a folder.
fn limited(soft: u32, hard: u32) -> (TempDir, Command) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("targetgate");
    let limits = format!("ulimit -S -n {soft}\nulimit -H -n {hard}");
    write_script(&program, &format!("{limits}\nexec '{BINARY}' \"$@\"")).unwrap();
    let command = isolated(&program);
    (folder, command)
}

#[tokio::test]
async fn the_soft_limit_is_raised_to_the_hard_one() {
    let (_folder, command) = limited(256, 2000);
    let process = Standalone::ready(command).await;
    assert_eq!(process.open_files_limit(), 2000);
}

#[tokio::test]
async fn peers_that_rest_leave_files_for_our_own_calls() {
    let (_folder, command) = limited(256, 256);
    let api = Api::new(Options::default());
    api.faults().away(Some(Away::Refusing));
    let process = Standalone::started(command, api.clone()).await;
    let mut resting = Vec::new();
    for _ in 0..300 {
        // A connection for which there is no place ends in its handshake or after it.
        resting.push(timeout(AT_ONCE, process.tls()).await);
    }
    // Only now do the watches connect.
    api.faults().away(None);
    process.becomes_ready().await;
    let answer = timeout(AT_ONCE, process.answer(&review(SMALL, CLOSE))).await;
    assert_eq!(status(&answer.expect("no answer at once")), 200);
}
