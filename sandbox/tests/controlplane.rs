//! Tests `targetgate-sandbox controlplane` as a process, which leaves nothing behind however it
//! ends.
#![expect(
    clippy::unwrap_used,
    reason = "a test may end by a panic, its helpers too"
)]

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use kube::config::Kubeconfig;
use rstest::rstest;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// The deadline of every wait here. Chosen, far above what any of them takes.
const DEADLINE: Duration = Duration::from_secs(120);

struct Started {
    process: Child,
    kubeconfig: PathBuf,
    server: SocketAddr,
}

async fn started() -> Started {
    let mut process = Command::new(env!("CARGO_BIN_EXE_targetgate-sandbox"))
        .arg("controlplane")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let line = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap();
    // If it could not be started, standard error has the reason.
    let line = line.expect("the control plane did not start");
    let kubeconfig = PathBuf::from(line.strip_prefix("export KUBECONFIG=").unwrap());
    let read = Kubeconfig::read_from(&kubeconfig).unwrap();
    let server = read.clusters[0]
        .cluster
        .as_ref()
        .unwrap()
        .server
        .clone()
        .unwrap();
    Started {
        process,
        kubeconfig,
        server: server.strip_prefix("https://").unwrap().parse().unwrap(),
    }
}

async fn gone(folder: &Path, server: SocketAddr) {
    while folder.exists() || TcpStream::connect(server).is_ok() {
        sleep(Duration::from_millis(50)).await;
    }
}

#[rstest]
#[case::by_ctrl_c("INT", Some(130))]
#[case::in_good_order("TERM", Some(130))]
#[case::by_force("KILL", None)]
#[tokio::test]
async fn a_control_plane_ends_with_the_process_that_started_it(
    #[case] signal: &str,
    #[case] code: Option<i32>,
) {
    let mut started = started().await;
    let folder = started.kubeconfig.parent().unwrap().to_owned();
    TcpStream::connect(started.server).unwrap();
    let pid = started.process.id().unwrap().to_string();
    let sent = Command::new("kill")
        .args(["-s", signal, &pid])
        .status()
        .await;
    assert!(sent.unwrap().success());
    let ended = timeout(DEADLINE, started.process.wait()).await.unwrap();
    assert_eq!(ended.unwrap().code(), code);
    let left = format!("{} or its programs are left", folder.display());
    timeout(DEADLINE, gone(&folder, started.server))
        .await
        .expect(&left);
}
