//! The incumbent as a registrar, which comes and goes while the product registers: it has its Lease, puts its finalizer
//! on every binding, and then holds each group to what it wants.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use targetgate_sandbox::api::Api;
use targetgate_sandbox::clock;
use tokio::time::{Instant, sleep};

use crate::accounts::Accounts;
use crate::direct;
use crate::driver::{Driver, bindings_path};
use crate::facts::{Facts, Key, Pod};
use crate::trace::Trace;
use crate::world::World;

const FINALIZER: &str = "elbv2.k8s.aws/resources";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const LEASE: &str = "aws-load-balancer-controller-leader";
/// The incumbent renews its Lease so often, and works once in between. client-go.
const EVERY: Duration = Duration::from_secs(2);
/// The time in which its caches are filled, once it has its Lease. Chosen.
const STARTS_WITHIN: Duration = Duration::from_secs(4);
/// Its Lease counts for so long after it was renewed (contract 8), less two seconds: the API server tells whole ones.
const LEADS_FOR: Duration = Duration::from_secs(58);
/// The same, until a replica knows that it does not lead any more: its Lease is read each 10 s, and once more. Chosen
/// beyond that: 7 s.
const COUNTS_FOR: Duration = Duration::from_secs(60 + 10 + 3 + 7);
/// A call that is on its way when a replica hears of the Lease. Chosen.
const ON_ITS_WAY: Duration = Duration::from_millis(100);

/// What there is to know of the incumbent.
#[derive(Debug, Default)]
pub(crate) struct Incumbent {
    pub(crate) runs: bool,
    /// Since when it leads, and when it renewed its Lease last.
    since: Option<Instant>,
    renewed: Option<Instant>,
    /// What it has registered, by group.
    registered: BTreeMap<String, BTreeSet<SocketAddr>>,
    /// Groups that were its own alone: all that they held may be taken over from it.
    pub(crate) claimed: BTreeSet<String>,
    /// What the last read of its Lease told a life of a replica, and when: whether the incumbent leads.
    told: BTreeMap<String, (Instant, bool)>,
}

impl Incumbent {
    /// Whether its Lease, as it is now, says that it leads.
    pub(crate) fn leads(&self) -> bool {
        self.renewed
            .is_some_and(|renewed| renewed.elapsed() < LEADS_FOR)
    }

    pub(crate) fn tell(&mut self, incarnation: &str, leads: bool) {
        let told = (Instant::now(), leads);
        self.told.insert(incarnation.to_owned(), told);
    }

    /// Whether a replica knows that the incumbent leads.
    pub(crate) fn is_known_to(&self, incarnation: &str) -> bool {
        let told = self.told.get(incarnation);
        told.is_some_and(|(at, leads)| *leads && at.elapsed() > ON_ITS_WAY)
    }
}

/// Whether a path is that of its Lease.
pub(crate) fn is_lease(path: &str) -> bool {
    path.ends_with(LEASE)
}

impl Driver {
    pub(crate) async fn incumbent_comes_or_goes(&mut self) {
        let runs = self.world.facts.lock().incumbent.runs;
        match runs {
            false => self.incumbent_comes(),
            true => self.incumbent_goes().await,
        }
    }

    pub(crate) fn incumbent_comes(&mut self) {
        self.world.facts.lock().incumbent.runs = true;
        self.note("the incumbent comes");
    }

    /// The incumbent ends. Sometimes its finalizers are taken off then, as where it came back by mistake.
    async fn incumbent_goes(&mut self) {
        self.incumbent_ends();
        self.note("the incumbent goes");
        if self.random.percent(40) {
            let time = self.random.millis(0, 90_000);
            self.pass(time).await;
            self.its_finalizers_go(|_| true).await;
        }
    }

    pub(crate) fn incumbent_ends(&self) {
        let mut facts = self.world.facts.lock();
        (facts.incumbent.runs, facts.incumbent.since) = (false, None);
    }

    /// Waits until its Lease says that it does not lead.
    pub(crate) async fn its_lease_gets_old(&mut self) {
        let renewed = self.world.facts.lock().incumbent.renewed;
        if let Some(renewed) = renewed {
            let rest = COUNTS_FOR.saturating_sub(renewed.elapsed());
            self.pass(rest).await;
        }
    }

    /// Takes its finalizers off bindings that were ours, and off those that are being deleted. The others are taken over.
    /// Returns whether that is done.
    pub(crate) async fn bindings_are_freed(&self) -> bool {
        let is_ours = |binding: &Value| {
            let all = binding["metadata"]["finalizers"].as_array();
            all.is_some_and(|all| all.contains(&json!("targetgate.dev/targets")))
        };
        self.its_finalizers_go(|binding| {
            let terminating = binding["metadata"]["deletionTimestamp"].is_string();
            terminating || is_ours(binding)
        })
        .await
    }

    async fn its_finalizers_go(&self, from: impl Fn(&Value) -> bool) -> bool {
        let keys: Vec<Key> = self.world.facts.lock().bindings.keys().cloned().collect();
        let mut all = true;
        for key in keys {
            let binding = direct::get(&self.world.api, &path_of(&key)).unwrap_or_default();
            if from(&binding) && has(&binding) {
                all &= without(&self.world.api, &key, &binding).await;
                self.note(&format!("its finalizer goes from {key:?}: {all}"));
            }
        }
        self.world.witness.see_bindings_go();
        all
    }
}

fn path_of(key: &Key) -> String {
    format!("{}/{}", bindings_path(&key.0), key.1)
}

