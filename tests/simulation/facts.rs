//! The facts of the world, as the driver made it and as ELB answered, by which writes are judged.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use targetgate_core::model::Policies;
use tokio::time::Instant;

use crate::incumbent::Incumbent;
use crate::policies::Annotated;
use crate::slices::Slice;
use crate::told_slices::ToldSlices;

/// Namespace and name.
pub(crate) type Key = (String, String);

pub(crate) const PORT: u16 = 8080;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    /// Empty where EndpointSlices name the pods.
    pub(crate) selector: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) service: String,
    pub(crate) arn: String,
    /// Its `creationTimestamp` and UID, by which of two bindings of a group the older one is served.
    pub(crate) age: (String, String),
    pub(crate) multi: bool,
    /// Whether registration is asked for.
    pub(crate) asked: bool,
    /// Whether it is being deleted, and its finalizer holds it.
    pub(crate) terminating: bool,
    pub(crate) policies: Policies,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) uid: String,
    pub(crate) ip: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// The names of the bindings that its gates name.
    pub(crate) gates: Vec<String>,
    pub(crate) ready: bool,
    pub(crate) terminating: bool,
    pub(crate) policies: Policies,
}

impl Pod {
    pub(crate) fn target(&self) -> SocketAddr {
        target(&self.ip)
    }
}

/// The target of a pod with this address.
pub(crate) fn target(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), PORT)
}

/// What a gate stands for at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A binding whose Service selects the pod.
    Asked,
    /// The same, but the binding is being deleted.
    Terminating,
    /// The binding or its Service does not exist.
    Gone,
    NotSelected,
}

/// The answer of ELB to one call about the targets of a group.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) arn: String,
    pub(crate) sent: Instant,
    pub(crate) received: Instant,
    pub(crate) states: BTreeMap<SocketAddr, String>,
}

/// A condition that a replica wrote, with the gate and the target that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) uid: String,
    pub(crate) target: SocketAddr,
    pub(crate) gate: Key,
}

/// Status patches of a pod that failed since the last one that succeeded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failed {
    pub(crate) times: u32,
    /// When the last of them was answered or given up.
    pub(crate) until: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Failed status patches, by the path of the pod.
    pub(crate) failed: BTreeMap<String, Failed>,
    pub(crate) services: BTreeMap<Key, Service>,
    pub(crate) slices: BTreeMap<Key, Slice>,
    /// Whether endpoints without a pod are taken.
    pub(crate) takes_podless: bool,
    /// The slices that each incarnation of a replica was told.
    pub(crate) told_slices: BTreeMap<String, ToldSlices>,
    /// Since when each Service that ever was has been there, or has been gone, again and again.
    had_services: BTreeMap<Key, Vec<(Instant, bool)>>,
    pub(crate) bindings: BTreeMap<Key, Binding>,
    pub(crate) pods: BTreeMap<Key, Pod>,
    /// The annotations of namespaces.
    pub(crate) namespaces: BTreeMap<String, Policies>,
    /// When the containers of a pod were first ready, by UID.
    pub(crate) due: BTreeMap<String, Instant>,
    /// The UIDs of the pods that were shown with each address.
    pub(crate) occupants: BTreeMap<String, BTreeSet<String>>,
    /// The UIDs of the pods that were shown with another address than before.
    pub(crate) moved: BTreeSet<String>,
    /// Whether nothing has gone wrong, so that each replica knows all that happened.
    pub(crate) calm: bool,
    /// All names that pods have had.
    pub(crate) names: Vec<Key>,
    /// All groups that a binding of this name has named.
    pub(crate) groups: BTreeMap<Key, Vec<String>>,
    /// What each gate stood for, with the time from which it did, by UID and binding.
    standings: BTreeMap<(String, String), Vec<(Instant, Standing)>>,
    /// What annotations ever said of each gate, by UID and binding. A late watch may show any of it as the present.
    policies: BTreeMap<(String, String), Vec<Policies>>,
    /// What annotations said earlier of each namespace, and of each binding.
    former_policies: BTreeMap<(String, Option<String>), Vec<Policies>>,
    /// The answers of ELB that each incarnation of a replica heard.
    pub(crate) heard: BTreeMap<String, Vec<Heard>>,
    pub(crate) told: BTreeMap<String, Vec<Told>>,
    /// The identity that holds the Lease, and since when.
    pub(crate) leader: Option<(String, Instant)>,
    /// The targets that the product has put into each group, with the pods that had their addresses.
    pub(crate) put_in: BTreeMap<String, BTreeMap<SocketAddr, BTreeSet<String>>>,
    /// The addresses that ELB refuses as targets.
    pub(crate) refused: BTreeSet<String>,
    /// Until when the product may pause after a refusal: of an address that ELB has refused, or of a group that was full.
    pub(crate) paused: BTreeMap<String, Instant>,
    pub(crate) incumbent: Incumbent,
    /// Targets that others have registered, by group.
    pub(crate) foreign: BTreeSet<(String, SocketAddr)>,
}

