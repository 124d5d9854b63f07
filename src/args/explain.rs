//! The command line of `targetgate explain`.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, ValueEnum};
use targetgate_core::names::ObjectKey;

use crate::args::{AWS, ClusterFlags, DecidingFlags, KUBERNETES, namespace};

/// Settings of `targetgate explain`. The flags about gates and drain are those of `serve`: what is explained follows
/// from them.
#[derive(Debug, Clone, Args)]
pub struct Explain {
    /// Kind of what is explained.
    #[arg(value_enum, value_name = "KIND", required_unless_present = "all")]
    pub kind: Option<Kind>,
    /// Its name, with its namespace before it unless --namespace names that: shop/web-0.
    #[arg(value_name = "NAME", requires = "kind")]
    pub name: Option<Subject>,
    /// A manifest in YAML or JSON of a pod that is not created yet, or of what creates it, such as a Deployment; - is
    /// standard input.
    #[arg(short = 'f', long, value_name = "FILE", conflicts_with_all = ["name", "watch", "all"])]
    pub filename: Option<PathBuf>,
    /// Explain all pods of the namespace: what waits, and what lacks a gate.
    #[arg(long, conflicts_with_all = ["kind", "watch"])]
    pub all: bool,
    /// Form of the answer: text for people, or JSON as docs/explain.schema.json describes it.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t)]
    pub output: Output,
    /// Go on until the answer is yes: a line when it changes, and at least each 30 s.
    #[arg(short, long)]
    pub watch: bool,

    #[command(flatten)]
    pub look: LookFlags,
}

/// Settings of `targetgate watch`.
#[derive(Debug, Clone, Args)]
pub struct Watch {
    /// End with exit status 0 once none of the pods that are there waits for a gate or lacks one.
    #[arg(long)]
    pub until_open: bool,
    /// Form of what is written: text for people, or a JSON object a line, as docs/explain.schema.json describes it.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t)]
    pub output: Output,

    #[command(flatten)]
    pub look: LookFlags,
}

/// What is looked at, and how.
#[derive(Debug, Clone, Args)]
pub struct LookFlags {
    /// Namespace [default: that of the kubeconfig's context].
    #[arg(short, long, value_name = "NAME", value_parser = namespace)]
    pub namespace: Option<String>,

    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// Do not ask the leader, by a port-forward to its pod.
    #[arg(long, help_heading = KUBERNETES)]
    pub no_leader: bool,
    /// Do not ask ELB, even where there are AWS credentials: say what the conditions say.
    #[arg(long, help_heading = AWS)]
    pub no_aws: bool,

    /// Deployment of the installation, whose flags and variables count where the ones below are not given.
    #[arg(long, value_name = "NAME", default_value = "targetgate-system/targetgate", help_heading = KUBERNETES)]
    pub installation: Subject,
    #[command(flatten)]
    pub deciding: DecidingFlags,
    /// Those of the deciding flags that were given, each as `--flag=value`.
    #[arg(skip)]
    pub given: Vec<String>,
}

impl LookFlags {
    /// Notes which of the deciding flags were given, on the command line or by a variable.
    pub(super) fn note_given(&mut self, matches: &ArgMatches) {
        let deciding = DecidingFlags::augment_args(clap::Command::new("serve"));
        let given = deciding.get_arguments().filter_map(|argument| {
            let id = argument.get_id().as_str();
            let source = matches.value_source(id)?;
            let values = matches
                .get_raw(id)
                .filter(|_| source != ValueSource::DefaultValue)?;
            let values: Vec<&str> = values.filter_map(|value| value.to_str()).collect();
            Some(format!("--{}={}", argument.get_long()?, values.join(",")))
        });
        self.given = given.collect();
    }
}

/// A kind of object that can be explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Pod,
    /// A TargetGroupBinding.
    Binding,
}

/// Form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    #[default]
    Text,
    Json,
}

/// The name of an object, and its namespace if that stands before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub namespace: Option<String>,
    pub name: String,
}

