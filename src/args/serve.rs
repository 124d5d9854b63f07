//! The command line of `targetgate serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use targetgate_core::lease::{Timing, TimingError};
use targetgate_core::names::VpcId;
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::args::{
    AWS, DRAIN, DrainFlags, GATES, GateFlags, KUBERNETES, LISTENERS, LOG, ModeFlags, REPLICAS,
    TargetFlags, TlsSettings, namespace,
};

/// Settings of `targetgate serve`.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Address of the HTTPS listener for admission reviews; the host :: is all addresses of both families, or of IPv4
    /// where the kernel has no IPv6.
    #[arg(long, env = "TARGETGATE_LISTEN", value_name = "ADDRESS", default_value = "[::]:9443", help_heading = LISTENERS)]
    pub listen: SocketAddr,
    /// Address of the plain HTTP listener for /livez, /readyz and /metrics; the host :: as for --listen.
    #[arg(long, env = "TARGETGATE_ADMIN_LISTEN", value_name = "ADDRESS", default_value = "[::]:8080", help_heading = LISTENERS)]
    pub admin_listen: SocketAddr,
    /// How long to accept reviews after SIGTERM, because Services keep routing to this pod for a while.
    #[arg(long, env = "TARGETGATE_SHUTDOWN_DELAY", value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration, help_heading = LISTENERS)]
    pub shutdown_delay: Duration,

    #[command(flatten)]
    pub tls: TlsSettings,

    /// Kubeconfig file [default: the pod's service account, else KUBECONFIG, else ~/.kube/config].
    #[arg(long, env = "TARGETGATE_KUBECONFIG", value_name = "FILE", help_heading = KUBERNETES)]
    pub kubeconfig: Option<PathBuf>,
    /// Namespaces to watch, separated by commas [default: all].
    #[arg(long, env = "TARGETGATE_WATCH_NAMESPACES", value_name = "NAMES", value_delimiter = ',', value_parser = namespace, help_heading = KUBERNETES)]
    pub watch_namespaces: Vec<String>,

    /// Namespace of this pod [default: the service account's, else the kubeconfig's].
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME", value_parser = namespace, help_heading = KUBERNETES)]
    pub namespace: Option<String>,
    /// Name of this pod, for Events and the Lease [default: the host's name].
    #[arg(long, env = "POD_NAME", value_name = "NAME", help_heading = KUBERNETES)]
    pub pod_name: Option<String>,

    /// Whether replicas elect a leader by a Lease, which alone writes conditions; `off` is for a single process.
    #[arg(long, env = "TARGETGATE_LEASE", value_name = "SWITCH", value_enum, default_value_t, help_heading = REPLICAS)]
    pub lease: Switch,
    /// How long after its last renewal of the Lease a leader keeps it, before another replica takes over.
    #[arg(long, env = "TARGETGATE_LEASE_DURATION", value_name = "DURATION", default_value = "15s", value_parser = humantime::parse_duration, help_heading = REPLICAS)]
    pub lease_duration: Duration,
    /// How long after its last renewal of the Lease a leader may begin writes.
    #[arg(long, env = "TARGETGATE_LEASE_RENEW_DEADLINE", value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration, help_heading = REPLICAS)]
    pub lease_renew_deadline: Duration,
    /// How long to wait between renewals of the Lease.
    #[arg(long, env = "TARGETGATE_LEASE_RETRY_PERIOD", value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration, help_heading = REPLICAS)]
    pub lease_retry_period: Duration,

    #[command(flatten)]
    pub gates: GateFlags,
    #[command(flatten)]
    pub mode: ModeFlags,
    /// How long to keep a gate closed when its binding has never existed, before it is opened as orphaned.
    #[arg(long, env = "TARGETGATE_ORPHAN_AFTER", value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration, help_heading = GATES)]
    pub orphan_after: Duration,

    #[command(flatten)]
    pub drain: DrainFlags,
    /// Ask ELB, at most once a second in all and after everything else, when it begins to drain the targets of pods
    /// that end, for the metric targetgate_deregistration_seconds.
    #[arg(long, env = "TARGETGATE_MEASURE_DRAIN", help_heading = DRAIN)]
    pub measure_drain: bool,

    #[command(flatten)]
    pub targets: TargetFlags,

    /// YAML file with the target groups that the bindings of each namespace may name, reloaded when it
    /// changes [default: any group].
    #[arg(long, env = "TARGETGATE_ALLOW_ARNS", value_name = "FILE", help_heading = AWS)]
    pub allow_arns: Option<PathBuf>,
    /// VPC of the cluster: an update may add it as vpcID to a binding without one [default: from instance metadata].
    #[arg(long, env = "TARGETGATE_VPC_ID", value_name = "ID", help_heading = AWS)]
    pub vpc_id: Option<VpcId>,
    /// Initial rate of ELB API calls per second in each account and Region; it rises while calls wait and
    /// falls when AWS throttles.
    #[arg(long, env = "TARGETGATE_ELB_RATE", value_name = "CALLS", default_value = "10", value_parser = rate, help_heading = AWS)]
    pub elb_rate: f64,
    /// Maximum rate of ELB API calls per second, for each account and Region and for the whole process; at
    /// least --elb-rate.
    #[arg(long, env = "TARGETGATE_ELB_RATE_MAX", value_name = "CALLS", default_value = "40", value_parser = rate, help_heading = AWS)]
    pub elb_rate_max: f64,
    /// ELB API calls allowed at once after an idle time, for each account and Region and for the whole
    /// process.
    #[arg(long, env = "TARGETGATE_ELB_BURST", value_name = "CALLS", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = AWS)]
    pub elb_burst: u32,

    /// Format of the log, which is written to standard error.
    #[arg(long, env = "TARGETGATE_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t, help_heading = LOG)]
    pub log_format: LogFormat,
    /// Level of the log, or levels by module, such as info,targetgate=debug.
    #[arg(long, env = "TARGETGATE_LOG_LEVEL", value_name = "LEVELS", default_value = "info", value_parser = levels, help_heading = LOG)]
    pub log_level: Targets,
}

