//! When gates opened, compared with when ELB found the targets healthy.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::observer::PodView;
use crate::elb::State;
use crate::elb::log::Transition;

/// When the gates of some pods opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Openings {
    /// The times from `healthy` in ELB's own log to the moment at which an independent watch saw
    /// the gates open, sorted.
    pub delays: Vec<Duration>,
    /// The number of pods whose gates opened although ELB had not found them healthy before.
    pub early: usize,
}

impl Openings {
    /// Compares these pods with ELB's log.
    pub fn of(pods: &[PodView], log: &[Transition]) -> Self {
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

/// The time at which ELB first found the pod's target healthy.
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
    use super::super::observer::{Gate, Stage};
    use super::*;

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(millisecond).unwrap()
    }

    fn pod(host: u8, created: i64, opened: Option<i64>) -> PodView {
        PodView {
            name: format!("web-{host}"),
            template: String::new(),
            created: at(created),
            target: Some(SocketAddr::new([127, 1, 0, host].into(), 8080)),
            stage: Stage::Ready,
            gate: Gate::Open,
            running: None,
            opened: opened.map(at),
            ready: None,
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
            // The address was that of another pod before.
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
