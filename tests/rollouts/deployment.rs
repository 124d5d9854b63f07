//! A rolling update of a Deployment, without gates and with them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use rstest::rstest;
use targetgate_sandbox::elb::{Delays, LoadBalancerKind};
use targetgate_sandbox::harness::Openings;
use targetgate_sandbox::harness::object::field;
use targetgate_sandbox::harness::observer::Gate;
use targetgate_sandbox::harness::site::{Group, Site};
use targetgate_sandbox::harness::workload::Workload;
use targetgate_sandbox::kubelet::Reuse;

use crate::binary;
use crate::load::Load;

/// The number of requests during rollouts with gates, of which none may be lost. Chosen.
const REQUESTS: u64 = 5_000;
const RATE: f64 = 250.0;
/// The time of a registration. Without gates, all old pods end before it is over.
const REGISTRATION: Duration = Duration::from_secs(6);
/// The preStop sleep. It covers the registrar's delay and the lag of either load balancer, with a large margin
/// for a busy machine. Chosen.
const PRE_STOP: Duration = Duration::from_secs(5);

/// The delays of an ALB, shortened.
pub(crate) fn alb() -> Delays {
    Delays {
        registration: Duration::from_millis(400),
        propagation_lag: Duration::from_millis(500),
        ..shortened(Delays::alb())
    }
}

/// The delays of an NLB, which stops sending to a target later.
pub(crate) fn nlb() -> Delays {
    Delays {
        propagation_lag: Duration::from_millis(1_500),
        ..shortened(Delays::nlb())
    }
}

fn shortened(delays: Delays) -> Delays {
    Delays {
        health_check_interval: Duration::from_millis(300),
        // Longer than the longest request, and than the preStop sleep.
        deregistration_delay: Duration::from_secs(20),
        // A busy machine must not make a target unhealthy.
        health_check_timeout: Duration::from_secs(10),
        unhealthy_threshold: 10,
        idle_timeout: Duration::from_secs(60),
        ..delays
    }
}

#[rstest]
#[case::alb(LoadBalancerKind::Application, alb())]
#[case::nlb(LoadBalancerKind::Network, nlb())]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_loses_requests_unless_it_has_gates_and_a_pre_stop_sleep(
    #[case] kind: LoadBalancerKind,
    #[case] delays: Delays,
) {
    let mut site = Site::new(binary(), Reuse::Late).await;
    let delays = Delays {
        registration: REGISTRATION,
        ..delays
    };
    let (group, address) = site.expose("web", kind, delays).await;
    // All new pods start at once, so that gates which open too soon would end all old pods at once.
    let mut web = Workload {
        surge: 3,
        ..Workload::new("Deployment", "web")
    };
    site.open(&web, &group).await;

    let load = Load::start(address, RATE);
    site.restart(&web).await;
    site.rolled(&web).await;
    let numbers = load.stop().await;
    numbers.print(&format!("Deployment, {kind:?}, without gates"), &site);
    assert!(numbers.lost() > 0, "no request was lost without gates");

    web.pre_stop = Some(PRE_STOP);
    site.open(&web, &group).await;
    site.gate("web").await;
    let traffic = Traffic {
        address,
        rate: RATE,
        requests: REQUESTS,
    };
    let what = format!("Deployment, {kind:?}, with gates");
    traffic.loses_nothing(&site, &web, &group, &what).await;
    let mut pods = site.pods("app=web").await;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    let on = pods
        .iter()
        .map(|pod| field(pod, "/spec/nodeName").to_string());
    let on: BTreeSet<_> = on.collect();
    assert_eq!(on.len(), 3, "{on:?}");
}

/// Requests during rollouts with gates.
pub(crate) struct Traffic {
    pub(crate) address: SocketAddr,
    /// Requests per second.
    pub(crate) rate: f64,
    /// Their least number.
    pub(crate) requests: u64,
}

impl Traffic {
    /// Rolls a Deployment of three gated pods for as long as the requests take, and checks that none is lost and that no
    /// gate opens early.
    pub(crate) async fn loses_nothing(
        &self,
        site: &Site,
        web: &Workload,
        group: &Group,
        what: &str,
    ) {
        let former = site.observer.by_uid();
        let load = Load::start(self.address, self.rate);
        let mut rollouts = 0;
        while load.sent() < self.requests {
            site.restart(web).await;
            site.rolled(web).await;
            rollouts += 1;
        }
        site.settled(group, 3).await;
        let numbers = load.stop().await;
        numbers.print(what, site);
        assert_eq!(numbers.lost(), 0, "{numbers:?}");

        let mut new = site.observer.by_uid();
        new.retain(|uid, _| !former.contains_key(uid));
        let new: Vec<_> = new.into_values().collect();
        assert_eq!(new.len(), 3 * rollouts, "{new:?}");
        assert!(new.iter().all(|pod| pod.gate == Gate::Open), "{new:?}");
        assert_eq!(Openings::of(&new, &site.aws.elb.log()).early, 0);
    }
}
