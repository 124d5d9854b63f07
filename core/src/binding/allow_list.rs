//! Which target groups the bindings of a namespace may name, and which roles they may assume (contract 4).
//!
//! Without the list, a user that may create bindings in one namespace can register pods in any
//! target group of the account.

use serde::Deserialize;
use thiserror::Error;

use crate::names::TargetGroupArn;

/// A denial names at most this many rules. Chosen so that the message stays short.
const MAX_NAMED: usize = 5;

/// The operator's list of rules, each of which allows some namespaces to bind some target groups. A group
/// is denied unless a rule allows it.
///
/// A rule may list the roles that a binding of these groups may assume; without a list it may assume any.
///
/// The file is YAML. In namespaces, ARNs and roles a `*` matches any text, `/` and `:` included.
///
/// ```
/// use targetgate_core::binding::allow_list::AllowList;
///
/// let list = AllowList::parse(
///     "
/// - name: payments
///   namespaces: [payments, payments-*]
///   targetGroupARNs: ['arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/pay-*']
///   roles: ['arn:aws:iam::111122223333:role/payments-*']
/// ",
/// )?;
/// let group = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/pay-web/0123456789abcdef";
/// let group = group.parse().unwrap();
/// assert!(list.check("payments-eu", &group).is_ok());
/// assert!(list.check("shop", &group).is_err());
/// let role = |name| list.check_role("payments", &group, name);
/// assert!(role("arn:aws:iam::111122223333:role/payments-bind").is_ok());
/// assert!(role("arn:aws:iam::111122223333:role/admin").is_err());
/// # Ok::<(), targetgate_core::binding::allow_list::AllowListError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct AllowList {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    name: String,
    namespaces: Vec<Pattern>,
    #[serde(rename = "targetGroupARNs")]
    arns: Vec<Pattern>,
    /// Absent for any role; empty for none.
    roles: Option<Vec<Pattern>>,
}

/// A pattern in which each `*` matches any text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
struct Pattern(String);

/// Why a file is not an allow-list.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AllowListError {
    #[error(
        "not a list of rules, each with name, namespaces, targetGroupARNs and perhaps roles: {0}"
    )]
    Shape(String),
    /// The file is empty, and probably still being written rather than meant to deny everything.
    #[error("empty: write [] where no target group may be bound")]
    Empty,
    /// The rule of this name cannot allow anything, which is probably a mistake.
    #[error("rule {0:?} has no name, no namespace or no ARN: fill it in, or delete the rule")]
    Hollow(String),
}

/// Why a namespace may not bind a target group, or not assume a role for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAllowed {
    /// The rules about the namespace, at most [`MAX_NAMED`], whose groups or roles may be named instead.
    rules: Vec<String>,
}

impl AllowList {
    /// Reads a list. A list with one bad rule is refused as a whole, because the rest of it would deny or
    /// allow what the operator did not write.
    ///
    /// # Errors
    /// [`AllowListError`], for the operator to read.
    pub fn parse(yaml: &str) -> Result<Self, AllowListError> {
        let list: Option<Self> = serde_saphyr::from_str(yaml)
            .map_err(|error| AllowListError::Shape(error.to_string()))?;
        let list = list.ok_or(AllowListError::Empty)?;
        let hollow = |rule: &&Rule| {
            rule.name.is_empty() || rule.namespaces.is_empty() || rule.arns.is_empty()
        };
        match list.rules.iter().find(hollow) {
            Some(rule) => Err(AllowListError::Hollow(rule.name.clone())),
            None => Ok(list),
        }
    }

    /// Whether a binding of this namespace may name this group.
    ///
    /// # Errors
    /// [`NotAllowed`], which lists the rules about the namespace.
    pub fn check(&self, namespace: &str, arn: &TargetGroupArn) -> Result<(), NotAllowed> {
        let about = || self.about(namespace);
        if about().any(|rule| rule.covers(arn)) {
            return Ok(());
        }
        Err(NotAllowed::by(about()))
    }

