//! The demo as a test: the real binary as a process, real sockets, three rollouts under traffic.

use std::path::PathBuf;

use targetgate_sandbox::demo::{self, Ended, Options, Settings};

#[tokio::test(flavor = "multi_thread")]
async fn gates_and_a_pre_stop_sleep_lose_no_request_of_a_rolling_update_that_loses_some_without() {
    let options = Options {
        targetgate: PathBuf::from(env!("CARGO_BIN_EXE_targetgate")),
        settings: Settings::scaled(0.1),
        keep: false,
        json: None,
    };
    let ended = demo::run(options).await;
    assert_eq!(ended.ok(), Some(Ended::AsItShould), "see the table above");
}
