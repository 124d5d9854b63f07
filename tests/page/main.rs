//! The demo's page in a real browser: what it shows, that it hears of nothing but the demo, and that everybody
//! can use it.
//!
//! `make test-page` runs it, and no other command does: it needs Chromium, without which it fails.

#![expect(
    clippy::unwrap_used,
    reason = "a test may end by a panic, its helpers too"
)]

mod browser;
mod everybody;
mod moving;
mod running;

use serde_json::Value;

use crate::browser::{Browser, Tab};
use crate::running::Demo;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium; make test-page runs it"]
async fn the_page_shows_each_rollout_as_it_happens_and_ends_on_the_numbers_of_the_demo() {
    let (mut demo, browser) = (Demo::start(&[]).await, Browser::start().await);
    let tab = browser.open(&demo.url).await;
    moving::log_what_is_spoken(&tab).await;
    moving::the_picture_stands_still_while_it_is_paused(&tab).await;
    let seen = moving::watch(&tab, &demo).await;
    assert!(demo.ended().await.success(), "{}", demo.output());
    tab.until("document.body?.dataset.link === 'ended'").await;
    let results = demo.results().unwrap();
    moving::the_counters_are_those_of_the_demo(&tab, &results).await;
    seen.pods_went_from_their_creation_to_their_end();
    seen.chips_move_unless_the_user_wants_less_motion();
    moving::summaries_are_spoken_now_and_then(&tab).await;
    nothing_was_wrong_and_nobody_else_asked(&tab, &demo);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium; make test-page runs it"]
async fn everybody_can_use_the_page_and_it_comes_back_to_the_next_demo() {
    let (demo, browser) = (Demo::start(&["--keep"]).await, Browser::start().await);
    let tab = browser.open(&demo.url).await;
    tab.until("document.getElementById('verdict').dataset.state !== 'waiting'")
        .await;
    everybody::it_fits_phones_and_desks_without_scrolling_sideways(&tab).await;
    everybody::it_is_legible_in_light_and_dark(&tab).await;
    everybody::a_screen_reader_is_told_all_that_the_picture_shows(&tab).await;
    everybody::all_of_it_can_be_done_with_the_keyboard(&tab).await;
    tab.call("Page.reload", serde_json::json!({})).await;
    tab.until("document.body?.dataset.link === 'live'").await;
    tab.until("document.getElementById('verdict').dataset.state === 'good'")
        .await;
    everybody::its_picture_is_kept(&tab).await;
    nothing_was_wrong_and_nobody_else_asked(&tab, &demo);

    let port = demo.url.trim_end_matches('/').rsplit(':').next().unwrap();
    let port = port.to_owned();
    demo.kill().await;
    tab.until("document.body?.dataset.link === 'broken'").await;
    let _next = Demo::start(&["--page-port", &port]).await;
    tab.until("document.body?.dataset.link === 'live'").await;
    tab.until("document.getElementById('verdict').textContent.startsWith('Rollout 1 of ')")
        .await;
    browser.close().await;
}

/// No error of scripts, of the content security policy or of loading; no request but to the demo.
fn nothing_was_wrong_and_nobody_else_asked(tab: &Tab, demo: &Demo) {
    let exceptions = tab.events("Runtime.exceptionThrown");
    assert!(exceptions.is_empty(), "{exceptions:#?}");
    let said = tab.events("Runtime.consoleAPICalled");
    assert!(said.is_empty(), "{said:#?}");
    let entries = tab.events("Log.entryAdded");
    assert!(entries.is_empty(), "{entries:#?}");
    let requests = tab.events("Network.requestWillBeSent");
    let url = |request: &Value| request["request"]["url"].as_str().unwrap().to_owned();
    let urls: Vec<String> = requests.iter().map(url).collect();
    let events = format!("{}events", demo.url);
    assert!(urls.contains(&events), "{urls:?}");
    assert!(
        urls.iter().all(|url| url.starts_with(&demo.url)),
        "{urls:?}"
    );
}
