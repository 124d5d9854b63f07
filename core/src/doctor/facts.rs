//! What is known of an installation and its cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::drain::ServerVersion;
use crate::explain::Why;
use crate::gate_rules::{GateRules, TooLarge};
use crate::lint;
use crate::names::{BindingApi, ObjectKey, TargetGroupArn};
use crate::reason::Reason;

/// What was read; the error is why it is not known.
pub type Known<T> = Result<T, String>;

/// What the command has read.
#[derive(Debug, Clone)]
pub struct Facts {
    pub now: Timestamp,
    /// The Deployment, with what its flags say; `None` if it does not exist.
    pub installation: (ObjectKey, Known<Option<Installation>>),
    /// The rights that the account has by the roles that are shipped, and those that it lacks.
    pub rights: Known<Vec<Right>>,
    pub incumbent: Incumbent,
    /// The CRD of bindings of `elbv2.k8s.aws`; `None` if there is none.
    pub crd: Known<Option<Crd>>,
    /// The CRD of TargetRecords; `None` where nothing is registered.
    pub records_crd: Option<Known<Option<Crd>>>,
    pub hooks: Known<Vec<Hook>>,
    /// The certificate of the Secret of the installation.
    pub certificate: Known<Validity>,
    /// The Services that the hooks name, each once.
    pub services: Vec<HookService>,
    pub pod_trial: Known<PodTrial>,
    pub binding_trial: Known<BindingTrial>,
    /// What `--admission both` needs; `None` with `webhook`.
    pub injection: Option<Injection>,
    /// The policy that holds the fields of bindings; `None` if there is none.
    pub immutability: Known<Option<Policy>>,
    /// The Lease of the replica that writes conditions, with its name; `None` if it does not exist.
    pub lease: (ObjectKey, Known<Option<Lease>>),
    /// Whose credentials AWS is called with; `None` if it is not to be asked.
    pub identity: Option<Identity>,
    /// What AWS says of the groups; empty if it is not to be asked.
    pub groups: Known<Vec<Group>>,
    /// The number of groups that AWS was not asked about, because there are too many.
    pub groups_left_out: usize,
    /// The calls that change a group, tried on groups that cannot exist.
    pub changes: Vec<ChangeTrial>,
    /// How the pods of each workload with gates end.
    pub ends: Known<Vec<End>>,
    /// The reads that failed, and without which it is not known of each setting whether it loses requests.
    pub ends_unread: Vec<Unread>,
    /// What is known of the pods of the same namespaces.
    pub pods: BTreeMap<String, NamespacePods>,
    /// The bindings that living pods of the same namespaces have lost.
    pub lost: Vec<Lost>,
    /// The number of namespaces that have opted in and whose pods were not looked at, because there are too many.
    pub ends_left_out: usize,
    /// The grace periods that drain gives, tried in the namespaces that have it.
    pub graces: Vec<GraceTrial>,
    /// The bindings of both API groups, of the whole cluster.
    pub bindings: Known<Vec<Binding>>,
    /// The Namespaces that have opted in.
    pub namespaces: Known<Vec<Namespace>>,
}

/// What the flags of an installation say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installation {
    /// Its service account, as the API server names it.
    pub account: String,
    /// Whether `--register` is on.
    pub registers: bool,
    /// `--incumbent-namespaces`; none means all.
    pub incumbent_namespaces: Vec<String>,
}

/// A right that targetgate uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    pub verb: String,
    /// With its subresource and its group, such as `pods/status` and `targetgroupbindings.elbv2.k8s.aws`.
    pub resource: String,
    /// The only object that it is about.
    pub name: Option<String>,
    /// The only namespace that it is about.
    pub namespace: Option<String>,
    pub granted: bool,
}

/// AWS Load Balancer Controller, beside targetgate.
#[derive(Debug, Clone)]
pub struct Incumbent {
    /// Its Deployments that are not scaled to nothing.
    pub deployments: Known<Vec<ObjectKey>>,
    pub hooks: Known<Vec<IncumbentHooks>>,
    /// Its Lease, with its name; `None` if it does not exist.
    pub lease: (ObjectKey, Known<Option<Lease>>),
}

