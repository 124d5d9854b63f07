//! The command line and its environment variables, parsed once into types.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Args, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use targetgate_core::drain::{DrainMode, DrainSeconds};
use targetgate_core::index::OptIn;
use targetgate_core::lease::{Timing, TimingError};
use targetgate_core::names::{
    BindingApi, ConditionPrefix, DEFAULT_CONDITION_PREFIX, OWN_CONDITION_PREFIX, ObjectKey, VpcId,
};
use targetgate_core::targets::slices;
use targetgate_core::targets::standing::Mode;
use tracing_subscriber::filter::{LevelFilter, Targets};

mod cluster;
mod container;
mod doctor;
mod explain;
mod loopback;
mod release;
mod tls;

pub use crate::args::cluster::ClusterFlags;
pub use crate::args::doctor::Doctor;
pub use crate::args::explain::{DecidingFlags, Explain, Kind, LookFlags, Output, Subject, Watch};
pub use crate::args::loopback::{EXPLAIN_PORT, Loopback};
pub use crate::args::release::Release;
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

/// Kinds of certificates that the program makes.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// Make a development CA and a serving certificate that it signed.
    Dev(DevCerts),
}

/// Settings of a development certificate.
#[derive(Debug, Args)]
pub struct DevCerts {
    /// Folder for ca.crt, tls.crt and tls.key, created if it does not exist.
    #[arg(long, value_name = "FOLDER", default_value = "certs")]
    pub out: PathBuf,
    /// Namespace of the Service `targetgate`, whose DNS names the certificate is for.
    #[arg(long, value_name = "NAME", default_value = "targetgate-system", value_parser = namespace)]
    pub namespace: String,
    /// Additional DNS name or IP address of the certificate; may be repeated.
    #[arg(long = "san", value_name = "NAME")]
    pub sans: Vec<String>,
    /// Overwrite existing files.
    #[arg(long)]
    pub force: bool,
}

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

/// Whose targets are registered.
#[derive(Debug, Clone, Args)]
pub struct TargetFlags {
    /// Whose targets are registered: those of no binding, of bindings with targetgate.dev/register: "true", or of all
    /// bindings but those with "false". Only ip targets of elbv2.k8s.aws are.
    #[arg(long, env = "TARGETGATE_REGISTER", value_name = "WHICH", value_enum, default_value_t, help_heading = TARGETS)]
    pub register: Register,
    /// The Lease of AWS Load Balancer Controller, as NAMESPACE/NAME: while it is renewed, the bindings that it watches
    /// are left to it.
    #[arg(long, env = "TARGETGATE_INCUMBENT_LEASE", value_name = "LEASE", default_value = "kube-system/aws-load-balancer-controller-leader", value_parser = object, help_heading = TARGETS)]
    pub incumbent_lease: ObjectKey,
    /// The namespaces that AWS Load Balancer Controller watches, separated by commas [default: all].
    #[arg(long, env = "TARGETGATE_INCUMBENT_NAMESPACES", value_name = "NAMES", value_delimiter = ',', value_parser = namespace, help_heading = TARGETS)]
    pub incumbent_namespaces: Vec<String>,
    /// Which endpoints of the EndpointSlices of a Service without a selector are registered: those that lead to a pod of
    /// their namespace, or any but those that name a pod which is not there. With "any", whoever may write EndpointSlices
    /// decides which addresses of the VPC are behind the load balancer.
    #[arg(long, env = "TARGETGATE_SLICE_ADDRESSES", value_name = "WHICH", value_enum, default_value_t, help_heading = TARGETS)]
    pub slice_addresses: SliceAddresses,
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

/// The endpoints of EndpointSlices that are registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum SliceAddresses {
    #[default]
    Pods,
    Any,
}

impl From<SliceAddresses> for slices::SliceAddresses {
    fn from(flag: SliceAddresses) -> Self {
        match flag {
            SliceAddresses::Pods => Self::Pods,
            SliceAddresses::Any => Self::Any,
        }
    }
}

/// The bindings whose targets are registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Register {
    #[default]
    None,
    Annotated,
    All,
}

impl Register {
    /// How bindings ask for it; `None` if none can.
    pub fn mode(self) -> Option<Mode> {
        match self {
            Self::None => None,
            Self::Annotated => Some(Mode::Annotated),
            Self::All => Some(Mode::All),
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

/// Parses the namespace and the name of an object.
fn object(text: &str) -> Result<ObjectKey, String> {
    let (of, name) = text.split_once('/').ok_or("not NAMESPACE/NAME")?;
    let is_name = !name.is_empty() && !name.contains('/');
    let name = is_name.then_some(name).ok_or("not NAMESPACE/NAME")?;
    Ok(ObjectKey::new(namespace(of)?, name))
}

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
    use clap::CommandFactory as _;
    use rstest::rstest;

    use super::*;

    fn parse(further: &[&str]) -> Result<Settings, String> {
        let words = ["targetgate", "serve"].iter().chain(further);
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        match cli.command {
            Command::Serve(settings) => Ok(*settings),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
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

    #[test]
    fn gates_of_every_known_prefix_are_served_once() {
        let settings = parse(&["--condition-prefix", OWN_CONDITION_PREFIX]).unwrap();
        let served = settings.gates.served_prefixes();
        let served: Vec<_> = served.iter().map(ConditionPrefix::as_str).collect();
        assert_eq!(served, [OWN_CONDITION_PREFIX, DEFAULT_CONDITION_PREFIX]);
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
