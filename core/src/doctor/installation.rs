//! The Deployment, the rights of its account, and what an installation has left behind.

use crate::doctor::answer::{Check, Finding};
use crate::doctor::facts::{Facts, Right};
use crate::names::{FINALIZER, ObjectKey};
use crate::reason::Reason;
use crate::text::{agreeing, counted};

/// At most this many objects are named in a sentence. Chosen.
const NAMED: usize = 10;

/// The Deployment exists, and its flags can be read: other hops follow from them.
pub(super) fn found(facts: &Facts) -> Vec<Finding> {
    let (key, installation) = &facts.installation;
    let about = format!("Deployment {key}");
    vec![match installation {
        Err(why) => {
            let message = format!("{why}. The defaults of its flags are assumed.");
            Finding::unknown(Check::Installation, &about, message)
        }
        Ok(None) => {
            let reason = Reason::InstallationMissing;
            Finding::broken(Check::Installation, &about, reason, reason.sentence())
        }
        Ok(Some(installation)) => {
            let register = if installation.registers { "on" } else { "off" };
            let message = format!(
                "It runs as {}, with registration {register}.",
                installation.account
            );
            Finding::sound(Check::Installation, &about, message)
        }
    }]
}

/// The account has each right that targetgate uses with its flags.
pub(super) fn rights(facts: &Facts) -> Vec<Finding> {
    let account = match &facts.installation.1 {
        Ok(Some(installation)) => &*installation.account,
        // Without a Deployment there is no account.
        Ok(None) => return vec![],
        Err(_) => "service account",
    };
    let rights = match &facts.rights {
        Ok(rights) => rights,
        Err(why) => return vec![Finding::unknown(Check::Right, account, why)],
    };
    let lacking = rights.iter().filter(|right| !right.granted);
    let lacking: Vec<Finding> = lacking.map(|right| lacks(account, right)).collect();
    match lacking.is_empty() {
        true => {
            let rights = counted(rights.len(), "right");
            let message = format!("It has all {rights} that targetgate uses.");
            vec![Finding::sound(Check::Right, account, message)]
        }
        false => lacking,
    }
}

fn lacks(account: &str, right: &Right) -> Finding {
    let Right { verb, resource, .. } = right;
    let name = right.name.as_ref();
    let name = name.map_or(String::new(), |name| format!(" {name}"));
    let namespace = right.namespace.as_ref();
    let place = namespace.map_or("in all namespaces".to_owned(), |namespace| {
        format!("in namespace {namespace}")
    });
    let message = format!("{account} may not {verb} {resource}{name} {place}.");
    let about = format!("{verb} {resource}{name}");
    Finding::broken(Check::Right, &about, Reason::RightMissing, message)
}

/// No binding has our finalizer unless registration is on.
pub(super) fn finalizers(facts: &Facts) -> Vec<Finding> {
    let bindings = facts.bindings.iter().flatten();
    let held = bindings.filter(|binding| binding.our_finalizer);
    let held: Vec<&ObjectKey> = held.map(|binding| &binding.key).collect();
    let about = format!("finalizer {FINALIZER}");
    let names = names(&held);
    let have_it = agreeing(held.len(), "binding has it", "bindings have it");
    let have_it = format!("{} {have_it}", held.len());
    let (deployment, installation) = &facts.installation;
    vec![match installation {
        _ if facts.bindings.is_err() => {
            Finding::unknown(Check::Finalizer, &about, "The bindings are not known.")
        }
        _ if held.is_empty() => Finding::sound(Check::Finalizer, &about, "No binding has it."),
        Err(why) => {
            let message =
                format!("{have_it}: {names}. Whether registration is on is not known: {why}.");
            Finding::unknown(Check::Finalizer, &about, message)
        }
        Ok(Some(installation)) if installation.registers => {
            let message = format!("{have_it}, and registration is on.");
            Finding::sound(Check::Finalizer, &about, message)
        }
        Ok(found) => {
            let why = match found {
                Some(_) => "registration is off",
                None => "no targetgate is installed",
            };
            let message = format!("{have_it}, and {why}: {names}.");
            let ObjectKey { namespace, name } = deployment;
            Finding::broken(Check::Finalizer, &about, Reason::FinalizerLeft, message).by(format!(
                "targetgate release --all --namespace {namespace} --deployment {name}"
            ))
        }
    }]
}

/// The first of them, and how many more.
pub(super) fn names<T: ToString>(all: &[&T]) -> String {
    let named: Vec<String> = all.iter().take(NAMED).map(|one| one.to_string()).collect();
    match all.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}
