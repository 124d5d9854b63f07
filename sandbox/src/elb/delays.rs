//! The times and thresholds of a load balancer.

use std::time::Duration;

/// The times and thresholds of one target group.
///
/// [`Delays::alb`] and [`Delays::nlb`] are what a cluster meets: the health check settings are
/// those that the incumbent sets on the groups that it creates, and the rest is as AWS documents it
/// or as users report it.
#[derive(Clone, Debug, PartialEq)]
pub struct Delays {
    /// From RegisterTargets until the load balancer knows the target. Until then the reason is
    /// `Elb.RegistrationInProgress`.
    pub registration: Duration,
    /// From one health check of a target to the next.
    pub health_check_interval: Duration,
    /// The timeout of a health check.
    pub health_check_timeout: Duration,
    /// Consecutive passes that make an unhealthy target healthy, and at an NLB a new one as well.
    pub healthy_threshold: u32,
    /// Consecutive failures that make a target unhealthy.
    pub unhealthy_threshold: u32,
    /// How long a target is `draining`: the attribute `deregistration_delay.timeout_seconds`.
    pub deregistration_delay: Duration,
    /// How long an NLB keeps the connections of a target that became unhealthy: the attribute
    /// `target_health_state.unhealthy.draining_interval_seconds`. Zero ends them at once.
    pub unhealthy_draining: Duration,
    /// How long after a deregistration the data plane still sends *new* requests or connections to
    /// the target.
    pub propagation_lag: Duration,
    /// How long the data plane waits for a silent target: the load balancer's idle timeout.
    pub idle_timeout: Duration,
}

impl Delays {
    /// The delays of an Application Load Balancer.
    pub fn alb() -> Self {
        Self {
            registration: Duration::from_secs(4),
            health_check_interval: Duration::from_secs(15),
            health_check_timeout: Duration::from_secs(5),
            healthy_threshold: 2,
            unhealthy_threshold: 2,
            deregistration_delay: Duration::from_secs(300),
            unhealthy_draining: Duration::ZERO,
            propagation_lag: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
        }
    }

    /// The delays of a Network Load Balancer, which is slow to take a target in and slow to let it
    /// go.
    pub fn nlb() -> Self {
        Self {
            registration: Duration::from_secs(60),
            health_check_interval: Duration::from_secs(10),
            health_check_timeout: Duration::from_secs(10),
            healthy_threshold: 3,
            unhealthy_threshold: 3,
            deregistration_delay: Duration::from_secs(300),
            unhealthy_draining: Duration::ZERO,
            propagation_lag: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(350),
        }
    }

    /// The same delays with every duration multiplied by `factor`; the thresholds stay.
    ///
    /// # Panics
    ///
    /// When `factor` is negative or not finite.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        Self {
            registration: self.registration.mul_f64(factor),
            health_check_interval: self.health_check_interval.mul_f64(factor),
            health_check_timeout: self.health_check_timeout.mul_f64(factor),
            healthy_threshold: self.healthy_threshold,
            unhealthy_threshold: self.unhealthy_threshold,
            deregistration_delay: self.deregistration_delay.mul_f64(factor),
            unhealthy_draining: self.unhealthy_draining.mul_f64(factor),
            propagation_lag: self.propagation_lag.mul_f64(factor),
            idle_timeout: self.idle_timeout.mul_f64(factor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_changes_times_and_leaves_thresholds() {
        let scaled = Delays::nlb().scaled(0.1);
        assert_eq!(scaled.registration, Duration::from_secs(6));
        assert_eq!(scaled.health_check_interval, Duration::from_secs(1));
        assert_eq!(scaled.propagation_lag, Duration::from_secs(6));
        assert_eq!(scaled.healthy_threshold, 3);
    }
}