/// Whether its finalizer is on a binding.
fn has(binding: &Value) -> bool {
    let all = binding["metadata"]["finalizers"].as_array();
    all.is_some_and(|all| all.contains(&json!(FINALIZER)))
}

/// Takes its finalizer off a binding.
async fn without(api: &Api, key: &Key, binding: &Value) -> bool {
    let all = binding["metadata"]["finalizers"].as_array();
    let mut all = all.cloned().unwrap_or_default();
    all.retain(|finalizer| finalizer != FINALIZER);
    finalizers(api, key, binding, &all).await
}

async fn finalizers(api: &Api, key: &Key, binding: &Value, all: &[Value]) -> bool {
    let version = &binding["metadata"]["resourceVersion"];
    let patch = json!({ "metadata": { "finalizers": all, "resourceVersion": version } });
    let (code, _) = direct::call(api, "MERGE", &path_of(key), Some(&patch)).await;
    code == 200
}

/// The incumbent of a world.
#[derive(Clone)]
pub(crate) struct Double {
    api: Api,
    accounts: Accounts,
    facts: Arc<Mutex<Facts>>,
    now: clock::Now,
    trace: Trace,
}

impl Double {
    pub(crate) fn of(world: &World) -> Self {
        Self {
            api: world.api.clone(),
            accounts: world.accounts.clone(),
            facts: world.facts.clone(),
            now: world.now.clone(),
            trace: world.trace.clone(),
        }
    }

    pub(crate) async fn run(self) {
        loop {
            sleep(EVERY).await;
            if !self.facts.lock().incumbent.runs {
                continue;
            }
            if !self.renew().await {
                self.facts.lock().incumbent.since = None;
                continue;
            }
            let since = {
                let mut facts = self.facts.lock();
                let now = Instant::now();
                facts.incumbent.renewed = Some(now);
                *facts.incumbent.since.get_or_insert(now)
            };
            if since.elapsed() >= STARTS_WITHIN {
                self.work().await;
            }
        }
    }

    async fn renew(&self) -> bool {
        let renewed = (self.now)().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let spec = json!({ "holderIdentity": "incumbent", "renewTime": renewed });
        let path = format!("{LEASES}/{LEASE}");
        let patch = json!({ "spec": spec });
        let (code, _) = direct::call(&self.api, "MERGE", &path, Some(&patch)).await;
        if code != 404 {
            return code == 200;
        }
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": LEASE }, "spec": spec,
        });
        let (code, _) = direct::call(&self.api, "POST", LEASES, Some(&lease)).await;
        code == 201
    }

    async fn work(&self) {
        let keys: Vec<Key> = self.facts.lock().bindings.keys().cloned().collect();
        for key in keys {
            let Some(binding) = direct::get(&self.api, &path_of(&key)) else {
                continue;
            };
            if !self.facts.lock().incumbent.runs {
                return;
            }
            let arn = binding["spec"]["targetGroupARN"]
                .as_str()
                .unwrap_or_default();
            let all = binding["metadata"]["finalizers"].as_array();
            let mut all = all.cloned().unwrap_or_default();
            let holds = has(&binding);
            let multi = binding["spec"]["multiClusterTargetGroup"] == true;
            let terminating = binding["metadata"]["deletionTimestamp"].is_string();
            match (terminating, holds) {
                (true, true) => {
                    self.reconcile(arn, multi);
                    without(&self.api, &key, &binding).await;
                }
                (true, false) => {}
                (false, false) => {
                    all.push(json!(FINALIZER));
                    // What a group holds is the incumbent's once its finalizer is on.
                    if !multi {
                        let mut facts = self.facts.lock();
                        facts.incumbent.claimed.insert(arn.to_owned());
                    }
                    finalizers(&self.api, &key, &binding, &all).await;
                }
                (false, true) => self.reconcile(arn, multi),
            }
        }
    }

    /// Registers what the bindings of a group want, and takes all else out, or of a shared group what it put in.
    fn reconcile(&self, arn: &str, multi: bool) {
        let mut facts = self.facts.lock();
        let wanted = facts.wanted_of(arn);
        let elb = self.accounts.of(arn);
        let is_in = |target: &SocketAddr| {
            let health = elb.health(arn, target.ip(), target.port());
            health.is_some_and(|health| health.state.as_str() != "draining")
        };
        let its = facts.incumbent.registered.get(arn).cloned();
        let mut held = its.unwrap_or_default();
        if !multi {
            held.extend(facts.pods.values().map(Pod::target));
            held.extend(facts.put_in.get(arn).into_iter().flatten().map(|(t, _)| *t));
            let foreign = facts.foreign.iter().filter(|(of, _)| of == arn);
            held.extend(foreign.map(|(_, target)| *target));
            facts.foreign.retain(|(of, _)| of != arn);
        }
        for target in held.iter().filter(|t| !wanted.contains(*t) && is_in(t)) {
            self.trace.note("incumb", &format!("deregisters {target}"));
            elb.deregister(arn, target.ip(), target.port()).unwrap();
        }
        let new: Vec<SocketAddr> = wanted.into_iter().filter(|t| !is_in(t)).collect();
        for target in &new {
            self.trace.note("incumb", &format!("registers {target}"));
            elb.register(arn, target.ip(), target.port()).unwrap();
        }
        let registered = &mut facts.incumbent.registered;
        registered.entry(arn.to_owned()).or_default().extend(new);
    }
}
