//! Whether the account of the installation has the rights that targetgate uses.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::rbac::v1::PolicyRule;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, PostParams};
use serde::Deserialize;
use serde_json::Value;
use targetgate_core::doctor::{Known, Right};
use targetgate_core::names::ObjectKey;
use tokio::time::timeout;

use crate::args::{Admission, Settings, Tls};
use crate::commands::doctor::installed::Installed;
use crate::commands::doctor::read;
use crate::kubernetes::{CALL_TIMEOUT, why};

/// The roles that are shipped, which tests/conformance holds to what targetgate uses, and tests/chart to the chart's.
const BASE: &str = include_str!("../../../deploy/base/rbac.yaml");
const CERTIFICATES: &str = include_str!("../../../deploy/base/certificates-rbac.yaml");
const TARGETS: &str = include_str!("../../../deploy/overlays/targets/rbac.yaml");
const GATE_RULES: &str = include_str!("../../../deploy/components/policy/rbac.yaml");
/// The Role for the incumbent's Lease, which is in that Lease's namespace.
const INCUMBENT: &str = "targetgate-incumbent";
/// The reviews that are asked for at once. Chosen.
const AT_ONCE: usize = 8;
/// The resources of the roles that are of no namespace.
const CLUSTER_SCOPED: [&str; 3] = [
    "namespaces",
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
];
/// At most this many of the watched namespaces are asked about. Chosen: each takes a dozen reviews.
const MOST: usize = 20;

/// A role, of which the namespace and the name of its objects are those of the defaults.
#[derive(Deserialize)]
struct Role {
    kind: String,
    metadata: ObjectMeta,
    #[serde(default)]
    rules: Vec<PolicyRule>,
}

/// Asks whether the account has each right, by a review that needs the right to create one.
pub(super) async fn read(client: &Client, installed: &Installed) -> Known<Vec<Right>> {
    let account = installed.known_account()?;
    let rights = used(&installed.settings, &installed.deployment)?;
    let asked = rights
        .into_iter()
        .map(|(right, attributes)| ask(client, &account, right, attributes));
    stream::iter(asked).buffered(AT_ONCE).try_collect().await
}

async fn ask(
    client: &Client,
    account: &str,
    right: Right,
    attributes: ResourceAttributes,
) -> Known<Right> {
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(account.to_owned()),
            // Those that the API server gives to a token of the account.
            groups: Some(groups(account)),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let failed = |why: String| format!("Cannot create a SubjectAccessReview: {why}.");
    let params = PostParams::default();
    let reviewed = timeout(CALL_TIMEOUT, reviews.create(&params, &review)).await;
    let reviewed = reviewed.map_err(|_| failed(read::no_answer()))?;
    let reviewed = reviewed.map_err(|error| failed(why(&error)))?;
    Ok(Right {
        granted: reviewed.status.is_some_and(|status| status.allowed),
        ..right
    })
}

fn groups(account: &str) -> Vec<String> {
    let namespace = account.split(':').nth(2).unwrap_or_default();
    let of_namespace = format!("system:serviceaccounts:{namespace}");
    let all = ["system:serviceaccounts", "system:authenticated"];
    let all = all.into_iter().map(str::to_owned);
    all.chain([of_namespace]).collect()
}

/// The rights that targetgate uses with these settings, each with the question about it.
fn used(settings: &Settings, deployment: &ObjectKey) -> Known<Vec<(Right, ResourceAttributes)>> {
    let own_certificate = matches!(settings.tls.source(), Ok(Tls::Own(_)));
    let parts = [
        (true, BASE),
        (own_certificate, CERTIFICATES),
        (settings.targets.register.mode().is_some(), TARGETS),
        (settings.mode.admission == Admission::Both, GATE_RULES),
    ];
    let mut used = vec![];
    for (_, part) in parts.into_iter().filter(|(is_used, _)| *is_used) {
        let objects = serde_saphyr::from_multiple::<Value>(part);
        for object in objects.map_err(|error| error.to_string())? {
            let kind = object["kind"].as_str().unwrap_or_default();
            if matches!(kind, "Role" | "ClusterRole") {
                let role = serde_json::from_value::<Role>(object);
                let role = role.map_err(|error| error.to_string())?;
                used.extend(of_role(&role, settings, deployment));
            }
        }
    }
    Ok(used)
}

fn of_role(
    role: &Role,
    settings: &Settings,
    deployment: &ObjectKey,
) -> Vec<(Right, ResourceAttributes)> {
    let namespace = match role.kind.as_str() {
        "ClusterRole" => None,
        _ if role.metadata.name.as_deref() == Some(INCUMBENT) => {
            Some(&*settings.targets.incumbent_lease.namespace)
        }
        _ => Some(&*deployment.namespace),
    };
    let mut rights = vec![];
    for rule in &role.rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                let names = names(rule, resource, settings, role);
                let places = places(namespace, resource, settings);
                for verb in &rule.verbs {
                    for (name, place) in names
                        .iter()
                        .flat_map(|n| places.iter().map(move |p| (n, p)))
                    {
                        rights.push(right(verb, group, resource, name.clone(), place.clone()));
                    }
                }
            }
        }
    }
    rights
}