impl Subject {
    /// The object, in this namespace if it names none.
    pub(crate) fn key(&self, default_namespace: &str) -> ObjectKey {
        let namespace = self.namespace.as_deref();
        ObjectKey::new(namespace.unwrap_or(default_namespace), self.name.as_str())
    }
}

impl std::str::FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (before, name) = match text.split_once('/') {
            Some((before, name)) => (Some(namespace(before)?), name),
            None => (None, text),
        };
        let of_a_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b);
        let valid = (1..=253).contains(&name.len()) && name.bytes().all(of_a_name);
        match valid {
            true => Ok(Self {
                namespace: before,
                name: name.to_owned(),
            }),
            false => Err("not the name of an object, such as web-0 or shop/web-0".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use rstest::rstest;
    use targetgate_core::drain::DrainMode;
    use targetgate_core::names::BindingApi;

    use super::*;
    use crate::args::{Cli, Command, OptedIn};

    fn parse(words: &[&str]) -> Result<Explain, String> {
        let words = ["targetgate", "explain"].iter().chain(words);
        let matches = Cli::command().try_get_matches_from(words);
        let cli = matches.and_then(|matches| Cli::of(&matches));
        let cli = cli.map_err(|error| error.to_string())?;
        match cli.command {
            Command::Explain(explain) => Ok(*explain),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_pod_is_named_with_its_namespace_before_it() {
        let explain = parse(&["pod", "shop/web-0", "-o", "json"]).unwrap();
        let expected = Subject {
            namespace: Some("shop".to_owned()),
            name: "web-0".to_owned(),
        };
        assert_eq!(explain.name, Some(expected));
        assert_eq!(
            (explain.kind, explain.output),
            (Some(Kind::Pod), Output::Json)
        );
        let explain = parse(&["binding", "web", "-n", "shop"]).unwrap();
        assert_eq!(explain.name.unwrap().namespace, None);
        assert_eq!(explain.look.namespace.as_deref(), Some("shop"));
    }

    #[rstest]
    #[case(&[])]
    #[case(&["service", "web"])]
    #[case(&["pod", "Shop/web"])]
    #[case(&["pod", "shop/web/0"])]
    #[case(&["pod", "../../healthz"])]
    #[case(&["pod", ""])]
    #[case(&["pod", "web", "--all"])]
    #[case(&["pod", "web", "-f", "pod.yaml"])]
    #[case(&["pod", "-f", "pod.yaml", "--watch"])]
    #[case(&["--all", "-o", "yaml"])]
    #[case(&["--all", "-n", "Shop"])]
    fn what_cannot_be_explained_is_wrong_usage(#[case] words: &[&str]) {
        assert!(parse(words).is_err());
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_flags_of_the_installation_count_unless_they_are_given() {
        let explain = parse(&["--all", "--drain", "off", "--gate-apis=eks.amazonaws.com"]).unwrap();
        let given = ["--gate-apis=eks.amazonaws.com", "--drain=off"];
        assert_eq!(explain.look.given, given);
        let arguments = words(&[
            "serve",
            "--drain=sleep",
            "--opt-in",
            "either",
            "--listen=[::]:1",
        ]);
        let variables = [
            ("TARGETGATE_OPT_IN", "object"),
            ("TARGETGATE_DRAIN_SECONDS", "alb=7"),
            ("X", "y"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let read = DecidingFlags::of(&arguments, &variables, &explain.look.given).unwrap();
        assert_eq!(read.drain.drain, DrainMode::Off);
        assert_eq!(read.drain.drain_seconds.alb.get(), 7);
        assert_eq!(read.gates.opt_in, OptedIn::Either);
        assert_eq!(read.gates.gate_apis, [BindingApi::Eks]);
        let read = DecidingFlags::of(&arguments, &variables, &[]).unwrap();
        assert_eq!(read.drain.drain, DrainMode::Sleep);
        let later = words(&["serve", "--drain=later"]);
        let error = DecidingFlags::of(&later, &[], &[]).unwrap_err();
        assert!(
            error.contains("--drain") && error.contains("later"),
            "{error}"
        );
    }

    #[test]
    fn a_whole_namespace_needs_no_kind() {
        assert!(parse(&["--all", "-n", "shop"]).unwrap().all);
    }
}
