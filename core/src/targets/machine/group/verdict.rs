//! What is counted of a group, and what its bindings and pods are told.

use std::collections::{BTreeMap, BTreeSet};

use crate::gates::refusals::{Refusal, Refused};
use crate::reason::Reason;
use crate::targets::Target;
use crate::targets::calls::outbox::{Outbox, Told};
use crate::targets::calls::{Call, CallError, CallErrorKind, Kind};
use crate::targets::floor::Verdict;
use crate::targets::machine::action::Counts;
use crate::targets::machine::group::{Group, Inputs};
use crate::text::{agreeing, counted};

impl Group {
    pub(super) fn count(
        &mut self,
        inputs: &Inputs<'_>,
        missing: &BTreeSet<Target>,
        held: usize,
        foreign: usize,
    ) {
        let mut counts = Counts {
            wanted: inputs.registrable.len(),
            held_by_floor: held,
            foreign,
            fights: self.removals.fights(),
            left_out: if inputs.is_active {
                inputs.wants.left_out.len()
            } else {
                0
            },
            ..Counts::default()
        };
        for target in inputs.registrable {
            match missing.contains(target) {
                false => counts.registered += 1,
                true => {
                    let why = self.register.why(target).map(|why| why.reason);
                    let reason = why.unwrap_or(Reason::Registering);
                    *counts.unregistered.entry(reason).or_default() += 1;
                }
            }
        }
        for (reason, pods) in inputs.wants.impossible.iter().filter(|_| inputs.is_active) {
            *counts.unregistered.entry(*reason).or_default() += pods;
        }
        self.counts = counts;
    }

    /// What the bindings of the group are told: the weightiest of what is wrong.
    pub(super) fn judge(
        &mut self,
        inputs: &Inputs<'_>,
        verdict: Verdict,
        held: bool,
        foreign: &BTreeMap<Target, bool>,
    ) {
        let of_call = |outbox: &Outbox, kind: Kind| {
            let refused = outbox.refused().next();
            let why = outbox.paused().or_else(|| refused.map(|(_, why)| why))?;
            let of = refused.filter(|(_, refused)| *refused == why);
            let words = words_of(kind, of.map(|(target, _)| *target), why);
            Some((false, why.reason, words))
        };
        let missing = inputs.wants.missing.values().next();
        let another = foreign.iter().find(|(_, another)| **another);
        let counts = &self.counts;
        let told = of_call(&self.register, Kind::Register)
            .or_else(|| of_call(&self.deregister, Kind::Deregister))
            .or_else(|| {
                let CallError {
                    kind,
                    code,
                    message,
                } = self.undescribed.as_ref()?;
                let reason = match kind {
                    CallErrorKind::GroupNotFound => Reason::TargetGroupNotFound,
                    _ => Reason::CallRefused,
                };
                Some((
                    false,
                    reason,
                    format!("DescribeTargetHealth failed: {code}: {message}"),
                ))
            })
            .or_else(|| missing.map(|reason| (false, *reason, reason.sentence().to_owned())))
            .or_else(|| match verdict {
                Verdict::Held { healthy, needed } if held => {
                    let held = counts.held_by_floor;
                    let words = format!(
                        "{} that {} not wanted {}: {} {}, and {needed} {} needed",
                        counted(held, "target"),
                        agreeing(held, "is", "are"),
                        agreeing(held, "stays", "stay"),
                        counted(healthy, "wanted target"),
                        agreeing(healthy, "is healthy", "are healthy"),
                        agreeing(needed, "is", "are"),
                    );
                    Some((false, Reason::HeldByFloor, words))
                }
                _ => None,
            })
            .or_else(|| {
                let (ip, port) = self.fought.filter(|_| counts.fights > 0)?;
                let words =
                    format!("something else has removed target {ip} port {port} three times");
                Some((false, Reason::TargetsRemoved, words))
            })
            .or_else(|| {
                let ((ip, port), _) = another?;
                let words =
                    format!("target {ip} port {port} has the address of a pod of another Service");
                Some((true, Reason::AddressOfAnotherPod, words))
            });
        let all = counts.registered == counts.wanted && self.described.is_some();
        self.verdict = Some(told.unwrap_or_else(|| match all {
            true if inputs.wants.has_podless_left_out => {
                let reason = Reason::EndpointsLeftOut;
                (true, reason, reason.sentence().to_owned())
            }
            true => (true, Reason::Registered, String::new()),
            false => (false, Reason::Registering, String::new()),
        }));
    }

    /// Why ELB refuses the one target of a registration; `None` if it does not, or the call has more.
    pub(in crate::targets::machine) fn refusal(&self, call: &Call) -> Option<(Target, Told)> {
        let [alone] = &call.targets[..] else {
            return None;
        };
        let mut refused = self.register.refused();
        let (target, why) = refused.find(|(target, _)| **target == alone.target)?;
        (call.kind == Kind::Register).then(|| (*target, why.clone()))
    }

    /// The targets that AWS does not take, with its words, if they are others than were told before.
    pub(in crate::targets::machine) fn news_of_refusals(&mut self) -> Option<Refused> {
        let refused: Refused = self.register.words().map(refusal_of).collect();
        (refused != self.refused).then(|| self.refused.clone_from(&refused))?;
        Some(refused)
    }

    /// Whether the gates know of targets that AWS does not take.
    pub(in crate::targets::machine) fn has_told_refusals(&self) -> bool {
        !self.refused.is_empty()
    }
}

fn refusal_of((target, why): (&Target, &Told)) -> (Target, Refusal) {
    let alone = (why.reason == Reason::TargetRefused).then_some(*target);
    let words = words_of(Kind::Register, alone, why);
    (*target, Refusal::new(why.reason, &words))
}

/// Why a call fails, or is not made, for one target or for all.
pub(in crate::targets::machine) fn words_of(
    kind: Kind,
    target: Option<Target>,
    why: &Told,
) -> String {
    let of = target.map(|(ip, port)| format!(" of {ip} port {port}"));
    let (action, of) = (kind.action(), of.unwrap_or_default());
    let CallError { code, message, .. } = &why.error;
    format!("{action}{of} failed: {code}: {message}")
}
