//! The rules by which the API server itself injects gates: what the policy of `deploy/components/policy` reads
//! (contract 11).
//!
//! A rule says what the hook decides ([`crate::gates::inject`]) of a pod that is not opted out: it is made of the
//! bindings that give a gate to each pod that their Service selects.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::gates::inject::GatePolicy;
use crate::index::services::ServiceIndex;
use crate::model::Labels;

pub mod reconcile;

/// The policy that is shipped.
pub const POLICY: &str = "targetgate-gates";
/// The second one, of pods that opt in by themselves (`optIn: either`).
pub const POLICY_OF_OBJECTS: &str = "targetgate-gates-object";
/// The name of the object of each namespace.
pub const OBJECT: &str = "targetgate";

/// The most rules that a pod may meet. Measured on the API server that is tested, whose CEL has a budget of 1,000,000
/// for each expression: the policy injects 664 gates into one pod, whatever the pairs of their selectors, and 651 beside 10
/// gates of others. Half of that leaves room for pods with many gates; rules that do not match hardly count (15,699).
const MOST_RULES: usize = 300;
/// The most bytes of the object's spec in JSON. Chosen: etcd takes 1.5 MB, and API servers hold the object in memory.
const MOST_BYTES: usize = 512 << 10;

/// The spec of a `GateRules` object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GateRules {
    /// Each rule under one pair of its selector, written `key=value`, so that a pod meets those of its own labels
    /// only.
    by_label: BTreeMap<String, Vec<GateRule>>,
}

/// The gate of one binding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateRule {
    /// The place of the gate among all of the namespace: a pod's gates are sorted by it.
    order: i32,
    gate: String,
    /// The selector of the binding's Service.
    selector: BTreeMap<String, String>,
}

/// Why the rules of a namespace are not written: the hook alone injects its gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TooLarge {
    /// A pod may meet so many rules that evaluating them exceeds the budget of CEL.
    #[error("a pod may meet {rules} of them, of at most {MOST_RULES}")]
    Rules { rules: usize },
    /// The object would be too large to store.
    #[error("they are {bytes} bytes of at most {MOST_BYTES}")]
    Bytes { bytes: usize },
}

impl GateRules {
    /// The rules of a namespace; empty if no binding of it gives a gate.
    ///
    /// ```
    /// use targetgate_core::gate_rules::GateRules;
    /// use targetgate_core::gates::inject::GatePolicy;
    /// use targetgate_core::index::services::ServiceIndex;
    ///
    /// let rules = GateRules::of(&ServiceIndex::default(), &GatePolicy::default()).unwrap();
    /// assert!(rules.is_empty());
    /// ```
    ///
    /// # Errors
    /// The rules exceed what the API server evaluates or stores.
    pub fn of(routes: &ServiceIndex, policy: &GatePolicy) -> Result<Self, TooLarge> {
        let giving: Vec<_> = routes.giving(&policy.apis).collect();
        let shared = shared_pairs(giving.iter().map(|(_, service)| &service.selector));
        let mut rules = Self::default();
        let (mut order, mut former) = (0, None);
        for (binding, service) in giving {
            // Bindings of one name in both API groups share a gate, and stand side by side.
            if former.is_some_and(|former| former != &binding.name) {
                order += 1;
            }
            former = Some(&binding.name);
            rules.add(
                key(&service.selector, &shared),
                GateRule {
                    order,
                    gate: policy.prefix.gate(&binding.name).as_str().to_owned(),
                    selector: owned(&service.selector),
                },
            );
        }
        rules.fits().map(|()| rules)
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.by_label.is_empty()
    }

    /// The number of rules.
    pub fn len(&self) -> usize {
        self.by_label.values().map(Vec::len).sum()
    }

    fn add(&mut self, key: String, rule: GateRule) {
        let rules = self.by_label.entry(key).or_default();
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }

    /// A pod has one value of each label, so that it meets one group of rules of each key at most.
    fn fits(&self) -> Result<(), TooLarge> {
        let mut longest: BTreeMap<&str, usize> = BTreeMap::new();
        for (pair, rules) in &self.by_label {
            let key = pair.split_once('=').map_or(&**pair, |(key, _)| key);
            let known = longest.entry(key).or_default();
            *known = rules.len().max(*known);
        }
        let rules = longest.values().sum();
        if rules > MOST_RULES {
            return Err(TooLarge::Rules { rules });
        }
        // Maps with keys that are strings, and numbers, are always written.
        let bytes = serde_json::to_vec(self).map_or(usize::MAX, |json| json.len());
        match bytes > MOST_BYTES {
            true => Err(TooLarge::Bytes { bytes }),
            false => Ok(()),
        }
    }
}

/// How many selectors have each pair.
fn shared_pairs<'a>(
    selectors: impl Iterator<Item = &'a Labels>,
) -> BTreeMap<(&'a Arc<str>, &'a Arc<str>), usize> {
    let mut shared = BTreeMap::new();
    for pair in selectors.flatten() {
        *shared.entry(pair).or_default() += 1;
    }
    shared
}

/// The pair of a selector that the fewest selectors have: often all Services of a namespace share one.
fn key(selector: &Labels, shared: &BTreeMap<(&Arc<str>, &Arc<str>), usize>) -> String {
    let fewest = selector.iter().min_by_key(|pair| shared.get(pair));
    // A binding whose Service has an empty selector gives no gate.
    fewest.map_or_else(String::new, |(key, value)| format!("{key}={value}"))
}

fn owned(selector: &Labels) -> BTreeMap<String, String> {
    let pairs = selector.iter();
    pairs
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

#[cfg(test)]
mod tests;
