//! What AWS does not take for a while: single addresses, addresses outside the VPC, and more targets than fit.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use targetgate_sandbox::elb::{Quotas, Subnet, TargetGroupSpec};

use crate::driver::Driver;
use crate::facts::{Key, Pod};
use crate::registered::IN_WITHIN;
use crate::world::World;

/// The namespaces whose blocks can be in the VPC.
const NAMESPACES: u8 = 9;
/// The pods of which one fits into a full group. Chosen.
const PODS: u64 = 3;
/// How far apart they become ready: Kubernetes tells whole seconds.
const APART: Duration = Duration::from_millis(1_100);
/// Longer than the first pause after a refusal, 15 s, so that the second has begun, of 30 s (contract 8).
const REFUSED_TWICE: Duration = Duration::from_secs(20);

impl Driver {
    pub(crate) async fn limits_step(&mut self) {
        match self.random.below(8) {
            0..3 => self.refused_pod_comes().await,
            3 => self.refused_address_is_taken(),
            4 | 5 => self.block_joins_or_leaves_the_vpc(),
            6 => self.groups_are_full(),
            _ => self.quotas_are_lifted(),
        }
    }

    async fn refused_pod_comes(&mut self) {
        let (namespace, app) = (self.some_namespace(), self.some_app());
        if self.random.percent(50) {
            self.refused_pod(&namespace, &app).await;
            return;
        }
        let ip = self.refused_address(&namespace);
        self.gated_pod(&namespace, &app, (None, Some(&ip)), None)
            .await;
    }

    /// Creates a pod without gates, whose address ELB refuses as a target.
    async fn refused_pod(&mut self, namespace: &str, app: &str) -> Option<Key> {
        let ip = self.refused_address(namespace);
        self.ungated_pod(namespace, app, (None, Some(&ip))).await
    }

    /// An address that ELB refuses from now on, and that no pod has.
    pub(crate) fn refused_address(&mut self, namespace: &str) -> String {
        let part = part(namespace);
        let ip = loop {
            let ip = format!("10.0.{part}.{}", self.random.between(200, 250));
            let facts = self.world.facts.lock();
            if facts.pods.values().all(|pod| pod.ip != ip) {
                break ip;
            }
        };
        let address: IpAddr = ip.parse().unwrap();
        for elb in self.world.accounts.all() {
            elb.refuse(address);
        }
        self.world.facts.lock().refused.insert(ip.clone());
        self.note(&format!("ELB refuses {ip}"));
        ip
    }

    fn refused_address_is_taken(&mut self) {
        let refused: Vec<String> = {
            let facts = self.world.facts.lock();
            facts.refused.iter().cloned().collect()
        };
        if let Some(ip) = self.random.pick(&refused) {
            self.take(&ip);
        }
    }

    /// ELB takes an address from now on.
    fn take(&self, ip: &str) {
        for elb in self.world.accounts.all() {
            elb.accept(ip.parse().unwrap());
        }
        let mut facts = self.world.facts.lock();
        facts.refused.remove(ip);
        facts.takes(ip);
        drop(facts);
        self.note(&format!("ELB refuses {ip} no more"));
    }

    /// The subnets of all groups begin or cease to have the addresses of a namespace.
    fn block_joins_or_leaves_the_vpc(&mut self) {
        let part = part(&self.some_namespace());
        if !self.outside.remove(&part) {
            self.outside.insert(part.clone());
        }
        let inside = (1..=NAMESPACES).map(|part| part.to_string());
        let inside = inside.filter(|part| !self.outside.contains(part));
        let subnet = |part: String| Subnet::new(&format!("10.0.{part}.0/24"), "eu-west-1a");
        let subnets: Vec<Subnet> = inside.map(|part| subnet(part).unwrap()).collect();
        let vpc = TargetGroupSpec::http("").vpc_id;
        for elb in self.world.accounts.all() {
            elb.set_subnets(&vpc, subnets.clone());
        }
        let outside = &self.outside;
        self.note(&format!("outside the VPC are {outside:?}"));
    }

    fn groups_are_full(&mut self) {
        let most = self.random.below(4) + 1;
        let quotas = match self.random.percent(70) {
            true => Quotas {
                targets_per_group: most,
                ..Quotas::default()
            },
            false => Quotas {
                targets_per_load_balancer: most,
                ..Quotas::default()
            },
        };
        self.limit(quotas);
    }

    fn limit(&mut self, quotas: Quotas) {
        for elb in self.world.accounts.all() {
            elb.set_quotas(quotas);
        }
        self.limited = true;
        self.note(&format!("AWS has {quotas:?}"));
    }

    fn quotas_are_lifted(&mut self) {
        if !std::mem::take(&mut self.limited) {
            return;
        }
        for elb in self.world.accounts.all() {
            elb.set_quotas(Quotas::default());
        }
        let mut facts = self.world.facts.lock();
        let arns: Vec<String> = facts.groups.values().flatten().cloned().collect();
        arns.into_iter().for_each(|arn| facts.takes(arn));
        drop(facts);
        self.note("AWS has its common quotas");
    }