    /// Whether a binding of this namespace may assume this role for a group that it may name.
    ///
    /// # Errors
    /// [`NotAllowed`], which lists the rules about the namespace and the group.
    pub fn check_role(
        &self,
        namespace: &str,
        arn: &TargetGroupArn,
        role: &str,
    ) -> Result<(), NotAllowed> {
        let about = || self.about(namespace).filter(|rule| rule.covers(arn));
        if about().next().is_none() || about().any(|rule| rule.admits(role)) {
            return Ok(());
        }
        Err(NotAllowed::by(about()))
    }

    fn about(&self, namespace: &str) -> impl Iterator<Item = &Rule> {
        let rules = self.rules.iter();
        rules.filter(move |rule| rule.namespaces.iter().any(|n| n.matches(namespace)))
    }
}

impl Rule {
    fn covers(&self, arn: &TargetGroupArn) -> bool {
        self.arns.iter().any(|a| a.matches(arn.as_str()))
    }

    fn admits(&self, role: &str) -> bool {
        let listed = |roles: &Vec<Pattern>| roles.iter().any(|r| r.matches(role));
        self.roles.as_ref().is_none_or(listed)
    }
}

impl NotAllowed {
    fn by<'a>(rules: impl Iterator<Item = &'a Rule>) -> Self {
        let rules = rules.take(MAX_NAMED).map(|rule| rule.name.clone());
        Self {
            rules: rules.collect(),
        }
    }

    /// The message of a denial of the role `shown`, after the path of the field.
    pub fn message_of_role(&self, namespace: &str, shown: &str) -> String {
        format!(
            "{shown} is not among the roles that --allow-arns lets namespace {namespace:?} assume for this target group by {}: use such a role, or ask whoever runs targetgate",
            self.names()
        )
    }

    fn names(&self) -> String {
        let rules: Vec<String> = self.rules.iter().map(|name| format!("{name:?}")).collect();
        rules.join(", ")
    }

    /// The message of a denial, after the path of the field.
    pub fn message(&self, namespace: &str) -> String {
        match self.rules.is_empty() {
            true => format!(
                "no rule of --allow-arns is about namespace {namespace:?}, so its bindings may name no target group: ask whoever runs targetgate for one"
            ),
            false => format!(
                "namespace {namespace:?} may bind only what --allow-arns lets it by {}: use such a target group, or ask whoever runs targetgate",
                self.names()
            ),
        }
    }
}

impl Pattern {
    fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        // Only the first part is anchored to the beginning; it is empty if the pattern begins with `*`.
        let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
            return false;
        };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else {
            return rest.is_empty();
        };
        // The leftmost match of each part leaves the most text to the parts that follow, so the search does
        // not have to backtrack.
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::fixtures::arn;

    const LIST: &str = "
- name: payments
  namespaces: [payments, payments-*]
  targetGroupARNs: ['arn:aws:elasticloadbalancing:eu-west-1:*:targetgroup/pay-*']
- name: everyone
  namespaces: ['*']
  targetGroupARNs: ['*:targetgroup/shared/*', '*:targetgroup/public/0123456789abcdef']
