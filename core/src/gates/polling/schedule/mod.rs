//! When to poll a target group, and what a poll is worth (contract 5.7, docs/schedule.md).
//!
//! A poll costs one of few calls. Its worth is the time for which healthy pods would otherwise go on
//! waiting: nothing before the first pod can be healthy, and most once most pods are.

use std::time::Duration;

pub mod history;
pub mod scope;
pub mod slots;

pub use crate::gates::polling::schedule::history::{Flip, History, Window};
pub use crate::gates::polling::schedule::slots::Slots;

/// The longest interval between polls of a group without timings, while its wait is young. Chosen
/// (docs/schedule.md).
pub const INTERVAL: Duration = Duration::from_secs(1);
/// The groups that pods wait for make so many polls a second together before the number of groups lengthens their
/// intervals. Chosen: below the 10/s at which a bucket starts (contract 5.7).
const SPARE_RATE: f64 = 8.0;
/// The longest interval between polls of a group without timings. Contract 5.7.
pub const LONGEST_INTERVAL: Duration = Duration::from_secs(15);
/// A pod that has been due for longer than this, and is past its window, has waited for long. Contract 5.7.
const LONG: Duration = Duration::from_secs(600);
/// The interval grows to a twentieth of the wait, so that a gate opens late by at most that share of it.
/// Chosen (docs/schedule.md).
const WAIT_PER_INTERVAL: u32 = 20;
/// The longest interval between polls before the window opens, because the timings may be wrong. Chosen
/// (docs/schedule.md).
const RARE: Duration = Duration::from_secs(20);
/// Where calls are to spare, the window opens so much earlier. Chosen: the first of five pods that become healthy over five
/// seconds does so by a second sooner or later from rollout to rollout.
const SPARE_AHEAD: Duration = Duration::from_secs(1);
/// The first poll comes after an eighth of the time until the window opens, so that pods which become due
/// in that time share it. Chosen.
const FIRST_POLL: u32 = 8;
/// The first poll comes at most this long after a pod is due. Chosen (docs/schedule.md).
const LATEST_FIRST_POLL: Duration = Duration::from_secs(3);
/// The shortest and the longest interval between polls within the window. Chosen, and checked against the delays in
/// docs/schedule.md.
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_millis(1300);
/// The interval within the window is √(5.5 s² / waiting pods). Chosen: it reaches the shortest interval at
/// 22 pods, and the longest at 3.
const SPACING: f64 = 5.5;
/// The rate, per second and waiting pod, at which pods become healthy outside of the window. Chosen: small,
/// so that a poll before the window is worth little, but not nothing.
const UNEXPECTED: f64 = 0.002;
/// Past the window, or without one, that rate is this number divided by the pod's age in seconds. Chosen:
/// a pod that hangs becomes ever less likely to be healthy next.
const OVERDUE: f64 = 2.5;
/// Below this age in seconds, the rate of overdue pods is constant at 0.1. Chosen.
const OVERDUE_FROM: f64 = 25.0;
/// Past this share of the window, a pod is overdue. Chosen: beyond it, dividing by the chance that is left
/// would blow up.
const LATE: f64 = 0.98;

/// What shares the calls of one budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// How many pods one poll of the group would show.
    pub pods: usize,
    /// How many groups are polled, this one included.
    pub groups: usize,
}

/// The age, counted from due, at which to poll a pod next. `polled` is its age at the last poll.
pub fn next_poll(polled: Option<Duration>, window: Option<Window>, demand: Demand) -> Duration {
    let Some(polled) = polled else {
        let opens = window.map_or(Duration::ZERO, |window| window.opens);
        return (opens / FIRST_POLL).min(LATEST_FIRST_POLL);
    };
    let Some(window) = window else {
        return polled + interval(polled, demand);
    };
    let spacing = spacing(demand);
    let opens = match shared(demand.groups) <= SHORTEST {
        true => window.opens.saturating_sub(SPARE_AHEAD),
        false => window.opens,
    };
    if polled < opens {
        (opens + spacing / 2).min(polled + RARE)
    } else if polled < window.closes {
        polled + spacing
    } else {
        // What is overdue grows from the end of the window, not from due: a pod that takes 181 s where the others took 180
        // is no straggler.
        polled + interval(polled - window.closes, demand).max(spacing)
    }
}

