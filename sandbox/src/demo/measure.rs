//! One measured rollout.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use tokio::time::{Instant, sleep};

use super::observer::{Gate, Observer, PodView};
use super::screen::Live;
use super::settings::Settings;
use super::shop::{Shop, Variant};
use crate::elb::log::Transition;
use crate::elb::{Elb, State};
use crate::traffic::{self, Counts, Traffic};

/// What a rollout cost.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Numbers {
    pub(super) title: &'static str,
    pub(super) counts: Counts,
    /// From the change of the Deployment to its completion.
    #[serde(rename = "rollout_seconds", serialize_with = "seconds")]
    pub(super) rollout: Duration,
    /// For each new pod with gates, from `healthy` by ELB's own log to the moment an independent
    /// watch saw its gates open; sorted.
    #[serde(serialize_with = "all_seconds", rename = "healthy_to_open_seconds")]
    pub(super) healthy_to_open: Vec<Duration>,
    /// New pods whose gates opened although ELB had not said `healthy` before.
    pub(super) opened_early: usize,
    /// New pods without a gate.
    pub(super) without_gate: usize,
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

/// What measuring needs.
pub(super) struct Bench<'a> {
    pub(super) shop: &'a Shop,
    pub(super) elb: &'a Elb,
    pub(super) load_balancer: SocketAddr,
    pub(super) observer: &'a Observer,
    pub(super) settings: &'a Settings,
    pub(super) live: &'a Live,
}

impl Bench<'_> {
    /// Rolls once under traffic. The window opens before the rollout and closes when it is
    /// complete, the last old target has left, and some settled traffic has passed.
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
            title: variant.title,
            counts,
            rollout,
            healthy_to_open: openings.delays,
            opened_early: openings.early,
            without_gate: new.iter().filter(|pod| pod.gate == Gate::None).count(),
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
        }
    }
}

/// How the gates of some pods opened.
#[derive(Debug, Default, PartialEq, Eq)]
struct Openings {
    delays: Vec<Duration>,
    early: usize,
}

impl Openings {
    fn of(pods: &[PodView], log: &[Transition]) -> Self {
        let mut openings = Self::default();
        for pod in pods {
            let Some(opened) = pod.opened else { continue };
            match healthy_at(pod, log).map(|healthy| opened.duration_since(healthy).try_into()) {
                Some(Ok(delay)) => openings.delays.push(delay),
                Some(Err(_)) | None => openings.early += 1,
            }
        }
        openings.delays.sort();
        openings
    }
}

/// When ELB first found the pod's target healthy.
fn healthy_at(pod: &PodView, log: &[Transition]) -> Option<Timestamp> {
    let target = pod.target?;
    let mut transitions = log
        .iter()
        .filter(|entry| entry.at >= pod.created && SocketAddr::new(entry.ip, entry.port) == target);
    let healthy = transitions.find(|entry| entry.to == Some(State::Healthy));
    healthy.map(|entry| entry.at)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::observer::Stage;
    use super::*;

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(millisecond).unwrap()
    }

    fn pod(host: u8, created: i64, opened: Option<i64>) -> PodView {
        PodView {
            name: format!("web-{host}"),
            created: at(created),
            target: Some(SocketAddr::new([127, 1, 0, host].into(), 8080)),
            stage: Stage::Ready,
            gate: Gate::Open,
            opened: opened.map(at),
        }
    }

    fn transition(host: u8, millisecond: i64, to: State) -> Transition {
        Transition {
            at: at(millisecond),
            arn: "arn".to_owned(),
            ip: [127, 1, 0, host].into(),
            port: 8080,
            from: None,
            to: Some(to),
            reason: None,
        }
    }

    #[test]
    fn a_delay_runs_from_elbs_own_healthy_to_the_open_gate() {
        let log = [
            // The address was another pod's before.
            transition(2, 500, State::Healthy),
            transition(2, 1_500, State::Initial),
            transition(3, 1_900, State::Healthy),
            transition(2, 2_000, State::Healthy),
        ];
        let pods = [
            pod(2, 1_000, Some(2_250)),
            pod(3, 1_000, Some(1_950)),
            pod(3, 1_000, None),
        ];
        let openings = Openings::of(&pods, &log);
        let expected = [50, 250].map(Duration::from_millis);
        assert_eq!(
            openings,
            Openings {
                delays: expected.to_vec(),
                early: 0
            }
        );
    }

    #[rstest]
    #[case::none(&[], None)]
    #[case::one(&[7], Some(7))]
    #[case::odd(&[1, 2, 90], Some(2))]
    #[case::even(&[1, 2, 4, 90], Some(3))]
    fn the_median_is_the_middle(#[case] delays: &[u64], #[case] expected: Option<u64>) {
        let delays = delays.iter().copied().map(Duration::from_millis);
        let numbers = Numbers {
            title: "",
            counts: Counts::default(),
            rollout: Duration::ZERO,
            healthy_to_open: delays.collect(),
            opened_early: 0,
            without_gate: 0,
        };
        assert_eq!(numbers.median(), expected.map(Duration::from_millis));
    }

    #[test]
    fn a_gate_that_opened_before_healthy_or_without_it_is_early() {
        let log = [
            transition(2, 2_000, State::Healthy),
            transition(3, 2_000, State::Initial),
        ];
        let pods = [pod(2, 1_000, Some(1_999)), pod(3, 1_000, Some(3_000))];
        assert_eq!(
            Openings::of(&pods, &log),
            Openings {
                delays: vec![],
                early: 2
            }
        );
    }
}
