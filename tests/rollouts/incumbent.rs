//! Rollouts with gates of ours beside a double of the incumbent, which registers the pods.

use std::time::Duration;

use rstest::rstest;
use targetgate_sandbox::elb::LoadBalancerKind;
use targetgate_sandbox::harness::site::Site;
use targetgate_sandbox::harness::workload::{Workload, condition};
use targetgate_sandbox::harness::{Registrar, Setup};
use targetgate_sandbox::kubelet::Reuse;

use crate::binary;
use crate::deployment::alb;
use crate::load::Load;

const KIND: LoadBalancerKind = LoadBalancerKind::Application;
/// Much longer than the incumbent needs and the data plane lags. Chosen.
const PRE_STOP: Duration = Duration::from_secs(4);

/// The gates are ours, the targets are the incumbent's, and neither disturbs the other.
#[rstest]
#[case::with_a_lease(true)]
#[case::without_leader_election(false)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gates_beside_the_incumbent_lose_nothing_though_it_is_killed_in_the_middle(
    #[case] leases: bool,
) {
    let mut site = Site::shared(Setup::new(binary(), Reuse::Late).registrar(Registrar::None)).await;
    let mut incumbent = site.incumbent(leases);
    incumbent.start().await.unwrap();
    let (group, address) = site.expose("web", KIND, alb()).await;
    site.gate("web").await;
    let web = Workload {
        pre_stop: Some(PRE_STOP),
        ..Workload::new("Deployment", "web")
    };
    site.open(&web, &group).await;

    let load = Load::start(address, 100.0);
    site.restart(&web).await;
    site.rolled(&web).await;
    site.settled(&group, 3).await;
    incumbent.kill();
    site.restart(&web).await;
    site.until("a gate to wait for the incumbent", async || {
        let pods = site.pods("app=web").await;
        let waits = |pod: &_| condition(pod, "web")["reason"] == "Elb.RegistrationInProgress";
        pods.iter().any(waits).then_some(())
    })
    .await;
    incumbent.start().await.unwrap();
    site.rolled(&web).await;
    site.settled(&group, 3).await;
    let numbers = load.stop().await;
    numbers.print("beside the incumbent", &site);
    assert_eq!(numbers.lost(), 0, "{numbers:?}");
}