/// Whether a pod of this age has waited for so long that it hardly becomes healthy next.
pub fn waits_long(age: Duration, window: Option<Window>) -> bool {
    age > window.map_or(LONG, |window| window.closes.max(LONG))
}

/// The shortest interval between two polls of a group.
pub fn shortest_interval(window: Option<Window>, demand: Demand) -> Duration {
    match window {
        Some(_) if demand.pods > 0 => spacing(demand),
        _ => interval(Duration::ZERO, demand),
    }
}

/// The interval between two polls for a pod that has waited so long, without timings of its group.
fn interval(waited: Duration, demand: Demand) -> Duration {
    let shortest = shared(demand.groups).min(INTERVAL);
    (waited / WAIT_PER_INTERVAL).clamp(shortest, LONGEST_INTERVAL)
}

fn spacing(demand: Demand) -> Duration {
    let pods = demand.pods.max(1) as f64;
    let for_pods = Duration::from_secs_f64((SPACING / pods).sqrt());
    for_pods.clamp(SHORTEST, LONGEST).min(shared(demand.groups))
}

/// The interval at which so many groups make [`SPARE_RATE`] calls together: where few groups are polled, nobody else
/// needs the calls that more frequent polls cost.
fn shared(groups: usize) -> Duration {
    Duration::from_secs_f64(groups as f64 / SPARE_RATE).clamp(SHORTEST, LONGEST)
}

/// What a poll is worth for one pod.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Worth {
    /// The expected seconds for which the pod has been healthy already.
    pub late: f64,
    /// The chance that the pod is healthy, from 0 to 1; 1 without timings.
    pub chance: f64,
}

/// What a poll is worth for a pod of this age that was not healthy when it was `polled` old.
pub fn worth(polled: Duration, age: Duration, window: Option<Window>) -> Worth {
    let (from, to) = (polled.as_secs_f64(), age.as_secs_f64());
    let unseen = (to - from).max(0.0);
    // At a constant rate, the chance of being healthy grows linearly with the time since the last poll, so
    // the expected lateness grows with its square.
    let overdue = || Worth {
        late: OVERDUE / to.max(OVERDUE_FROM) * unseen * unseen / 2.0,
        chance: 1.0,
    };
    let Some(window) = window else {
        return overdue();
    };
    let opens = window.opens.as_secs_f64();
    let length = (window.closes.as_secs_f64() - opens).max(0.5);
    // The time at which a pod becomes healthy is uniform over the window. `share` is the chance that it is
    // healthy at an age, and `summed` its integral: the expected seconds of health until that age.
    let share = |age: f64| ((age - opens) / length).clamp(0.0, 1.0);
    let summed = |age: f64| length * share(age).powi(2) / 2.0 + (age - opens - length).max(0.0);
    let before = share(from);
    if before > LATE {
        return overdue();
    }
    // The last poll excludes all that came before it, so the rest is scaled to the chance that is left.
    let late = (summed(to) - summed(from) - before * unseen) / (1.0 - before);
    Worth {
        late: late.max(0.0) + UNEXPECTED * unseen * unseen / 2.0,
        chance: (share(to) - before) / (1.0 - before),
    }
}

