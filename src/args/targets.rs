//! The flags of registration.

use clap::{Args, ValueEnum};
use targetgate_core::names::ObjectKey;
use targetgate_core::targets::slices;
use targetgate_core::targets::standing::Mode;

use crate::args::{TARGETS, namespace};

/// Whose targets are registered.
#[derive(Debug, Clone, Args)]
pub struct TargetFlags {
    /// Whose targets are registered: those of no binding, of bindings with targetgate.dev/register: "true", or of all
    /// bindings but those with "false". Only ip targets of elbv2.k8s.aws are.
    #[arg(long, env = "TARGETGATE_REGISTER", value_name = "WHICH", value_enum, default_value_t, help_heading = TARGETS)]
    pub register: Register,
    /// The Lease of AWS Load Balancer Controller, as NAMESPACE/NAME: while it is renewed, the bindings that it watches
    /// are left to it.
    #[arg(long, env = "TARGETGATE_INCUMBENT_LEASE", value_name = "LEASE", default_value = "kube-system/aws-load-balancer-controller-leader", value_parser = object, help_heading = TARGETS)]
    pub incumbent_lease: ObjectKey,
    /// The namespaces that AWS Load Balancer Controller watches, separated by commas [default: all].
    #[arg(long, env = "TARGETGATE_INCUMBENT_NAMESPACES", value_name = "NAMES", value_delimiter = ',', value_parser = namespace, help_heading = TARGETS)]
    pub incumbent_namespaces: Vec<String>,
    /// Which endpoints of the EndpointSlices of a Service without a selector are registered: those that lead to a pod of
    /// their namespace, or any but those that name a pod which is not there. With "any", whoever may write EndpointSlices
    /// decides which addresses of the VPC are behind the load balancer.
    #[arg(long, env = "TARGETGATE_SLICE_ADDRESSES", value_name = "WHICH", value_enum, default_value_t, help_heading = TARGETS)]
    pub slice_addresses: SliceAddresses,
}

/// The endpoints of EndpointSlices that are registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum SliceAddresses {
    #[default]
    Pods,
    Any,
}

impl From<SliceAddresses> for slices::SliceAddresses {
    fn from(flag: SliceAddresses) -> Self {
        match flag {
            SliceAddresses::Pods => Self::Pods,
            SliceAddresses::Any => Self::Any,
        }
    }
}

/// The bindings whose targets are registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Register {
    #[default]
    None,
    Annotated,
    All,
}

impl Register {
    /// How bindings ask for it; `None` if none can.
    pub fn mode(self) -> Option<Mode> {
        match self {
            Self::None => None,
            Self::Annotated => Some(Mode::Annotated),
            Self::All => Some(Mode::All),
        }
    }
}

/// Parses the namespace and the name of an object.
fn object(text: &str) -> Result<ObjectKey, String> {
    let (of, name) = text.split_once('/').ok_or("not NAMESPACE/NAME")?;
    let is_name = !name.is_empty() && !name.contains('/');
    let name = is_name.then_some(name).ok_or("not NAMESPACE/NAME")?;
    Ok(ObjectKey::new(namespace(of)?, name))
}
