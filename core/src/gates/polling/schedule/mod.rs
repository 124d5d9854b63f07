//! When to look at a target group, and at which first (contract 5.7).
//!
//! A look costs one of few calls. It is worth the time that healthy pods would otherwise go on
//! waiting, so it is worth nothing before the first can be healthy, and most when most are.

use std::time::Duration;

pub mod history;
pub mod scope;

pub use crate::gates::polling::schedule::history::{Flip, History, Window};

/// Between two looks at a group of which nothing is known.
pub const ROUND: Duration = Duration::from_secs(1);
/// Between two looks at a group whose pods have long waited.
pub const LONGEST_ROUND: Duration = Duration::from_secs(15);
/// A round grows with the time waited: a gate opens late by at most a twentieth of its wait.
const WAIT_PER_ROUND: u32 = 20;
/// Between two looks before the first pod can be healthy: what was learned may be wrong.
const RARE: Duration = Duration::from_secs(20);
/// Pods that become due within this share of the wait before them share their first look …
const FIRST_LOOK: u32 = 8;
/// … but within no more than this.
const LATEST_FIRST_LOOK: Duration = Duration::from_secs(3);
/// The longest and the shortest time between looks while pods are expected to become healthy.
const WHILE_EXPECTED: (f64, f64) = (0.5, 1.3);
/// That time's square, times the pods: it falls with the square root of how many wait.
const SPACING: f64 = 5.5;
/// Pods a second that become healthy outside of the window, for each that waits.
const UNEXPECTED: f64 = 0.002;
/// The same for pods that are past the window, or of which nothing is known: it falls with the age.
const OVERDUE: f64 = 2.5;
/// Seconds of age below which it falls no more.
const OVERDUE_FROM: f64 = 25.0;
/// Past this share of the window, a pod is late.
const LATE: f64 = 0.98;

/// The age, counted from due, at which to look at a pod next. `looked` is its age at the last look,
/// `waiting` how many pods one look would show.
pub fn next_look(looked: Option<Duration>, window: Option<Window>, waiting: usize) -> Duration {
    let Some(looked) = looked else {
        let opens = window.map_or(Duration::ZERO, |window| window.opens);
        return (opens / FIRST_LOOK).min(LATEST_FIRST_LOOK);
    };
    let Some(window) = window else {
        return looked + round(looked);
    };
    let spacing = spacing(waiting);
    if looked < window.opens {
        (window.opens + spacing / 2).min(looked + RARE)
    } else if looked < window.closes {
        looked + spacing
    } else {
        looked + round(looked).max(spacing)
    }
}

/// The shortest time between two looks at a group for which so many pods wait.
pub fn shortest_round(window: Option<Window>, waiting: usize) -> Duration {
    match window {
        Some(_) if waiting > 0 => spacing(waiting),
        _ => ROUND,
    }
}

/// The time between two looks at a pod that has waited so long, if nothing is known of its group.
fn round(waited: Duration) -> Duration {
    (waited / WAIT_PER_ROUND).clamp(ROUND, LONGEST_ROUND)
}

fn spacing(waiting: usize) -> Duration {
    let (shortest, longest) = WHILE_EXPECTED;
    let waiting = waiting.max(1) as f64;
    Duration::from_secs_f64((SPACING / waiting).sqrt().clamp(shortest, longest))
}

/// What a look at one pod is worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Worth {
    /// Seconds for which it is expected to have been healthy already.
    pub late: f64,
    /// How likely it is to be healthy, from 0 to 1; 1 where nothing is known.
    pub chance: f64,
}

/// What a look is worth at a pod of this age that was not healthy when it was `looked` old.
pub fn worth(looked: Duration, age: Duration, window: Option<Window>) -> Worth {
    let (from, to) = (looked.as_secs_f64(), age.as_secs_f64());
    let unseen = (to - from).max(0.0);
    let overdue = || Worth {
        late: OVERDUE / to.max(OVERDUE_FROM) * unseen * unseen / 2.0,
        chance: 1.0,
    };
    let Some(window) = window else {
        return overdue();
    };
    let opens = window.opens.as_secs_f64();
    let length = (window.closes.as_secs_f64() - opens).max(0.5);
    // The pod becomes healthy at some time of the window, any as likely as any other.
    let share = |age: f64| ((age - opens) / length).clamp(0.0, 1.0);
    let summed = |age: f64| length * share(age).powi(2) / 2.0 + (age - opens - length).max(0.0);
    let before = share(from);
    if before > LATE {
        return overdue();
    }
    let late = (summed(to) - summed(from) - before * unseen) / (1.0 - before);
    Worth {
        late: late.max(0.0) + UNEXPECTED * unseen * unseen / 2.0,
        chance: (share(to) - before) / (1.0 - before),
    }
}

