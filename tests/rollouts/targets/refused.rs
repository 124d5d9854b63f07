//! What ELB refuses, shows late, or has changed by another hand.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{DynamicObject, ListParams};
use rstest::rstest;
use targetgate_sandbox::elb::{Delays, LoadBalancerKind, Quotas, Subnet};
use targetgate_sandbox::harness::object::field;
use targetgate_sandbox::harness::site::Site;

use super::{Shop, addresses};
use crate::deployment::{alb, nlb};

const ALB: LoadBalancerKind = LoadBalancerKind::Application;
/// The VPC of the sandbox's groups.
const VPC: &str = "vpc-0123456789abcdef0";

/// B4: ELB says in its own words in which zone a target has to be registered, and differently for either kind.
#[rstest]
#[case::alb(ALB)]
#[case::nlb(LoadBalancerKind::Network)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_outside_the_subnets_of_the_vpc_are_registered_in_all_zones(
    #[case] kind: LoadBalancerKind,
) {
    let site = Site::shared(Shop::setup()).await;
    let elsewhere = Subnet::new("10.0.0.0/8", "a").unwrap();
    site.aws.elb.set_subnets(VPC, vec![elsewhere]);
    let delays = match kind {
        LoadBalancerKind::Application => alb(),
        LoadBalancerKind::Network => nlb(),
    };
    let delays = Delays {
        registration: Duration::from_millis(400),
        ..delays
    };
    let mut shop = Shop::furnish(site, kind, delays, 3).await;
    assert_eq!(zones(&shop).await, ["all".to_owned()].into());
    // They can be named again, to be deregistered.
    shop.site.scale(&mut shop.web, 1).await;
    shop.settled().await;
    shop.until_registered(&addresses(&shop.pods().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_come_to_lie_inside_the_vpc_are_registered_in_their_own_zone() {
    let site = Site::shared(Shop::setup()).await;
    let elb = site.aws.elb.clone();
    elb.set_subnets(VPC, vec![Subnet::new("10.0.0.0/8", "a").unwrap()]);
    let shop = Shop::furnish(site, ALB, alb(), 3).await;
    assert_eq!(zones(&shop).await, ["all".to_owned()].into());
    // The VPC gets a block, in which "all" is refused.
    elb.set_subnets(VPC, vec![Subnet::new("127.0.0.0/8", "b").unwrap()]);
    shop.roll().await;
    assert_eq!(zones(&shop).await, ["b".to_owned()].into());
}

/// The zones of the targets that are not draining, as ELB tells them.
async fn zones(shop: &Shop) -> BTreeSet<String> {
    let call = shop.site.aws.client.describe_target_health();
    let answer = call.target_group_arn(&shop.group.arn).send().await.unwrap();
    let targets = answer.target_health_descriptions().iter();
    let present = targets.filter(|target| {
        let state = target.target_health().and_then(|health| health.state());
        state.is_some_and(|state| state.as_str() != "draining")
    });
    present
        .filter_map(|target| target.target()?.availability_zone().map(str::to_owned))
        .collect()
}

/// B3: one target that ELB refuses keeps no other out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_elb_refuses_keeps_no_other_out() {
    let mut shop = Shop::open(ALB, alb(), 2).await;
    let elb = shop.site.aws.elb.clone();
    // Every free address is refused until it is known which ones the new pods have.
    let known = addresses(&shop.pods().await);
    for last in 0..=255_u8 {
        for ip in siblings(&known, last) {
            elb.refuse(ip);
        }
    }
    shop.site.scale(&mut shop.web, 6).await;
    let news = shop
        .site
        .until("the new pods to have addresses", async || {
            let all = addresses(&shop.pods().await);
            let new: BTreeSet<String> = &all - &known;
            (new.len() == 4).then_some(new)
        })
        .await;
    let bad = news.first().unwrap().clone();
    for last in 0..=255_u8 {
        for ip in siblings(&known, last) {
            if ip.to_string() != bad {
                elb.accept(ip);
            }
        }
    }
    let mut good = addresses(&shop.pods().await);
    good.remove(&bad);
    shop.until_registered(&good).await;
    let words = format!("The following targets are not valid: '{bad}'");
    shop.site
        .until("an Event with ELB's words", async || {
            let events = shop.site.api("Event").list(&ListParams::default()).await;
            let has_words = |event: &DynamicObject| {
                let message = field(event, "/note").as_str();
                message.is_some_and(|message| message.contains(&words))
            };
            events.unwrap().iter().any(has_words).then_some(())
        })
        .await;
    elb.accept(bad.parse().unwrap());
    shop.settled().await;
}

/// The address with this last octet in the subnet of each known one, unless it is known itself.
fn siblings(known: &BTreeSet<String>, last: u8) -> BTreeSet<IpAddr> {
    let subnets = known.iter().filter_map(|ip| Some(ip.rsplit_once('.')?.0));
    let ips = subnets.map(|subnet| format!("{subnet}.{last}"));
    let unknown = ips.filter(|ip| !known.contains(ip));
    unknown.filter_map(|ip| ip.parse().ok()).collect()
}

/// B8: at the quota what fits is in, dead targets leave all the same, and their room is used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_group_takes_what_fits_and_the_rest_once_there_is_room() {
    let site = Site::shared(Shop::setup()).await;
    site.aws.elb.set_quotas(Quotas {
        targets_per_group: 4,
        ..Quotas::default()
    });
    let mut shop = Shop::furnish(site, ALB, alb(), 4).await;
    shop.site.scale(&mut shop.web, 6).await;
    shop.site
        .until("two pods to wait for room", async || {
            let pods = shop.pods().await;
            let full = shop.registered().await.len() == 4;
            (addresses(&pods).len() == 6 && full).then_some(())
        })
        .await;
    // Dead targets leave though the group is full, and the pods that waited get their room.
    let registered = shop.registered().await;
    let pods = shop.pods().await;
    let waiting = &addresses(&pods) - &registered;
    let is_in = |pod: &&DynamicObject| addresses(std::slice::from_ref(*pod)).is_subset(&registered);
    for pod in pods.iter().filter(is_in).take(2) {
        shop.site.delete("Pod", &pod.name_any()).await;
    }
    shop.site
        .until("the pods that waited to be registered", async || {
            waiting.is_subset(&shop.registered().await).then_some(())
        })
        .await;
    shop.site.aws.elb.set_quotas(Quotas::default());
    shop.settled().await;
    shop.until_registered(&addresses(&shop.pods().await)).await;
}

/// DescribeTargetHealth that does not show a registration yet is no reason to register again and again, nor to open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_that_elb_shows_late_are_made_once() {
    let site = Site::shared(Shop::setup()).await;
    let lag = Duration::from_secs(4);
    site.aws.elb.faults().show_registrations_after(lag);
    let shop = Shop::furnish(site, ALB, alb(), 3).await;
    let made = shop.site.calls("RegisterTargets");
    // Each pod once, if none became ready together with another.
    assert!(made <= 3, "{made} calls");
}

/// B15: a foreign target is left alone, and one of ours that another hand removed comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_target_stays_and_a_removed_one_of_ours_comes_back() {
    let shop = Shop::open(ALB, alb(), 3).await;
    let (elb, arn) = (&shop.site.aws.elb, &shop.group.arn);
    let foreign: IpAddr = "10.9.0.1".parse().unwrap();
    elb.register(arn, foreign, 8080).unwrap();
    let ours = addresses(&shop.pods().await);
    let removed: IpAddr = ours.first().unwrap().parse().unwrap();
    elb.deregister(arn, removed, 8080).unwrap();
    let mut all = ours.clone();
    all.insert(foreign.to_string());
    shop.until_registered(&all).await;
    shop.roll().await;
    let registered = shop.registered().await;
    assert!(registered.contains(&foreign.to_string()), "{registered:?}");
}
