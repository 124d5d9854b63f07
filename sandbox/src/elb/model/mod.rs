//! The state of one account's load balancers in one Region. Pure: no clock, no timer, no I/O.
//!
//! Time is passed in. [`Model::advance`] must be called with it before anything is read, and
//! [`Model::next_event`] returns when the model changes next by itself. [`Model::take_changes`]
//! returns what has changed.

mod agenda;
mod balancer;
mod group;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use tokio::time::Instant;

use self::agenda::Agenda;
use self::balancer::Attachment;
pub(super) use self::balancer::LoadBalancer;
pub(super) use self::group::{Described, Group, Pick};
pub(super) use self::target::ALL_ZONES;
use self::target::{Phase, Rules, Target, Unused};
use super::check::{Check, CheckOutcome};
use super::delays::Delays;
use super::group::{LoadBalancerKind, TargetGroupSpec};
use super::health::Health;
use super::limits::{Quotas, Subnet};
use crate::random::Random;

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) balancers: BTreeMap<String, LoadBalancer>,
    /// The zones of addresses; an address may have none.
    zones: BTreeMap<IpAddr, String>,
    pub(super) quotas: Quotas,
    /// The subnets of VPCs, by id. A VPC that is not here takes any address with any zone.
    pub(super) networks: BTreeMap<String, Vec<Subnet>>,
    /// The addresses that no group takes.
    pub(super) invalid: BTreeSet<IpAddr>,
    agenda: Agenda,
    changes: Vec<Change>,
    generations: u64,
    random: Random,
}

/// A change of a target's health. `None` means that it is not registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) at: Instant,
    pub(super) arn: String,
    pub(super) target: SocketAddr,
    pub(super) from: Option<Health>,
    pub(super) to: Option<Health>,
}