/// What a look is worth at a pod that was healthy so long `ago`, when the look was in vain.
pub fn worth_of_healthy(ago: Duration) -> Worth {
    Worth {
        late: ago.as_secs_f64(),
        chance: 1.0,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn window() -> Option<Window> {
        Some(Window {
            opens: secs(20.0),
            closes: secs(25.0),
            sharp: true,
        })
    }

    #[rstest]
    #[case::at_once_when_due(None, 0.0)]
    #[case::each_second(Some(1.0), 2.0)]
    #[case::up_to_a_twentieth_of_the_wait(Some(100.0), 105.0)]
    #[case::never_longer_than_a_quarter_of_a_minute(Some(1000.0), 1015.0)]
    fn a_group_of_which_nothing_is_known_is_looked_at(
        #[case] looked: Option<f64>,
        #[case] next: f64,
    ) {
        assert_eq!(next_look(looked.map(secs), None, 5), secs(next));
    }

    #[rstest]
    #[case::soon_when_due(None, 2.5)]
    #[case::then_when_the_first_can_be_healthy(Some(2.5), 20.25)]
    #[case::often_while_more_become_so(Some(21.0), 21.5)]
    #[case::as_often_afterwards(Some(26.0), 27.3)]
    #[case::less_and_less_later(Some(200.0), 210.0)]
    fn a_group_that_was_seen_before_is_looked_at(#[case] looked: Option<f64>, #[case] next: f64) {
        assert_eq!(next_look(looked.map(secs), window(), 22), secs(next));
    }

    #[test]
    fn what_was_learned_is_checked_now_and_then() {
        let window = Some(Window {
            opens: secs(120.0),
            closes: secs(180.0),
            sharp: true,
        });
        assert_eq!(next_look(Some(secs(3.0)), window, 5), secs(23.0));
    }

    #[rstest]
    #[case(1, 1300)]
    #[case(5, 1048)]
    #[case(22, 500)]
    #[case(1000, 500)]
    fn the_more_wait_the_oftener(#[case] waiting: usize, #[case] expected: u128) {
        assert_eq!(spacing(waiting).as_millis(), expected);
    }

    #[rstest]
    #[case::the_sooner_expected((1.0, 22.0), (1.0, 18.0))]
    #[case::the_longer_unseen((18.0, 23.0), (22.0, 23.0))]
    #[case::past_the_window_over_before_it((25.0, 30.0), (10.0, 15.0))]
    #[case::lately_late_over_hung_for_long((26.0, 29.0), (600.0, 603.0))]
    fn of_two_pods_it_is_worth_more_to_look_at(#[case] one: (f64, f64), #[case] other: (f64, f64)) {
        let late = |(looked, age)| worth(secs(looked), secs(age), window()).late;
        assert!(late(one) > late(other), "{} {}", late(one), late(other));
    }

    #[test]
    fn a_look_is_worth_the_seconds_for_which_pods_were_healthy() {
        let look = worth(secs(2.0), secs(25.0), window());
        assert!((2.5..3.1).contains(&look.late), "{look:?}");
        assert!(look.chance > 0.99, "{look:?}");
        let early = worth(secs(2.0), secs(21.0), window());
        assert!((0.15..0.25).contains(&early.chance), "{early:?}");
    }

    #[test]
    fn nobody_starves_what_is_not_looked_at_grows() {
        for known in [None, window()] {
            let late = |age| worth(secs(1.0), secs(age), known).late;
            let grows = (2..2000_u32).all(|age| late(f64::from(age)) < late(f64::from(age + 1)));
            assert!(grows, "{known:?}");
        }
    }
}
