//! How the environment of a test is set up.

use std::path::Path;

use super::Aws;
use crate::incumbent::LEASE;
use crate::kubelet::Reuse;

/// What registers the pods of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registrar {
    /// The sandbox's own, for tests of gates alone.
    Sandbox,
    /// targetgate itself, of all bindings, as far as no incumbent of this site holds them.
    Targetgate,
    /// Nothing, until the test starts an [`Incumbent`](crate::incumbent::Incumbent).
    None,
}

/// How a site is set up.
#[derive(Clone)]
pub struct Setup<'a> {
    pub binary: &'a Path,
    /// When the address of a deleted pod is used again.
    pub reuse: Reuse,
    /// The pod name of the process, which then takes part in leader election.
    pub pod: Option<&'a str>,
    /// Further flags of the process.
    pub flags: Vec<String>,
    /// The account of another site that this one shares.
    pub aws: Option<Aws>,
    pub registrar: Registrar,
}

impl<'a> Setup<'a> {
    /// A process without leader election, for gates alone.
    pub fn new(binary: &'a Path, reuse: Reuse) -> Self {
        Self {
            binary,
            reuse,
            pod: None,
            flags: Vec::new(),
            aws: None,
            registrar: Registrar::Sandbox,
        }
    }

    #[must_use]
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    #[must_use]
    pub fn registrar(mut self, registrar: Registrar) -> Self {
        self.registrar = registrar;
        self
    }

    /// All flags of the process beyond those of every process.
    pub(super) fn all_flags(&self, namespace: &str) -> Vec<String> {
        let mut flags = self.flags.clone();
        if self.registrar == Registrar::Targetgate {
            flags.push("--register=all".to_owned());
            flags.push(format!("--incumbent-lease={namespace}/{LEASE}"));
            if self.pod.is_none() {
                flags.push(format!("--namespace={namespace}"));
            }
        }
        flags
    }
}
