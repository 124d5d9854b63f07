//! Judges that a target group which is dropped in AWS is told, though no pod waits for it.

use std::time::Duration;

use targetgate_core::reason::Reason;
use tokio::time::Instant;

use crate::direct;
use crate::driver::Driver;
use crate::facts::Key;

/// The time in which it is told (contract 5.7).
const TOLD_WITHIN: Duration = Duration::from_secs(300);

impl Driver {
    /// Drops the group of a binding, and waits for the Event.
    pub(crate) async fn judge_dropped(&mut self) {
        let bindings: Vec<(Key, String)> = {
            let facts = self.world.facts.lock();
            let bindings = facts.bindings.iter();
            bindings
                .map(|(key, binding)| (key.clone(), binding.arn.clone()))
                .collect()
        };
        let Some((key, arn)) = self.random.pick(&bindings) else {
            return;
        };
        self.note(&format!("the group of {key:?} is dropped"));
        self.world
            .accounts
            .of(&arn)
            .remove_target_group(&arn)
            .unwrap();
        let end = Instant::now() + TOLD_WITHIN;
        while !self.is_told(&key) {
            if Instant::now() >= end {
                let what = format!("{arn} of {key:?}");
                return self.world.trace.violated("dropped groups are told", &what);
            }
            self.pass(Duration::from_secs(5)).await;
        }
    }

    /// Whether an Event tells that the group of a binding is missing.
    fn is_told(&self, (namespace, name): &Key) -> bool {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let events = direct::get(&self.world.api, &path).unwrap_or_default();
        let mut events = events["items"].as_array().into_iter().flatten();
        events.any(|event| {
            event["reason"] == Reason::TargetGroupNotFound.as_str()
                && event["regarding"]["name"] == name.as_str()
        })
    }
}