/// The webhooks of a configuration of the incumbent.
#[derive(Debug, Clone)]
pub struct IncumbentHooks {
    /// The configuration in the form of kubectl.
    pub configuration: String,
    pub names: Vec<String>,
    /// The number of endpoints of their Service that are ready; `None` if there is no such Service.
    pub ready: Known<Option<usize>>,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub begins: Timestamp,
    pub expires: Timestamp,
}

/// A CustomResourceDefinition.
#[derive(Debug, Clone, Default)]
pub struct Crd {
    /// Whether it serves the version that targetgate reads.
    pub served: bool,
    /// The fields that targetgate knows and that the API server drops, such as `spec.targetGroupName`.
    pub prunes: Vec<String>,
}

/// What a hook is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookKind {
    /// It gives pods their gates.
    Pods,
    /// It fills in the defaults of bindings.
    BindingDefaults,
    /// It checks bindings.
    BindingRules,
}

impl HookKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pods, Self::BindingDefaults, Self::BindingRules];

    /// The name of its webhook. Contract 1.
    pub fn webhook(self) -> &'static str {
        match self {
            Self::Pods => "mpod.elbv2.k8s.aws",
            Self::BindingDefaults => "mtargetgroupbinding.elbv2.k8s.aws",
            Self::BindingRules => "vtargetgroupbinding.elbv2.k8s.aws",
        }
    }

    /// The kind whose webhook has this name. `optIn: either` registers a second one for pods.
    pub fn of(webhook: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        match webhook {
            "mpod-object.elbv2.k8s.aws" => Some(Self::Pods),
            _ => all.find(|kind| kind.webhook() == webhook),
        }
    }
}

/// A webhook of one of our configurations.
#[derive(Debug, Clone)]
pub struct Hook {
    /// Its configuration in the form of kubectl.
    pub configuration: String,
    pub name: String,
    pub kind: HookKind,
    /// Whether the API server refuses the request if the hook does not answer.
    pub fails: bool,
    pub seconds: i32,
    /// Whether it is asked about updates.
    pub updates: bool,
    pub bundle: Bundle,
}

/// The content of a `caBundle`.
#[derive(Debug, Clone)]
pub enum Bundle {
    Empty,
    /// It holds what is no certificate.
    Unsound,
    /// When the last of its CAs is valid, and whether they verify the certificate that is served.
    Cas {
        validity: Validity,
        verifies: Known<bool>,
    },
}

/// The Service by which the API server reaches hooks.
#[derive(Debug, Clone)]
pub struct HookService {
    pub key: ObjectKey,
    /// The number of its endpoints that are ready; `None` if it does not exist.
    pub ready: Known<Option<usize>>,
}

/// What became of a pod that was created by a server-side dry-run, and that is due a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodTrial {
    Gated { namespace: String, gate: String },
    Ungated { namespace: String, binding: String },
}

/// What became of a binding that was created by a server-side dry-run, and that the rules deny.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindingTrial {
    /// By our rule.
    Denied,
    /// By the policy that holds the fields of bindings, before the hook is asked.
    DeniedByPolicy,
    /// The API server did not ask.
    Admitted,
    /// The API server asked in vain; its own words.
    NotReached(String),
}

/// A Lease.
#[derive(Debug, Clone, Default)]
pub struct Lease {
    pub holder: String,
    pub renewed: Option<Timestamp>,
    pub seconds: i32,
}

/// Whose credentials AWS is called with.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The ARN of the role or user.
    pub arn: Known<String>,
    /// The Region of calls that no ARN names one for.
    pub region: Option<String>,
}

/// What reads of a target group by trial brought, or why not.
#[derive(Debug, Clone)]
pub struct Group {
    pub arn: TargetGroupArn,
    pub targets: Read<Targets>,
    pub described: Read<Described>,
}