/// What a poll is worth for a pod that was found healthy so long `ago`, and whose write failed since.
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

    fn of(pods: usize, groups: usize) -> Demand {
        Demand { pods, groups }
    }

    /// Five pods, in one of so many groups that they do not shorten its intervals.
    const MANY: Demand = Demand {
        pods: 5,
        groups: 20,
    };

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
    fn a_group_without_timings_is_polled(#[case] polled: Option<f64>, #[case] next: f64) {
        assert_eq!(next_poll(polled.map(secs), None, MANY), secs(next));
    }

    #[rstest]
    #[case::twice_a_second(Some(1.0), 1.5)]
    #[case::up_to_a_twentieth_of_the_wait(Some(15.0), 15.75)]
    #[case::as_any_other_later(Some(100.0), 105.0)]
    fn a_group_without_timings_that_is_polled_alone_is_polled(
        #[case] polled: Option<f64>,
        #[case] next: f64,
    ) {
        assert_eq!(next_poll(polled.map(secs), None, of(5, 1)), secs(next));
    }

    #[rstest]
    #[case::soon_when_due(None, 2.5)]
    #[case::then_when_the_first_can_be_healthy(Some(2.5), 20.25)]
    #[case::often_while_more_become_so(Some(21.0), 21.5)]
    #[case::nearly_as_often_afterwards(Some(26.0), 27.0)]
    #[case::less_and_less_later(Some(225.0), 235.0)]
    fn a_group_with_timings_is_polled(#[case] polled: Option<f64>, #[case] next: f64) {
        assert_eq!(
            next_poll(polled.map(secs), window(), of(22, 20)),
            secs(next)
        );
    }

    #[test]
    fn what_was_learned_is_checked_now_and_then() {
        let window = Some(Window {
            opens: secs(120.0),
            closes: secs(180.0),
            sharp: true,
        });
        assert_eq!(next_poll(Some(secs(3.0)), window, MANY), secs(23.0));
    }

    #[rstest]
    #[case::after_ten_minutes(600, None, false)]
    #[case::or_rather_past_them(601, None, true)]
    #[case::not_within_its_window(1200, Some(1200), false)]
    #[case::but_past_it(1201, Some(1200), true)]
    fn a_pod_waits_long(#[case] age: u64, #[case] closes: Option<u64>, #[case] expected: bool) {
        let window = closes.map(|closes| Window {
            opens: secs(20.0),
            closes: Duration::from_secs(closes),
            sharp: true,
        });
        assert_eq!(waits_long(Duration::from_secs(age), window), expected);
    }

    #[rstest]
    #[case(1, 1300)]
    #[case(5, 1048)]
    #[case(22, 500)]
    #[case(1000, 500)]
    fn the_more_wait_the_oftener(#[case] pods: usize, #[case] expected: u128) {
        assert_eq!(spacing(of(pods, 20)).as_millis(), expected);
    }

    #[rstest]
    #[case(1, 500)]
    #[case(4, 500)]
    #[case(6, 750)]
    #[case(8, 1000)]
    #[case(9, 1048)]
    fn the_fewer_groups_are_polled_the_oftener(#[case] groups: usize, #[case] expected: u128) {
        assert_eq!(spacing(of(5, groups)).as_millis(), expected);
    }

    #[rstest]
    #[case::the_sooner_expected((1.0, 22.0), (1.0, 18.0))]
    #[case::the_longer_unseen((18.0, 23.0), (22.0, 23.0))]
    #[case::past_the_window_over_before_it((25.0, 30.0), (10.0, 15.0))]
    #[case::lately_late_over_hung_for_long((26.0, 29.0), (600.0, 603.0))]
    fn the_pod_whose_poll_is_worth_more_is(#[case] one: (f64, f64), #[case] other: (f64, f64)) {
        let late = |(polled, age)| worth(secs(polled), secs(age), window()).late;
        assert!(late(one) > late(other), "{} {}", late(one), late(other));
    }

    #[test]
    fn a_poll_is_worth_the_seconds_for_which_pods_were_healthy() {
        let look = worth(secs(2.0), secs(25.0), window());
        assert!((2.5..3.1).contains(&look.late), "{look:?}");
        assert!(look.chance > 0.99, "{look:?}");
        let early = worth(secs(2.0), secs(21.0), window());
        assert!((0.15..0.25).contains(&early.chance), "{early:?}");
    }

    #[test]
    fn the_worth_of_a_poll_grows_until_it_is_made() {
        for known in [None, window()] {
            let late = |age| worth(secs(1.0), secs(age), known).late;
            let grows = (2..2000_u32).all(|age| late(f64::from(age)) < late(f64::from(age + 1)));
            assert!(grows, "{known:?}");
        }
    }
}