/// The longest pause after a refusal that does not pass by itself (contract 8).
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// What the floor holds goes once a Service has been absent for 30 s, and confirmed gone for five minutes (contract 8).
const GIVEN_UP_AFTER: Duration = Duration::from_secs(30 + 300);
/// A watch may be so late, and then a call may wait for its turn: a Service that came back since, or was there in
/// between for a shorter time, may not be known. The delay of a watch, and 30 s.
const UNSEEN: Duration = Duration::from_secs(90 + 30);

impl Facts {
    /// Notes that what AWS refused it takes from now on, which the product finds out after its pause.
    pub(crate) fn takes(&mut self, refused: impl Into<String>) {
        self.paused
            .insert(refused.into(), Instant::now() + LONGEST_PAUSE);
    }

    /// Until when a target may be outside of a group because AWS refused it before.
    pub(crate) fn pauses_until(&self, arn: &str, target: SocketAddr) -> Option<Instant> {
        let of_target = self.paused.get(&target.ip().to_string());
        of_target.max(self.paused.get(arn)).copied()
    }

    pub(crate) fn selects(&self, service: &Key, pod: &Pod) -> bool {
        let service = self.services.get(service);
        let selector = service.map(|s| &s.selector).filter(|s| !s.is_empty());
        selector.is_some_and(|s| s.iter().all(|(k, v)| pod.labels.get(k) == Some(v)))
    }

    pub(crate) fn standing(&self, namespace: &str, pod: &Pod, binding: &str) -> Standing {
        let key = (namespace.to_owned(), binding.to_owned());
        let Some(binding) = self.bindings.get(&key) else {
            return Standing::Gone;
        };
        let service = (namespace.to_owned(), binding.service.clone());
        if !self.services.contains_key(&service) {
            Standing::Gone
        } else if self.selects(&service, pod) {
            match binding.terminating {
                true => Standing::Terminating,
                false => Standing::Asked,
            }
        } else {
            Standing::NotSelected
        }
    }

    /// Notes what the annotations of an object say now. Returns what they said before.
    pub(crate) fn annotate(&mut self, object: &Annotated, policies: Policies) -> Policies {
        let noted = match object {
            Annotated::Namespace(name) => Some(self.namespaces.entry(name.clone()).or_default()),
            Annotated::Binding(key) => self.bindings.get_mut(key).map(|b| &mut b.policies),
            Annotated::Pod(key) => self.pods.get_mut(key).map(|pod| &mut pod.policies),
        };
        let former = noted.map(|noted| std::mem::replace(noted, policies));
        let former = former.unwrap_or_default();
        let shared = match object {
            Annotated::Namespace(name) => Some((name.clone(), None)),
            Annotated::Binding((namespace, name)) => Some((namespace.clone(), Some(name.clone()))),
            Annotated::Pod(_) => None,
        };
        if let Some(object) = shared {
            self.former_policies.entry(object).or_default().push(former);
        }
        self.remember();
        former
    }

    /// What the annotations of a pod, of its binding and of its namespace say of a gate, last, and before that what
    /// those of binding and namespace said earlier, as a late watch may still show it of a new pod.
    fn policies(&self, namespace: &str, pod: &Pod, binding: &str) -> Vec<Policies> {
        let ever = |object: Option<&str>, now: Option<Policies>| {
            let object = (namespace.to_owned(), object.map(str::to_owned));
            let former = self.former_policies.get(&object).into_iter().flatten();
            let ever = former.copied().chain([now.unwrap_or_default()]);
            ever.collect::<Vec<_>>()
        };
        let key = (namespace.to_owned(), binding.to_owned());
        let of_binding = ever(Some(binding), self.bindings.get(&key).map(|b| b.policies));
        let of_namespace = ever(None, self.namespaces.get(namespace).copied());
        let shared = of_binding
            .iter()
            .flat_map(|b| of_namespace.iter().map(move |n| b.or(*n)));
        shared.map(|shared| pod.policies.or(shared)).collect()
    }

    /// Whether annotations ever said so of a gate; in calm weather, whether the last ones do.
    pub(crate) fn had_policies(
        &self,
        gate: &(String, String),
        so: impl Fn(&Policies) -> bool,
    ) -> bool {
        let said = self
            .policies
            .get(gate)
            .map(Vec::as_slice)
            .unwrap_or_default();
        match self.calm {
            true => said.last().is_some_and(so),
            false => said.iter().any(so),
        }
    }

    fn remember_services(&mut self) {
        let all: BTreeSet<Key> = {
            let ever = self.had_services.keys().chain(self.services.keys());
            ever.cloned().collect()
        };
        for key in all {
            let there = self.services.contains_key(&key);
            let history = self.had_services.entry(key).or_default();
            if history.last().map(|(_, last)| *last) != Some(there) {
                history.push((Instant::now(), there));
            }
        }
    }

