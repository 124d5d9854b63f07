//! AWS Load Balancer Controller beside targetgate: whose the bindings are, whether its hooks have a process behind them,
//! and which listeners are its own.

use crate::doctor::answer::{Check, Finding};
use crate::doctor::cluster::{SKEW_SECONDS, age};
use crate::doctor::facts::{Facts, HookKind, IncumbentHooks, Installation};
use crate::doctor::installation::names;
use crate::names::ObjectKey;
use crate::reason::Reason;
use crate::targets::incumbent::LEADS_FOR;
use crate::text::agreeing;

const REGISTRARS: &str = "registration of targets";

/// One controller registers the targets of a binding.
pub(super) fn registrars(facts: &Facts) -> Vec<Finding> {
    let unknown = |why: &String| vec![Finding::unknown(Check::Incumbent, REGISTRARS, why.as_str())];
    let deployments = match &facts.incumbent.deployments {
        Ok(deployments) => deployments,
        Err(why) => return unknown(why),
    };
    match &facts.installation.1 {
        Err(why) => unknown(why),
        Ok(Some(installation)) if installation.registers => match leads(facts) {
            Ok(leads) => vec![beside(facts, installation, deployments, leads)],
            Err(why) => unknown(why),
        },
        Ok(_) => vec![sound(match deployments[..] {
            [] => "targetgate registers none, and no Deployment of AWS Load Balancer Controller runs: \
                   another controller registers them, if any does."
                .to_owned(),
            _ => format!(
                "AWS Load Balancer Controller registers them ({}), and targetgate none.",
                all(deployments)
            ),
        })],
    }
}

/// The incumbent, where targetgate registers targets.
fn beside(
    facts: &Facts,
    installation: &Installation,
    deployments: &[ObjectKey],
    leads: bool,
) -> Finding {
    let lease = &facts.incumbent.lease.0;
    let broken = |reason, message| Finding::broken(Check::Incumbent, REGISTRARS, reason, message);
    let namespaces = installation.incumbent_namespaces.join(", ");
    match (leads, deployments) {
        (false, []) => sound(format!(
            "targetgate registers them: no Deployment of AWS Load Balancer Controller runs, and Lease {lease} is not \
             renewed."
        )),
        (false, deployments) => broken(
            Reason::TwoRegistrars,
            format!(
                "AWS Load Balancer Controller runs ({}), and Lease {lease} is not renewed.",
                all(deployments)
            ),
        ),
        (true, _) if !namespaces.is_empty() => sound(format!(
            "AWS Load Balancer Controller has those of namespaces {namespaces}, and targetgate the others."
        )),
        (true, _) => broken(
            Reason::HeldByAnother,
            format!(
                "Lease {lease} of AWS Load Balancer Controller is renewed, so it holds all bindings."
            ),
        ),
    }
}

/// Whether the incumbent renews its Lease.
fn leads(facts: &Facts) -> Result<bool, &String> {
    let lease = facts.incumbent.lease.1.as_ref()?.as_ref();
    let age = lease.and_then(|lease| age(facts, lease));
    let leads_for = i64::try_from(LEADS_FOR.as_secs()).unwrap_or(i64::MAX);
    Ok(age.is_some_and(|age| age <= leads_for.saturating_add(SKEW_SECONDS)))
}

fn sound(message: String) -> Finding {
    Finding::sound(Check::Incumbent, REGISTRARS, message)
}

fn all(deployments: &[ObjectKey]) -> String {
    names(&deployments.iter().collect::<Vec<_>>())
}

/// The incumbent's hooks have a process behind them, and its hook for pods is not registered any more.
pub(super) fn hooks(facts: &Facts) -> Vec<Finding> {
    const ABOUT: &str = "hooks of AWS Load Balancer Controller";
    match &facts.incumbent.hooks {
        Err(why) => vec![Finding::unknown(Check::Incumbent, ABOUT, why)],
        Ok(none) if none.is_empty() => {
            vec![Finding::sound(
                Check::Incumbent,
                ABOUT,
                "None is registered.",
            )]
        }
        Ok(all) => all
            .iter()
            .map(|hooks| of_configuration(facts, hooks))
            .collect(),
    }
}

fn of_configuration(facts: &Facts, hooks: &IncumbentHooks) -> Finding {
    let (about, names) = (&hooks.configuration, hooks.names.join(", "));
    let runs = facts.incumbent.deployments.as_ref();
    match (&hooks.ready, runs.map(|runs| !runs.is_empty())) {
        (Ok(None | Some(0)), Ok(false)) => {
            let reason = Reason::IncumbentHooksLeft;
            let message =
                format!("It registers {names}, and no endpoint of their Service is ready.");
            let command = format!("kubectl delete {}", about.replacen('/', " ", 1));
            Finding::broken(Check::Incumbent, about, reason, message).by(command)
        }
        (Err(why), Ok(false)) | (_, Err(why)) => {
            let message =
                format!("It registers {names}. Whether a process answers is not known: {why}");
            Finding::unknown(Check::Incumbent, about, message)
        }
        _ if hooks
            .names
            .iter()
            .any(|name| name == HookKind::Pods.webhook()) =>
        {
            let message = format!("It registers {names}.");
            Finding::advice(Check::Incumbent, about, Reason::IncumbentInjects, message)
        }
        _ => Finding::sound(Check::Incumbent, about, format!("It registers {names}.")),
    }
}

/// Listeners that the incumbent puts back.
pub(super) fn listeners(facts: &Facts) -> Vec<Finding> {
    let bindings = facts.bindings.iter().flatten();
    let of_stacks = bindings.filter(|binding| binding.of_stack);
    let of_stacks: Vec<&ObjectKey> = of_stacks.map(|binding| &binding.key).collect();
    if of_stacks.is_empty() {
        return vec![];
    }
    let have = agreeing(of_stacks.len(), "binding has", "bindings have");
    let message = format!(
        "{} {have} listeners that AWS Load Balancer Controller made: {}.",
        of_stacks.len(),
        names(&of_stacks)
    );
    let reason = Reason::ListenerManaged;
    vec![Finding::advice(
        Check::Listener,
        "listeners",
        reason,
        message,
    )]
}
