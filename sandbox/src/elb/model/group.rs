//! One target group: its targets, their scripted health, and the choice of the target for the next
//! request.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;

use super::agenda::Plan;
use super::balancer::Attachment;
use super::target::{Phase, Target, Unused};
use crate::elb::delays::Delays;
use crate::elb::group::TargetGroupSpec;
use crate::elb::health::{Health, State};

#[derive(Debug)]
pub(in crate::elb) struct Group {
    pub(in crate::elb) spec: TargetGroupSpec,
    pub(in crate::elb) delays: Delays,
    pub(super) targets: BTreeMap<SocketAddr, Target>,
    pub(super) scripts: BTreeMap<SocketAddr, Health>,
    pub(super) attachment: Attachment,
    /// The target that round robin picked last.
    last_picked: Option<SocketAddr>,
}

/// The target that the data plane picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::elb) struct Pick {
    pub(in crate::elb) target: SocketAddr,
    /// Whether the target was out of service when it was picked, because the load balancer failed
    /// open.
    pub(in crate::elb) out_of_service: bool,
}

/// What DescribeTargetHealth answers about one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::elb) struct Described {
    pub(in crate::elb) health: Health,
    pub(in crate::elb) zone: Option<String>,
}

impl Group {
    /// An empty group that no listener forwards to.
    pub(super) fn new(spec: TargetGroupSpec, delays: Delays) -> Self {
        Self {
            spec,
            delays,
            targets: BTreeMap::new(),
            scripts: BTreeMap::new(),
            attachment: Attachment::None,
            last_picked: None,
        }
    }

    /// The answer of DescribeTargetHealth for one target; `None` if it is not registered.
    pub(in crate::elb) fn health(&self, target: SocketAddr) -> Option<Health> {
        let scripted = self.scripts.get(&target).cloned();
        scripted.or_else(|| self.modelled(target))
    }

    /// All targets with their health, in order of address and port.
    pub(in crate::elb) fn all_health(&self) -> BTreeMap<SocketAddr, Health> {
        let kind = self.spec.kind();
        let modelled = self
            .targets
            .iter()
            .map(|(address, target)| (*address, target.phase.health(kind)));
        let scripted = self
            .scripts
            .iter()
            .map(|(address, health)| (*address, health.clone()));
        modelled.chain(scripted).collect()
    }

    /// What DescribeTargetHealth answers when it shows registrations `lag` late.
    pub(in crate::elb) fn described(
        &self,
        now: Instant,
        lag: Duration,
    ) -> BTreeMap<SocketAddr, Described> {
        let targets = self.targets.keys().chain(self.scripts.keys());
        targets
            .filter_map(|target| Some((*target, self.describe(*target, now, lag)?)))
            .collect()
    }

    /// The same for one target; `None` if it is not shown.
    pub(in crate::elb) fn describe(
        &self,
        target: SocketAddr,
        now: Instant,
        lag: Duration,
    ) -> Option<Described> {
        let registered = self.targets.get(&target);
        let scripted = self.scripts.get(&target).cloned();
        let shown = || registered?.shown(self.spec.kind(), now, lag);
        Some(Described {
            health: scripted.or_else(shown)?,
            zone: registered.and_then(|target| target.zone.clone()),
        })
    }

    /// The number of registered targets, without draining ones.
    pub(in crate::elb) fn registered(&self) -> usize {
        self.targets
            .values()
            .filter(|target| !matches!(target.phase, Phase::Draining { .. }))
            .count()
    }

    /// Whether the address and port are free: not registered, or only draining.
    pub(in crate::elb) fn is_free(&self, target: &SocketAddr) -> bool {
        let state = self.targets.get(target);
        state.is_none_or(|target| matches!(target.phase, Phase::Draining { .. }))
    }

    /// All targets of an address, on any port.
    pub(in crate::elb) fn at_address(&self, ip: IpAddr) -> Vec<SocketAddr> {
        let ports = SocketAddr::new(ip, 0)..=SocketAddr::new(ip, u16::MAX);
        let targets = self.targets.range(ports);
        targets.map(|(target, _)| *target).collect()
    }

    /// How often an address is registered, draining targets not counted.
    pub(in crate::elb) fn registered_at(&self, ip: IpAddr) -> usize {
        let targets = self.at_address(ip).into_iter();
        targets.filter(|target| !self.is_free(target)).count()
    }

    /// The zone with which a target was registered, as ELB tells it.
    pub(in crate::elb) fn zone_of(&self, target: &SocketAddr) -> Option<&str> {
        self.targets.get(target)?.zone.as_deref()
    }

    /// The next events of a target; empty if it is not registered.
    pub(super) fn plan(&self, target: SocketAddr) -> Plan {
        let Some(target) = self.targets.get(&target) else {
            return Plan::default();
        };
        Plan {
            deadline: target.phase.deadline(),
            check: target.next_check.filter(|_| !target.in_flight),
        }
    }

    pub(super) fn modelled(&self, target: SocketAddr) -> Option<Health> {
        let target = self.targets.get(&target)?;
        Some(target.phase.health(self.spec.kind()))
    }

    pub(super) fn first_phase(&self, zone: Option<&str>, at: Instant) -> Phase {
        match (&self.attachment, zone) {
            (Attachment::None, _) => Phase::Unused(Unused::NoListener),
            (Attachment::Zones(zones), Some(zone)) if !zones.contains(zone) => {
                Phase::Unused(Unused::ZoneNotEnabled)
            }
            _ => Phase::Registering {
                until: at + self.delays.registration,
            },
        }
    }

    /// Picks a target, round robin over the targets in service. If there are none, the load
    /// balancer fails open and picks among all registered targets that it knows. It does not know a
    /// target whose registration is in progress, so a group of only such targets yields `None`.
    pub(super) fn pick(&mut self, at: Instant) -> Option<Pick> {
        let in_service: Vec<SocketAddr> = self.addresses(|phase, state| match phase {
            Phase::Draining { routed_until, .. } => *routed_until > at,
            _ => *state == State::Healthy,
        });
        let out_of_service = in_service.is_empty();
        let candidates = if out_of_service {
            self.addresses(|phase, _| phase.is_checked())
        } else {
            in_service
        };
        let after_last = candidates
            .iter()
            .find(|candidate| Some(**candidate) > self.last_picked);
        let target = *after_last.or(candidates.first())?;
        self.last_picked = Some(target);
        Some(Pick {
            target,
            out_of_service,
        })
    }

    fn addresses(&self, wanted: impl Fn(&Phase, &State) -> bool) -> Vec<SocketAddr> {
        let kind = self.spec.kind();
        self.targets
            .iter()
            .filter(|(address, target)| match self.scripts.get(address) {
                Some(script) => wanted(&target.phase, &script.state),
                None => wanted(&target.phase, &target.phase.health(kind).state),
            })
            .map(|(address, _)| *address)
            .collect()
    }
}
