//! How calls of ELB, writes to the API server and live reads ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::index::{BindingKey, Index};
use crate::model::Service;
use crate::names::{Quota, TargetGroupArn};
use crate::targets::calls::{Call, CallError, CallErrorKind, Kind};
use crate::targets::difference::Listing;
use crate::targets::machine::Registrar;
use crate::targets::machine::action::{Action, Written};
use crate::targets::machine::group::{idle, words_of};
use crate::targets::wanted::route;

/// The pause after a deletion of an orphan that failed. Contract 5.7 has the longest; nothing waits for it.
const DELETE_AGAIN: Duration = Duration::from_secs(30);

impl Registrar {
    /// Takes in ELB's answer about a whole group, ours or one that the gates asked for.
    pub fn described(
        &mut self,
        arn: &TargetGroupArn,
        requested: Instant,
        answer: Result<Listing, &CallError>,
        now: Instant,
    ) {
        let idle = idle(self.looked_at);
        if let Some(group) = self.groups.get_mut(arn) {
            group.described(answer, requested, idle, now);
            self.dirty.insert(arn.clone());
        }
    }

    /// Takes in how a call ended.
    pub fn called(&mut self, call: &Call, outcome: Result<(), &CallError>, now: Instant) {
        let arn = &call.group.arn;
        if outcome.is_err_and(|error| error.kind == CallErrorKind::Throttled) {
            self.buckets.throttled(&Quota::of(arn), call.begun, now);
        }
        let wants = self.wanted.of_group(arn);
        let Some(group) = self.groups.get_mut(arn) else {
            return;
        };
        let before = group.refusal(call);
        let out = group.called(call, outcome, &wants, now);
        if let Some((target, why)) = group
            .refusal(call)
            .filter(|why| before.as_ref() != Some(why))
            && self.leads
            && let Some(want) = wants.wanted.get(&target)
            && let Some((pod, uid)) = want.pod.clone()
        {
            self.news.push(Action::TellPod {
                pod,
                uid: uid.text(),
                reason: why.reason,
                message: words_of(Kind::Register, Some(target), &why).into(),
            });
        }
        for held in self.held.values_mut() {
            held.drop_from(arn, &out);
        }
        self.dirty.insert(arn.clone());
    }

    /// Takes in how a write, or the deletion, of a record ended.
    pub fn recorded(&mut self, uid: &Arc<str>, outcome: &Written, now: Instant) {
        if let Some(held) = self.held.values_mut().find(|held| held.uid == *uid) {
            let version = match outcome {
                Written::Done(version) => version.clone(),
                _ => None,
            };
            held.recorded_as(version, now);
            self.dirty
                .extend(held.groups().map(|group| group.arn.clone()));
        } else if !matches!(outcome, Written::Done(_))
            && let Some(again) = self.deleting.get_mut(uid)
        {
            *again = Some(now + DELETE_AGAIN);
        }
    }

    /// Takes in how a patch of a binding's finalizers ended.
    pub fn patched(&mut self, key: &BindingKey, outcome: &Written, now: Instant) {
        let Some(held) = self.held.get_mut(key) else {
            return;
        };
        if let Written::Failed(why) = outcome
            && self.leads
        {
            self.news.extend(held.unpatched(why));
        }
        let anew = held.patched(matches!(outcome, Written::Done(_)), now);
        let arns: Vec<TargetGroupArn> = held.groups().map(|group| group.arn.clone()).collect();
        for arn in arns {
            if let Some(group) = self.groups.get_mut(&arn).filter(|_| anew) {
                group.look_anew(now);
            }
            self.dirty.insert(arn);
        }
    }

    /// Takes in that the status of a binding could not be written.
    pub fn untold(&mut self, key: &BindingKey) {
        if let Some(held) = self.held.get_mut(key) {
            held.untold();
        }
    }

    /// Takes in what a live read of a binding's Service found; an error if it found out nothing.
    pub fn confirmed(
        &mut self,
        key: &BindingKey,
        found: Result<Option<&Service>, ()>,
        index: &Index,
        now: Instant,
    ) {
        let binding = index.binding(key);
        let absent = binding
            .ok_or(())
            .and_then(|binding| Ok(route(binding, found?).err()));
        let Some(held) = self.held.get_mut(key) else {
            return;
        };
        if held.confirmed(absent, now) {
            self.wanted.absence_confirmed(key);
        }
        self.dirty
            .extend(held.groups().map(|group| group.arn.clone()));
    }
}
