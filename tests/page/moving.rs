//! What the page shows while the demo runs.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use crate::browser::{LOOK_AGAIN, Tab};
use crate::running::Demo;

/// Reads the page into a [`Look`].
const LOOK: &str = include_str!("look.js");
/// The page speaks at most this often by itself, in milliseconds: `SPEAK_EVERY` of page.js, less the delay
/// of a busy machine's timers.
const SPOKEN_EVERY: f64 = 4_800.0;
/// The rollout from which on the test's user wants less motion. Chosen.
const REDUCED_FROM: usize = 2;

#[derive(Deserialize)]
struct Look {
    reduced: bool,
    moving: usize,
    cards: Vec<Card>,
}

#[derive(Deserialize)]
struct Card {
    title: String,
    state: String,
    sent: u64,
    lost: u64,
    /// Whether the chart marks the time of the rollout.
    rolling: bool,
    pods: Vec<Pod>,
}

#[derive(Deserialize)]
struct Pod {
    name: String,
    new: bool,
    station: String,
    mark: String,
}

async fn look(tab: &Tab) -> Look {
    serde_json::from_value(tab.value(LOOK).await).unwrap()
}

/// Everything that was to be seen, in its order.
#[derive(Default)]
pub(crate) struct Seen {
    rollouts: Vec<Rollout>,
    /// The most chips that moved at a time, without and with the wish for less motion.
    moving: [usize; 2],
}

#[derive(Default)]
struct Rollout {
    title: String,
    sent: Vec<u64>,
    rolling: bool,
    pods: BTreeMap<String, Course>,
}

/// The stations and marks of a pod, each different from the one before.
#[derive(Debug, Default)]
struct Course {
    new: bool,
    seen: Vec<(String, String)>,
}

/// Looks at the page until the demo has its results.
pub(crate) async fn watch(tab: &Tab, demo: &Demo) -> Seen {
    let mut seen = Seen::default();
    tab.prefer("light", "no-preference").await;
    while demo.results().is_none() {
        let look = look(tab).await;
        let present = look.cards.iter().position(|card| card.state == "present");
        if !look.reduced && present >= Some(REDUCED_FROM) {
            tab.prefer("light", "reduce").await;
        } else {
            seen.take_in(look);
        }
        sleep(LOOK_AGAIN).await;
    }
    seen
}

impl Seen {
    fn take_in(&mut self, look: Look) {
        let most = &mut self.moving[usize::from(look.reduced)];
        *most = look.moving.max(*most);
        self.rollouts
            .resize_with(look.cards.len(), Rollout::default);
        for (rollout, card) in self.rollouts.iter_mut().zip(look.cards) {
            rollout.take_in(card);
        }
    }

    pub(crate) fn pods_went_from_their_creation_to_their_end(&self) {
        for rollout in &self.rollouts {
            let title = &rollout.title;
            assert!(rollout.rolling, "{title} shows no time of its rollout");
            assert!(
                rollout.sent.is_sorted() && rollout.sent.len() > 20,
                "{title}: {:?}",
                rollout.sent
            );
            let gates = title.contains("gates");
            for (name, pod) in &rollout.pods {
                let expected: &[(&str, &str)] = match (pod.new, gates) {
                    (true, true) => &[
                        ("created", "shut"),
                        ("initial", "shut"),
                        ("healthy", "open"),
                    ],
                    (true, false) => &[("created", ""), ("initial", ""), ("healthy", "")],
                    (false, true) => &[("healthy", "open"), ("gone", "gone")],
                    (false, false) => &[("healthy", ""), ("gone", "gone")],
                };
                assert!(pod.has(expected), "{title}: {name} went {pod:?}");
            }
            let new = rollout.pods.values().filter(|pod| pod.new).count();
            assert_eq!((new, rollout.pods.len()), (4, 8), "{title}");
        }
        let alone = self.rollouts[0].pods.values();
        let astray = alone.filter(|pod| pod.seen.iter().any(|(_, mark)| mark == "astray"));
        assert!(
            astray.count() > 0,
            "no pod of (a) was sent requests after its end"
        );
    }

