//! The command line of `targetgate doctor`.

use clap::Args;

use crate::args::{AWS, ClusterFlags, KUBERNETES, Output, Subject, namespace};

/// Settings of `targetgate doctor`.
#[derive(Debug, Clone, Args)]
pub struct Doctor {
    /// Namespace of the pod and the binding that are created by a server-side dry-run [default: the first one that has
    /// opted in and has a binding].
    #[arg(short, long, value_name = "NAME", value_parser = namespace)]
    pub namespace: Option<String>,
    /// Form of the answer: text for people, or JSON as docs/doctor.schema.json describes it.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t)]
    pub output: Output,

    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// Leave out the hops to AWS.
    #[arg(long, help_heading = AWS)]
    pub no_aws: bool,
    /// Deployment of the installation, by whose flags its webhook configurations, its Secret and what it does are known.
    #[arg(long, value_name = "NAME", default_value = "targetgate-system/targetgate", help_heading = KUBERNETES)]
    pub installation: Subject,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use rstest::rstest;

    use crate::args::Cli;

    #[rstest]
    #[case(&["-o", "yaml"])]
    #[case(&["-n", "Shop"])]
    #[case(&["shop"])]
    #[case(&["--installation", "a/b/c"])]
    fn what_cannot_be_diagnosed_is_wrong_usage(#[case] words: &[&str]) {
        let words = ["targetgate", "doctor"].iter().chain(words);
        assert!(Cli::command().try_get_matches_from(words).is_err());
    }
}
