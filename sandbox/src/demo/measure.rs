//! Measures one rollout.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::time::{Instant, sleep};

use super::live::Live;
use super::settings::Settings;
use super::shop::Shop;
use super::variant::Variant;
use crate::elb::Elb;
use crate::harness::Openings;
use crate::harness::observer::{Gate, Observer, PodView};
use crate::traffic::{self, Counts, KeepAlive, Traffic};

/// The results of one rollout.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Numbers {
    #[serde(flatten)]
    pub(super) variant: Variant,
    pub(super) counts: Counts,
    /// The time from the change of the Deployment to its completion.
    #[serde(rename = "rollout_seconds", serialize_with = "seconds")]
    pub(super) rollout: Duration,
    /// For each new pod with gates, the time from `healthy` in ELB's own log to the moment at which
    /// an independent watch saw its gates open; sorted.
    #[serde(serialize_with = "all_seconds", rename = "healthy_to_open_seconds")]
    pub(super) healthy_to_open: Vec<Duration>,
    /// The number of new pods whose gates opened although ELB had not found them healthy before.
    pub(super) opened_early: usize,
    /// The number of new pods without a gate.
    pub(super) without_gate: usize,
    /// The number of new pods without a preStop hook.
    pub(super) without_pre_stop: usize,
}

impl Numbers {
    /// The median of [`Numbers::healthy_to_open`].
    pub(super) fn median(&self) -> Option<Duration> {
        let delays = &self.healthy_to_open;
        let upper = delays.get(delays.len() / 2)?;
        let lower = delays.get((delays.len() - 1) / 2)?;
        Some((*lower + *upper) / 2)
    }
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

fn all_seconds<S: Serializer>(times: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(times.iter().map(Duration::as_secs_f64))
}

/// The parts that a measurement needs.
pub(super) struct Bench<'a> {
    pub(super) shop: &'a Shop,
    pub(super) elb: &'a Elb,
    pub(super) load_balancer: SocketAddr,
    pub(super) observer: &'a Observer,
    pub(super) settings: &'a Settings,
    pub(super) live: &'a Live,
}

impl Bench<'_> {
    /// Rolls once under traffic and measures. The measurement begins before the rollout, and ends
    /// after the rollout is complete, the last old target has left, and traffic has settled for a
    /// while.
    pub(super) async fn measure(&self, variant: &Variant) -> anyhow::Result<Numbers> {
        self.live.begin(variant.title, "preparing", None);
        self.shop.reset(variant).await?;
        self.observer.forget();
        let former: Vec<String> = self.names();

        let traffic = Traffic::start(&self.traffic());
        self.live
            .begin(variant.title, "traffic, settled", Some(traffic.shared()));
        sleep(self.settings.settle).await;
        self.live.now("rolling");
        let began = Instant::now();
        self.shop.restart().await?;
        self.shop.rolled().await?;
        let rollout = began.elapsed();
        self.live.now("rolled; old targets leave");
        self.shop.settled().await?;
        self.live.now("traffic, settled");
        sleep(self.settings.settle).await;
        let counts = traffic.stop().await;

        let new: Vec<PodView> = self.observer.pods();
        let new: Vec<PodView> = new
            .into_iter()
            .filter(|pod| !former.contains(&pod.name))
            .collect();
        let openings = Openings::of(&new, &self.elb.log());
        Ok(Numbers {
            variant: variant.clone(),
            counts,
            rollout,
            healthy_to_open: openings.delays,
            opened_early: openings.early,
            without_gate: new.iter().filter(|pod| pod.gate == Gate::None).count(),
            without_pre_stop: self.shop.without_pre_stop().await?,
        })
    }

    fn names(&self) -> Vec<String> {
        self.observer
            .pods()
            .into_iter()
            .map(|pod| pod.name)
            .collect()
    }

    fn traffic(&self) -> traffic::Options {
        traffic::Options {
            address: self.load_balancer,
            path: "/".to_owned(),
            rate: self.settings.rate,
            connections: self.settings.connections,
            timeout: self.settings.timeout,
            keep_alive: KeepAlive::Yes,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::variant::variants;
    use super::*;

    #[rstest]
    #[case::none(&[], None)]
    #[case::one(&[7], Some(7))]
    #[case::odd(&[1, 2, 90], Some(2))]
    #[case::even(&[1, 2, 4, 90], Some(3))]
    fn the_median_is_the_middle(#[case] delays: &[u64], #[case] expected: Option<u64>) {
        let delays = delays.iter().copied().map(Duration::from_millis);
        let numbers = Numbers {
            variant: variants(&Settings::scaled(0.1))[1].clone(),
            counts: Counts::default(),
            rollout: Duration::ZERO,
            healthy_to_open: delays.collect(),
            opened_early: 0,
            without_gate: 0,
            without_pre_stop: 0,
        };
        assert_eq!(numbers.median(), expected.map(Duration::from_millis));
    }
}
