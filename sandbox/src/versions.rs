//! The versions of Kubernetes that concern this repository, read from the tables of
//! docs/versions.md.

use std::fmt;
use std::str::FromStr;

const PAGE: &str = include_str!("../../docs/versions.md");

/// A version of Kubernetes, whose major version is 1.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Version {
    pub minor: u32,
    /// The patch version; `None` means any.
    pub patch: Option<u32>,
}

impl Version {
    /// The oldest supported server.
    pub fn oldest() -> Self {
        Self::of_row("oldest supported")
    }

    /// The version whose types k8s-openapi has.
    pub fn compiled_for() -> Self {
        Self::of_row("compiled for")
    }

    /// The control plane that the suites run.
    pub fn tested() -> Self {
        Self::of_row("tested")
    }

    /// The kubectl that the suites run.
    pub fn client() -> Self {
        Self::of_row("client")
    }

    /// The kubectl in the image of `helm test`.
    pub fn helm_test() -> Self {
        Self::of_row("helm test")
    }

    /// The oldest server that supports `matchConditions`.
    pub fn match_conditions() -> Self {
        Self::of_row("match conditions")
    }

    /// The oldest server that supports `unhealthyPodEvictionPolicy`.
    pub fn unready_eviction() -> Self {
        Self::of_row("eviction of unready pods")
    }

    /// The oldest server that serves ValidatingAdmissionPolicies by default.
    pub fn admission_policies() -> Self {
        Self::of_row("admission policies")
    }

    /// The oldest server that supports the preStop action `sleep`.
    pub fn pre_stop_sleep() -> Self {
        Self::of_row("preStop sleep")
    }

    /// The oldest server on which pods are given time to drain.
    pub fn drain() -> Self {
        Self::of_row("drain")
    }

    /// The oldest server that injects gates by a MutatingAdmissionPolicy.
    pub fn gates_by_policy() -> Self {
        Self::of_row("gates by policy")
    }

    pub fn previous_minor(self) -> Self {
        Self {
            minor: self.minor.saturating_sub(1),
            patch: None,
        }
    }

    fn of_row(name: &str) -> Self {
        let (_, version) = rows(PAGE)
            .find(|(row, _)| *row == name)
            .unwrap_or_else(|| panic!("docs/versions.md has no row '{name}'"));
        let parsed = version.parse();
        parsed.unwrap_or_else(|_| {
            panic!("docs/versions.md: '{version}' of '{name}' is not a version")
        })
    }
}

/// The first two cells of each row of a page's tables.
fn rows(page: &str) -> impl Iterator<Item = (&str, &str)> {
    page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        Some((cells.next()?, cells.next()?))
    })
}

/// The error for a text that is not `1.MINOR` or `1.MINOR.PATCH`.
#[derive(Debug, thiserror::Error)]
#[error("a version of Kubernetes is 1.MINOR or 1.MINOR.PATCH")]
pub struct NotAVersion;

impl FromStr for Version {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let numbers: Result<Vec<u32>, _> = text.split('.').map(str::parse).collect();
        let (minor, patch) = match numbers.map_err(|_| NotAVersion)?[..] {
            [1, minor] => (minor, None),
            [1, minor, patch] => (minor, Some(patch)),
            _ => return Err(NotAVersion),
        };
        Ok(Self { minor, patch })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.minor)?;
        match self.patch {
            Some(patch) => write!(f, ".{patch}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_page_has_each_version_once() {
        let asked_for = [
            Version::oldest(),
            Version::compiled_for(),
            Version::tested(),
            Version::client(),
            Version::helm_test(),
            Version::match_conditions(),
            Version::unready_eviction(),
            Version::admission_policies(),
            Version::pre_stop_sleep(),
            Version::drain(),
            Version::gates_by_policy(),
        ];
        let versions = rows(PAGE).filter(|(_, version)| version.parse::<Version>().is_ok());
        let names: Vec<&str> = versions.map(|(name, _)| name).collect();
        assert_eq!(names.len(), asked_for.len(), "{names:?}");
        let distinct: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
    }

    #[test]
    fn nothing_that_is_supported_is_older_than_the_oldest() {
        let ordered = [
            Version::oldest(),
            Version::compiled_for(),
            Version::tested(),
        ];
        assert!(ordered.is_sorted(), "{ordered:?}");
        assert!(Version::match_conditions() > Version::oldest());
        assert!(Version::drain() > Version::pre_stop_sleep());
    }

    #[test]
    fn kubectl_supports_the_server_that_it_is_run_against() {
        let (client, tested) = (Version::client(), Version::tested());
        assert!(
            client.minor.abs_diff(tested.minor) <= 1,
            "{client} {tested}"
        );
    }

    #[test]
    fn a_version_is_written_as_it_is_read() {
        for text in ["1.20", "1.19.4"] {
            let version: Version = text.parse().unwrap();
            assert_eq!(version.to_string(), text);
        }
        for text in ["", "1", "v1.19", "2.0", "1.19.4-eks", "1.19.4.1"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }
}
