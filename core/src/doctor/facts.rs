//! What is known of an installation and its cluster.

use std::sync::Arc;

use jiff::Timestamp;

use crate::names::{BindingApi, ObjectKey, TargetGroupArn};
use crate::reason::Reason;

/// What was read; the error is why it is not known.
pub type Known<T> = Result<T, String>;

/// What the command has read.
#[derive(Debug, Clone)]
pub struct Facts {
    pub now: Timestamp,
    /// The CRD of bindings of `elbv2.k8s.aws`; `None` if there is none.
    pub crd: Known<Option<Crd>>,
    pub hooks: Known<Vec<Hook>>,
    /// The Services that the hooks name, each once.
    pub services: Vec<HookService>,
    pub pod_trial: Known<PodTrial>,
    pub binding_trial: Known<BindingTrial>,
    /// The Lease of the replica that writes conditions, with its name; `None` if it does not exist.
    pub lease: (ObjectKey, Known<Option<Lease>>),
    /// What AWS says of the groups; empty if it is not to be asked.
    pub groups: Known<Vec<Group>>,
    /// The bindings of both API groups, of the whole cluster.
    pub bindings: Known<Vec<Binding>>,
    /// The Namespaces that have opted in.
    pub namespaces: Known<Vec<Namespace>>,
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
    pub bundle: Bundle,
}

/// The content of a `caBundle`.
#[derive(Debug, Clone)]
pub enum Bundle {
    Empty,
    /// It holds what is no certificate.
    Unsound,
    /// When the last of its CAs expires, and whether they verify the certificate that is served.
    Cas {
        expires: Timestamp,
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

/// What a read of a target group by trial brought: its targets, or why not.
#[derive(Debug, Clone)]
pub struct Group {
    pub arn: TargetGroupArn,
    pub targets: Result<usize, (Reason, String)>,
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
}

/// A Namespace that has opted in.
#[derive(Debug, Clone)]
pub struct Namespace {
    pub name: String,
    /// Whether the selector of a hook for pods selects it; not known if the hooks are not.
    pub selected: Known<bool>,
}
