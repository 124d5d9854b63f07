//! Which clients may connect, by the names in their certificates (`--client-names`).

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::text::cut;

/// The name of a client that may connect. The cluster's operator chooses the name of kube-apiserver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientName(Box<str>);

/// Why a text is not a client name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("empty, or with space around it")]
pub struct ClientNameError;

impl FromStr for ClientName {
    type Err = ClientNameError;

    /// An empty name is refused, because it would match a certificate with an empty common name.
    fn from_str(text: &str) -> Result<Self, ClientNameError> {
        match text.is_empty() || text.trim() != text {
            true => Err(ClientNameError),
            false => Ok(Self(text.into())),
        }
    }
}

/// The names of a certificate's subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Called<'a> {
    /// The DNS names among the subject's alternative names.
    pub dns_names: Vec<&'a str>,
    /// The subject's common name; `None` unless it has exactly one.
    pub common_name: Option<&'a str>,
}

impl Called<'_> {
    /// Whether the certificate names one of these clients. A certificate with DNS names is matched by those
    /// alone (RFC 6125, 6.4.4), and one without by its common name.
    pub fn is_one_of(&self, names: &[ClientName]) -> bool {
        match self.dns_names.is_empty() {
            true => names.iter().any(|name| self.common_name == Some(&*name.0)),
            false => names.iter().any(|name| {
                let mut called = self.dns_names.iter();
                called.any(|called| called.eq_ignore_ascii_case(&name.0))
            }),
        }
    }
}

/// A log shows at most this many names of one certificate, and bytes of each. Chosen.
const SHOWN: (usize, usize) = (3, 64);

/// The names for a log, cut and escaped because the client chose them.
impl fmt::Display for Called<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = match self.dns_names.is_empty() {
            true => self.common_name.as_slice(),
            false => &self.dns_names,
        };
        let shortened = |name: &&str| format!("{:?}", cut(name, SHOWN.1));
        let shown: Vec<String> = names.iter().take(SHOWN.0).map(shortened).collect();
        match shown.is_empty() {
            true => f.write_str("nobody by name"),
            false => f.write_str(&shown.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn names() -> Vec<ClientName> {
        ["apiserver.example.com", "kube apiserver"]
            .map(|name| name.parse().unwrap())
            .into()
    }

    #[rstest]
    #[case::a_dns_name(&["apiserver.example.com"], None, true)]
    #[case::in_other_letters(&["APIserver.example.com"], None, true)]
    #[case::one_of_many(&["a.example.com", "apiserver.example.com"], Some("a"), true)]
    #[case::a_common_name(&[], Some("kube apiserver"), true)]
    #[case::a_common_name_beside_dns_names(&["a.example.com"], Some("kube apiserver"), false)]
    #[case::a_common_name_in_other_letters(&[], Some("Kube apiserver"), false)]
    #[case::another_dns_name(&["b.apiserver.example.com"], None, false)]
    #[case::a_wildcard(&["*.example.com"], None, false)]
    #[case::an_empty_name(&[], Some(""), false)]
    #[case::no_name(&[], None, false)]
    fn a_certificate_goes_by_its_dns_names_or_else_by_its_common_name(
        #[case] dns_names: &[&str],
        #[case] common_name: Option<&str>,
        #[case] expected: bool,
    ) {
        let called = Called {
            dns_names: dns_names.to_vec(),
            common_name,
        };
        assert_eq!(called.is_one_of(&names()), expected);
    }

    #[rstest]
    #[case("")]
    #[case(" ")]
    #[case("a ")]
    fn an_empty_or_padded_text_is_not_a_client_name(#[case] text: &str) {
        assert_eq!(text.parse::<ClientName>(), Err(ClientNameError));
    }

    #[test]
    fn what_a_log_shows_of_the_names_is_short_and_on_one_line() {
        let long = "a\n".repeat(100);
        let called = Called {
            dns_names: vec![&long; 10],
            common_name: Some("b"),
        };
        let shown = called.to_string();
        assert!(shown.len() < 400 && !shown.contains('\n'), "{shown}");
        assert_eq!(Called::default().to_string(), "nobody by name");
    }
}
