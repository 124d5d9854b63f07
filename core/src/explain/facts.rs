//! What is known when something is explained, as plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::drain::inject::NewPod;
use crate::drain::{DrainAnnotations, DrainPolicy, ServerVersion};
use crate::explain::answer::SettingsAnswer;
use crate::explain::leader::{GateView, RegistrationView, ReplicaView};
use crate::gate_rules::GateRules;
use crate::gates::inject::GatePolicy;
use crate::gates::requirements::Resolution;
use crate::index::services::ServiceIndex;
use crate::index::{HookScope, Index, NamespaceView};
use crate::lint;
use crate::model::{Binding, Namespace, Pod, TargetHealth};
use crate::names::{BindingApi, ConditionPrefix, GateName, GroupKey, NamedGroup};
use crate::targets::record::Record;
use crate::targets::standing::{Incumbent, Mode};

/// How the installation decides, by its flags.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub gates: GatePolicy,
    /// The prefixes of all gates that are opened.
    pub prefixes: Vec<ConditionPrefix>,
    pub scope: HookScope,
    pub drain: DrainPolicy,
    pub from: SettingsAnswer,
}

/// What is known of a namespace.
#[derive(Debug)]
pub struct Facts {
    pub namespace: Arc<str>,
    /// Its Namespace, Services and bindings, in the scope of the settings.
    pub index: Index,
    /// When the Namespace got the label that opts in, at the latest; `None` if it is unknown.
    pub opted_in: Option<Timestamp>,
    /// The API groups of bindings that the API server does not serve.
    pub not_served: BTreeSet<BindingApi>,
    /// The version of the API server, if it has told.
    pub server: Option<ServerVersion>,
    pub settings: Settings,
    pub elb: Elb,
    /// What the leader knows; the error is why it was not asked, or did not answer.
    pub leader: Result<ReplicaView, String>,
    /// What is known of registration; `None` with `--register none`.
    pub registration: Option<Registration>,
    /// What is known of the API server's own policy; `None` with `--admission webhook`.
    pub policy: Option<PolicyFacts>,
    pub now: Timestamp,
}

impl Facts {
    pub(super) fn view(&self) -> Option<&NamespaceView> {
        self.index.namespace(&self.namespace)
    }

    /// Its Services and bindings, or none.
    pub(super) fn with_routes<R>(&self, ask: impl FnOnce(&ServiceIndex, &Namespace) -> R) -> R {
        match self.view() {
            Some(view) => ask(&view.routes, &view.namespace),
            None => ask(&ServiceIndex::default(), &Namespace::default()),
        }
    }

    /// What is known of a group that a binding names without an ARN.
    pub(super) fn resolve(&self, name: &NamedGroup) -> Resolution {
        let known = match &self.elb {
            Elb::Asked(looks) => looks.names.get(name),
            Elb::NotAsked(_) => None,
        };
        known.cloned().unwrap_or(Resolution::Unresolved)
    }

    /// What the leader knows of a gate of this pod.
    pub(super) fn gate_of_leader(&self, pod: &Pod, gate: &GateName) -> Option<&GateView> {
        let view = self.leader.as_ref().ok()?;
        let is_it =
            |known: &&GateView| *known.uid == *pod.uid && known.condition_type == gate.as_str();
        view.gates.gates.iter().find(is_it)
    }

    /// What the leader's registrar knows of a binding.
    pub(super) fn registered_by_leader(&self, binding: &Binding) -> Option<&RegistrationView> {
        let registrar = self.leader.as_ref().ok()?.registrar.as_ref()?;
        let mut bindings = registrar.bindings.iter().filter(|_| registrar.leads);
        bindings.find(|known| known.is_of(&binding.name, binding.api))
    }

    /// What ELB said of a group, if it was asked.
    pub(super) fn look(&self, group: &GroupKey) -> Option<&GroupLook> {
        match &self.elb {
            Elb::Asked(looks) => looks.groups.get(group),
            Elb::NotAsked(_) => None,
        }
    }
}

/// What ELB says now.
#[derive(Debug)]
pub enum Elb {
    /// It was not asked, for this reason.
    NotAsked(String),
    Asked(Looks),
}

/// The answers of ELB.
#[derive(Debug, Default)]
pub struct Looks {
    pub groups: BTreeMap<GroupKey, GroupLook>,
    pub names: BTreeMap<NamedGroup, Resolution>,
    /// The number of groups that were not asked about, because there were too many.
    pub left_out: usize,
}

/// What ELB said of one group.
#[derive(Debug, Clone)]
pub enum GroupLook {
    /// The health of the targets that it was asked about.
    Healths(Vec<TargetHealth>),
    /// AWS does not have the group.
    NotFound,
    /// The call failed, for this reason.
    Failed(String),
}

/// What is known of a pod.
#[derive(Debug)]
pub struct PodFacts {
    pub pod: Pod,
    /// `metadata.creationTimestamp`; `None` of a pod that is not created yet.
    pub created: Option<Timestamp>,
    /// `spec.readinessGates`, in order.
    pub gates: Vec<ReadinessGate>,
    pub end: EndFacts,
}

/// An entry of `spec.readinessGates`, with its condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadinessGate {
    pub condition_type: Box<str>,
    /// Whether the condition is `True`; `None` while the pod has no such condition.
    pub status: Option<bool>,
    /// When the condition got its status.
    pub since: Option<Timestamp>,
}

/// What decides about a pod's end.
#[derive(Debug)]
pub struct EndFacts {
    pub annotations: DrainAnnotations,
    pub new: NewPod,
    /// The same pod, as the lints see it.
    pub template: lint::PodTemplate,
}

impl PodFacts {
    pub(super) fn since(&self, gate: &GateName) -> Option<Timestamp> {
        let mut gates = self.gates.iter();
        gates
            .find(|known| &*known.condition_type == gate.as_str())?
            .since
    }

    /// The types of its gates, ours and others'.
    pub(super) fn gate_types(&self) -> Vec<&str> {
        let gates = self.gates.iter();
        gates.map(|gate| &*gate.condition_type).collect()
    }

    /// Whether it has the gate of a binding, under a prefix that is served.
    pub fn has_gate_of(&self, binding: &str) -> bool {
        let mut gates = self.pod.gates.iter();
        gates.any(|(gate, _)| gate.is_of(binding))
    }
}

/// What is known of registration without the leader.
#[derive(Debug)]
pub struct Registration {
    /// `--register`.
    pub mode: Mode,
    /// `--incumbent-namespaces`; `None` if the incumbent watches all.
    pub incumbent_namespaces: Option<BTreeSet<Arc<str>>>,
    /// Whether the incumbent leads, as its Lease says.
    pub incumbent: Incumbent,
    /// The conditions `Ready` of the namespace's bindings, by their name.
    pub told: BTreeMap<Arc<str>, Told>,
    /// The TargetRecords that can be read, by the binding's UID.
    pub records: BTreeMap<Arc<str>, Record>,
}

/// The condition `Ready` of a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub ready: bool,
    pub reason: String,
    pub message: String,
    pub since: Option<Timestamp>,
}

/// What is known of the policy by which the API server injects.
#[derive(Debug, Default)]
pub struct PolicyFacts {
    /// Whether the MutatingAdmissionPolicy is there; `None` where that cannot be read.
    pub policy: Option<bool>,
    /// Whether a binding of the policy is there.
    pub binding: Option<bool>,
    /// The `spec` of the namespace's GateRules; the inner `None` if it has none.
    pub rules: Option<Option<GateRules>>,
    /// Why something cannot be read.
    pub why: Option<String>,
}
