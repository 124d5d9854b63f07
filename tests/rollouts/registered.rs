//! Pods that targetgate itself registers (`--register all`): nothing else of the run touches the target group.

use std::time::Duration;

use serde_json::json;
use targetgate_sandbox::elb::LoadBalancerKind;
use targetgate_sandbox::harness::Openings;
use targetgate_sandbox::harness::observer::Gate;
use targetgate_sandbox::harness::site::{Group, Site};
use targetgate_sandbox::harness::workload::Workload;
use targetgate_sandbox::kubelet::Reuse;

use crate::binary;
use crate::deployment::alb;
use crate::load::Load;

/// The number of requests during rollouts, of which none may be lost. Chosen.
const REQUESTS: u64 = 2_000;
const RATE: f64 = 150.0;
/// The preStop sleep, as of the rollouts with the sandbox's registrar.
const PRE_STOP: Duration = Duration::from_secs(5);
const BINDING: &str = "web";

/// How many calls of this action ELB has answered.
fn calls(site: &Site, action: &str) -> usize {
    let calls = site.aws.elb.calls();
    calls.iter().filter(|call| call.action == action).count()
}

/// The finalizers of the binding; `None` once it is gone.
async fn finalizers(site: &Site) -> Option<Vec<String>> {
    let bindings = site.api("TargetGroupBinding");
    let binding = bindings.get_opt(BINDING).await.unwrap()?;
    Some(binding.metadata.finalizers.unwrap_or_default())
}

async fn is_empty(site: &Site, group: &Group) {
    site.settled(group, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_rolls_without_a_loss_when_nothing_but_targetgate_registers_its_pods() {
    let mut site = Site::registering(binary(), Reuse::Late).await;
    let group = site.group("web", LoadBalancerKind::Application, alb());
    let (_, address) = site
        .balance(LoadBalancerKind::Application, &[(&group, 1)])
        .await;
    site.service("web", json!({ "app": "web" })).await;
    site.bind(BINDING, "web", &group).await;
    site.opt_in().await;
    site.gives_gates(json!({ "app": "web" }), &["web"]).await;
    let web = Workload {
        pre_stop: Some(PRE_STOP),
        ..Workload::new("Deployment", "web")
    };
    site.apply(&web).await;
    // A gate opens on ELB's answer alone.
    site.rolled(&web).await;
    site.settled(&group, 3).await;
    assert_eq!(finalizers(&site).await.unwrap(), ["targetgate.dev/targets"]);

    let former = site.observer.by_uid();
    let load = Load::start(address, RATE);
    let mut rollouts = 0;
    while load.sent() < REQUESTS {
        site.restart(&web).await;
        site.rolled(&web).await;
        rollouts += 1;
    }
    site.settled(&group, 3).await;
    let numbers = load.stop().await;
    numbers.print("Deployment, registered by targetgate", &site);
    assert_eq!(numbers.lost(), 0, "{numbers:?}");
    let mut new = site.observer.by_uid();
    new.retain(|uid, _| !former.contains_key(uid));
    let new: Vec<_> = new.into_values().collect();
    assert_eq!(new.len(), 3 * rollouts, "{new:?}");
    assert!(new.iter().all(|pod| pod.gate == Gate::Open), "{new:?}");
    assert_eq!(Openings::of(&new, &site.aws.elb.log()).early, 0);

    // The deletion of the binding takes its targets out, and waits for that.
    site.delete("TargetGroupBinding", BINDING).await;
    site.until("the binding to be gone", async || {
        finalizers(&site).await.is_none().then_some(())
    })
    .await;
    is_empty(&site, &group).await;
    assert!(calls(&site, "RegisterTargets") >= 1 && calls(&site, "DeregisterTargets") >= 1);
}
