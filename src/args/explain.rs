//! The command line of `targetgate explain`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::args::{AWS, DrainFlags, GateFlags, KUBERNETES, namespace};

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
    /// Namespace [default: that of the kubeconfig's context].
    #[arg(short, long, value_name = "NAME", value_parser = namespace)]
    pub namespace: Option<String>,
    /// Form of the answer: text for people, or JSON as docs/explain.schema.json describes it.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t)]
    pub output: Output,
    /// Go on until the answer is yes: a line when it changes, and at least each 30 s.
    #[arg(short, long)]
    pub watch: bool,

    /// Kubeconfig file [default: the pod's service account, else KUBECONFIG, else ~/.kube/config].
    #[arg(long, env = "TARGETGATE_KUBECONFIG", value_name = "FILE", help_heading = KUBERNETES)]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one].
    #[arg(long, value_name = "NAME", help_heading = KUBERNETES)]
    pub context: Option<String>,
    /// Do not ask ELB, even where there are AWS credentials: say what the conditions say.
    #[arg(long, help_heading = AWS)]
    pub no_aws: bool,

    #[command(flatten)]
    pub gates: GateFlags,
    #[command(flatten)]
    pub drain: DrainFlags,
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
    use clap::Parser as _;
    use rstest::rstest;

    use super::*;
    use crate::args::{Cli, Command};

    fn parse(words: &[&str]) -> Result<Explain, String> {
        let words = ["targetgate", "explain"].iter().chain(words);
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
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
        assert_eq!(explain.namespace.as_deref(), Some("shop"));
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

    #[test]
    fn a_whole_namespace_needs_no_kind() {
        assert!(parse(&["--all", "-n", "shop"]).unwrap().all);
    }
}
