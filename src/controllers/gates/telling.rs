//! Tells what the health loop knows, for `explain` (contract 10).

use std::collections::BTreeMap;

use targetgate_core::explain::leader::{AT_MOST, GateView, GatesView, Moment};
use targetgate_core::gates::machine::known::GateKnown;
use targetgate_core::names::Quota;

use crate::clock;
use crate::controllers::gates::{Loop, Work};
use crate::state::questions::Question;

impl Loop {
    pub(super) fn answer(&self, work: &Work, question: Question<GatesView>) {
        let (tracker, failures) = (&work.tracker, &work.failures);
        let (namespace, pod) = (&question.namespace, question.pod.as_deref());
        let (known, left_out) = tracker.known(namespace, pod, AT_MOST);
        let moment = Moment {
            now: clock::monotonic(),
            wall: (self.now)(),
        };
        let view = GatesView {
            leads: tracker.leads(),
            rates: self.rates(&known),
            gates: known
                .iter()
                .map(|gate| GateView::new(gate, |group| failures.of_polls(group), moment))
                .collect(),
            left_out,
        };
        question.answer(view);
    }

    /// The calls a second that the budget allows, in each account and Region of the groups.
    fn rates(&self, known: &[GateKnown]) -> BTreeMap<String, f64> {
        let targets = known.iter().flat_map(|gate| &gate.targets);
        let quotas = targets.map(|target| Quota::of(&target.query.group.arn));
        let rates = quotas.map(|quota| {
            let name = format!("{}/{}", quota.account(), quota.region());
            (name, self.budget.rate(&quota))
        });
        rates.collect()
    }
}
