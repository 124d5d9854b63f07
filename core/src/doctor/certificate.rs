//! The certificate of the hooks, and the bundles by which the API server trusts it.

use jiff::{SignedDuration, Timestamp};

use crate::doctor::answer::{Check, Finding};
use crate::doctor::facts::{BindingTrial, Bundle, Facts, Hook, HookKind, PodTrial, Validity};
use crate::reason::Reason;

/// A certificate should have been renewed when it has less left. Chosen: targetgate and cert-manager renew when a third
/// of the validity is left, so that half of that has passed in vain; a certificate of years has a week left.
const SOON_SHARE: i32 = 6;
const SOON_AT_MOST: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The bundle of each hook verifies the certificate that is served.
pub(super) fn trusted(facts: &Facts) -> Vec<Finding> {
    let hooks = facts.hooks.iter().flatten();
    hooks.map(|hook| trust(facts, hook)).collect()
}

fn trust(facts: &Facts, hook: &Hook) -> Finding {
    let broken = |reason: Reason, message: String| {
        Finding::broken(Check::Trust, &hook.name, reason, message)
    };
    let place = &hook.configuration;
    match &hook.bundle {
        Bundle::Empty => broken(
            Reason::BundleEmpty,
            format!("The caBundle in {place} is empty."),
        ),
        Bundle::Unsound => broken(
            Reason::BundleUnsound,
            format!("The caBundle in {place} holds something that is no certificate."),
        ),
        Bundle::Cas { validity, .. } if validity.expires <= facts.now => broken(
            Reason::CertificateExpired,
            format!(
                "The last CA of the caBundle in {place} expired at {}.",
                validity.expires
            ),
        ),
        Bundle::Cas {
            verifies: Ok(false),
            ..
        } => broken(
            Reason::CertificateUntrusted,
            format!("The caBundle in {place} does not verify the certificate of the Secret."),
        ),
        Bundle::Cas { validity, .. } if expires_soon(*validity, facts.now) => broken(
            Reason::CertificateExpiresSoon,
            format!(
                "The last CA of the caBundle in {place} expires at {}.",
                validity.expires
            ),
        ),
        Bundle::Cas {
            verifies: Ok(true),
            validity,
        } => {
            let message = format!(
                "It verifies the certificate of the Secret, and expires at {}.",
                validity.expires
            );
            Finding::sound(Check::Trust, &hook.name, message)
        }
        Bundle::Cas {
            verifies: Err(why),
            validity,
        } => uncompared(
            facts,
            hook,
            &format!("It expires at {}", validity.expires),
            why,
        ),
    }
}

/// Without the certificate, a review that came through proves that the API server trusts it.
fn uncompared(facts: &Facts, hook: &Hook, expiry: &str, why: &str) -> Finding {
    let reached = match hook.kind {
        HookKind::Pods => matches!(facts.pod_trial, Ok(PodTrial::Gated { .. })),
        // The review of the rules comes after that of the defaults, unless that one failed unnoticed.
        HookKind::BindingDefaults | HookKind::BindingRules => {
            hook.fails && facts.binding_trial == Ok(BindingTrial::Denied)
        }
    };
    match reached {
        true => {
            let message = format!("{expiry}, and the API server reached the hook.");
            Finding::sound(Check::Trust, &hook.name, message)
        }
        false => {
            let message = format!("{expiry}, but the certificate is not known: {why}");
            Finding::unknown(Check::Trust, &hook.name, message)
        }
    }
}

/// The certificate of the Secret is valid for a while. Without it, the trust in it is all that is told.
pub(super) fn served(facts: &Facts) -> Vec<Finding> {
    let Ok(validity) = facts.certificate else {
        return vec![];
    };
    const ABOUT: &str = "the served certificate";
    let Validity { begins, expires } = validity;
    let broken = |reason| {
        let message = format!("It is valid from {begins} to {expires}.");
        Finding::broken(Check::Certificate, ABOUT, reason, message)
    };
    vec![if expires <= facts.now {
        broken(Reason::CertificateExpired)
    } else if expires_soon(validity, facts.now) {
        broken(Reason::CertificateExpiresSoon)
    } else {
        let message = format!("It expires at {expires}.");
        Finding::sound(Check::Certificate, ABOUT, message)
    }]
}

fn expires_soon(validity: Validity, now: Timestamp) -> bool {
    let whole = validity.expires.duration_since(validity.begins);
    let soon = (whole / SOON_SHARE).min(SOON_AT_MOST);
    validity.expires.duration_since(now) < soon
}
