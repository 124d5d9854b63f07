//! Judges the calls that register and deregister targets, and the records of them, at the moment when they happen.
//!
//! `main.rs` lists the invariants.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use futures::FutureExt as _;
use serde_json::Value;
use targetgate::state::cache::{Cache, InitialList, WatchedResource};
use targetgate_core::index::Index;
use targetgate_core::model::{Binding, Pod, Service};
use targetgate_core::names::ObjectKey;
use targetgate_core::selector::selects;
use tokio::time::Instant;

use crate::direct;
use crate::driver::bindings_path;
use crate::facts::PORT;
use crate::replica::HOME;
use crate::slices::Endpoint;
use crate::told_slices::ToldSlices;
use crate::witness::Witness;

/// The greatest age of the answer by which the floor is judged, when the call is sent: 10 s (contract 8), and what the
/// call may wait for its turn.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);

/// A call that changes a group.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) registers: bool,
    pub(crate) arn: String,
    pub(crate) targets: BTreeSet<SocketAddr>,
}

impl Change {
    /// The change that a call asks for; `None` if it asks for none.
    pub(crate) fn of(asked: &BTreeMap<String, String>) -> Option<Self> {
        let registers = match asked.get("Action")?.as_str() {
            "RegisterTargets" => true,
            "DeregisterTargets" => false,
            _ => return None,
        };
        let ids = asked.iter().filter_map(|(name, ip)| {
            let member = name.strip_prefix("Targets.member.")?.strip_suffix(".Id")?;
            let port = asked.get(&format!("Targets.member.{member}.Port"))?;
            Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
        });
        Some(Self {
            registers,
            arn: asked.get("TargetGroupArn")?.clone(),
            targets: ids.collect(),
        })
    }
}

/// What a replica knows of one group when it makes a call.
#[derive(Debug, Default)]
struct Known {
    wanted: BTreeSet<SocketAddr>,
    /// What slices wanted that changed just now, and what they want since.
    maybe_wanted: BTreeSet<SocketAddr>,
    /// Whether the Service of a binding is absent: what that wanted before may stay wanted.
    lacks_service: bool,
    takes_podless: bool,
    /// The UIDs of the living pods with an address of the call, by target.
    living: BTreeMap<SocketAddr, String>,
}

impl Known {
    fn of(change: &Change, index: &Index, slices: &ToldSlices, takes_podless: bool) -> Self {
        let mut known = Self {
            takes_podless,
            ..Self::default()
        };
        let Ok(arn) = change.arn.parse() else {
            return known;
        };
        let bindings = index.bindings_of_group(&arn);
        // What a binding wants for which registration is turned off protects nothing.
        let bindings = bindings.filter(|(_, b)| b.registration.asked != Some(false));
        for (key, binding) in bindings.filter(|(_, binding)| !binding.terminating) {
            known.see(&key.object, binding, change, (index, slices));
        }
        known
    }

    fn see(
        &mut self,
        key: &ObjectKey,
        binding: &Binding,
        change: &Change,
        (index, slices): (&Index, &ToldSlices),
    ) {
        let Some(view) = index.namespace(&key.namespace) else {
            return;
        };
        // Without its Service a binding wants nothing, and its pods live on.
        let service = view.routes.service(&binding.service);
        self.lacks_service |= service.is_none();
        if service.is_some_and(|service| service.selector.is_empty()) {
            let service = (&*key.namespace, &*binding.service);
            self.see_slices(service, index, slices);
        }
        let targets = |pod: &Pod| -> Vec<SocketAddr> {
            let ips = pod.ips.iter();
            ips.map(|ip| SocketAddr::new(*ip, PORT)).collect()
        };
        for pod in view.all_pods() {
            let selected = |service: &Service| selects(&service.selector, &pod.template.labels);
            if pod.is_due() && service.is_some_and(selected) {
                self.wanted.extend(targets(&pod));
            }
            let named = change.targets.iter();
            let named = named.filter(|t| pod.is_live() && pod.ips.contains(&t.ip()));
            for target in named {
                self.living.insert(*target, pod.uid.to_string());
            }
        }
    }

    fn see_slices(&mut self, service: (&str, &str), index: &Index, slices: &ToldSlices) {
        let counts = |endpoint: &Endpoint| {
            let Some((name, uid)) = &endpoint.pod else {
                return self.takes_podless && endpoint.ready;
            };
            let pod = index.any_pod(&ObjectKey::new(service.0, name.as_str()));
            pod.is_some_and(|pod| {
                let named = uid.as_ref().is_none_or(|uid| **uid == *pod.uid);
                named && pod.is_due() && pod.ips.contains(&endpoint.address)
            })
        };
        let wanted = |before| -> BTreeSet<SocketAddr> {
            let slices = slices.of(service, before);
            slices.flat_map(|slice| slice.targets(counts)).collect()
        };
        let (last, before) = (wanted(false), wanted(true));
        self.wanted.extend(&last & &before);
        self.maybe_wanted.extend(&last | &before);
    }
}

