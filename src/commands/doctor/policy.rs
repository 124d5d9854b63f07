//! The policies of the API server that belong to an installation, and the gate rules that one of them reads.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::{Api, DynamicObject};
use kube::{Client, ResourceExt};
use serde_json::value::to_raw_value;
use targetgate_core::doctor::{IMMUTABILITY, Injection, Known, NamespaceRules, Policy};
use targetgate_core::gate_rules::{GateRules, OBJECT, POLICY, POLICY_OF_OBJECTS, TooLarge};
use targetgate_core::index::services::ServiceIndex;

use crate::args::Admission;
use crate::commands::doctor::installed::Installed;
use crate::commands::doctor::objects::Stored;
use crate::commands::doctor::read;
use crate::commands::explain::mode;
use crate::kubernetes::snapshot::Snapshot;
use crate::kubernetes::{admission_resource, gate_rules, snapshot};

const MUTATING: &str = "MutatingAdmissionPolicy";
const VALIDATING: &str = "ValidatingAdmissionPolicy";

/// What `--admission both` needs, if the installation has that.
pub(super) async fn injection(
    client: &Client,
    installed: &Installed,
    bindings: &Known<Stored>,
) -> Option<Injection> {
    if installed.settings.mode.admission != Admission::Both {
        return None;
    }
    let decides = installed.decides();
    let rules: Api<DynamicObject> = Api::all_with(client.clone(), &gate_rules::resource());
    let (policies, stored, snapshot) = tokio::join!(
        policies(client, MUTATING, &[POLICY, POLICY_OF_OBJECTS]),
        read::list(&rules, "gaterules", ""),
        routes(client, bindings),
    );
    let wanted = |routes: &ServiceIndex| GateRules::of(routes, &decides.gates);
    Some(Injection {
        server: snapshot.as_ref().ok().and_then(|snapshot| snapshot.server),
        policies,
        rules: match (stored, snapshot) {
            (Err(why), _) => Err(why),
            (Ok(None), _) => Ok(None),
            (Ok(Some(_)), Err(why)) => Err(why),
            (Ok(Some(stored)), Ok(snapshot)) => {
                let watched = &installed.settings.watch_namespaces;
                let all = compared(&stored, &snapshot, wanted);
                let is_watched = |rules: &NamespaceRules| {
                    watched.is_empty() || watched.contains(&rules.namespace)
                };
                Ok(Some(all.into_iter().filter(is_watched).collect()))
            }
        },
    })
}

/// The Services beside the bindings, which were listed before.
async fn routes(client: &Client, bindings: &Known<Stored>) -> Known<Snapshot> {
    let bindings = bindings.as_ref().map_err(Clone::clone)?.iter();
    let raw = bindings.map(|(api, listed)| {
        let listed = listed.as_ref();
        let raw = listed.map(|all| all.iter().map(to_raw_value).collect::<Result<_, _>>());
        Ok((*api, raw.transpose()?))
    });
    let raw: Result<Vec<_>, serde_json::Error> = raw.collect();
    let raw = raw.map_err(|error| format!("{error}."))?;
    let read = snapshot::routes(client, &raw).await;
    read.map_err(|error| format!("{error}."))
}

/// The rules of each namespace that has an object, or whose bindings give gates.
fn compared(
    stored: &[DynamicObject],
    snapshot: &Snapshot,
    wanted: impl Fn(&ServiceIndex) -> Result<GateRules, TooLarge>,
) -> Vec<NamespaceRules> {
    let stored = stored.iter().filter(|object| object.name_any() == OBJECT);
    let stored: BTreeMap<String, _> = stored
        .map(|object| (object.namespace().unwrap_or_default(), mode::spec(object)))
        .collect();
    let known = snapshot
        .index
        .namespaces()
        .map(|(name, _)| name.to_string());
    let names: BTreeSet<String> = known.chain(stored.keys().cloned()).collect();
    let all = names.into_iter().map(|namespace| {
        let view = snapshot.index.namespace(&namespace);
        NamespaceRules {
            wanted: view.map_or_else(|| Ok(GateRules::default()), |view| wanted(&view.routes)),
            stored: stored.get(&namespace).cloned().transpose(),
            namespace,
        }
    });
    let is_told = |rules: &NamespaceRules| {
        let none = matches!(&rules.wanted, Ok(wanted) if wanted.is_empty());
        !none || !matches!(rules.stored, Ok(None))
    };
    all.filter(is_told).collect()
}

/// The policy that holds the fields of bindings.
pub(super) async fn immutability(client: &Client) -> Known<Option<Policy>> {
    let found = policies(client, VALIDATING, &[IMMUTABILITY]).await?;
    Ok(found.into_iter().flatten().next())
}

/// The policies of these names; `None` if the API server does not serve their kind.
async fn policies(client: &Client, kind: &str, names: &[&str]) -> Known<Option<Vec<Policy>>> {
    let list = async |kind: &str| {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &admission_resource(kind));
        read::list(&api, &kind.to_lowercase(), "").await
    };
    let of_bindings = format!("{kind}Binding");
    let (policies, bindings) = tokio::join!(list(kind), list(&of_bindings));
    let (Some(policies), bindings) = (policies?, bindings?) else {
        return Ok(None);
    };
    let bindings = bindings.unwrap_or_default();
    let bound: BTreeSet<&str> = bindings
        .iter()
        .filter_map(|binding| binding.data["spec"]["policyName"].as_str())
        .collect();
    let found = policies.iter().map(ResourceExt::name_any);
    let ours = found.filter(|name| names.contains(&name.as_str()));
    let ours = ours.map(|name| Policy {
        bound: bound.contains(name.as_str()),
        name,
    });
    Ok(Some(ours.collect()))
}
