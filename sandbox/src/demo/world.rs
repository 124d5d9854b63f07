//! The world around targetgate: a Kubernetes API, ELB, a load balancer, and the actors.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::bail;

use super::Options;
use super::settings::Settings;
use super::shop::NAMESPACE;
use crate::elb::{HealthCheck, LoadBalancerKind, TargetGroupSpec};
use crate::harness::{Aws, Claim, Cluster, Nodes, Parts};
use crate::kubelet::Network;
use crate::rollout::Ports;
use crate::{kubelet, registrar, rollout};

/// The environment of the demo. Its servers and actors run in the `parts` that it was started with.
pub(super) struct World {
    pub(super) cluster: Cluster,
    /// The objects that the demo creates in the cluster.
    pub(super) claim: Claim,
    pub(super) aws: Aws,
    /// The ARN of the target group behind the load balancer.
    pub(super) target_group: String,
    /// The address of the load balancer's listener.
    pub(super) load_balancer: SocketAddr,
}

impl World {
    /// Starts everything except the nodes, with files in `directory`. It does not change an
    /// existing cluster yet.
    pub(super) async fn start(
        parts: &mut Parts,
        options: &Options,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let settings = &options.settings;
        let cluster = match &options.kubeconfig {
            None => Cluster::sandbox(parts, directory).await?,
            Some(_) if settings.network == Network::OneAddress => bail!(
                "--kubeconfig: this system has no loopback addresses but 127.0.0.1 for pods of one \
                 Deployment, which need one each; use Linux"
            ),
            Some(kubeconfig) => Cluster::of_kubeconfig(kubeconfig).await?,
        };
        let aws = Aws::start(parts).await?;
        let group = TargetGroupSpec::http("web")
            .health_check(HealthCheck::http("/healthz"))
            .delays(settings.delays.clone());
        let target_group = aws.elb.create_target_group(group);
        let (_, load_balancer) = aws
            .balance(
                parts,
                "web",
                LoadBalancerKind::Application,
                &[(&target_group, 1)],
            )
            .await?;
        Ok(Self {
            claim: Claim::new(cluster.client.clone()),
            cluster,
            aws,
            target_group,
            load_balancer,
        })
    }

    /// Creates the namespace and the nodes, and starts the actors in the cluster.
    pub(super) async fn inhabit(
        &self,
        parts: &mut Parts,
        settings: &Settings,
    ) -> anyhow::Result<Nodes> {
        // The namespace comes first, because its name is the one that a cluster is most likely to
        // use already.
        self.claim.create_namespace(NAMESPACE).await?;
        if self.cluster.sandbox {
            let options = rollout::Options {
                ports: match settings.network {
                    Network::AddressPerPod(_) => Ports::AsInTemplate,
                    Network::OneAddress => Ports::OnePerPod,
                },
                ..rollout::Options::default()
            };
            parts.spawn(rollout::run(self.cluster.client.clone(), options));
        }
        let kubelet = kubelet::Options {
            nodes: ["a", "b", "c"]
                .map(|zone| format!("targetgate-demo-{zone}"))
                .into(),
            namespace: Some(NAMESPACE.to_owned()),
            start_after: settings.start_after,
            work: settings.work,
            network: settings.network,
            seed: std::process::id().into(),
            ..kubelet::Options::default()
        };
        let registrar = registrar::Options {
            delay: settings.registrar_delay,
            namespace: Some(NAMESPACE.to_owned()),
        };
        Nodes::start(
            parts,
            &self.cluster,
            &self.aws,
            &self.claim,
            kubelet,
            Some(registrar),
        )
        .await
    }
}