    pub(crate) fn chips_move_unless_the_user_wants_less_motion(&self) {
        assert!(self.moving[0] > 0, "no chip moved");
        assert_eq!(self.moving[1], 0);
    }
}

impl Rollout {
    fn take_in(&mut self, card: Card) {
        self.title = card.title;
        self.rolling |= card.rolling;
        if self.sent.last() != Some(&card.sent) && card.state != "waiting" {
            self.sent.push(card.sent);
        }
        for pod in card.pods {
            let course = self.pods.entry(pod.name).or_default();
            course.new = pod.new;
            let now = (pod.station, pod.mark);
            if course.seen.last() != Some(&now) {
                course.seen.push(now);
            }
        }
    }
}

impl Course {
    /// Whether it was seen so, in this order, with or without others between.
    fn has(&self, expected: &[(&str, &str)]) -> bool {
        let mut seen = self.seen.iter();
        expected
            .iter()
            .all(|wanted| seen.any(|(station, mark)| (station.as_str(), mark.as_str()) == *wanted))
    }
}

pub(crate) async fn the_counters_are_those_of_the_demo(tab: &Tab, results: &Value) {
    let cards = look(tab).await.cards;
    let shown = cards.iter().map(|card| {
        json!({"title": card.title, "sent": card.sent, "lost": card.lost, "state": card.state})
    });
    let measured = results["rollouts"].as_array().unwrap().iter();
    let measured = measured.map(|rollout| {
        let lost = rollout["counts"]["lost"].as_object().unwrap().values();
        let lost: u64 = lost.map(|count| count.as_u64().unwrap()).sum();
        let (title, sent) = (&rollout["title"], &rollout["counts"]["sent"]);
        json!({"title": title, "sent": sent, "lost": lost, "state": "measured"})
    });
    assert_eq!(shown.collect::<Vec<_>>(), measured.collect::<Vec<_>>());
    let verdict = tab
        .text("document.getElementById('verdict').textContent")
        .await;
    assert!(verdict.starts_with("✓ As expected: (a) "), "{verdict}");
}

pub(crate) async fn the_picture_stands_still_while_it_is_paused(tab: &Tab) {
    const SENT: &str = "document.querySelector('.rollout .sent').textContent";
    tab.until("Number(document.querySelector('.rollout .sent')?.textContent) > 0")
        .await;
    while tab.text("document.activeElement.id").await != "pause" {
        tab.press("Tab").await;
    }
    tab.press("Enter").await;
    tab.until("document.getElementById('pause').textContent === 'Resume'")
        .await;
    let before = tab.text(SENT).await;
    // Several frames pass meanwhile.
    sleep(Duration::from_millis(700)).await;
    assert_eq!(tab.text(SENT).await, before);
    tab.press("Enter").await;
    tab.until(&format!("{SENT} !== '{before}'")).await;
}

pub(crate) async fn log_what_is_spoken(tab: &Tab) {
    let log = "window.spokenLog = []; \
               new MutationObserver(() => spokenLog.push([performance.now(), document.getElementById('spoken').textContent])) \
               .observe(document.getElementById('spoken'), {childList: true, characterData: true, subtree: true}); true";
    assert_eq!(tab.value(log).await, json!(true));
}

pub(crate) async fn summaries_are_spoken_now_and_then(tab: &Tab) {
    let log: Vec<(f64, String)> = serde_json::from_value(tab.value("spokenLog").await).unwrap();
    let said: Vec<&str> = log.iter().map(|(_, text)| text.as_str()).collect();
    assert!(said.contains(&"The picture stands still."), "{said:?}");
    assert!(
        said.iter().any(|text| text.contains("requests lost")),
        "{said:?}"
    );
    let by_itself = |text: &str| !text.starts_with("The picture ");
    for pair in log.windows(2) {
        let [(before, _), (after, text)] = pair else {
            continue;
        };
        assert!(!by_itself(text) || after - before > SPOKEN_EVERY, "{log:?}");
    }
}
