//! The flags that a container was started with, out of its arguments and variables.

use clap::builder::Resettable;
use clap::{Args as _, Command, FromArgMatches as _};

use crate::args::Settings;

impl Settings {
    /// The settings of `serve` in a container with these arguments and variables. Variables of this process do not count.
    ///
    /// # Errors
    /// A value cannot be read.
    pub fn of_container(
        arguments: &[String],
        variables: &[(String, String)],
    ) -> Result<Self, String> {
        let serve = Self::augment_args(Command::new("serve"));
        let words: Vec<String> = words(&serve, arguments, variables).collect();
        let serve = serve.mut_args(|argument| argument.env(Resettable::Reset));
        let words = ["serve".to_owned()].into_iter().chain(words);
        let matches = serve.try_get_matches_from(words);
        let read = matches.and_then(|matches| Self::from_arg_matches(&matches));
        read.map_err(|error| first_line(&error))
    }
}

/// The flags of a command that a container's arguments and variables give, each as `--flag=value`.
pub(super) fn words<'a>(
    command: &'a Command,
    arguments: &'a [String],
    variables: &'a [(String, String)],
) -> impl Iterator<Item = String> + 'a {
    let all = command.get_arguments();
    all.filter_map(|argument| {
        let flag = format!("--{}", argument.get_long()?);
        let variable = argument.get_env()?.to_str()?;
        let mut variables = variables.iter();
        let variable = variables.find(|(name, _)| name == variable);
        let variable = variable.map(|(_, value)| value.as_str());
        if argument.get_action().takes_values() {
            let value = of_arguments(arguments, &flag).or(variable)?;
            return Some(format!("{flag}={value}"));
        }
        let on = variable.is_some_and(|value| !matches!(value, "" | "0" | "false" | "no" | "off"));
        (on || arguments.contains(&flag)).then_some(flag)
    })
}

/// The value of a flag, whose value stands behind it or in the next argument.
fn of_arguments<'a>(arguments: &'a [String], flag: &str) -> Option<&'a str> {
    let mut places = arguments.iter().enumerate().rev();
    places.find_map(
        |(at, argument)| match argument.strip_prefix(flag)?.strip_prefix('=') {
            Some(value) => Some(value),
            None if argument == flag => arguments.get(at + 1).map(String::as_str),
            None => None,
        },
    )
}

/// The flag of an error, and what is wrong with its value.
pub(super) fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use targetgate_core::drain::DrainMode;

    use super::*;
    use crate::args::{Register, Source};

    fn container(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Settings, String> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let variables: Vec<_> = variables.iter().map(owned).collect();
        Settings::of_container(&arguments, &variables)
    }

    #[test]
    fn arguments_count_before_variables() {
        let variables = [
            ("TARGETGATE_REGISTER", "all"),
            ("TARGETGATE_DRAIN", "sleep"),
            ("TARGETGATE_MEASURE_DRAIN", "true"),
            ("X", "y"),
        ];
        let arguments = ["serve", "--register=annotated", "--tls-secret", "own"];
        let read = container(&arguments, &variables).unwrap();
        assert_eq!(read.targets.register, Register::Annotated);
        assert_eq!(read.drain.drain, DrainMode::Sleep);
        assert_eq!(read.tls.tls_secret, "own");
        assert!(read.measure_drain);
    }

    #[test]
    fn a_container_without_flags_has_the_defaults() {
        let read = container(&["serve"], &[]).unwrap();
        assert_eq!(read.targets.register, Register::None);
        assert_eq!(read.tls.tls_mutating, ["targetgate"]);
        assert!(!read.measure_drain);
    }

    #[test]
    fn files_are_read_where_they_are_given() {
        let variables = [
            ("TARGETGATE_TLS_CERT", "/tls/tls.crt"),
            ("TARGETGATE_TLS_KEY", "/tls/tls.key"),
        ];
        let read = container(&["serve"], &variables).unwrap();
        assert_eq!(read.tls.tls, None::<Source>);
        assert!(read.tls.tls_cert.is_some());
    }

    #[test]
    fn a_value_that_cannot_be_read_is_named_with_its_flag() {
        let error = container(&["serve", "--register=some"], &[]).unwrap_err();
        assert!(
            error.contains("--register") && error.contains("some"),
            "{error}"
        );
    }
}
