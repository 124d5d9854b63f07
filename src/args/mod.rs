//! The command line and its environment variables, parsed once into types.

use clap::{ArgMatches, FromArgMatches as _, Parser, Subcommand};

mod certs;
mod cluster;
mod container;
mod deciding;
mod doctor;
mod explain;
mod loopback;
mod release;
mod serve;
mod targets;
mod tls;

pub use crate::args::certs::{CertsCommand, DevCerts};
pub use crate::args::cluster::ClusterFlags;
pub use crate::args::deciding::{
    Admission, DecidingFlags, DrainFlags, GateFlags, ModeFlags, OptedIn,
};
pub use crate::args::doctor::Doctor;
pub use crate::args::explain::{Explain, Kind, LookFlags, Output, Subject, Watch};
pub use crate::args::loopback::{EXPLAIN_PORT, Loopback};
pub use crate::args::release::Release;
pub use crate::args::serve::{LogFormat, Settings, Switch};
pub use crate::args::targets::{Register, SliceAddresses, TargetFlags};
pub use crate::args::tls::{Source, Tls, TlsSettings, TlsSettingsError};

/// Pod readiness gates for AWS load balancers: rolling updates on Kubernetes that lose no request.
#[derive(Debug, Parser)]
#[command(name = "targetgate", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads what was matched.
    ///
    /// # Errors
    /// It is not what the definition promises.
    pub fn of(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut cli = Self::from_arg_matches(matches)?;
        match (&mut cli.command, matches.subcommand()) {
            (Command::Explain(explain), Some((_, matches))) => explain.look.note_given(matches),
            (Command::Watch(watch), Some((_, matches))) => watch.look.note_given(matches),
            _ => {}
        }
        Ok(cli)
    }
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer admission reviews, and open readiness gates once ELB says that a target is healthy.
    ///
    /// AWS credentials, Region and endpoint come from the AWS SDK's own environment
    /// (AWS_REGION, AWS_PROFILE, AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2, ...).
    Serve(Box<Settings>),
    /// Say why a pod has the gates that it has, or none, what it waits for, and what to do.
    ///
    /// Reads the cluster, and asks ELB where there are AWS credentials. Exit status: 0 yes, each gate that is due is there
    /// and open; 1 no, or not yet; 2 wrong usage; 3 it cannot be known, because something is denied or out of reach.
    Explain(Box<Explain>),
    /// Show a rollout as it goes: the pods of a namespace, their gates and targets, and what waits for what.
    ///
    /// Redraws a terminal; elsewhere writes a line when something changes, and at least each 30 s. Ends with Ctrl-C, or by
    /// --until-open. Exit status: 0 each gate that is due is there and open; 1 not when it ended; 2 wrong usage; 3 it
    /// cannot be known, because something is denied or out of reach.
    Watch(Box<Watch>),
    /// Let go of bindings whose targets targetgate registers, before it is uninstalled or registration is turned off.
    ///
    /// Marks the records of the bindings, so that a running registrar leaves them alone, and takes the finalizer
    /// targetgate.dev/targets off. Targets and records stay. Exit status: 0 done; 1 something is left; 2 wrong usage;
    /// 3 it cannot be known, because something is denied or out of reach.
    Release(Box<Release>),
    /// Say which hop between the API server and ELB is broken, and what to do.
    ///
    /// Reads the installation and creates a pod and a binding by a server-side dry-run, which keeps nothing. Exit status:
    /// 0 every hop is sound; 1 one is broken; 2 wrong usage; 3 none is known to be broken, but one is not known.
    Doctor(Doctor),
    /// Print the CustomResourceDefinition of TargetGroupBinding as YAML.
    Crd,
    /// Make certificates for development.
    #[command(subcommand)]
    Certs(CertsCommand),
}

const LISTENERS: &str = "Listeners";
const CERTIFICATE: &str = "Certificate";
const KUBERNETES: &str = "Kubernetes";
const REPLICAS: &str = "Replicas";
const GATES: &str = "Gates";
const DRAIN: &str = "Drain";
const TARGETS: &str = "Targets";
const AWS: &str = "AWS";
const LOG: &str = "Log";

/// Parses the name of a namespace, which is a DNS label.
fn namespace(text: &str) -> Result<String, String> {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let valid = text.len() <= 63
        && text.bytes().all(|b| alphanumeric(b) || b == b'-')
        && text.bytes().next().is_some_and(alphanumeric)
        && text.bytes().last().is_some_and(alphanumeric);
    match valid {
        true => Ok(text.to_owned()),
        false => Err("not a namespace's name, such as kube-system".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }
}