    /// Ends the refusals. Some pods that were refused are deleted before.
    pub(crate) async fn refusals_end(&mut self) {
        if self.random.percent(30) {
            self.refused_pods_go().await;
        }
        let refused = self.world.facts.lock().refused.clone();
        refused.iter().for_each(|ip| self.take(ip));
        self.quotas_are_lifted();
    }

    /// Deletes the pods whose addresses ELB refuses.
    async fn refused_pods_go(&mut self) {
        let refused: Vec<Key> = {
            let facts = self.world.facts.lock();
            let pods = facts.pods.iter();
            let refused = pods.filter(|(_, pod)| facts.refused.contains(&pod.ip));
            refused.map(|(key, _)| key.clone()).collect()
        };
        for key in refused {
            self.remove(&key).await;
        }
    }

    /// Judges that a target that ELB refuses holds up none that become ready with it.
    pub(crate) async fn judge_refused(&mut self) {
        let Some((namespace, app, arn)) = self.some_served() else {
            return;
        };
        let mut pods = vec![];
        for refused in [false, true, false] {
            let key = match refused {
                true => self.refused_pod(&namespace, &app).await,
                false => self.ungated_pod(&namespace, &app, (None, None)).await,
            };
            pods.extend(self.held_back(key).await);
        }
        for (key, pod) in &pods {
            self.readiness(key, pod, true).await;
        }
        self.pass(IN_WITHIN).await;
        for (_, pod) in &pods {
            let refused = self.world.facts.lock().refused.contains(&pod.ip);
            if !refused && !self.world.is_in(&arn, pod.target()) {
                let what = format!("{} is outside of {arn}", pod.ip);
                self.world
                    .trace
                    .violated("a refused target holds up nobody", &what);
            }
        }
        for (key, _) in pods {
            self.remove(&key).await;
        }
    }

    /// Judges that of the pods of a full group, that goes in first which has been ready longest, and the next as soon as
    /// one leaves.
    pub(crate) async fn judge_full(&mut self) {
        let Some((namespace, app, arn)) = self.some_served() else {
            return;
        };
        // What the floor holds may leave meanwhile, and would make room as well.
        if self.world.holds_unwanted(&arn) {
            return;
        }
        let mut pods = vec![];
        for n in 0..PODS {
            // The addresses fall as the pods' ages do.
            let ip = format!("10.0.{}.{}", part(&namespace), 100 - n);
            let at = (None, Some(ip.as_str()));
            let key = self.ungated_pod(&namespace, &app, at).await;
            pods.extend(self.held_back(key).await);
        }
        self.limit(Quotas {
            targets_per_group: self.world.known_in(&arn).len() + 1,
            ..Quotas::default()
        });
        for (key, pod) in &pods {
            self.readiness(key, pod, true).await;
            self.pass(APART).await;
        }
        self.pass(REFUSED_TWICE).await;
        for (n, (key, pod)) in pods.iter().enumerate() {
            self.expect_next(&arn, &pods[n..]);
            self.note(&format!("{} makes room", pod.ip));
            self.remove(key).await;
            self.pass(IN_WITHIN).await;
        }
        self.quotas_are_lifted();
    }

    fn expect_next(&self, arn: &str, pods: &[(Key, Pod)]) {
        let are_in = pods.iter().map(|(_, pod)| pod.target());
        let are_in: Vec<SocketAddr> = are_in.filter(|t| self.world.is_in(arn, *t)).collect();
        let next: Vec<SocketAddr> = pods.iter().take(1).map(|(_, p)| p.target()).collect();
        if are_in != next {
            let what = format!("{are_in:?} are in {arn}, and {next:?} is next");
            self.world.trace.violated("room is used", &what);
        }
    }
}

impl World {
    /// Whether a group has a target that nothing wants, besides those that others registered.
    fn holds_unwanted(&self, arn: &str) -> bool {
        let known = self.known_in(arn);
        let facts = self.facts.lock();
        let wanted = facts.targets().remove(arn).unwrap_or_default();
        let kept = |target: &SocketAddr| {
            wanted.contains(target) || facts.foreign.contains(&(arn.to_owned(), *target))
        };
        !known.iter().all(kept)
    }

    /// The registered targets of a group.
    fn known_in(&self, arn: &str) -> BTreeSet<SocketAddr> {
        let facts = self.facts.lock();
        let wanted = facts.targets().remove(arn).unwrap_or_default();
        let foreign = facts.foreign.iter().filter(|(of, _)| of == arn);
        let foreign = foreign.map(|(_, target)| *target);
        let put_in = facts.put_in.get(arn).into_iter().flatten();
        let pods = facts.pods.values().map(Pod::target);
        let all = wanted.into_iter().chain(foreign).chain(pods);
        let all = all.chain(put_in.map(|(target, _)| *target));
        let all: BTreeSet<SocketAddr> = all.collect();
        all.into_iter().filter(|t| self.is_in(arn, *t)).collect()
    }
}

/// The third number of the addresses of a namespace.
fn part(namespace: &str) -> String {
    namespace.rsplit('-').next().unwrap_or_default().to_owned()
}
