//! A double of the incumbent, for what happens beside it: AWS Load Balancer Controller, as its source
//! reads at commit 225f445.
//!
//! It has no class for bindings. On *every* binding that it sees it puts its finalizer, and puts it
//! back when it is removed; it deregisters whatever it does not want in the binding's group, and only
//! then registers; where the Service or its port is missing it empties the group and opens the gates;
//! and so it does when a binding is deleted. Its hooks fail closed, and stay registered while it is
//! away.
//!
//! It leaves out instance targets, nodes, security groups and multi-cluster groups, and opens no gate
//! for ELB's `healthy`. It also leaves out checkpoints and the cache of targets, so that it undoes the
//! work of another sooner than the original, which describes a group at most every five minutes. It
//! reads pods rather than EndpointSlices, as the registrar does and for the same reason.

mod bindings;
mod hooks;
mod lease;
mod reconcile;
mod world;

use aws_sdk_elasticloadbalancingv2 as elbv2;
use kube::Client;
use tokio::task::JoinSet;

use self::hooks::Hooks;
use self::lease::Election;

/// Its finalizer.
pub const FINALIZER: &str = "elbv2.k8s.aws/resources";
/// The name of its Lease, which lies in its own namespace.
pub const LEASE: &str = "aws-load-balancer-controller-leader";

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Its `--watch-namespace`; `None` means all namespaces.
    pub namespace: Option<String>,
    /// The namespace of its Lease; `None` means that it runs without leader election.
    pub lease_namespace: Option<String>,
}

/// An installation of the incumbent, which runs between [`Incumbent::start`] and
/// [`Incumbent::kill`]. It ends when this is dropped; what it left in the cluster stays.
pub struct Incumbent {
    client: Client,
    elb: elbv2::Client,
    options: Options,
    hooks: Hooks,
    running: Option<JoinSet<()>>,
}

impl Incumbent {
    pub fn new(client: Client, elb: elbv2::Client, options: Options) -> Self {
        Self {
            hooks: Hooks::new(client.clone(), options.namespace.clone()),
            client,
            elb,
            options,
            running: None,
        }
    }

    /// Registers its hooks, as the installation does. They refuse everything until it runs.
    ///
    /// # Errors
    ///
    /// When the API server refuses that.
    pub async fn install_hooks(&self) -> anyhow::Result<()> {
        self.hooks.install().await
    }

    /// Removes its hooks, both configurations. It does not register them again.
    ///
    /// # Errors
    ///
    /// When the API server refuses that.
    pub async fn remove_hooks(&self) -> anyhow::Result<()> {
        self.hooks.remove().await
    }

    /// Starts it, or starts it again with a new identity. With leader election it takes the Lease at
    /// once, whereas the original waits up to 15 s for a former holder's to expire.
    ///
    /// # Errors
    ///
    /// When it cannot listen, or the API server refuses its Lease or its hooks.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.kill();
        let mut tasks = JoinSet::new();
        tasks.spawn(self.hooks.serve().await?);
        if let Some(namespace) = &self.options.lease_namespace {
            let election = Election::new(&self.client, namespace);
            election.renew().await?;
            tasks.spawn(election.keep());
        }
        tasks.spawn(bindings::run(
            self.client.clone(),
            self.elb.clone(),
            self.options.namespace.clone(),
        ));
        self.running = Some(tasks);
        Ok(())
    }

    /// Ends it as `kill -9` does: its Lease is not released, and its hooks stay registered.
    pub fn kill(&mut self) {
        self.running = None;
    }
}
