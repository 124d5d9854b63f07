//! ELB's answers about whole groups: the health loop hands them to the registrar, so that one look serves both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use targetgate_core::model::TargetHealth;
use targetgate_core::names::{GroupKey, TargetGroupArn};
use targetgate_core::targets::calls::{CallError, CallErrorKind};
use targetgate_core::targets::difference::{Listed, Listing};
use tokio::sync::Notify;

use crate::aws::error::{ElbError, ElbErrorKind};

/// The answers that the registrar has not taken yet, at most one for each group; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Answers(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    last: Mutex<BTreeMap<TargetGroupArn, (Instant, Listing)>>,
    told: Notify,
}

impl Answers {
    /// Hands over what ELB answered about a whole group to a call that was sent at `requested`.
    pub fn tell(&self, group: &GroupKey, requested: Instant, targets: &[TargetHealth]) {
        let answer = (requested, listing(targets));
        self.0.last.lock().insert(group.arn.clone(), answer);
        self.0.told.notify_one();
    }

    pub(super) fn take(&self) -> BTreeMap<TargetGroupArn, (Instant, Listing)> {
        std::mem::take(&mut self.0.last.lock())
    }

    /// Returns once there may be answers to take. Supports one waiter.
    pub(super) async fn told(&self) {
        self.0.told.notified().await;
    }
}

pub(super) fn listing(targets: &[TargetHealth]) -> Listing {
    let listed = |health: &TargetHealth| Listed {
        state: health.state,
        zone: health.zone.clone(),
    };
    let targets = targets.iter();
    targets.map(|each| (each.target, listed(each))).collect()
}

/// A failed call as the registrar takes it.
pub(super) fn call_error(error: &ElbError) -> CallError {
    let kind = match error.kind {
        ElbErrorKind::GroupNotFound => CallErrorKind::GroupNotFound,
        ElbErrorKind::Throttled => CallErrorKind::Throttled,
        ElbErrorKind::Denied | ElbErrorKind::NoCredentials => CallErrorKind::Denied,
        ElbErrorKind::Invalid | ElbErrorKind::Other => {
            CallErrorKind::of_code(&error.code).unwrap_or(CallErrorKind::Other)
        }
        ElbErrorKind::Timeout | ElbErrorKind::Unreachable => CallErrorKind::Other,
    };
    CallError {
        kind,
        code: error.code.as_str().into(),
        message: error.message.as_str().into(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn group() -> GroupKey {
        let arn =
            "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/web/0123456789abcdef";
        let arn = arn.parse().unwrap();
        GroupKey { arn, role: None }
    }

    #[tokio::test]
    async fn the_last_answer_about_a_group_is_taken_once() {
        let (answers, group, at) = (Answers::default(), group(), Instant::now());
        answers.tell(&group, at, &[]);
        answers.tell(&group, at + std::time::Duration::from_secs(1), &[]);
        answers.told().await;
        let taken = answers.take();
        assert_eq!(taken[&group.arn].0, at + std::time::Duration::from_secs(1));
        assert!(answers.take().is_empty());
    }

    #[rstest]
    #[case::a_bad_target(ElbErrorKind::Invalid, "InvalidTarget", CallErrorKind::Target)]
    #[case::a_full_group(ElbErrorKind::Other, "TooManyTargets", CallErrorKind::TooManyTargets)]
    #[case::a_code_that_is_new(ElbErrorKind::Other, "InternalFailure", CallErrorKind::Other)]
    #[case::no_answer(ElbErrorKind::Timeout, "Timeout", CallErrorKind::Other)]
    #[case::no_role(ElbErrorKind::NoCredentials, "NoCredentials", CallErrorKind::Denied)]
    fn a_failed_call_is_of_the_kind_that_decides_what_follows(
        #[case] kind: ElbErrorKind,
        #[case] code: &str,
        #[case] expected: CallErrorKind,
    ) {
        let error = ElbError {
            action: "RegisterTargets",
            about: String::new(),
            kind,
            code: code.to_owned(),
            message: "as ELB says".to_owned(),
        };
        let found = call_error(&error);
        assert_eq!((found.kind, &*found.code), (expected, code));
    }
}