    /// Whether a Service is known to have been gone for so long that its targets leave.
    pub(crate) fn is_given_up(&self, service: &Key) -> bool {
        let now = Instant::now();
        let history = self.had_services.get(service).map(Vec::as_slice);
        let history = history.unwrap_or_default();
        let ends = history.iter().skip(1).map(|(at, _)| *at).chain([now]);
        let mut gone: Option<(Instant, Instant)> = None;
        for ((from, there), until) in history.iter().zip(ends) {
            let seen = until - *from >= UNSEEN;
            match gone {
                _ if *there && seen => gone = None,
                _ if *there => {}
                Some((since, _)) => gone = Some((since, until)),
                None => gone = Some((*from, until)),
            }
        }
        gone.is_some_and(|(since, until)| now - since >= GIVEN_UP_AFTER && now - until <= UNSEEN)
    }

    /// Notes what each gate stands for now. It has to be called after each change.
    pub(crate) fn remember(&mut self) {
        self.remember_services();
        let now = Instant::now();
        let mut seen = vec![];
        for ((namespace, _), pod) in &self.pods {
            for gate in &pod.gates {
                let standing = self.standing(namespace, pod, gate);
                let policies = self.policies(namespace, pod, gate);
                seen.push(((pod.uid.clone(), gate.clone()), standing, policies));
            }
        }
        for (gate, standing, policies) in seen {
            let said = self.policies.entry(gate.clone()).or_default();
            if said.is_empty() {
                said.extend(policies);
            } else if said.last() != policies.last() {
                said.extend(policies.last());
            }
            let history = self.standings.entry(gate).or_default();
            if history.last().map(|(_, last)| *last) != Some(standing) {
                history.push((now, standing));
            }
        }
        for (key, binding) in &self.bindings {
            let groups = self.groups.entry(key.clone()).or_default();
            if !groups.contains(&binding.arn) {
                groups.push(binding.arn.clone());
            }
        }
    }

    /// Whether a gate was first without a binding or a selecting Service at least `long` ago, and stood for
    /// `standing` within the last `ago`. In between, it may have stood for something else, which a late watch
    /// may not have reported.
    pub(crate) fn stood(
        &self,
        gate: &(String, String),
        standing: Standing,
        long: Duration,
        ago: Duration,
    ) -> bool {
        let now = Instant::now();
        let history = self.standings.get(gate).map(Vec::as_slice);
        let history = history.unwrap_or_default();
        let mut absences = history.iter().filter(|(_, what)| *what != Standing::Asked);
        let long_ago = absences.next().is_some_and(|(at, _)| now - *at >= long);
        let ends = history.iter().skip(1).map(|(at, _)| *at).chain([now]);
        let so = history.iter().zip(ends);
        let last = so.filter(|((_, what), _)| *what == standing).last();
        long_ago && last.is_some_and(|(_, until)| now - until <= ago)
    }

    /// Whether targets are to be registered for a binding: that is asked for, and no older binding of its group is
    /// served instead.
    pub(crate) fn is_served(&self, key: &Key) -> bool {
        let Some(binding) = self.bindings.get(key) else {
            return false;
        };
        let others = self.bindings.iter().filter(|(other, _)| *other != key);
        let mut others = others.filter(|(_, other)| other.arn == binding.arn);
        let goes_first = |(_, other): (&Key, &Binding)| {
            !(other.multi && binding.multi) && other.age < binding.age
        };
        binding.asked && !others.any(goes_first)
    }

    /// The targets that belong to the group of each binding.
    pub(crate) fn targets(&self) -> BTreeMap<String, Vec<SocketAddr>> {
        let mut targets = BTreeMap::<String, Vec<SocketAddr>>::new();
        for (key, binding) in self.bindings.iter().filter(|(key, _)| self.is_served(key)) {
            let all = targets.entry(binding.arn.clone()).or_default();
            all.extend(self.wanted_by(key, binding));
        }
        targets
    }

    /// What any binding of a group wants.
    pub(crate) fn wanted_of(&self, arn: &str) -> BTreeSet<SocketAddr> {
        let bindings = self.bindings.iter().filter(|(_, b)| b.arn == arn);
        let wanted = bindings.flat_map(|(key, binding)| self.wanted_by(key, binding));
        wanted.collect()
    }

    fn wanted_by(&self, (namespace, _): &Key, binding: &Binding) -> Vec<SocketAddr> {
        let service = (namespace.clone(), binding.service.clone());
        if binding.terminating {
            return vec![];
        }
        let known = self.services.get(&service);
        if known.is_some_and(|service| service.selector.is_empty()) {
            return self.wanted_by_slices(&service);
        }
        let mine = self.pods.iter().filter(|((of, _), pod)| {
            let live = pod.ready && !pod.terminating && !self.refused.contains(&pod.ip);
            of == namespace && live && self.selects(&service, pod)
        });
        mine.map(|(_, pod)| pod.target()).collect()
    }

    /// The gates that a new pod with these labels has to get, in order.
    pub(crate) fn due_gates(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> Vec<String> {
        let pod = Pod {
            uid: String::new(),
            ip: String::new(),
            labels: labels.clone(),
            gates: vec![],
            ready: false,
            terminating: false,
            policies: Policies::default(),
        };
        let names = self.bindings.keys().filter(|(of, _)| of == namespace);
        let due = names.filter(|(_, name)| self.standing(namespace, &pod, name) == Standing::Asked);
        due.map(|(_, name)| name.clone()).collect()
    }
}
