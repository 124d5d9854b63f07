//! The cache of `DescribeTargetGroups`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use targetgate_core::model::TargetGroup;
use tokio::time::Instant;

use targetgate_core::elb::query::{GroupQuery, GroupSelector};

/// How long the cache serves an answer about an ARN. Chosen.
const TTL: Duration = Duration::from_secs(60);
/// How long it serves an answer about a name, under which another group may come to be. Contract 3.
const TTL_OF_NAME: Duration = Duration::from_secs(5);
/// Maximum number of cached answers; the oldest is evicted first. Chosen.
const MAX: usize = 10_000;

/// Descriptions by query, each cached for its TTL.
#[derive(Debug, Default)]
pub(super) struct DescriptionCache {
    groups: HashMap<GroupQuery, (Instant, Arc<TargetGroup>)>,
    /// Entries in the order of their insertion; one that was replaced since occurs twice.
    order: VecDeque<(Instant, GroupQuery)>,
}

impl DescriptionCache {
    /// The cached answer, if it has not expired.
    pub(super) fn find(&self, query: &GroupQuery, now: Instant) -> Option<Arc<TargetGroup>> {
        let (at, group) = self.groups.get(query)?;
        let ttl = match query.selector {
            GroupSelector::Arn(_) => TTL,
            GroupSelector::Name(_) => TTL_OF_NAME,
        };
        (*at + ttl > now).then(|| Arc::clone(group))
    }

    /// Caches an answer, and evicts entries that have expired or exceed [`MAX`].
    pub(super) fn insert(&mut self, query: GroupQuery, group: Arc<TargetGroup>, now: Instant) {
        self.groups.insert(query.clone(), (now, group));
        self.order.push_back((now, query));
        while let Some((at, query)) = self.order.front() {
            if *at + TTL > now && self.order.len() <= MAX {
                break;
            }
            if self.groups.get(query).is_some_and(|(kept, _)| kept == at) {
                self.groups.remove(query);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::fake;
    use crate::aws::fake::{by_arn, by_name};

    fn group() -> Arc<TargetGroup> {
        Arc::new(fake::group(1))
    }

    #[tokio::test]
    async fn an_answer_is_kept_for_a_minute_and_one_by_name_for_five_seconds() {
        let start = Instant::now();
        let mut kept = DescriptionCache::default();
        for (query, seconds) in [(by_arn(1), 60), (by_name(1), 5)] {
            kept.insert(query.clone(), group(), start);
            let after = |seconds| start + Duration::from_secs(seconds);
            assert!(kept.find(&query, after(seconds - 1)).is_some());
            assert!(kept.find(&query, after(seconds)).is_none());
        }
        assert!(kept.find(&by_arn(2), start).is_none());
    }

    #[tokio::test]
    async fn a_newer_answer_outlives_the_one_it_replaced() {
        let start = Instant::now();
        let mut kept = DescriptionCache::default();
        kept.insert(by_arn(1), group(), start);
        kept.insert(by_arn(1), group(), start + Duration::from_secs(50));
        kept.insert(by_arn(2), group(), start + Duration::from_secs(70));
        assert!(
            kept.find(&by_arn(1), start + Duration::from_secs(70))
                .is_some()
        );
    }

    #[tokio::test]
    async fn the_oldest_answer_goes_when_there_are_too_many() {
        let start = Instant::now();
        let mut kept = DescriptionCache::default();
        for number in 0..=MAX {
            kept.insert(by_name(number), group(), start);
        }
        assert!(kept.find(&by_name(0), start).is_none());
        assert!(kept.find(&by_name(1), start).is_some());
        assert!(kept.find(&by_name(MAX), start).is_some());
    }
}
