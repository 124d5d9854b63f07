//! The command line of `targetgate release`.

use std::time::Duration;

use clap::Args;
use targetgate_core::names::ObjectKey;

use crate::args::{ClusterFlags, KUBERNETES, Subject, namespace};

/// Settings of `targetgate release`.
#[derive(Debug, Clone, Args)]
pub struct Release {
    /// The bindings that are let go.
    #[arg(value_name = "NAMESPACE/BINDING", value_parser = bound, required_unless_present = "all")]
    pub bindings: Vec<ObjectKey>,
    /// Let go of all bindings with our finalizer, again and again until two looks 2 s apart find none.
    #[arg(long, conflicts_with = "bindings")]
    pub all: bool,
    /// Clear the mark that keeps the registrar from taking the bindings again; with --all, on all records.
    #[arg(long)]
    pub undo: bool,
    /// How long to try.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// Exit with 0 whatever is left, so that an uninstallation goes on.
    #[arg(long)]
    pub best_effort: bool,

    /// Namespace of targetgate's Deployment and records.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME", default_value = "targetgate-system", value_parser = namespace, help_heading = KUBERNETES)]
    pub namespace: String,
    /// targetgate's Deployment, whose UID is the mark.
    #[arg(long, env = "TARGETGATE_TLS_OWNER", value_name = "NAME", default_value = "targetgate", help_heading = KUBERNETES)]
    pub deployment: String,
    #[command(flatten)]
    pub cluster: ClusterFlags,
}

/// Parses a binding's name, whose namespace has to stand before it.
fn bound(text: &str) -> Result<ObjectKey, String> {
    let Subject { namespace, name } = text.parse()?;
    let namespace = namespace.ok_or("name the namespace as well, such as shop/web")?;
    Ok(ObjectKey::new(namespace, name))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use rstest::rstest;

    use super::*;
    use crate::args::{Cli, Command};

    fn parse(words: &[&str]) -> Result<Release, String> {
        let words = ["targetgate", "release"].iter().chain(words);
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        match cli.command {
            Command::Release(release) => Ok(*release),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn bindings_are_named_with_their_namespaces() {
        let release = parse(&["shop/web", "blog/web", "--undo"]).unwrap();
        let expected = [ObjectKey::new("shop", "web"), ObjectKey::new("blog", "web")];
        assert_eq!(release.bindings, expected);
        assert!(release.undo && !release.all);
        let release = parse(&["--all"]).unwrap();
        assert!(release.all && !release.undo && !release.best_effort);
        assert_eq!(release.timeout, Duration::from_secs(60));
    }

    #[rstest]
    #[case(&[])]
    #[case(&["web"])]
    #[case(&["shop/web/0"])]
    #[case(&["Shop/web"])]
    #[case(&["shop/web", "--all"])]
    #[case(&["--undo"])]
    #[case(&["--all", "--timeout", "long"])]
    fn what_cannot_be_released_is_wrong_usage(#[case] words: &[&str]) {
        assert!(parse(words).is_err());
    }
}
