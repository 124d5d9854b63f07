//! What AWS says: whose credentials it is called with, each target group, and whether targets may be changed.

use crate::doctor::answer::{Check, Finding};
use crate::doctor::facts::{ChangeOutcome, ChangeTrial, Described, Facts, Group, Targets};
use crate::reason::Reason;
use crate::text::{agreeing, counted};

/// Whose credentials AWS is called with. Where that cannot be asked, an answer about a group proves them.
pub(super) fn identity(facts: &Facts) -> Vec<Finding> {
    const ABOUT: &str = "AWS";
    let Some(identity) = &facts.identity else {
        return vec![];
    };
    let region = identity.region.as_deref().unwrap_or("none");
    let mut groups = facts.groups.iter().flatten();
    vec![match &identity.arn {
        Ok(arn) => {
            let message = format!("It is called as {arn}; the Region of this machine is {region}.");
            Finding::sound(Check::Identity, ABOUT, message)
        }
        Err(why) if groups.any(|group| group.targets.is_ok()) => {
            let message = format!(
                "The Region of this machine is {region}. ELB accepts the credentials, and whose they are is not known: \
                 {why}."
            );
            Finding::sound(Check::Identity, ABOUT, message)
        }
        Err(why) => {
            let message = format!("Whose credentials there are is not known: {why}.");
            Finding::unknown(Check::Identity, ABOUT, message)
        }
    }]
}

/// AWS answers about each group, and says of it what its binding says.
pub(super) fn groups(facts: &Facts) -> Vec<Finding> {
    let groups = match &facts.groups {
        Err(why) => return vec![Finding::unknown(Check::Group, "AWS", why)],
        Ok(groups) => groups,
    };
    let left_out = (facts.groups_left_out > 0).then(|| {
        let left_out = facts.groups_left_out;
        let groups = agreeing(left_out, "group was", "groups were");
        let message = format!("{left_out} more {groups} not asked about.");
        Finding::unknown(Check::Group, "AWS", message)
    });
    groups.iter().flat_map(group).chain(left_out).collect()
}

fn group(group: &Group) -> Vec<Finding> {
    let about = group.arn.as_str();
    match (&group.targets, &group.described) {
        (Err(failed), _) | (_, Err(failed)) => vec![unanswered(about, failed)],
        (Ok(targets), Ok(described)) => answered(about, targets, described),
    }
}

fn unanswered(about: &str, (reason, why): &(Reason, String)) -> Finding {
    match reason {
        // AWS may answer the next time.
        Reason::AwsUnavailable => Finding::unknown(Check::Group, about, why),
        reason => Finding::broken(Check::Group, about, *reason, why),
    }
}

fn answered(about: &str, targets: &Targets, described: &Described) -> Vec<Finding> {
    let broken = |reason, message: String| Finding::broken(Check::Group, about, reason, message);
    let Described {
        load_balancers,
        may_be_unused,
        differs,
    } = described;
    let differs = differs
        .iter()
        .map(|differs| broken(Reason::BindingDiffers, format!("{differs}.")));
    let mut found: Vec<Finding> = differs.collect();
    if *load_balancers == 0 && !may_be_unused {
        let reason = Reason::GroupNotAttached;
        found.push(broken(reason, reason.sentence().to_owned()));
    }
    let Targets {
        all,
        zone_not_enabled,
        ..
    } = targets;
    if *zone_not_enabled > 0 {
        let all = counted(*all, "target");
        let message = format!("ELB says that of {zone_not_enabled} of its {all}.");
        found.push(broken(Reason::ZoneNotEnabled, message));
    }
    if found.is_empty() {
        let targets = counted(*all, "target");
        let use_it = agreeing(*load_balancers, "load balancer uses", "load balancers use");
        let message = format!("It has {targets}, and {load_balancers} {use_it} it.");
        found.push(Finding::sound(Check::Group, about, message));
    }
    found
}

/// AWS lets targets be changed.
pub(super) fn changes(facts: &Facts) -> Vec<Finding> {
    facts.changes.iter().map(change).collect()
}

fn change(trial: &ChangeTrial) -> Finding {
    let about = format!("{} in {}", trial.action, trial.place);
    let check = Check::Registration;
    match &trial.outcome {
        ChangeOutcome::Allowed => {
            let message = "AWS looks for a group that cannot exist, and so allows the call.";
            Finding::sound(check, &about, message)
        }
        ChangeOutcome::Denied(why) => Finding::broken(check, &about, Reason::CallRefused, why),
        ChangeOutcome::Unknown(why) => Finding::unknown(check, &about, why),
    }
}
