//! Methods by which a test or the demo changes the model without a call of the API.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::check::{Check, CheckOutcome, Probe};
use super::group::{LoadBalancerKind, TargetGroupSpec};
use super::health::Health;
use super::limits::{Quotas, Subnet};
use super::model::Model;
use super::{Elb, NotFound};
use crate::signal::Listener;

impl Elb {
    /// Creates a target group and returns its ARN. The group is not in use until a listener
    /// forwards to it.
    pub fn create_target_group(&self, spec: TargetGroupSpec) -> String {
        let delays = spec
            .delays
            .clone()
            .unwrap_or_else(|| self.options().delays.clone());
        self.with_model(|model, _| {
            let arn = self.arn(&format!("targetgroup/{}", spec.name), model);
            model.add_group(arn.clone(), spec, delays);
            arn
        })
    }

    /// Creates a load balancer and returns its ARN. `zones` are the zones that are enabled for it;
    /// an empty list means all zones.
    pub fn create_load_balancer(
        &self,
        name: &str,
        kind: LoadBalancerKind,
        zones: &[&str],
    ) -> String {
        let zones = zones.iter().map(|&zone| zone.to_owned()).collect();
        self.with_model(|model, _| {
            let resource = format!("loadbalancer/{}/{name}", kind.arn_word());
            let arn = self.arn(&resource, model);
            model.add_balancer(arn.clone(), kind, zones);
            arn
        })
    }

    /// Sets the listener of a load balancer, which forwards to these groups by weight. A load
    /// balancer has one listener here, so that a second call replaces the groups and weights. A
    /// group of weight 0 gets no traffic, but is in use.
    ///
    /// # Errors
    ///
    /// When the load balancer or a group does not exist.
    pub fn add_listener(
        &self,
        load_balancer: &str,
        groups: &[(&str, u32)],
    ) -> Result<(), NotFound> {
        let forward = groups
            .iter()
            .map(|&(arn, weight)| (arn.to_owned(), weight))
            .collect();
        self.with_model(|model, now| {
            expect_balancer(model, load_balancer)?;
            for (arn, _) in groups {
                expect_group(model, arn)?;
            }
            model.set_listener(load_balancer, Some(forward), now);
            Ok(())
        })
    }

    /// Removes a load balancer's listener. Groups that no other listener forwards to are then not
    /// in use.
    ///
    /// # Errors
    ///
    /// When the load balancer does not exist.
    pub fn remove_listener(&self, load_balancer: &str) -> Result<(), NotFound> {
        self.with_model(|model, now| {
            expect_balancer(model, load_balancer)?;
            model.set_listener(load_balancer, None, now);
            Ok(())
        })
    }

    /// Sets the zone of an address for registrations from now on. An address without a zone counts
    /// as lying in an enabled zone.
    pub fn place(&self, ip: IpAddr, zone: &str) {
        self.with_model(|model, _| model.place(ip, zone.to_owned()));
    }

    /// Sets the limits on targets for calls from now on.
    pub fn set_quotas(&self, quotas: Quotas) {
        self.with_model(|model, _| model.quotas = quotas);
    }

    /// Sets the subnets of a VPC. From now on RegisterTargets checks the zones of its groups' targets
    /// as ELB does; it does not check those of a VPC whose subnets are not set.
    pub fn set_subnets(&self, vpc_id: &str, subnets: Vec<Subnet>) {
        self.with_model(|model, _| model.networks.insert(vpc_id.to_owned(), subnets));
    }

    /// From now on RegisterTargets refuses a call that names this address, as `InvalidTarget`.
    pub fn refuse(&self, ip: IpAddr) {
        self.with_model(|model, _| model.invalid.insert(ip));
    }

    /// Ends [`Elb::refuse`] for an address.
    pub fn accept(&self, ip: IpAddr) {
        self.with_model(|model, _| model.invalid.remove(&ip));
    }

    /// Registers a target, as RegisterTargets does, but without its checks. A registered target stays
    /// as it is.
    ///
    /// # Errors
    ///
    /// When the group does not exist.
    pub fn register(&self, arn: &str, ip: IpAddr, port: u16) -> Result<(), NotFound> {
        self.with_group(arn, |model, now| {
            model.register(arn, SocketAddr::new(ip, port), None, now);
        })
    }

    /// Deregisters a target, as DeregisterTargets does. A target that is not registered is not an
    /// error.
    ///
    /// # Errors
    ///
    /// When the group does not exist.
    pub fn deregister(&self, arn: &str, ip: IpAddr, port: u16) -> Result<(), NotFound> {
        self.with_group(arn, |model, now| {
            model.deregister(arn, SocketAddr::new(ip, port), now);
        })
    }

    /// Removes a group and its targets at once, whether or not a listener forwards to it.
    ///
    /// # Errors
    ///
    /// When the group does not exist.
    pub fn remove_target_group(&self, arn: &str) -> Result<(), NotFound> {
        self.with_group(arn, |model, now| model.remove_group(arn, now))
    }

