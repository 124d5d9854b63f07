//! Lists in pages, some of which fail.

use std::ops::RangeInclusive;

use super::*;
use crate::kubernetes::testing::Seen;

/// The first pages of a list of Services, each with the token of the next.
fn pages(api: &Scripted, numbers: RangeInclusive<u32>) {
    for number in numbers {
        let service = object(&format!("s{number}"), "1");
        let page = page(&[service], "9", &format!("page-{}", number + 1));
        api.answer(SERVICES, Answer::Json(200, page));
    }
}

/// The pages of Services that were asked for, by number.
fn asked(api: &Scripted) -> Vec<String> {
    let seen = api.seen(SERVICES);
    let token = |list: &Seen| match list.uri.split_once("continue=page-") {
        Some((_, rest)) => rest.split('&').next().unwrap_or_default().to_owned(),
        None => "1".to_owned(),
    };
    seen.iter().map(token).collect()
}

#[rstest]
#[case::failed(Answer::Json(500, status(500, "InternalError", "etcd is away", json!({}))))]
#[case::overloaded(Answer::TooManyRequests(None))]
#[case::refused(Answer::Refused)]
#[case::silent(Answer::Silence)]
#[tokio::test(start_paused = true)]
async fn a_page_that_fails_is_read_again_and_those_before_are_not(#[case] failure: Answer) {
    let world = world();
    pages(&world.api, 1..=2);
    world.api.answer(SERVICES, failure);
    pages(&world.api, 3..=4);
    let last = list(&[object("s5", "1")], "9");
    world.api.answer(SERVICES, Answer::Json(200, last));
    let world = world.watched();
    world.until_services(&["s1", "s2", "s3", "s4", "s5"]).await;
    assert_eq!(asked(&world.api), ["1", "2", "3", "3", "4", "5"]);
    until("all listed", || world.cache.pending().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_whose_token_has_expired_begins_anew() {
    let world = world();
    pages(&world.api, 1..=2);
    world.api.answer(SERVICES, Answer::Json(410, gone()));
    let whole = list(&[object("s1", "1"), object("s9", "1")], "10");
    world.api.answer(SERVICES, Answer::Json(200, whole));
    let world = world.watched();
    world.until_services(&["s1", "s9"]).await;
    assert_eq!(asked(&world.api), ["1", "2", "3", "1"]);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_fails_for_minutes_is_given_up_with_its_list() {
    let world = world();
    pages(&world.api, 1..=1);
    for _ in 0..60 {
        let bad = status(400, "BadRequest", "the token is not valid", json!({}));
        world.api.answer(SERVICES, Answer::Json(400, bad));
    }
    let world = world.watched();
    until("the list begins anew", || {
        let asked = asked(&world.api);
        asked.iter().filter(|page| *page == "1").count() > 1
    })
    .await;
}