impl Model {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            ..Self::default()
        }
    }

    pub(super) fn random(&mut self) -> u64 {
        self.random.draw()
    }

    pub(super) fn add_group(&mut self, arn: String, spec: TargetGroupSpec, delays: Delays) {
        self.groups.insert(arn, Group::new(spec, delays));
    }

    /// Removes a group, its targets, and its entries in listeners.
    pub(super) fn remove_group(&mut self, arn: &str, at: Instant) {
        for balancer in self.balancers.values_mut() {
            let forward = balancer.listener.iter_mut();
            forward.for_each(|groups| groups.retain(|(group, _)| group != arn));
        }
        let Some(group) = self.groups.get(arn) else {
            return;
        };
        let targets: Vec<SocketAddr> = group.all_health().into_keys().collect();
        for target in targets {
            self.script(arn, target, None, at);
            self.change(arn, target, at, |targets| {
                targets.remove(&target);
            });
        }
        self.groups.remove(arn);
    }

    pub(super) fn add_balancer(
        &mut self,
        arn: String,
        kind: LoadBalancerKind,
        zones: BTreeSet<String>,
    ) {
        self.balancers.insert(
            arn,
            LoadBalancer {
                kind,
                zones,
                listener: None,
            },
        );
    }

    pub(super) fn has_balancer(&self, arn: &str) -> bool {
        self.balancers.contains_key(arn)
    }

    pub(super) fn balancer_kind(&self, arn: &str) -> Option<LoadBalancerKind> {
        self.balancers.get(arn).map(|balancer| balancer.kind)
    }

    /// The ARNs of the load balancers whose listener forwards to the group.
    pub(super) fn balancers_of<'a>(&'a self, arn: &'a str) -> impl Iterator<Item = &'a str> {
        self.balancers
            .iter()
            .filter(move |(_, balancer)| balancer.forwards_to(arn))
            .map(|(balancer, _)| balancer.as_str())
    }

    /// The groups that a load balancer forwards to.
    pub(super) fn groups_of(&self, balancer: &str) -> impl Iterator<Item = &Group> {
        let listener = self.balancers.get(balancer);
        let forward = listener
            .into_iter()
            .flat_map(|found| found.listener.iter().flatten());
        forward.filter_map(|(arn, _)| self.groups.get(arn))
    }

    /// The group and the groups with which it shares a load balancer.
    pub(super) fn beside<'a>(&'a self, arn: &'a str) -> impl Iterator<Item = &'a Group> {
        let balancers = self.balancers.values();
        let arns: BTreeSet<&str> = balancers
            .filter(|balancer| balancer.forwards_to(arn))
            .flat_map(|balancer| balancer.listener.iter().flatten())
            .map(|(arn, _)| arn.as_str())
            .chain([arn])
            .collect();
        arns.into_iter().filter_map(|arn| self.groups.get(arn))
    }

    /// Sets or removes a load balancer's listener. Targets that it concerns begin or stop being
    /// used.
    pub(super) fn set_listener(
        &mut self,
        balancer: &str,
        forward: Option<Vec<(String, u32)>>,
        at: Instant,
    ) {
        let Some(balancer) = self.balancers.get_mut(balancer) else {
            return;
        };
        let before = std::mem::replace(&mut balancer.listener, forward);
        let groups = before.iter().chain(&balancer.listener).flatten();
        let affected: BTreeSet<String> = groups.map(|(arn, _)| arn.clone()).collect();
        for arn in affected {
            self.refresh_use(&arn, at);
        }
    }

    /// Sets the zone of an address.
    pub(super) fn place(&mut self, ip: IpAddr, zone: String) {
        self.zones.insert(ip, zone);
    }

    /// Registers a target, in `zone` if its caller or its VPC names one. A registered target stays as
    /// it is; a draining one starts again.
    pub(super) fn register(
        &mut self,
        arn: &str,
        target: SocketAddr,
        zone: Option<String>,
        at: Instant,
    ) {
        let placed = self.zones.get(&target.ip()).cloned();
        self.generations += 1;
        let generation = self.generations;
        let Some(group) = self.groups.get_mut(arn) else {
            return;
        };
        if let Some(present) = group.targets.get(&target)
            && !matches!(present.phase, Phase::Draining { .. })
        {
            return;
        }
        let mut state = Target {
            phase: Phase::Unused(Unused::NoListener),
            generation,
            next_check: None,
            in_flight: false,
            zone,
            registered: at,
            before: group.modelled(target),
        };
        state.phase = group.first_phase(state.needed_zone(placed.as_deref()), at);
        self.change(arn, target, at, |targets| {
            targets.insert(target, state);
        });
    }

    /// Deregisters a target. A target that is not registered is not an error, as at AWS.
    pub(super) fn deregister(&mut self, arn: &str, target: SocketAddr, at: Instant) {
        let Some(group) = self.groups.get(arn) else {
            return;
        };
        if let Some(state) = group.targets.get(&target) {
            let next = state.phase.deregistered(&group.delays, at);
            self.enter(arn, target, next, at);
        }
    }

    /// Makes DescribeTargetHealth answer `health` for the target, registered or not, from now on.
    /// `None` ends that.
    pub(super) fn script(
        &mut self,
        arn: &str,
        target: SocketAddr,
        health: Option<Health>,
        at: Instant,
    ) {
        let Some(group) = self.groups.get_mut(arn) else {
            return;
        };
        let from = group.health(target);
        match health {
            Some(health) => group.scripts.insert(target, health),
            None => group.scripts.remove(&target),
        };
        let to = group.health(target);
        self.note(arn, target, from, to, at);
    }

    /// Carries out everything that is due by `at`, in the order of the deadlines.
    pub(super) fn advance(&mut self, at: Instant) {
        // No phase that follows a deadline has a deadline itself, so one round is enough.
        for (due, arn, target) in self.agenda.deadlines_until(at) {
            let next = self.groups[&*arn].targets[&target].phase.expired();
            self.enter(&arn, target, next, due);
        }
    }

    /// The next deadline or due health check.
    pub(super) fn next_event(&self) -> Option<Instant> {
        self.agenda.first()
    }

    /// Begins the health checks that are due at `at`. Each must be answered by
    /// [`Model::finish_check`].
    pub(super) fn begin_checks(&mut self, at: Instant) -> Vec<Check> {
        let due = self.agenda.checks_until(at).into_iter();
        due.map(|(_, arn, address)| self.begin_check(&arn, address, at))
            .collect()
    }

    /// Applies the result of a health check. A result is ignored if the target has gone or was
    /// registered anew since the check began.
    pub(super) fn finish_check(&mut self, check: &Check, outcome: CheckOutcome, at: Instant) {
        let Some(group) = self.groups.get(&check.arn) else {
            return;
        };
        let rules = Rules {
            kind: group.spec.kind(),
            delays: &group.delays,
        };
        let Some(target) = group.targets.get(&check.target) else {
            return;
        };
        if target.generation != check.generation {
            return;
        }
        let next = target.phase.checked(outcome, rules, at);
        self.change(&check.arn, check.target, at, |targets| {
            if let Some(target) = targets.get_mut(&check.target) {
                target.in_flight = false;
            }
        });
        self.enter(&check.arn, check.target, Some(next), at);
    }

    /// The target for the next request or connection at a load balancer; `None` if it has none.
    pub(super) fn pick(&mut self, balancer: &str, at: Instant) -> Option<(String, Pick)> {
        let arn = self.pick_group(balancer)?;
        let pick = self.groups.get_mut(&arn)?.pick(at)?;
        Some((arn, pick))
    }

    /// Whether an NLB keeps a connection: its target is in the group, and has not become unhealthy
    /// since the connection began.
    pub(super) fn keeps_connection(&self, arn: &str, pick: Pick) -> bool {
        let state = self
            .groups
            .get(arn)
            .and_then(|group| group.targets.get(&pick.target));
        match state.map(|target| &target.phase) {
            None => false,
            Some(Phase::Unhealthy { .. }) => pick.out_of_service,
            Some(_) => true,
        }
    }

    /// The changes since the last call, in order.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Picks the group for the next request, by the weights of the listener.
    fn pick_group(&mut self, balancer: &str) -> Option<String> {
        let ticket = self.random.draw();
        self.balancers
            .get(balancer)?
            .group_for(ticket)
            .map(str::to_owned)
    }

    /// After a change of listeners: starts unused targets that are now used, and makes others
    /// unused.
    fn refresh_use(&mut self, arn: &str, at: Instant) {
        let attachment = Attachment::of(arn, self.balancers.values());
        let zones = &self.zones;
        let Some(group) = self.groups.get_mut(arn) else {
            return;
        };
        if group.attachment == attachment {
            return;
        }
        group.attachment = attachment;
        let next: Vec<(SocketAddr, Phase)> = group
            .targets
            .iter()
            .filter(|(_, target)| !matches!(target.phase, Phase::Draining { .. }))
            .filter_map(|(address, target)| {
                let placed = zones.get(&address.ip()).map(String::as_str);
                let first = group.first_phase(target.needed_zone(placed), at);
                let was_unused = matches!(target.phase, Phase::Unused(_));
                let is_unused = matches!(first, Phase::Unused(_));
                (was_unused || is_unused).then_some((*address, first))
            })
            .collect();
        for (target, phase) in next {
            self.enter(arn, target, Some(phase), at);
        }
    }

    /// Begins a check that is due.
    fn begin_check(&mut self, arn: &str, address: SocketAddr, at: Instant) -> Check {
        let group = &self.groups[arn];
        let check = Check {
            arn: arn.to_owned(),
            target: address,
            generation: group.targets[&address].generation,
            how: group.spec.health_check.clone(),
            timeout: group.delays.health_check_timeout,
        };
        let next = at + group.delays.health_check_interval;
        self.change(arn, address, at, |targets| {
            if let Some(target) = targets.get_mut(&address) {
                target.in_flight = true;
                target.next_check = Some(next);
            }
        });
        check
    }

    /// Moves a registered target to its next phase, or out of the group.
    fn enter(&mut self, arn: &str, address: SocketAddr, next: Option<Phase>, at: Instant) {
        let Some(group) = self.groups.get(arn) else {
            return;
        };
        // The first check comes at a random time, because ELB's checks do not follow registrations.
        let interval = group.delays.health_check_interval;
        let first_check = at + interval.mul_f64(self.random.fraction());
        self.generations += 1;
        let generation = self.generations;
        self.change(arn, address, at, |targets| {
            let Some(phase) = next else {
                targets.remove(&address);
                return;
            };
            let Some(target) = targets.get_mut(&address) else {
                return;
            };
            if phase.is_checked() {
                target.next_check = target.next_check.or(Some(first_check));
            } else {
                // A check that is still under way must not count in this phase or a later one.
                target.generation = generation;
                target.next_check = None;
                target.in_flight = false;
            }
            target.phase = phase;
        });
    }

    /// Changes a target, updates the agenda, and records the change if DescribeTargetHealth shows
    /// it. All changes of targets go through here.
    fn change(
        &mut self,
        arn: &str,
        address: SocketAddr,
        at: Instant,
        act: impl FnOnce(&mut BTreeMap<SocketAddr, Target>),
    ) {
        let Some(group) = self.groups.get_mut(arn) else {
            return;
        };
        let (from, old) = (group.modelled(address), group.plan(address));
        act(&mut group.targets);
        let (to, new) = (group.modelled(address), group.plan(address));
        // While a script answers for the target, changes of the model stay invisible.
        let seen = !group.scripts.contains_key(&address);
        self.agenda.replace(arn, address, old, new);
        if seen {
            self.note(arn, address, from, to, at);
        }
    }

    fn note(
        &mut self,
        arn: &str,
        target: SocketAddr,
        from: Option<Health>,
        to: Option<Health>,
        at: Instant,
    ) {
        if from != to {
            self.changes.push(Change {
                at,
                arn: arn.to_owned(),
                target,
                from,
                to,
            });
        }
    }
}

#[cfg(test)]
mod tests;
