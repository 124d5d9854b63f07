//! Target group ARNs are accepted exactly if their grammar says so, and written as they were read.

use std::str::from_utf8;

use targetgate_core::names::TargetGroupArn;

/// Parses the bytes as an ARN.
///
/// # Panics
///
/// If it is accepted and should not be, or the reverse, or if its parts differ from the text.
pub fn holds(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    let parsed = text.parse::<TargetGroupArn>();
    let Some(parts) = parts(text) else {
        assert!(parsed.is_err(), "{text:?} is not the ARN of a target group");
        return;
    };
    let arn = parsed.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(arn.as_str(), text);
    assert_eq!(arn.to_string(), text);
    let read = [arn.region(), arn.account(), arn.name()];
    assert_eq!(read, [parts.region, parts.account, parts.name]);
}

struct Parts<'a> {
    region: &'a str,
    account: &'a str,
    name: &'a str,
}

/// A second implementation of the grammar, from the left: each part ends at the first character that it cannot
/// contain.
/// Source:
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_awselasticloadbalancingv2.html>
fn parts(text: &str) -> Option<Parts<'_>> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let rest = text.strip_prefix("arn:aws")?;
    let (_, rest) = part(rest, |c| c.is_ascii_lowercase() || c == '-');
    let (region, rest) = part(rest.strip_prefix(":elasticloadbalancing:")?, word);
    let (account, rest) = part(rest.strip_prefix(':')?, |c| c.is_ascii_digit());
    let (name, rest) = part(rest.strip_prefix(":targetgroup/")?, word);
    let (id, rest) = part(rest.strip_prefix('/')?, word);
    let whole = rest.is_empty() && account.len() == 12;
    let filled = ![region, name, id].contains(&"");
    (whole && filled).then_some(Parts {
        region,
        account,
        name,
    })
}

fn part(text: &str, of: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !of(c)).unwrap_or(text.len());
    text.split_at(end)
}
