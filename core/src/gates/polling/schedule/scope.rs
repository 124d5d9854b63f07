//! Whether to ask for all targets of a group or for some of them.

use std::time::Duration;

/// Groups below this size are asked about as a whole: the answer is small anyway.
const LARGE: usize = 50;
/// Of a large group, those are asked for by name who are at most one in so many of its targets.
const ONE_IN: usize = 4;
/// Targets named in one call. AWS documents no limit; the request stays below 8 KB.
const MOST_NAMED: usize = 100;
/// How old the last answer about the whole group may be: which addresses were registered before a pod
/// was due is read from it.
const WHOLE_EVERY: Duration = Duration::from_secs(10);

/// Whether `waiting` targets of a group are asked for by name. `registered` counts the targets of the
/// last answer about the whole group, which was asked for `whole_ago`.
///
/// Why so: docs/schedule.md has what the answers cost.
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
