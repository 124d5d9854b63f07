//! How long targets take from due to healthy, as far as looks have shown.

use std::collections::VecDeque;
use std::time::Duration;

/// What the oldest kept sighting counts, against the newest's 1.
const OLDEST_COUNTS: f32 = 0.2;
/// The share of sightings that may be earlier than a window's begin.
const TOO_EARLY: f32 = 0.03;
/// The share of sightings that are not later than a window's end …
const EARLIER: f32 = 0.98;
/// … unless they are stragglers: later than most, which is this share, by more than half.
const MOST: f32 = 0.9;
const STRAGGLES: f32 = 1.5;
/// Times of health are taken to spread over at least this share of the earliest.
const LEAST_SPREAD: f32 = 0.15;
/// Seconds by which a window begins before the first could be healthy.
const AHEAD: f32 = 0.25;
/// A moment is known well when it fell into so many seconds, or this share of the wait.
const WELL_KNOWN: (f32, f32) = (3.0, 0.25);
/// Where the first look finds most pods healthy already, the first of them was so much earlier:
/// seconds, or this share of the wait.
const EARLIER_STILL: (f32, f32) = (1.25, 0.05);

/// A pod was found healthy: it had become so between two looks. Both are counted from the moment that
/// it was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flip {
    /// The last look that showed it not healthy; zero where there was none.
    pub after: Duration,
    /// The look that showed it healthy.
    pub by: Duration,
}

/// When pods are expected to become healthy, counted from the moment that they are due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Before the first could be.
    pub opens: Duration,
    /// When most are.
    pub closes: Duration,
    /// Whether the looks were close enough to each other to go by.
    pub sharp: bool,
}

/// What was learned, from a bounded number of answers; what is older counts less.
///
/// A look shows only that a pod became healthy since the look before. So the earliest time at which
/// any was seen healthy bounds the window on one side, the latest at which any was not on the other.
#[derive(Debug, Clone)]
pub struct History {
    sightings: VecDeque<Sighting>,
    keeps: usize,
    window: Option<Window>,
}

/// What one answer has shown, in seconds since due.
#[derive(Debug, Clone, Copy)]
struct Sighting {
    /// The earliest time at which a pod was seen healthy.
    by: f32,
    /// The latest at which one of them was still seen not healthy.
    after: f32,
    /// Within how much time one of them became so.
    within: f32,
    pods: f32,
}

impl History {
    /// Nothing is known yet; at most `keeps` answers will be.
    pub fn new(keeps: usize) -> Self {
        Self {
            sightings: VecDeque::new(),
            keeps: keeps.max(1),
            window: None,
        }
    }

    /// One answer showed these pods healthy for the first time, out of so many that waited.
    pub fn learn(&mut self, flips: &[Flip], waiting: usize) {
        let by = least(flips.iter().map(|flip| flip.by.as_secs_f32()));
        let Some(by) = by else {
            return;
        };
        let opens = self.window.map_or(0.0, |window| window.opens.as_secs_f32());
        let within = |flip: &Flip| flip.by.as_secs_f32() - flip.after.as_secs_f32().max(opens);
        let within = least(flips.iter().map(within)).unwrap_or(by).max(0.0);
        let latest = flips.iter().map(|flip| flip.after).max();
        let is_first = flips.iter().all(|flip| flip.after.as_secs_f32() <= opens);
        let was_late = is_first && self.window.is_some() && flips.len() * 2 >= waiting;
        let (seconds, share) = EARLIER_STILL;
        let earlier = if was_late {
            seconds.max(by * share)
        } else {
            0.0
        };
        if self.sightings.len() >= self.keeps {
            self.sightings.pop_front();
        }
        self.sightings.push_back(Sighting {
            by: (by - earlier).max(0.0),
            after: latest.unwrap_or_default().as_secs_f32(),
            within,
            pods: flips.len() as f32,
        });
        self.window = Some(self.weigh());
    }

    /// When pods are expected to become healthy; `None` while nothing is known.
    pub fn window(&self) -> Option<Window> {
        self.window
    }

