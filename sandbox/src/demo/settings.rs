//! The delays and the load of a run, the same for all rollouts.

use std::time::Duration;

use crate::elb::Delays;
use crate::kubelet::Network;

/// The delays of a run, which are scaled, and its load, which is not.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The factor by which all delays were multiplied.
    pub scale: f64,
    /// The delays of the load balancer.
    pub delays: Delays,
    /// How pods get their addresses.
    pub network: Network,
    /// From the binding of a pod until it listens.
    pub start_after: Duration,
    /// From a change of a pod to the registrar's call.
    pub registrar_delay: Duration,
    /// The `preStop` sleep of the application's own, in the third rollout.
    pub pre_stop: Duration,
    /// The `preStop` sleep that targetgate gives to pods, in the fourth rollout.
    pub drain: Duration,
    /// How long a pod works on a request.
    pub work: Duration,
    /// How long traffic runs before and after each rollout without any change.
    pub settle: Duration,
    /// Requests per second.
    pub rate: f64,
    /// The number of connections that the requests share.
    pub connections: usize,
    /// The timeout of a request.
    pub timeout: Duration,
}

/// The sleep that targetgate gives to the pods of an ALB, in seconds. The default of its
/// `--drain-seconds`.
const DRAIN: f64 = 20.0;
/// The number of pods of the Deployment. Chosen.
pub(super) const REPLICAS: u32 = 4;

impl Settings {
    /// The usual delays of an Application Load Balancer, a kubelet and a preStop sleep, multiplied
    /// by `scale`.
    ///
    /// Unscaled, the deregistration delay is 30 s, as operators set it: AWS's default of 300 s
    /// would only lengthen the wait for the old targets to go.
    pub fn scaled(scale: f64) -> Self {
        let delays = Delays {
            deregistration_delay: Duration::from_secs(30),
            ..Delays::alb()
        };
        let seconds = |seconds: f64| Duration::from_secs_f64(seconds * scale);
        Self {
            scale,
            delays: Delays {
                // The idle timeout is not scaled: waiting for a target that works does no harm, but
                // giving up early would.
                idle_timeout: delays.idle_timeout,
                ..delays.scaled(scale)
            },
            network: Network::detect(),
            start_after: seconds(5.0),
            registrar_delay: seconds(1.0),
            pre_stop: seconds(15.0),
            // Kubernetes sleeps for whole seconds, at least one.
            drain: Duration::from_secs_f64(seconds(DRAIN).as_secs_f64().ceil()),
            work: Duration::from_millis(10),
            settle: Duration::from_secs(2),
            rate: 200.0,
            connections: 16,
            timeout: Duration::from_secs(5),
        }
    }

    /// The flag by which targetgate sleeps for [`Settings::drain`].
    pub(super) fn drain_flag(&self) -> String {
        format!("--drain-seconds=alb={}", self.drain.as_secs())
    }

    /// The delays before and after scaling, as lines of text.
    pub fn describe(&self) -> Vec<String> {
        let line = |what, time: Duration| line(what, time.as_secs_f64() / self.scale, time);
        vec![
            format!(
                "Delays: an ALB's, multiplied by {}; the same for all four rollouts.",
                self.scale
            ),
            line("a pod starts", self.start_after),
            line("the pod's registration is sent", self.registrar_delay),
            line("the load balancer takes it up", self.delays.registration),
            line(
                "between two health checks",
                self.delays.health_check_interval,
            ),
            line(
                "a deregistered target still gets requests",
                self.delays.propagation_lag,
            ),
            line(
                "a target drains (AWS's default: 300 s)",
                self.delays.deregistration_delay,
            ),
            line(
                "the application's preStop sleep, in (c) only",
                self.pre_stop,
            ),
            self::line("targetgate's preStop sleep, in (d) only", DRAIN, self.drain),
            format!(
                "Traffic: {} requests/s over {} connections, a timeout of {} s, no retries.",
                self.rate,
                self.connections,
                self.timeout.as_secs_f64()
            ),
        ]
    }
}

fn line(what: &str, real: f64, scaled: Duration) -> String {
    format!(
        "  {what:<46} {real:>5.1} s → {:>5.2} s",
        scaled.as_secs_f64()
    )
}