impl Witness {
    /// Judges a call that changes a group when a replica sends it.
    pub(crate) fn change_sent(&self, incarnation: &str, cache: &Cache, change: &Change) {
        self.expect_leader(incarnation, &format!("{change:?}"));
        let recorded = self.recorded(&change.arn).unwrap_or(change.targets.clone());
        for target in change.targets.difference(&recorded) {
            let invariant = match change.registers {
                true => "the record names all",
                false => "only ours leave",
            };
            let what = format!("{incarnation}: {target} is in no record of {}", change.arn);
            self.trace.violated(invariant, &what);
        }
        self.expect_alone(incarnation, change);
        let (slices, podless) = {
            let facts = self.facts.lock();
            let slices = facts.told_slices.get(incarnation).cloned();
            (slices.unwrap_or_default(), facts.takes_podless)
        };
        let known = cache.read(|index| Known::of(change, index, &slices, podless));
        if change.registers {
            self.expect_wanted(incarnation, change, &known);
            self.note_pods(change, &known);
            return;
        }
        for target in change.targets.intersection(&known.wanted) {
            let what = format!("{incarnation} deregisters {target} of {}", change.arn);
            self.trace.violated("only unwanted ones leave", &what);
        }
        self.expect_floor(incarnation, change, &known);
        self.expect_seen(incarnation, cache, change);
    }

    /// Judges that a replica puts in what it knows to be wanted.
    fn expect_wanted(&self, incarnation: &str, change: &Change, known: &Known) {
        let wanted = |target: &&SocketAddr| {
            known.wanted.contains(target) || known.maybe_wanted.contains(target)
        };
        if known.lacks_service {
            return;
        }
        for target in change.targets.iter().filter(|target| !wanted(target)) {
            let what = format!("{incarnation} registers {target} in {}", change.arn);
            self.trace.violated("only wanted ones go in", &what);
        }
    }

    /// Judges that a replica which knows that the incumbent leads calls nothing, but for what is being deleted.
    fn expect_alone(&self, incarnation: &str, change: &Change) {
        let facts = self.facts.lock();
        let mut bindings = facts.bindings.values().filter(|b| b.arn == change.arn);
        let ends = !change.registers && bindings.any(|binding| binding.terminating);
        if !ends && facts.incumbent.is_known_to(incarnation) {
            let what =
                format!("{incarnation} knows that the incumbent leads, and sends {change:?}");
            self.trace.violated("never two registrars", &what);
        }
    }

    /// Judges that a leader deregisters nothing before all of its watches have worked since it leads.
    fn expect_seen(&self, incarnation: &str, cache: &Cache, change: &Change) {
        let facts = self.facts.lock();
        let leader = facts.leader.as_ref();
        let since = leader.filter(|(leader, _)| leader == incarnation);
        let Some((_, since)) = since else {
            return;
        };
        let failed = |watched: &&WatchedResource| {
            let fails_since = cache.watch_fails_since(**watched);
            let listed = cache.look(**watched) == InitialList::Listed;
            listed && fails_since.is_some_and(|at| at <= *since)
        };
        let mut all = WatchedResource::ALL.iter().chain(&WatchedResource::TARGETS);
        if let Some(watched) = all.find(failed) {
            let what = format!("{incarnation} does not see {watched:?}, and sends {change:?}");
            self.trace.violated("seen first", &what);
        }
    }

    /// Notes since when a replica holds the Lease.
    pub(crate) fn see_leader(&self) {
        let Some(holder) = self.holder() else {
            return;
        };
        let mut facts = self.facts.lock();
        if facts
            .leader
            .as_ref()
            .is_none_or(|(leader, _)| *leader != holder)
        {
            facts.leader = Some((holder, Instant::now()));
        }
    }

    fn note_pods(&self, change: &Change, known: &Known) {
        let mut facts = self.facts.lock();
        let put_in = facts.put_in.entry(change.arn.clone()).or_default();
        for (target, uid) in &known.living {
            put_in.entry(*target).or_default().insert(uid.clone());
        }
    }