/// The names of the objects that a rule is about, as the settings name them; `None` is any.
fn names(
    rule: &PolicyRule,
    resource: &str,
    settings: &Settings,
    role: &Role,
) -> Vec<Option<String>> {
    let Some(names) = rule
        .resource_names
        .as_ref()
        .filter(|names| !names.is_empty())
    else {
        return vec![None];
    };
    let tls = &settings.tls;
    let named = match resource {
        "secrets" => vec![tls.tls_secret.clone()],
        "deployments" => vec![tls.tls_owner.clone()],
        "mutatingwebhookconfigurations" => tls.tls_mutating.clone(),
        "validatingwebhookconfigurations" => tls.tls_validating.clone(),
        _ if role.metadata.name.as_deref() == Some(INCUMBENT) => {
            vec![settings.targets.incumbent_lease.name.to_string()]
        }
        _ => names.clone(),
    };
    named.into_iter().map(Some).collect()
}

/// Where a right is needed: in the Role's namespace, else in those that are watched; `None` is everywhere.
fn places(namespace: Option<&str>, resource: &str, settings: &Settings) -> Vec<Option<String>> {
    let watched = &settings.watch_namespaces;
    match namespace {
        Some(namespace) => vec![Some(namespace.to_owned())],
        None if watched.is_empty() || CLUSTER_SCOPED.contains(&resource) => vec![None],
        None => watched.iter().take(MOST).cloned().map(Some).collect(),
    }
}

fn right(
    verb: &str,
    group: &str,
    resource: &str,
    name: Option<String>,
    namespace: Option<String>,
) -> (Right, ResourceAttributes) {
    let (kind, subresource) = match resource.split_once('/') {
        Some((kind, subresource)) => (kind, Some(subresource)),
        None => (resource, None),
    };
    let attributes = ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(kind.to_owned()),
        subresource: subresource.map(str::to_owned),
        name: name.clone(),
        namespace: namespace.clone(),
        verb: Some(verb.to_owned()),
        ..ResourceAttributes::default()
    };
    let group = if group.is_empty() {
        String::new()
    } else {
        format!(".{group}")
    };
    let subresource = subresource.map_or(String::new(), |subresource| format!("/{subresource}"));
    let right = Right {
        verb: verb.to_owned(),
        resource: format!("{kind}{group}{subresource}"),
        name,
        namespace,
        granted: false,
    };
    (right, attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(variables: &[(&str, &str)]) -> Vec<String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let variables: Vec<_> = variables.iter().map(owned).collect();
        let settings = Settings::of_container(&[], &variables).unwrap();
        let used = used(&settings, &ObjectKey::new("tg", "targetgate")).unwrap();
        let told = used.into_iter().map(|(right, _)| {
            let name = right.name.unwrap_or_default();
            let place = right.namespace.unwrap_or_default();
            format!("{} {} {name} {place}", right.verb, right.resource)
        });
        told.collect()
    }

    #[test]
    fn the_rights_are_those_of_the_flags_and_of_the_names_that_they_give() {
        let named = told(&[
            ("TARGETGATE_TLS_SECRET", "own"),
            ("TARGETGATE_TLS_MUTATING", "a,b"),
        ]);
        for expected in [
            "patch pods/status  ",
            "get targetgroupbindings.eks.amazonaws.com  ",
            "patch mutatingwebhookconfigurations.admissionregistration.k8s.io b ",
            "update secrets own tg",
            "create leases.coordination.k8s.io  tg",
        ] {
            assert!(
                named.iter().any(|told| told == expected),
                "{expected}: {named:#?}"
            );
        }
        let none = ["targetrecords", "gaterules", "kube-system"];
        for word in none {
            assert!(!named.iter().any(|told| told.contains(word)), "{word}");
        }
    }

    #[test]
    fn registration_and_the_policy_have_rights_of_their_own_and_files_need_fewer() {
        let more = told(&[
            ("TARGETGATE_REGISTER", "all"),
            ("TARGETGATE_ADMISSION", "both"),
            ("TARGETGATE_INCUMBENT_LEASE", "infra/lbc"),
            ("TARGETGATE_TLS_CERT", "/tls/tls.crt"),
            ("TARGETGATE_TLS_KEY", "/tls/tls.key"),
        ]);
        for expected in [
            "get leases.coordination.k8s.io lbc infra",
            "patch targetgroupbindings.elbv2.k8s.aws/status  ",
            "delete targetrecords.targetgate.dev  tg",
            "patch gaterules.targetgate.dev targetgate ",
        ] {
            assert!(
                more.iter().any(|told| told == expected),
                "{expected}: {more:#?}"
            );
        }
        assert!(!more.iter().any(|told| told.contains("secrets")));
    }

    #[test]
    fn watched_namespaces_are_asked_about_one_by_one() {
        let watched = told(&[("TARGETGATE_WATCH_NAMESPACES", "shop,blog")]);
        for expected in ["list pods  shop", "list pods  blog", "list namespaces  "] {
            assert!(watched.iter().any(|told| told == expected), "{expected}");
        }
        assert!(!watched.iter().any(|told| told == "list pods  "));
    }
}