/// An answer of AWS, or why there is none.
pub type Read<T> = Result<T, (Reason, String)>;

/// The targets of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    pub all: usize,
    /// The addresses of those that are not on their way out.
    pub addresses: BTreeSet<IpAddr>,
    /// Those in a zone that their load balancer has not enabled.
    pub zone_not_enabled: usize,
}

/// What AWS describes a group by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Described {
    /// The number of load balancers that use it.
    pub load_balancers: usize,
    /// Whether gates open all the same while none does (`when-unused`).
    pub may_be_unused: bool,
    /// The rules that its bindings break, with the binding's name before.
    pub differs: Vec<String>,
}

/// A call that changes a group, tried on one that cannot exist.
#[derive(Debug, Clone)]
pub struct ChangeTrial {
    /// The call, such as `RegisterTargets`.
    pub action: &'static str,
    /// Account and Region.
    pub place: String,
    pub outcome: ChangeOutcome,
}

/// What AWS says of such a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// It looked for the group, and so would change one that exists.
    Allowed,
    Denied(String),
    /// It says something else.
    Unknown(String),
}

/// How the pods of a workload end.
#[derive(Debug, Clone)]
pub struct End {
    /// Its kind, namespace and name.
    pub workload: String,
    pub pods: usize,
    pub settings: lint::Workload,
}

/// A read that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The action in AWS, or the kind in Kubernetes.
    pub what: String,
    /// A sentence.
    pub why: String,
}

/// The pods of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespacePods {
    /// All of their addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// The Services that select pods.
    pub selecting: BTreeSet<Arc<str>>,
}

/// What became of a pod that was created by a server-side dry-run with the grace period that drain gives.
#[derive(Debug, Clone)]
pub struct GraceTrial {
    pub namespace: String,
    pub seconds: u32,
    pub outcome: GraceOutcome,
}

/// Whether the API server admitted such a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GraceOutcome {
    Admitted,
    /// It admits one with the default grace period only; its words about the longer one.
    Refused(String),
    /// It admits neither.
    Unknown(String),
}

/// What lets the API server itself inject gates (contract 11).
#[derive(Debug, Clone)]
pub struct Injection {
    /// The version of the API server; `None` if it does not tell.
    pub server: Option<ServerVersion>,
    /// The policies of ours that are there; `None` if the API server does not serve the kind.
    pub policies: Known<Option<Vec<Policy>>>,
    /// The rules of each namespace that has some or should; `None` if their CRD is not there.
    pub rules: Known<Option<Vec<NamespaceRules>>>,
}

/// A policy of the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub name: String,
    /// Whether a binding of it is there, without which it does nothing.
    pub bound: bool,
}

/// The gate rules of a namespace.
#[derive(Debug, Clone)]
pub struct NamespaceRules {
    pub namespace: String,
    /// What its bindings give.
    pub wanted: Result<GateRules, TooLarge>,
    /// What its object holds; `None` if it has none.
    pub stored: Known<Option<GateRules>>,
}

/// A binding that living pods have lost.
#[derive(Debug, Clone)]
pub struct Lost {
    pub namespace: String,
    pub why: Why,
}

/// A binding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// When it was created, which orders bindings of one group.
    pub created: Option<Timestamp>,
    pub key: ObjectKey,
    pub api: BindingApi,
    pub arn: Option<Arc<str>>,
    pub multi_cluster: bool,
    /// The Service that it names.
    pub service: Option<Arc<str>>,
    /// Whether the finalizer of our registration is on it.
    pub our_finalizer: bool,
    /// Whether the incumbent made it out of an Ingress, a Service or a Gateway, with its listener.
    pub of_stack: bool,
}

/// A Namespace that has opted in.
#[derive(Debug, Clone)]
pub struct Namespace {
    pub name: String,
    /// Whether the selector of a hook for pods selects it; not known if the hooks are not.
    pub selected: Known<bool>,
}
