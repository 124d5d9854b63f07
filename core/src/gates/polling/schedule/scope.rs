//! Whether a call asks for the whole group or names targets.

use std::time::Duration;

/// Groups with fewer targets are polled as a whole. Chosen after measuring what a target costs in the
/// answer: 225 bytes and a quarter of a millisecond (docs/schedule.md).
const LARGE: usize = 50;
/// A call names targets while they are at most a quarter of the group. Chosen: a name costs a quarter of
/// what a target costs in the answer (measured, docs/schedule.md).
const ONE_IN: usize = 4;
/// A call names at most this many targets. AWS does not document a limit; chosen so that the request stays
/// below 8 KB (measured: 6 KB, docs/schedule.md).
const MOST_NAMED: usize = 100;
/// A call names targets only while the last answer about the whole group was requested within this time.
/// Chosen: whole answers show which addresses were registered before a pod was due (contract 5.4).
const WHOLE_EVERY: Duration = Duration::from_secs(10);

/// Whether the call names the `waiting` targets. `registered` counts the targets of the last answer about
/// the whole group, which was requested `whole_ago`.
pub fn by_name(waiting: usize, registered: usize, whole_ago: Option<Duration>) -> bool {
    registered >= LARGE
        && waiting <= MOST_NAMED.min(registered / ONE_IN)
        && whole_ago.is_some_and(|ago| ago < WHOLE_EVERY)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::a_few_of_many(5, 1000, Some(1), true)]
    #[case::up_to_a_quarter(25, 100, Some(1), true)]
    #[case::too_many_of_them(26, 100, Some(1), false)]
    #[case::too_many_for_one_call(101, 1000, Some(1), false)]
    #[case::of_a_small_group(1, 49, Some(1), false)]
    #[case::of_a_group_never_seen_whole(1, 1000, None, false)]
    #[case::or_not_lately(1, 1000, Some(10), false)]
    fn targets_are_asked_for_by_name(
        #[case] waiting: usize,
        #[case] registered: usize,
        #[case] whole_ago: Option<u64>,
        #[case] expected: bool,
    ) {
        let whole_ago = whole_ago.map(Duration::from_secs);
        assert_eq!(by_name(waiting, registered, whole_ago), expected);
    }
}
