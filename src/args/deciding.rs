//! The flags of `serve` that decide which pods get what, so that `explain` takes them as well.

use clap::{Args, CommandFactory as _, Parser, ValueEnum};
use targetgate_core::drain::{DrainMode, DrainSeconds};
use targetgate_core::index::OptIn;
use targetgate_core::names::{
    BindingApi, ConditionPrefix, DEFAULT_CONDITION_PREFIX, OWN_CONDITION_PREFIX,
};

use crate::args::container::{first_line, words};
use crate::args::{DRAIN, GATES, LISTENERS, Loopback, TargetFlags, namespace};

/// The flags of `serve` from which it follows what is explained.
#[derive(Debug, Clone, Args)]
pub struct DecidingFlags {
    #[command(flatten)]
    pub gates: GateFlags,
    #[command(flatten)]
    pub drain: DrainFlags,
    #[command(flatten)]
    pub targets: TargetFlags,
    #[command(flatten)]
    pub mode: ModeFlags,
}

impl DecidingFlags {
    /// Those of an installation with these arguments and variables, overridden by those that are given.
    ///
    /// # Errors
    /// A value cannot be read.
    pub fn of(
        arguments: &[String],
        variables: &[(String, String)],
        given: &[String],
    ) -> Result<Self, String> {
        #[derive(Parser)]
        struct Alone {
            #[command(flatten)]
            deciding: DecidingFlags,
        }
        let alone = Alone::command();
        let installed = words(&alone, arguments, variables);
        let flag = |word: &str| word.split('=').next().map(str::to_owned);
        let overridden = |word: &String| given.iter().any(|given| flag(given) == flag(word));
        let installed = installed.filter(|word| !overridden(word));
        let words: Vec<String> = installed.chain(given.iter().cloned()).collect();
        let words = ["serve".to_owned()].into_iter().chain(words);
        let read = Alone::try_parse_from(words);
        read.map(|alone| alone.deciding)
            .map_err(|error| first_line(&error))
    }
}

/// Which pods get which gates.
#[derive(Debug, Clone, Args)]
pub struct GateFlags {
    /// Prefix of the gates of new pods: the condition type is PREFIX/BINDING.
    #[arg(long, env = "TARGETGATE_CONDITION_PREFIX", value_name = "PREFIX", default_value = DEFAULT_CONDITION_PREFIX, help_heading = GATES)]
    pub condition_prefix: ConditionPrefix,
    /// Prefixes of gates of existing pods that are still opened, separated by commas.
    #[arg(long, env = "TARGETGATE_FORMER_CONDITION_PREFIXES", value_name = "PREFIXES", value_delimiter = ',', default_values = [DEFAULT_CONDITION_PREFIX, OWN_CONDITION_PREFIX], help_heading = GATES)]
    pub former_condition_prefixes: Vec<ConditionPrefix>,
    /// API groups whose TargetGroupBindings gate pods, separated by commas: elbv2.k8s.aws, eks.amazonaws.com.
    #[arg(long, env = "TARGETGATE_GATE_APIS", value_name = "GROUPS", value_delimiter = ',', default_value = "elbv2.k8s.aws", help_heading = GATES)]
    pub gate_apis: Vec<BindingApi>,
    /// Where the label is by which the hook of pods is called, as it is registered; for the count of pods without gates.
    #[arg(long, env = "TARGETGATE_OPT_IN", value_name = "WHERE", value_enum, default_value_t, help_heading = GATES)]
    pub opt_in: OptedIn,
    /// Namespaces that the hook of pods leaves out besides that of this pod, separated by commas; their pods do not
    /// count as pods without gates [default: none].
    #[arg(long, env = "TARGETGATE_EXCLUDED_NAMESPACES", value_name = "NAMES", value_delimiter = ',', value_parser = namespace, help_heading = GATES)]
    pub excluded_namespaces: Vec<String>,
}

/// What pods get for their end.
#[derive(Debug, Clone, Args)]
pub struct DrainFlags {
    /// Whether pods with a gate sleep before their end, until the load balancer sends nothing more: off or sleep. The
    /// label targetgate.dev/drain of a Namespace, and the annotation of a pod, come before.
    #[arg(long, env = "TARGETGATE_DRAIN", value_name = "MODE", default_value = "off", help_heading = DRAIN)]
    pub drain: DrainMode,
    /// How long they sleep, in seconds from 1 to 600, by the kind of load balancer.
    #[arg(long, env = "TARGETGATE_DRAIN_SECONDS", value_name = "SECONDS", default_value = "alb=20,nlb=100", help_heading = DRAIN)]
    pub drain_seconds: DrainSeconds,
}

/// What else of `serve` is of interest to `explain`.
#[derive(Debug, Clone, Args)]
pub struct ModeFlags {
    /// What injects gates: the webhook alone, or the API server as well, by the policy of docs/policy.md (Kubernetes
    /// 1.36), so that pods get their gates while no process of ours runs.
    #[arg(long, env = "TARGETGATE_ADMISSION", value_name = "WAY", value_enum, default_value_t, help_heading = GATES)]
    pub admission: Admission,
    /// Loopback address at which this replica tells `targetgate explain` what it knows, by a port-forward to its pod;
    /// off where the pod uses the node's network.
    #[arg(long, env = "TARGETGATE_EXPLAIN_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8082", help_heading = LISTENERS)]
    pub explain_listen: Loopback,
}

/// Where the label that opts in is, as the flag names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OptedIn {
    /// On the Namespace.
    #[default]
    Namespace,
    /// On the pods themselves.
    Object,
    /// On one of the two.
    Either,
}

impl From<OptedIn> for OptIn {
    fn from(flag: OptedIn) -> Self {
        match flag {
            OptedIn::Namespace => Self::Namespace,
            OptedIn::Object => Self::Object,
            OptedIn::Either => Self::Either,
        }
    }
}

/// What injects gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Admission {
    /// The webhook.
    #[default]
    Webhook,
    /// The API server by a policy, and the webhook.
    Both,
}

impl GateFlags {
    /// The prefixes of all gates that are opened: first that of new pods, then the former ones.
    pub fn served_prefixes(&self) -> Vec<ConditionPrefix> {
        let mut prefixes = vec![self.condition_prefix.clone()];
        for former in &self.former_condition_prefixes {
            if !prefixes.contains(former) {
                prefixes.push(former.clone());
            }
        }
        prefixes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_of_every_known_prefix_are_served_once() {
        let given = [format!("--condition-prefix={OWN_CONDITION_PREFIX}")];
        let flags = DecidingFlags::of(&[], &[], &given).unwrap();
        let served = flags.gates.served_prefixes();
        let served: Vec<_> = served.iter().map(ConditionPrefix::as_str).collect();
        assert_eq!(served, [OWN_CONDITION_PREFIX, DEFAULT_CONDITION_PREFIX]);
    }
}