    fn weigh(&self) -> Window {
        let decay = OLDEST_COUNTS.powf(1.0 / self.keeps as f32);
        let weights = std::iter::successors(Some(1.0_f32), |weight| Some(weight * decay));
        let weighted: Vec<(f32, &Sighting)> = weights.zip(self.sightings.iter().rev()).collect();
        let quantile = |share: f32, of: fn(&Sighting) -> f32| {
            let mut values: Vec<(f32, f32)> = weighted.iter().map(|(w, s)| (of(s), *w)).collect();
            quantile(&mut values, share)
        };
        let first = quantile(TOO_EARLY, |sighting| sighting.by);
        let after = |share| quantile(share, |sighting| sighting.after);
        let closes = after(EARLIER).min(after(MOST) * STRAGGLES).max(first);
        let within = quantile(0.5, |sighting| sighting.within);
        let pods: f32 = weighted.iter().map(|(weight, s)| weight * s.pods).sum();
        // The fewer were seen, the farther the first of them may be from the first that there can be.
        let unseen = (closes - first).max(first * LEAST_SPREAD) / pods.max(1.0);
        let (seconds, share) = WELL_KNOWN;
        Window {
            opens: Duration::from_secs_f32((first - unseen - AHEAD).max(0.0)),
            closes: Duration::from_secs_f32(closes),
            sharp: within <= seconds.max(first * share),
        }
    }
}

fn least(values: impl Iterator<Item = f32>) -> Option<f32> {
    values.min_by(f32::total_cmp)
}

/// The value that this share of the weights is at or below; values come with their weights.
fn quantile(values: &mut [(f32, f32)], share: f32) -> f32 {
    values.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    let total: f32 = values.iter().map(|(_, weight)| weight).sum();
    let mut passed = 0.0;
    let reaches = |(_, weight): &&(f32, f32)| {
        passed += weight;
        passed >= total * share
    };
    let found = values.iter().find(reaches).or(values.last());
    found.map_or(0.0, |(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn flip(after: u64, by: u64) -> Flip {
        Flip {
            after: ms(after),
            by: ms(by),
        }
    }

    /// Five pods that were looked at each second and became healthy from 20 to 25 s.
    fn rollout(history: &mut History) {
        for (waiting, by) in (1..=5).rev().zip([20_500, 21_500, 22_500, 23_500, 24_500]) {
            history.learn(&[flip(by - 1000, by)], waiting);
        }
    }

    fn learned() -> History {
        let mut history = History::new(32);
        rollout(&mut history);
        history
    }

    #[test]
    fn nothing_is_expected_of_what_was_never_seen() {
        let mut history = History::new(32);
        history.learn(&[], 5);
        assert_eq!(history.window(), None);
    }

    #[test]
    fn a_window_begins_a_little_before_the_first_and_ends_with_most() {
        let window = learned().window().unwrap();
        assert!(
            (ms(19_000)..ms(20_000)).contains(&window.opens),
            "{window:?}"
        );
        assert!(
            (ms(23_000)..ms(24_500)).contains(&window.closes),
            "{window:?}"
        );
        assert!(window.sharp);
    }

    #[test]
    fn the_more_were_seen_the_closer_to_the_first_it_begins() {
        let few = learned().window().unwrap();
        let mut history = learned();
        for _ in 0..5 {
            rollout(&mut history);
        }
        let many = history.window().unwrap();
        assert!(many.opens > few.opens + ms(300), "{few:?} {many:?}");
        assert!(many.opens < ms(20_500));
    }

    #[test]
    fn looks_far_from_each_other_are_nothing_to_go_by() {
        let mut history = History::new(32);
        history.learn(&[flip(4_000, 24_000), flip(4_000, 24_000)], 2);
        assert!(!history.window().unwrap().sharp);
    }

    #[test]
    fn what_most_have_become_by_the_first_look_is_looked_for_earlier() {
        let mut history = learned();
        let before = history.window().unwrap().opens;
        for _ in 0..6 {
            let opens = history.window().unwrap().opens;
            history.learn(
                &[Flip {
                    after: ms(1_000),
                    by: opens + ms(500),
                }; 5],
                5,
            );
        }
        let after = history.window().unwrap().opens;
        assert!(after + ms(3_000) < before, "{before:?} {after:?}");
    }

    #[test]
    fn a_group_that_slowed_down_is_looked_at_later_after_some_rollouts() {
        let mut history = learned();
        for _ in 0..12 {
            for by in [60_500, 62_500, 64_500] {
                history.learn(&[flip(by - 1000, by)], 5);
            }
        }
        let window = history.window().unwrap();
        assert!(window.opens > ms(59_000), "{window:?}");
    }

    #[test]
    fn one_straggler_does_not_hold_the_window_open() {
        let mut history = learned();
        rollout(&mut history);
        rollout(&mut history);
        history.learn(&[flip(290_000, 300_000)], 1);
        assert!(history.window().unwrap().closes < ms(36_000));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut history = History::new(8);
        for _ in 0..100 {
            rollout(&mut history);
        }
        assert_eq!(history.sightings.len(), 8);
    }
}
