//! A Deployment, without gates and with them.

use std::time::Duration;

use rstest::rstest;
use serde_json::json;
use targetgate_sandbox::elb::{Delays, LoadBalancerKind};
use targetgate_sandbox::harness::Openings;
use targetgate_sandbox::harness::observer::Gate;
use targetgate_sandbox::kubelet::Reuse;

use crate::load::Load;
use crate::objects::Workload;
use crate::site::Site;

/// What the gates and the preStop sleep together must bring through.
const REQUESTS: u64 = 5_000;
const RATE: f64 = 350.0;

/// An ALB's times, shortened.
pub(crate) fn alb() -> Delays {
    Delays {
        registration: Duration::from_millis(400),
        propagation_lag: Duration::from_millis(500),
        ..shortened(Delays::alb())
    }
}

/// An NLB's, which takes targets in later and lets them go later.
pub(crate) fn nlb() -> Delays {
    Delays {
        registration: Duration::from_millis(1_500),
        propagation_lag: Duration::from_millis(1_500),
        ..shortened(Delays::nlb())
    }
}

fn shortened(delays: Delays) -> Delays {
    Delays {
        health_check_interval: Duration::from_millis(300),
        // Longer than any request and any preStop sleep here.
        deregistration_delay: Duration::from_secs(20),
        // A busy machine makes no target unhealthy.
        health_check_timeout: Duration::from_secs(10),
        unhealthy_threshold: 10,
        idle_timeout: Duration::from_secs(60),
        ..delays
    }
}

/// A preStop sleep that covers the registrar's delay and either lag, and much that a busy machine
/// adds.
pub(crate) const PRE_STOP: Duration = Duration::from_secs(5);

#[rstest]
#[case::alb(LoadBalancerKind::Application, alb())]
#[case::nlb(LoadBalancerKind::Network, nlb())]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolled_deployment_loses_requests_without_gates_and_none_with_them_and_a_pre_stop_sleep(
    #[case] kind: LoadBalancerKind,
    #[case] delays: Delays,
) {
    let mut site = Site::new(Reuse::Late).await;
    let group = site.group("web", kind, delays);
    let (_, address) = site.balance(kind, &[(&group, 1)]).await;
    site.service("web", json!({ "app": "web" })).await;
    site.bind("web", "web", &group).await;
    let mut web = Workload::new("Deployment", "web");
    site.apply(&web).await;
    site.rolled(&web).await;
    site.settled(&group, 3).await;

    let load = Load::start(address, RATE);
    site.restart(&web).await;
    site.rolled(&web).await;
    site.settled(&group, 3).await;
    let numbers = load.stop().await;
    numbers.print(&format!("Deployment, {kind:?}, without gates"), &site);
    assert!(numbers.lost() > 0, "so the test proves nothing");

    site.opt_in().await;
    site.gives_gates(json!({ "app": "web" }), &["web"]).await;
    web.pre_stop = Some(PRE_STOP);
    site.apply(&web).await;
    site.rolled(&web).await;
    site.settled(&group, 3).await;

    let load = Load::start(address, RATE);
    while load.sent() < REQUESTS {
        site.restart(&web).await;
        site.rolled(&web).await;
    }
    site.settled(&group, 3).await;
    let numbers = load.stop().await;
    numbers.print(&format!("Deployment, {kind:?}, with gates"), &site);
    assert_eq!(numbers.lost(), 0, "{numbers:?}");

    let pods = site.observer.pods();
    let (gated, others): (Vec<_>, Vec<_>) = pods.iter().partition(|pod| pod.gate != Gate::None);
    assert_eq!(others.len(), 6, "those before the opt-in");
    assert!(gated.len() >= 6, "{gated:?}");
    let gated: Vec<_> = gated.into_iter().cloned().collect();
    assert_eq!(Openings::of(&gated, &site.aws.elb.log()).early, 0);
}