    /// From now on DescribeTargetHealth answers `health` for this target, registered or not,
    /// whatever its checks find. For a registered target traffic follows the script as well.
    ///
    /// # Errors
    ///
    /// When the group does not exist.
    pub fn script(&self, arn: &str, ip: IpAddr, port: u16, health: Health) -> Result<(), NotFound> {
        self.with_group(arn, |model, now| {
            model.script(arn, SocketAddr::new(ip, port), Some(health), now);
        })
    }

    /// Ends [`Elb::script`] for a target.
    ///
    /// # Errors
    ///
    /// When the group does not exist.
    pub fn unscript(&self, arn: &str, ip: IpAddr, port: u16) -> Result<(), NotFound> {
        self.with_group(arn, |model, now| {
            model.script(arn, SocketAddr::new(ip, port), None, now);
        })
    }

    /// The current answer of DescribeTargetHealth for a target; `None` if the target is not in the
    /// group, or the group does not exist.
    pub fn health(&self, arn: &str, ip: IpAddr, port: u16) -> Option<Health> {
        self.with_model(|model, _| model.groups.get(arn)?.health(SocketAddr::new(ip, port)))
    }

    /// Holds the data plane of a group back: targets that are deregistered from now on still get new
    /// traffic for this long, whatever [`super::Delays::propagation_lag`] of the group was.
    ///
    /// # Errors
    ///
    /// When the group does not exist.
    pub fn hold_back(&self, arn: &str, lag: Duration) -> Result<(), NotFound> {
        self.with_model(|model, _| {
            let group = model.groups.get_mut(arn).ok_or_else(|| no_group(arn))?;
            group.delays.propagation_lag = lag;
            Ok(())
        })
    }

    /// Freezes the answer of DescribeTargetHealth for this group as of now, until
    /// [`super::faults::Faults::thaw`]: later answers are stale.
    ///
    /// # Errors
    ///
    /// When the group does not exist.
    pub fn freeze(&self, arn: &str) -> Result<(), NotFound> {
        let lag = self.faults().registration_lag();
        let answer = self.with_model(|model, now| {
            let group = model.groups.get(arn);
            group
                .map(|group| group.described(now, lag))
                .ok_or_else(|| no_group(arn))
        })?;
        self.faults().freeze(arn, answer);
        Ok(())
    }

    pub(super) fn probe(&self) -> &Arc<dyn Probe> {
        &self.options().probe
    }

    /// A listener that hears of each change of a target, group or load balancer's listener.
    pub(super) fn model_changes(&self) -> Listener {
        self.inner.model_changed.listen()
    }

    pub(super) fn load_balancer_kind(&self, arn: &str) -> Result<LoadBalancerKind, NotFound> {
        self.with_model(|model, _| model.balancer_kind(arn).ok_or_else(|| no_balancer(arn)))
    }

    pub(super) fn begin_checks(&self) -> Vec<Check> {
        self.with_model(|model, now| model.begin_checks(now))
    }

    pub(super) fn finish_check(&self, check: &Check, outcome: CheckOutcome) {
        self.with_model(|model, now| model.finish_check(check, outcome, now));
    }

    pub(super) fn next_event(&self) -> Option<Instant> {
        self.with_model(|model, _| model.next_event())
    }

    fn with_group<T>(
        &self,
        arn: &str,
        act: impl FnOnce(&mut Model, Instant) -> T,
    ) -> Result<T, NotFound> {
        self.with_model(|model, now| {
            expect_group(model, arn)?;
            Ok(act(model, now))
        })
    }

    fn arn(&self, resource: &str, model: &mut Model) -> String {
        format!("{}{resource}/{:016x}", self.arn_prefix(), model.random())
    }

    /// The prefix of all ARNs, `arn:PARTITION:elasticloadbalancing:REGION:ACCOUNT:`.
    pub(super) fn arn_prefix(&self) -> String {
        let (region, account) = (&self.options().region, &self.options().account);
        let partition = match region {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        format!("arn:{partition}:elasticloadbalancing:{region}:{account}:")
    }
}

fn expect_group(model: &Model, arn: &str) -> Result<(), NotFound> {
    let found = model.groups.contains_key(arn);
    found.then_some(()).ok_or_else(|| no_group(arn))
}

fn no_group(arn: &str) -> NotFound {
    NotFound {
        kind: "target group",
        arn: arn.to_owned(),
    }
}

fn expect_balancer(model: &Model, arn: &str) -> Result<(), NotFound> {
    let found = model.has_balancer(arn);
    found.then_some(()).ok_or_else(|| no_balancer(arn))
}

fn no_balancer(arn: &str) -> NotFound {
    NotFound {
        kind: "load balancer",
        arn: arn.to_owned(),
    }
}
