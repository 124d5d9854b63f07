//! The installation: its Deployment, and what follows from its flags.

use kube::Client;
use targetgate_core::doctor::{Installation, Known};
use targetgate_core::explain;
use targetgate_core::explain::SettingsAnswer;
use targetgate_core::names::ObjectKey;

use crate::args::{DecidingFlags, Settings, Tls};
use crate::commands::explain::of_flags;
use crate::kubernetes::snapshot::installation;
use crate::kubernetes::snapshot::installation::Started;

/// An installation.
pub(super) struct Installed {
    pub(super) deployment: ObjectKey,
    /// What the Deployment starts; `None` if it does not exist.
    started: Known<Option<Started>>,
    /// Its settings, or the defaults.
    pub(super) settings: Settings,
}

/// Reads the Deployment.
pub(super) async fn read(client: &Client, deployment: ObjectKey) -> Installed {
    let found = installation::find(client, &deployment).await;
    let read = found.and_then(|started| match &started {
        Some(container) => {
            let settings = Settings::of_container(&container.arguments, &container.variables);
            let settings = settings.map_err(|why| {
                format!("the flags of Deployment {deployment} cannot be read: {why}")
            });
            Ok((Some(settings?), started))
        }
        None => Ok((None, None)),
    });
    let (settings, started) = match read {
        Ok((settings, started)) => (settings, Ok(started)),
        Err(why) => (None, Err(why)),
    };
    Installed {
        settings: settings.unwrap_or_else(|| defaults(&deployment.name)),
        deployment,
        started,
    }
}

/// The settings of an installation whose Deployment is not known: its objects have the Deployment's name.
fn defaults(name: &str) -> Settings {
    let defaults = Settings::of_container(&[], &[]);
    // The defaults need no flag: the tests of `args` read them.
    let mut settings = defaults.expect("the defaults can be read");
    settings.tls.tls_mutating = vec![name.to_owned()];
    settings.tls.tls_validating = vec![name.to_owned()];
    settings.tls.tls_secret = format!("{name}-tls");
    settings
}

impl Installed {
    pub(super) fn fact(&self) -> Known<Option<Installation>> {
        let started = self.started.as_ref().map_err(Clone::clone)?;
        Ok(started.as_ref().map(|started| Installation {
            account: self.account(started),
            registers: self.registers(),
            incumbent_namespaces: self.settings.targets.incumbent_namespaces.clone(),
        }))
    }

    /// Whether it registers targets; by its flags, where they are known.
    pub(super) fn registers(&self) -> bool {
        self.settings.targets.register.mode().is_some()
    }

    /// How it decides about pods.
    pub(super) fn decides(&self) -> explain::Settings {
        let flags = &self.settings;
        let deciding = DecidingFlags {
            gates: flags.gates.clone(),
            drain: flags.drain.clone(),
            targets: flags.targets.clone(),
            mode: flags.mode.clone(),
        };
        of_flags(&deciding, SettingsAnswer::default())
    }

    /// The account, as the API server names it.
    fn account(&self, started: &Started) -> String {
        let namespace = &self.deployment.namespace;
        format!("system:serviceaccount:{namespace}:{}", started.account)
    }

    /// The account, if it is known.
    pub(super) fn known_account(&self) -> Known<String> {
        let started = self.started.as_ref().map_err(Clone::clone)?;
        let started = started.as_ref();
        let account = started.map(|started| self.account(started));
        account.ok_or_else(|| format!("Deployment {} does not exist.", self.deployment))
    }

    /// The Secret of the certificate: its own, or the one out of which its file is mounted.
    pub(super) fn secret(&self) -> Known<String> {
        let tls = &self.settings.tls;
        let Ok(Tls::Files { certificate, .. }) = tls.source() else {
            return Ok(tls.tls_secret.clone());
        };
        let started = self.started.iter().flatten();
        let mut secrets = started.flat_map(|started| &started.secrets);
        let mounted = secrets.find(|(folder, _)| certificate.starts_with(folder));
        let secret = mounted.map(|(_, secret)| secret.clone());
        secret.ok_or_else(|| format!("{} is out of no Secret.", certificate.display()))
    }
}
