//! How the installation decides: by the flags of its Deployment, unless others were given.

use std::sync::Arc;

use kube::Client;
use targetgate_core::drain::DrainPolicy;
use targetgate_core::explain::{Settings, SettingsAnswer};
use targetgate_core::gates::inject::GatePolicy;
use targetgate_core::index::HookScope;
use targetgate_core::names::ObjectKey;

use crate::args::{DecidingFlags, LookFlags};
use crate::kubernetes::snapshot::installation;

/// How the installation decides.
pub(super) struct Decides {
    pub(super) settings: Settings,
    pub(super) flags: DecidingFlags,
    /// The namespace of the installation.
    pub(super) installed: Arc<str>,
}

/// How the installation decides.
pub(super) async fn decides(settings: &LookFlags, client: &Client) -> Decides {
    let deployment = settings.installation.key(client.default_namespace());
    let (flags, from) = flags(settings, &deployment, client).await;
    let mut decides = of_flags(&flags, from);
    if decides.from.deployment.is_some() {
        // serve leaves its own namespace out.
        decides.scope.excluded.insert(deployment.namespace.clone());
    }
    Decides {
        settings: decides,
        flags,
        installed: deployment.namespace,
    }
}

async fn flags(
    settings: &LookFlags,
    deployment: &ObjectKey,
    client: &Client,
) -> (DecidingFlags, SettingsAnswer) {
    let read = installation::read(client, deployment).await;
    let read = read.and_then(|started| {
        let (arguments, variables) = (&started.arguments, &started.variables);
        let read = DecidingFlags::of(arguments, variables, &settings.given);
        read.map_err(|why| format!("those of Deployment {deployment} cannot be read: {why}"))
    });
    match read {
        Ok(flags) => (
            flags,
            SettingsAnswer {
                deployment: Some(deployment.to_string()),
                why: None,
            },
        ),
        Err(why) => (
            settings.deciding.clone(),
            SettingsAnswer {
                deployment: None,
                why: Some(why),
            },
        ),
    }
}

pub(in crate::commands) fn of_flags(flags: &DecidingFlags, from: SettingsAnswer) -> Settings {
    let (gates, drain) = (&flags.gates, &flags.drain);
    let excluded = gates.excluded_namespaces.iter();
    Settings {
        gates: GatePolicy {
            prefix: gates.condition_prefix.clone(),
            apis: gates.gate_apis.clone(),
        },
        prefixes: gates.served_prefixes(),
        scope: HookScope {
            opt_in: gates.opt_in.into(),
            excluded: excluded.map(|name| name.as_str().into()).collect(),
        },
        drain: DrainPolicy {
            mode: drain.drain,
            seconds: drain.drain_seconds,
        },
        from,
    }
}
