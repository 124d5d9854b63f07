//! The world around targetgate: the model API server, ELB, a load balancer, and the actors, all on
//! loopback ports.

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use aws_sdk_elasticloadbalancingv2 as elbv2;
use kube::Client;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::settings::Settings;
use crate::api::Api;
use crate::elb::{Elb, HealthCheck, LoadBalancerKind, TargetGroupSpec};
use crate::kubelet::Network;
use crate::rollout::Ports;
use crate::{api, elb, kubelet, registrar, rollout};

/// Ends with this value: servers, actors, their sockets.
pub(super) struct World {
    /// Of the Kubernetes API.
    pub(super) client: Client,
    /// For processes: targetgate, kubectl.
    pub(super) kubeconfig: PathBuf,
    pub(super) elb: Elb,
    /// Of ELB's API, over the wire.
    pub(super) elb_client: elbv2::Client,
    pub(super) elb_endpoint: String,
    /// The target group behind the load balancer.
    pub(super) target_group: String,
    /// The load balancer's listener.
    pub(super) load_balancer: SocketAddr,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl World {
    /// Starts everything, with files in `directory`.
    pub(super) async fn start(settings: &Settings, directory: &Path) -> anyhow::Result<Self> {
        let mut tasks = JoinSet::new();
        let (listener, address) = listen().await?;
        let api = Api::new(api::Options::default());
        tasks.spawn(forever(api.serve(listener, pending())));
        let kubeconfig = directory.join("kubeconfig");
        let client = connect(&kubeconfig, address).await?;

        let elb = Elb::new(elb::Options::default());
        tasks.spawn(forever(elb.run()));
        let (listener, address) = listen().await?;
        tasks.spawn(forever(elb.clone().serve(listener, pending())));
        let elb_endpoint = format!("http://{address}");
        let group = TargetGroupSpec::http("web")
            .health_check(HealthCheck::http("/healthz"))
            .delays(settings.delays.clone());
        let target_group = elb.create_target_group(group);
        let balancer = elb.create_load_balancer("web", LoadBalancerKind::Application, &[]);
        elb.add_listener(&balancer, &[(&target_group, 1)])?;
        let (listener, load_balancer) = listen().await?;
        let balance = elb.clone().balance(balancer, listener, pending());
        tasks.spawn(async move { Ok(balance.await?) });

        let mut world = Self {
            client,
            kubeconfig,
            elb,
            elb_client: elb_client(&elb_endpoint),
            elb_endpoint,
            target_group,
            load_balancer,
            tasks,
        };
        world.start_actors(settings);
        Ok(world)
    }

    fn start_actors(&mut self, settings: &Settings) {
        let kubelet = kubelet::Options {
            start_after: settings.start_after,
            work: settings.work,
            network: settings.network,
            seed: std::process::id().into(),
            ..kubelet::Options::default()
        };
        let kubelet = kubelet::run(self.client.clone(), kubelet);
        self.tasks.spawn(async { Ok(kubelet.await?) });
        let options = registrar::Options {
            delay: settings.registrar_delay,
        };
        let registrar = registrar::run(self.client.clone(), self.elb_client.clone(), options);
        self.tasks.spawn(forever(registrar));
        let options = rollout::Options {
            ports: match settings.network {
                Network::AddressPerPod(_) => Ports::AsInTemplate,
                Network::OneAddress => Ports::OnePerPod,
            },
            ..rollout::Options::default()
        };
        self.tasks
            .spawn(forever(rollout::run(self.client.clone(), options)));
    }

    /// Waits for a part that has ended, which none should, and says why.
    pub(super) async fn broken(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error.context("a part of the sandbox has failed"),
            Some(Err(error)) => {
                anyhow::Error::new(error).context("a part of the sandbox has failed")
            }
            Some(Ok(Ok(()))) | None => anyhow::anyhow!("a part of the sandbox has ended by itself"),
        }
    }
}

async fn forever(part: impl Future<Output = ()>) -> anyhow::Result<()> {
    part.await;
    Ok(())
}

/// A free port of loopback.
pub(super) async fn listen() -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .context("cannot listen on a port of 127.0.0.1")?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn connect(kubeconfig: &Path, server: SocketAddr) -> anyhow::Result<Client> {
    let text = format!(
        "apiVersion: v1\n\
         kind: Config\n\
         current-context: sandbox\n\
         contexts: [{{name: sandbox, context: {{cluster: sandbox, user: sandbox}}}}]\n\
         clusters: [{{name: sandbox, cluster: {{server: \"http://{server}\"}}}}]\n\
         users: [{{name: sandbox, user: {{}}}}]\n"
    );
    let read = kube::config::Kubeconfig::from_yaml(&text)?;
    std::fs::write(kubeconfig, text)
        .with_context(|| format!("cannot write {}", kubeconfig.display()))?;
    let options = kube::config::KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(read, &options).await?;
    // What the environment says of proxies is not for loopback.
    config.proxy_url = None;
    Ok(Client::try_from(config)?)
}

fn elb_client(endpoint: &str) -> elbv2::Client {
    let config = elbv2::Config::builder()
        .behavior_version(elbv2::config::BehaviorVersion::latest())
        .region(elbv2::config::Region::new(elb::Options::default().region))
        .credentials_provider(elbv2::config::Credentials::new(
            "sandbox", "sandbox", None, None, "sandbox",
        ))
        .endpoint_url(endpoint)
        .build();
    elbv2::Client::from_conf(config)
}
