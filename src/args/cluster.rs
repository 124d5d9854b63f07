//! The flags by which a command finds its cluster.

use std::path::PathBuf;

use clap::Args;

use crate::args::KUBERNETES;

/// The cluster that a command talks to.
#[derive(Debug, Clone, Args)]
pub struct ClusterFlags {
    /// Kubeconfig file [default: the pod's service account, else KUBECONFIG, else ~/.kube/config].
    #[arg(long, env = "TARGETGATE_KUBECONFIG", value_name = "FILE", help_heading = KUBERNETES)]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one].
    #[arg(long, value_name = "NAME", help_heading = KUBERNETES)]
    pub context: Option<String>,
}