/// Whether a feature is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Switch {
    #[default]
    On,
    Off,
}

/// Format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// Lines for humans.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl Settings {
    /// The durations of the Lease; `None` with `--lease off`.
    ///
    /// # Errors
    /// The durations contradict each other.
    pub fn lease_timing(&self) -> Result<Option<Timing>, TimingError> {
        let timing = || {
            Timing::new(
                self.lease_duration,
                self.lease_renew_deadline,
                self.lease_retry_period,
            )
        };
        (self.lease == Switch::On).then(timing).transpose()
    }
}

/// Parses a rate in calls per second.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1000.0 => Ok(rate),
        _ => Err("not a number above 0 and up to 1000".to_owned()),
    }
}

/// Parses levels by module. A word without `=` must be a level: `Targets` would take a misspelt one for
/// the name of a module.
fn levels(text: &str) -> Result<Targets, String> {
    let lone = text.split(',').map(str::trim).filter(|w| !w.contains('='));
    for word in lone {
        if word.parse::<LevelFilter>().is_err() {
            return Err(format!(
                "{word:?} is none of off, error, warn, info, debug, trace"
            ));
        }
    }
    text.parse().map_err(|error| format!("{error}"))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};
    use rstest::rstest;
    use targetgate_core::drain::{DrainMode, DrainSeconds};
    use targetgate_core::names::{BindingApi, ConditionPrefix};

    use super::*;
    use crate::args::{Admission, Cli, Command, SliceAddresses};

    fn parse(further: &[&str]) -> Result<Settings, String> {
        let words = ["targetgate", "serve"].iter().chain(further);
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        match cli.command {
            Command::Serve(settings) => Ok(*settings),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        let settings = parse(&[]).unwrap();
        assert_eq!(settings.listen.to_string(), "[::]:9443");
        assert_eq!(settings.admin_listen.to_string(), "[::]:8080");
        assert_eq!(settings.gates.gate_apis, [BindingApi::Elbv2]);
        assert_eq!(settings.gates.condition_prefix, ConditionPrefix::default());
        assert_eq!(settings.orphan_after, Duration::from_secs(300));
        assert_eq!((settings.elb_rate, settings.elb_burst), (10.0, 40));
        assert_eq!(settings.drain.drain, DrainMode::Off);
        assert_eq!(settings.drain.drain_seconds, DrainSeconds::default());
        assert!(!settings.measure_drain);
        assert_eq!(settings.targets.register.mode(), None);
        let incumbent = "kube-system/aws-load-balancer-controller-leader";
        assert_eq!(settings.targets.incumbent_lease.to_string(), incumbent);
        assert!(settings.targets.incumbent_namespaces.is_empty());
        let addresses = settings.targets.slice_addresses;
        assert_eq!(addresses, SliceAddresses::Pods);
        assert_eq!(settings.mode.admission, Admission::Webhook);
        assert_eq!(settings.elb_rate_max, 40.0);
        assert!(settings.watch_namespaces.is_empty());
        assert_eq!(settings.shutdown_delay, Duration::from_secs(5));
        let timing = settings.lease_timing().unwrap().unwrap();
        let times = [
            timing.lease(),
            timing.renew_deadline(),
            timing.retry_period(),
        ];
        assert_eq!(times.map(|time| time.as_secs()), [15, 10, 2]);
    }

    #[test]
    fn without_a_lease_its_times_do_not_matter() {
        let impossible = ["--lease-duration", "1s", "--lease", "off"];
        assert_eq!(parse(&impossible).unwrap().lease_timing(), Ok(None));
        let error = parse(&impossible[..2]).unwrap().lease_timing().unwrap_err();
        assert_eq!(error, TimingError::DeadlineTooLong);
    }

    #[test]
    fn every_flag_of_serve_has_its_variable() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        for argument in serve.get_arguments().filter(|a| a.get_id() != "help") {
            let flag = argument.get_long().unwrap();
            let variable = match flag {
                // Manifests commonly fill these two in from the downward API, under these names.
                "namespace" => "POD_NAMESPACE".to_owned(),
                "pod-name" => "POD_NAME".to_owned(),
                _ => format!("TARGETGATE_{}", flag.to_uppercase().replace('-', "_")),
            };
            assert_eq!(argument.get_env().unwrap(), variable.as_str());
        }
    }

    #[rstest]
    #[case("--listen", "9443")]
    #[case("--admin-listen", "localhost")]
    #[case("--condition-prefix", "Not/A/Prefix")]
    #[case("--former-condition-prefixes", "a.b,C")]
    #[case("--gate-apis", "elbv2.k8s.aws,apps")]
    #[case("--opt-in", "cluster")]
    #[case("--excluded-namespaces", "kube-system,Shop")]
    #[case("--drain", "on")]
    #[case("--drain-seconds", "alb=0")]
    #[case("--drain-seconds", "20")]
    #[case("--vpc-id", "vpc-1")]
    #[case("--watch-namespaces", "shop,Shop")]
    #[case("--elb-rate", "0")]
    #[case("--elb-rate", "NaN")]
    #[case("--elb-rate-max", "1001")]
    #[case("--elb-burst", "0")]
    #[case("--orphan-after", "soon")]
    #[case("--namespace", "Shop")]
    #[case("--lease", "maybe")]
    #[case("--lease-duration", "long")]
    #[case("--lease-renew-deadline", "1 apple")]
    #[case("--lease-retry-period", "2")]
    #[case("--shutdown-delay", "5 apples")]
    #[case("--log-format", "xml")]
    #[case("--log-level", "loud")]
    fn what_a_flag_cannot_take_is_refused_by_the_flags_name(
        #[case] flag: &str,
        #[case] value: &str,
    ) {
        let error = parse(&[flag, value]).unwrap_err();
        assert!(error.contains(flag), "{error}");
    }
}
