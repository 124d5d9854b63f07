//! Bindings that are deleted though something is wrong with their group, their Service or their rights (B19).

use http::StatusCode;
use kube::api::{DynamicObject, Patch};
use serde_json::{Value, json};
use targetgate_sandbox::elb::LoadBalancerKind;
use targetgate_sandbox::elb::faults::On;
use targetgate_sandbox::harness::object::{field, patch};

use super::{Shop, addresses};
use crate::deployment::alb;

const ALB: LoadBalancerKind = LoadBalancerKind::Application;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// AWS does not have the group any more.
    Group,
    /// Neither the Service nor its pods are there.
    Service,
}

/// They wait for pauses between calls most of the time, so they run together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_binding_goes_whatever_else_is_gone_or_refused() {
    let (denied, throttled) = (StatusCode::FORBIDDEN, StatusCode::BAD_REQUEST);
    tokio::join!(
        a_deleted_binding_goes_though_what_it_names_is_gone(Wrong::Group),
        a_deleted_binding_goes_though_what_it_names_is_gone(Wrong::Service),
        a_binding_that_was_never_registered_for_goes_at_once(),
        a_cleanup_that_aws_refuses_is_told_and_is_done_later("AccessDenied", denied),
        a_cleanup_that_aws_refuses_is_told_and_is_done_later("Throttling", throttled),
        an_abandoned_binding_goes_and_its_record_stays_as_long_as_its_targets(),
    );
}

async fn a_deleted_binding_goes_though_what_it_names_is_gone(wrong: Wrong) {
    let shop = Shop::open(ALB, alb(), 2).await;
    match wrong {
        Wrong::Group => {
            let elb = &shop.site.aws.elb;
            elb.remove_target_group(&shop.group.arn).unwrap();
        }
        Wrong::Service => {
            // No word of ours is possible, so that the targets of ended pods are in the group until the binding ends.
            let refused = On::action("DeregisterTargets");
            deny(&shop, "AccessDenied", StatusCode::FORBIDDEN, refused);
            shop.site.delete("Service", "web").await;
            shop.site.delete("Deployment", "web").await;
            shop.site
                .until("the pods to end", async || {
                    shop.site.pods("app=web").await.is_empty().then_some(())
                })
                .await;
            assert_eq!(shop.registered().await.len(), 2);
            shop.site.aws.elb.faults().clear_failures();
        }
    }
    shop.site.delete("TargetGroupBinding", "web").await;
    shop.until_unbound().await;
    if wrong == Wrong::Service {
        shop.until_registered(&[].into()).await;
    }
    shop.site
        .until("the record to be gone", async || {
            shop.records().await.is_empty().then_some(())
        })
        .await;
}

/// A binding whose group never was has nothing of ours.
async fn a_binding_that_was_never_registered_for_goes_at_once() {
    let shop = Shop::open(ALB, alb(), 1).await;
    let arn =
        "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/gone/0123456789abcdef";
    let binding: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1",
        "kind": "TargetGroupBinding",
        "metadata": { "name": "gone" },
        "spec": { "serviceRef": { "name": "web", "port": 80 }, "targetGroupARN": arn,
            "targetType": "ip", "ipAddressType": "ipv4" },
    }))
    .unwrap();
    // The hook denies a group that AWS does not have, so it is away.
    shop.site.remove_hooks().await;
    let bindings = shop.site.api("TargetGroupBinding");
    shop.site
        .until("the binding to be taken", async || {
            bindings.create(&<_>::default(), &binding).await.ok()
        })
        .await;
    shop.until_told("TargetGroupNotFound").await;
    shop.site.delete("TargetGroupBinding", "gone").await;
    shop.site
        .until("the binding to be gone", async || {
            bindings.get_opt("gone").await.ok()?.is_none().then_some(())
        })
        .await;
    assert_eq!(shop.finalizers().await, [super::FINALIZER]);
}

async fn a_cleanup_that_aws_refuses_is_told_and_is_done_later(code: &str, status: StatusCode) {
    let shop = Shop::open(ALB, alb(), 2).await;
    deny(&shop, code, status, On::action("DeregisterTargets"));
    let all = addresses(&shop.pods().await);
    shop.site.delete("TargetGroupBinding", "web").await;
    let condition = cleanup_failed(&shop).await;
    let message = condition["message"].as_str().unwrap();
    let tells = message.contains("DeregisterTargets") && message.contains(code);
    assert!(tells, "{message}");
    shop.until_told("CleanupFailed").await;
    assert_eq!(shop.registered().await, all);
    // The calls become rarer.
    assert!(shop.site.calls("DeregisterTargets") < 20);
    shop.site.aws.elb.faults().clear_failures();
    shop.until_unbound().await;
    shop.until_registered(&[].into()).await;
}

async fn an_abandoned_binding_goes_and_its_record_stays_as_long_as_its_targets() {
    let shop = Shop::open(ALB, alb(), 2).await;
    let refused = On::action("DeregisterTargets");
    deny(&shop, "AccessDenied", StatusCode::FORBIDDEN, refused);
    let left = addresses(&shop.pods().await);
    shop.site.delete("TargetGroupBinding", "web").await;
    cleanup_failed(&shop).await;
    let abandon = json!({ "metadata": { "annotations": { "targetgate.dev/abandon": "true" } } });
    let bindings = shop.site.api("TargetGroupBinding");
    patch(&bindings, "web", Patch::Merge(abandon)).await;
    shop.until_unbound().await;
    assert_eq!(shop.registered().await, left);
    shop.until_recorded(&left).await;
    for ip in left {
        let (elb, ip) = (&shop.site.aws.elb, ip.parse().unwrap());
        elb.deregister(&shop.group.arn, ip, 8080).unwrap();
    }
    shop.site
        .until("the record to be gone", async || {
            shop.records().await.is_empty().then_some(())
        })
        .await;
}

fn deny(shop: &Shop, code: &str, status: StatusCode, calls: On) {
    let faults = shop.site.aws.elb.faults();
    faults.fail(calls, code, status, None);
}

/// Waits for the condition `Ready` of the binding to say that its cleanup failed.
async fn cleanup_failed(shop: &Shop) -> Value {
    let bindings = shop.site.api("TargetGroupBinding");
    let what = "the binding to say that its cleanup failed";
    shop.site
        .until(what, async || {
            let binding = bindings.get("web").await.ok()?;
            let conditions = field(&binding, "/status/conditions").as_array()?.iter();
            let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
            ready
                .find(|condition| condition["reason"] == "CleanupFailed")
                .cloned()
        })
        .await
}
