//! Services that have lost their last binding of ip targets while pods live that they select.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::index::{Index, LostBinding};
use crate::names::{BindingApi, ObjectKey};
use crate::notices::{AllFound, Found, Regarded, Topic};
use crate::reason::Reason;
use crate::unbound::{SelectedPod, Unbound};

/// At most so many Services are remembered; beyond, one with the first name is forgotten. Chosen.
const REMEMBERED: usize = 1024;
/// What was lost is told for so long. Chosen: by then it is meant, or nobody reads the Events.
const TOLD_FOR: SignedDuration = SignedDuration::from_hours(24);

/// The Services whose binding was deleted, as far as this process has seen it.
#[derive(Debug, Default)]
pub struct LostBindings(BTreeMap<ObjectKey, Lost>);

#[derive(Debug)]
struct Lost {
    binding: Arc<str>,
    at: Timestamp,
}

impl LostBindings {
    /// Takes in the bindings that a watch has shown to be gone.
    pub fn note(&mut self, lost: Vec<LostBinding>, now: Timestamp) {
        for LostBinding { service, binding } in lost {
            self.0.insert(service, Lost { binding, at: now });
            if self.0.len() > REMEMBERED {
                self.0.pop_first();
            }
        }
    }

    /// Adds the Services whose pods still live, and forgets those that have a binding again.
    pub fn add(
        &mut self,
        index: &Index,
        apis: &[BindingApi],
        now: Timestamp,
        found: &mut AllFound,
    ) {
        self.0.retain(|service, lost| {
            let over = now.duration_since(lost.at) > TOLD_FOR;
            let kept = !over && index.is_unbound(service, apis);
            if kept {
                tell(service, lost, index, found);
            }
            kept
        });
    }
}

fn tell(service: &ObjectKey, lost: &Lost, index: &Index, found: &mut AllFound) {
    let Lost { binding, at } = lost;
    let pods = index.selected_pods(service).into_iter();
    let pods = pods.map(|pod| SelectedPod {
        has_gate: pod.gates.iter().any(|gate| gate.is_of(binding)),
        created: pod.created,
    });
    let Some(left) = Unbound::of(pods, Some(*at)) else {
        return;
    };
    let (all, since) = (left.pods, left.without_gate);
    let remedy = Reason::BindingLost.remedy();
    let text = format!(
        "it had binding {binding} of ip targets until {at:.0}. Pods that it selects: {all}; created since without a gate: {since}. {remedy}"
    );
    let regarded = Regarded::Service {
        namespace: service.namespace.clone(),
        name: service.name.clone(),
    };
    let topic = Topic::new(regarded, Reason::BindingLost);
    found.insert(topic, Found::of_object(text, all));
}