    /// Judges that targets of living pods leave only while a healthy target that is wanted stays.
    fn expect_floor(&self, incarnation: &str, change: &Change, known: &Known) {
        let facts = self.facts.lock();
        let put_in = facts.put_in.get(&change.arn);
        // The pod for which a target went in, and no other, has its address.
        let is_own = |(target, uid): &(&SocketAddr, &String)| {
            let pods = put_in.and_then(|put_in| put_in.get(target));
            pods.is_some_and(|pods| pods.len() == 1 && pods.contains(*uid))
        };
        let Some((target, _)) = known.living.iter().find(is_own) else {
            return;
        };
        let bindings = facts.bindings.iter().filter(|(_, b)| b.arn == change.arn);
        // The targets of a binding that is being deleted leave at once.
        if bindings.clone().any(|(_, binding)| binding.terminating) {
            return;
        }
        let mut services = bindings.map(|((of, _), b)| (of.clone(), b.service.clone()));
        if services.any(|service| facts.is_given_up(&service)) {
            self.trace.note(incarnation, "deregisters what is given up");
            return;
        }
        let heard = facts.heard.get(incarnation).into_iter().flatten();
        let mut lately = heard
            .filter(|heard| heard.arn == change.arn && heard.sent.elapsed() <= ANSWERED_WITHIN);
        let stays = lately.any(|heard| {
            heard.states.iter().any(|(target, state)| {
                state == "healthy"
                    && (known.wanted.contains(target) || known.maybe_wanted.contains(target))
                    && !change.targets.contains(target)
            })
        });
        drop(facts);
        match stays {
            true => self.trace.note(incarnation, "deregisters above the floor"),
            false => {
                let what = format!("{incarnation} deregisters {target} of {}", change.arn);
                self.trace.violated("the floor", &what);
            }
        }
    }

    /// Takes in that ELB did what a call asked for.
    pub(crate) fn change_done(&self, incarnation: &str, change: &Change) {
        let mut facts = self.facts.lock();
        let put_in = facts.put_in.entry(change.arn.clone()).or_default();
        for target in &change.targets {
            if change.registers {
                put_in.entry(*target).or_default();
            } else {
                put_in.remove(target);
            }
        }
        drop(facts);
        let holder = self.holder();
        if holder.is_some_and(|holder| holder != incarnation) {
            self.trace.note(incarnation, "is late with a call");
        } else {
            self.expect_recorded("a call");
        }
    }

    /// Judges that the records name what the product has put into each group.
    pub(crate) fn expect_recorded(&self, after: &str) {
        let put_in = self.facts.lock().put_in.clone();
        for (arn, targets) in put_in {
            let Some(recorded) = self.recorded(&arn) else {
                return;
            };
            for target in targets.keys().filter(|target| !recorded.contains(target)) {
                let what = format!("after {after}, {target} is in no record of {arn}");
                self.trace.violated("the record names all", &what);
                // Once is enough.
                let mut facts = self.facts.lock();
                let put_in = facts.put_in.entry(arn.clone()).or_default();
                put_in.remove(target);
            }
        }
    }

    /// The targets that the records of a group name; `None` while the API server is away.
    fn recorded(&self, arn: &str) -> Option<BTreeSet<SocketAddr>> {
        let path = format!("/apis/targetgate.dev/v1/namespaces/{HOME}/targetrecords");
        let list = direct::get(&self.api, &path)?;
        let records = list["items"].as_array().into_iter().flatten();
        let of_group = records.filter(|record| record["spec"]["targetGroupARN"] == arn);
        let targets = of_group.flat_map(|record| record["status"]["targets"].as_array());
        let targets = targets.flatten().filter_map(Value::as_str);
        Some(targets.filter_map(|target| target.parse().ok()).collect())
    }

    /// Notes which of the bindings that were being deleted are gone.
    pub(crate) fn see_bindings_go(&self) {
        let mut facts = self.facts.lock();
        let ending = facts.bindings.iter().filter(|(_, b)| b.terminating);
        let gone = |(namespace, name): &&(String, String)| {
            let path = format!("{}/{name}", bindings_path(namespace));
            matches!(
                direct::call(&self.api, "GET", &path, None).now_or_never(),
                Some((404, _))
            )
        };
        let gone: Vec<_> = ending.map(|(key, _)| key).filter(gone).cloned().collect();
        if gone.is_empty() {
            return;
        }
        for key in gone {
            let binding = facts.bindings.remove(&key);
            // What was in stays in, and is not ours any more.
            if let Some(binding) = binding.filter(|binding| !binding.asked) {
                facts.put_in.remove(&binding.arn);
            }
        }
        facts.remember();
    }
}