";

    #[rstest]
    #[case::its_own("payments", "pay-web", true)]
    #[case::of_a_namespace_by_pattern("payments-eu", "pay-web", true)]
    #[case::of_another_namespace("shop", "pay-web", false)]
    #[case::everyones("shop", "shared", true)]
    #[case::by_a_second_arn("shop", "public", true)]
    #[case::a_longer_name("shop", "shared-too", false)]
    #[case::nobodys("payments", "web", false)]
    fn a_rule_lets_a_namespace_bind_its_groups(
        #[case] namespace: &str,
        #[case] group: &str,
        #[case] allowed: bool,
    ) {
        let list = AllowList::parse(LIST).unwrap();
        assert_eq!(list.check(namespace, &arn(group)).is_ok(), allowed);
    }

    #[rstest]
    #[case::listed("payments", "pay-web", "arn:aws:iam::1:role/pay-bind", true)]
    #[case::not_listed("payments", "pay-web", "arn:aws:iam::1:role/admin", false)]
    #[case::by_a_rule_without_a_list("payments", "shared", "arn:aws:iam::1:role/admin", true)]
    #[case::by_an_empty_list("shop", "public", "arn:aws:iam::1:role/pay-bind", false)]
    #[case::of_a_group_that_is_denied_anyway("shop", "web", "arn:aws:iam::1:role/admin", true)]
    fn a_rule_with_roles_lets_its_bindings_assume_these(
        #[case] namespace: &str,
        #[case] group: &str,
        #[case] role: &str,
        #[case] allowed: bool,
    ) {
        let list = AllowList::parse(
            "
- {name: payments, namespaces: [payments], targetGroupARNs: ['*:targetgroup/pay-*'], roles: ['*:role/pay-*']}
- {name: shared, namespaces: ['*'], targetGroupARNs: ['*:targetgroup/shared/*']}
- {name: public, namespaces: ['*'], targetGroupARNs: ['*:targetgroup/public/*'], roles: []}
",
        );
        let denied = list.unwrap().check_role(namespace, &arn(group), role).err();
        assert_eq!(denied.is_none(), allowed);
        let message = denied.map(|denied| denied.message_of_role(namespace, role));
        assert!(message.is_none_or(|message| message.contains("by \"p") && message.contains(role)));
    }

    #[test]
    fn a_denial_names_the_rules_about_the_namespace() {
        let list = AllowList::parse(LIST).unwrap();
        let denied = list.check("payments", &arn("web")).unwrap_err();
        assert!(
            denied
                .message("payments")
                .contains(r#"by "payments", "everyone":"#)
        );
        let none = AllowList::parse("[]").unwrap();
        let denied = none.check("shop", &arn("web")).unwrap_err();
        assert!(
            denied
                .message("shop")
                .starts_with("no rule of --allow-arns is about")
        );
    }

    #[rstest]
    #[case("a", "a", true)]
    #[case("a", "ab", false)]
    #[case("a", "ba", false)]
    #[case("", "", true)]
    #[case("", "a", false)]
    #[case("*", "", true)]
    #[case("a*", "a", true)]
    #[case("*a", "ba", true)]
    #[case("*a", "ab", false)]
    #[case("a*c", "abbc", true)]
    #[case("a*a", "a", false)]
    #[case("a*b*c", "a-b-b-c", true)]
    #[case("a*b*c", "a-c-b", false)]
    #[case("*b*", "abc", true)]
    #[case("**", "abc", true)]
    #[case("ä*", "äö", true)]
    fn a_star_stands_for_any_text(
        #[case] pattern: &str,
        #[case] text: &str,
        #[case] matches: bool,
    ) {
        assert_eq!(Pattern(pattern.to_owned()).matches(text), matches);
    }

    #[rstest]
    #[case::no_list("a: b", "not a list of rules")]
    #[case::no_yaml("[", "not a list of rules")]
    #[case::nothing("", "empty: write []")]
    #[case::a_comment_only("# rules\n", "empty: write []")]
    #[case::a_word_misspelt("[{name: a, namespace: [b], targetGroupARNs: [c]}]", "namespace")]
    #[case::a_text_for_a_list("[{name: a, namespaces: b, targetGroupARNs: [c]}]", "not a list")]
    #[case::no_arn("[{name: a, namespaces: [b], targetGroupARNs: []}]", r#"rule "a" has"#)]
    #[case::no_namespace("[{name: a, namespaces: [], targetGroupARNs: [c]}]", r#"rule "a" has"#)]
    #[case::no_name(
        "[{name: '', namespaces: [a], targetGroupARNs: [c]}]",
        r#"rule "" has"#
    )]
    fn what_is_no_list_is_said_to_be_none(#[case] yaml: &str, #[case] why: &str) {
        let error = AllowList::parse(yaml).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}
