//! The attributes of groups, and the load balancers with their zones.

use super::ApiError;
use super::lookup::group;
use super::response::{Answer, BalancerView};
use crate::elb::Elb;
use crate::elb::group::LoadBalancerKind;
use crate::elb::model::{LoadBalancer, Model};

const CROSS_ZONE: &str = "load_balancing.cross_zone.enabled";
/// The zones of a load balancer that has every zone, as letters behind the Region's name.
const EVERY_ZONE: [&str; 3] = ["a", "b", "c"];

/// What a group's attributes say, as far as they are modelled.
pub(super) fn of_group(model: &Model, arn: &str) -> Result<Answer, ApiError> {
    let group = group(model, arn)?;
    // Scaled times may be fractions of a second, which the API cannot express.
    let delay = group.delays.deregistration_delay.as_secs_f64().ceil();
    let cross_zone = match group.spec.cross_zone {
        Some(crosses) => crosses.to_string(),
        None => "use_load_balancer_configuration".to_owned(),
    };
    let mut attributes = vec![
        ("deregistration_delay.timeout_seconds", delay.to_string()),
        (CROSS_ZONE, cross_zone),
    ];
    // Of an ALB's groups AWS does not tell it.
    if group.spec.kind() == LoadBalancerKind::Network {
        let terminates = group.spec.connection_termination.to_string();
        attributes.push((
            "deregistration_delay.connection_termination.enabled",
            terminates,
        ));
    }
    Ok(Answer::Attributes(attributes))
}

/// What a load balancer's attributes say, as far as they are modelled: as AWS makes them.
pub(super) fn of_balancer(model: &Model, arn: &str) -> Result<Answer, ApiError> {
    let crosses = balancer(model, arn)?.kind == LoadBalancerKind::Application;
    Ok(Answer::Attributes(vec![(CROSS_ZONE, crosses.to_string())]))
}

fn balancer<'a>(model: &'a Model, arn: &str) -> Result<&'a LoadBalancer, ApiError> {
    let found = model.balancers.get(arn);
    found.ok_or_else(|| ApiError::balancer_missing(arn))
}

impl Elb {
    pub(super) fn describe_balancers(&self, arns: &[String]) -> Result<Answer, ApiError> {
        self.with_model(|model, _| {
            let views = arns.iter().map(|arn| {
                let balancer = balancer(model, arn)?;
                let every = EVERY_ZONE.map(|letter| format!("{}{letter}", self.options().region));
                Ok(BalancerView {
                    arn: arn.clone(),
                    kind: balancer.kind,
                    zones: match balancer.zones.is_empty() {
                        true => every.to_vec(),
                        false => balancer.zones.iter().cloned().collect(),
                    },
                })
            });
            Ok(Answer::LoadBalancers(views.collect::<Result<_, _>>()?))
        })
    }
}
