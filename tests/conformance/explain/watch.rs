//! `targetgate watch` in a pipe: a line when something changes, until all is open or Ctrl-C.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::explain::scene::{IP, Scene};
use crate::explain::schema;
use crate::install::Installed;

fn watching(scene: &Scene<'_>, words: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let program = &scene.installed.program;
    let mut command = Command::from(program.tool());
    command.args(["watch", "-n", &scene.namespace]).args(words);
    command.arg("--kubeconfig").arg(&program.kubeconfig);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

/// A namespace with one pod, whose gate waits. Returns the group's ARN.
pub(super) async fn waiting(scene: &Scene<'_>) -> String {
    scene.service(json!({})).await;
    let arn = scene.bind(json!({})).await;
    scene.gated_pod(json!({})).await;
    arn
}

#[tokio::test]
async fn a_rollout_is_followed_line_by_line_until_all_is_open() {
    let installed = Installed::new().await;
    let scene = Scene::new(&installed, "watch").await;
    let arn = waiting(&scene).await;
    let (mut child, mut lines) = watching(&scene, &["--until-open"]);
    let first = lines.next_line().await.unwrap().unwrap();
    let expected = format!(
        "namespace {}: not yet, NotRegistered: 1 pod, 0 open, 1 waiting, 0 without a gate, 0 ending",
        scene.namespace
    );
    assert!(first.ends_with(&expected), "{first}");
    installed.register(&arn, IP);
    let mut last = first;
    while let Some(line) = lines.next_line().await.unwrap() {
        // A line comes only for a change, or half a minute later.
        assert_ne!(line, last);
        last = line;
    }
    let open = ": yes, Healthy: 1 pod, 1 open, 0 waiting, 0 without a gate, 0 ending";
    assert!(last.ends_with(open), "{last}");
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn it_ends_with_ctrl_c_and_says_whether_all_was_open() {
    let installed = Installed::new().await;
    let scene = Scene::new(&installed, "watch").await;
    waiting(&scene).await;
    let (mut child, mut lines) = watching(&scene, &["-o", "json"]);
    let first = lines.next_line().await.unwrap().unwrap();
    let first: Value = serde_json::from_str(&first).unwrap();
    schema::hold(&first);
    assert_eq!(first["pods"]["waiting"], 1);
    let id = child.id().unwrap().to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status().await;
    assert!(sent.unwrap().success());
    assert_eq!(child.wait().await.unwrap().code(), Some(1));
}

#[tokio::test]
async fn a_namespace_that_is_not_there_is_no() {
    let installed = Installed::new().await;
    let scene = Scene::of(&installed, "not-there");
    let (mut child, _) = watching(&scene, &[]);
    assert_eq!(child.wait().await.unwrap().code(), Some(1));
}
