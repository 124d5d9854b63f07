//! How long targets take from due to healthy, estimated from polls (docs/schedule.md).
//!
//! The constants are chosen; the tests of the pace in docs/schedule.md bound the delays that follow.

use std::collections::VecDeque;
use std::time::Duration;

/// The weight of the oldest sighting, against 1 for the newest; weights decay exponentially. Chosen.
const OLDEST_COUNTS: f32 = 0.2;
/// The window opens at this quantile of the earliest times, so that few outliers do not open it. Chosen.
const TOO_EARLY: f32 = 0.03;
/// The window closes at this quantile of the latest times, unless those are stragglers. Chosen.
const EARLIER: f32 = 0.98;
/// Stragglers are measured against this quantile of the latest times. Chosen.
const MOST: f32 = 0.9;
/// A latest time is a straggler's when it exceeds [`MOST`]'s quantile by this factor. Chosen.
const STRAGGLES: f32 = 1.5;
/// The times of one group are assumed to spread over at least this share of the earliest. Chosen.
const LEAST_SPREAD: f32 = 0.15;
/// The window opens this many seconds before the first pod could be healthy. Chosen, equal to half the
/// shortest interval between polls.
const AHEAD: f32 = 0.25;
/// A window is sharp when the polls around a flip were at most this many seconds apart, or this share of
/// the wait. Chosen.
const WELL_KNOWN: (f32, f32) = (3.0, 0.25);
/// If the first poll of a window finds most pods healthy, the first of them is assumed to have been healthy
/// this many seconds earlier, or this share of the wait. Chosen: the next window has to open earlier.
const EARLIER_STILL: (f32, f32) = (1.25, 0.05);

/// After this many answers in a row that came too late to show when pods became healthy, the history describes
/// the group no more. Chosen: one can be chance, as where a single pod is by luck the first of all.
const LATE_IN_A_ROW: u32 = 2;

/// A pod that became healthy between two polls, both counted from the moment that it was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flip {
    /// The last poll that showed it not healthy; zero if the first poll found it healthy.
    pub after: Duration,
    /// The poll that showed it healthy.
    pub by: Duration,
}

/// When pods are expected to become healthy, counted from the moment that they are due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Shortly before the first pod can be healthy.
    pub opens: Duration,
    /// When most pods are healthy.
    pub closes: Duration,
    /// Whether the polls were close enough to each other to rely on the window.
    pub sharp: bool,
}

/// Timings learned from a bounded number of answers, of which older ones weigh less.
///
/// A poll shows only that a pod became healthy since the poll before. So the earliest time at which a pod
/// was seen healthy bounds the window on one side, and the latest at which a pod was not on the other.
#[derive(Debug, Clone)]
pub struct History {
    sightings: VecDeque<Sighting>,
    keeps: usize,
    window: Option<Window>,
    /// Answers in a row that came too late to show when most of their pods became healthy.
    late: u32,
}

/// What one answer showed, in seconds since due.
#[derive(Debug, Clone, Copy)]
struct Sighting {
    /// The earliest time at which a pod was seen healthy.
    by: f32,
    /// The latest time at which one of the pods was still seen not healthy.
    after: f32,
    /// The shortest time between the two polls around a flip.
    within: f32,
    pods: f32,
}

impl History {
    /// An empty history, which will keep at most `keeps` answers.
    pub fn new(keeps: usize) -> Self {
        Self {
            sightings: VecDeque::new(),
            keeps: keeps.max(1),
            window: None,
            late: 0,
        }
    }

    /// Learns from one answer that showed these pods healthy for the first time, out of `waiting`.
    pub fn learn(&mut self, flips: &[Flip], waiting: usize) {
        let by = least(flips.iter().map(|flip| flip.by.as_secs_f32()));
        let Some(by) = by else {
            return;
        };
        let opens = self.window.map_or(0.0, |window| window.opens.as_secs_f32());
        let within = |flip: &Flip| flip.by.as_secs_f32() - flip.after.as_secs_f32().max(opens);
        let within = least(flips.iter().map(within)).unwrap_or(by).max(0.0);
        let latest = flips.iter().map(|flip| flip.after).max();
        // The first poll of a window that finds most pods healthy came too late to show when the first of
        // them became so. Noting its time as it is would open the next window just as late.
        let is_first = flips.iter().all(|flip| flip.after.as_secs_f32() <= opens);
        let was_late = is_first && self.window.is_some() && flips.len() * 2 >= waiting;
        self.late = if was_late { self.late + 1 } else { 0 };
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

    /// When pods are expected to become healthy; `None` before the first answer.
    pub fn window(&self) -> Option<Window> {
        self.window
    }

    /// Whether pods become healthy earlier than the history has it, by more than the window can follow: each
    /// late answer bounds only by its own time when they did.
    pub fn is_outdated(&self) -> bool {
        self.late >= LATE_IN_A_ROW
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
        // The fewer pods were seen, the earlier the first of all pods may be than the first that was seen.
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
    fn polls_far_from_each_other_do_not_make_a_sharp_window() {
        let mut history = History::new(32);
        history.learn(&[flip(4_000, 24_000), flip(4_000, 24_000)], 2);
        assert!(!history.window().unwrap().sharp);
    }

    #[test]
    fn a_window_opens_earlier_after_its_first_poll_found_most_pods_healthy() {
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
    fn a_history_is_outdated_once_two_answers_in_a_row_come_late() {
        let mut history = learned();
        let late = |history: &mut History| {
            let by = history.window().unwrap().opens + ms(500);
            let after = ms(2_500);
            history.learn(&[Flip { after, by }; 2], 2);
        };
        late(&mut history);
        assert!(!history.is_outdated());
        rollout(&mut history);
        late(&mut history);
        assert!(!history.is_outdated());
        late(&mut history);
        assert!(history.is_outdated());
    }

    #[test]
    fn a_group_that_slowed_down_is_polled_later_after_some_rollouts() {
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
