//! A registered webhook, and whether it wants to see a request.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::Review;
use crate::api::{kinds::Served, object::Object, selector::Selector};

/// One entry of `webhooks` in a configuration, with Kubernetes' defaults filled in.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// The full name, unique within the configuration.
    pub name: String,
    /// The address, and the CAs that sign the webhook's certificate.
    pub client_config: ClientConfig,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default = "fail")]
    failure_policy: String,
    #[serde(default = "equivalent")]
    match_policy: String,
    #[serde(default)]
    namespace_selector: Value,
    #[serde(default)]
    object_selector: Value,
    /// The CEL conditions, all of which must be true.
    #[serde(default)]
    pub match_conditions: Vec<MatchCondition>,
    /// The timeout of a call, in seconds.
    #[serde(default = "ten")]
    pub timeout_seconds: u64,
    #[serde(default)]
    side_effects: String,
    #[serde(default)]
    reinvocation_policy: String,
}

/// `clientConfig`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientConfig {
    /// The URL, if the webhook is not a Service.
    pub url: Option<String>,
    /// The Service, if the webhook has no URL.
    pub service: Option<ServiceReference>,
    /// The only trusted roots, as PEM in base64.
    #[serde(default)]
    pub ca_bundle: String,
}

/// `clientConfig.service`.
#[derive(Clone, Debug, Deserialize)]
pub struct ServiceReference {
    pub name: String,
    pub namespace: String,
    /// The path; empty means `/`.
    #[serde(default)]
    pub path: String,
    #[serde(default = "https_port")]
    pub port: u16,
}

#[derive(Clone, Debug, Deserialize)]
pub struct MatchCondition {
    /// The CEL expression, which must return a boolean.
    pub expression: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    operations: Vec<String>,
    api_groups: Vec<String>,
    api_versions: Vec<String>,
    resources: Vec<String>,
    scope: Option<String>,
}

fn fail() -> String {
    "Fail".to_owned()
}

fn equivalent() -> String {
    "Equivalent".to_owned()
}

fn ten() -> u64 {
    10
}

fn https_port() -> u16 {
    443
}

impl Webhook {
    /// Whether a request passes although a call of this webhook failed.
    pub fn ignores_failure(&self) -> bool {
        self.failure_policy == "Ignore"
    }

    /// Whether the webhook may be called for a dry run.
    pub fn supports_dry_run(&self) -> bool {
        matches!(self.side_effects.as_str(), "None" | "NoneOnDryRun")
    }

    /// Whether the webhook is called again after a later webhook changed the object.
    pub fn is_reinvoked(&self) -> bool {
        self.reinvocation_policy == "IfNeeded"
    }

    /// The version in which the webhook wants to see the object; `None` if it does not want to see
    /// it. CEL conditions are evaluated elsewhere.
    pub fn wants(&self, review: &Review<'_>) -> Result<Option<Served>, String> {
        let Some(served) = self.version(review) else {
            return Ok(None);
        };
        if let Some(labels) = &review.namespace_labels
            && !Selector::from_object(&self.namespace_selector)?.matches(&labels.labels())
        {
            return Ok(None);
        }
        let selector = Selector::from_object(&self.object_selector)?;
        let selects =
            |object: Option<&Object>| object.is_some_and(|o| selector.matches(&o.labels()));
        let selected = selects(review.object.as_ref()) || selects(review.old);
        Ok(selected.then_some(served))
    }

    fn version(&self, review: &Review<'_>) -> Option<Served> {
        let asked = &review.target.served;
        if self.matches_in(asked, review) {
            return Some(asked.clone());
        }
        if self.match_policy != "Equivalent" {
            return None;
        }
        let resource = Arc::clone(&asked.resource);
        let served = resource.versions.iter().filter(|version| version.served);
        served
            .filter_map(|version| resource.in_version(&version.name))
            .find(|other| self.matches_in(other, review))
    }

    fn matches_in(&self, served: &Served, review: &Review<'_>) -> bool {
        self.rules.iter().any(|rule| rule.matches(served, review))
    }
}

impl Rule {
    fn matches(&self, served: &Served, review: &Review<'_>) -> bool {
        let has = |list: &[String], wanted: &str| list.iter().any(|v| v == "*" || v == wanted);
        let scope = match self.scope.as_deref() {
            Some("Namespaced") => served.resource.namespaced,
            Some("Cluster") => !served.resource.namespaced,
            _ => true,
        };
        scope
            && has(&self.operations, review.operation.as_str())
            && has(&self.api_groups, &served.resource.group)
            && has(&self.api_versions, &served.version().name)
            && self.resources.iter().any(|pattern| {
                resource_matches(pattern, &served.resource.plural, &review.target.subresource)
            })
    }
}

/// Matches a resource pattern: `*` is every resource without its subresources; `*/*` is every
/// resource and subresource.
fn resource_matches(pattern: &str, plural: &str, subresource: &str) -> bool {
    let (wanted, wanted_sub) = pattern.split_once('/').unwrap_or((pattern, ""));
    let one = |pattern: &str, text: &str| pattern == "*" || pattern == text;
    one(wanted, plural)
        && match wanted_sub {
            "*" => wanted == "*" || !subresource.is_empty(),
            exact => exact == subresource,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_pattern_matches_subresources_only_when_it_says_so() {
        for (pattern, subresource, expected) in [
            ("pods", "", true),
            ("pods", "status", false),
            ("pods/status", "status", true),
            ("pods/status", "", false),
            ("pods/*", "status", true),
            ("pods/*", "", false),
            ("*", "", true),
            ("*", "status", false),
            ("*/*", "", true),
            ("*/*", "status", true),
            ("*/status", "status", true),
            ("services", "", false),
        ] {
            let matches = resource_matches(pattern, "pods", subresource);
            assert_eq!(matches, expected, "{pattern} {subresource}");
        }
    }
}
