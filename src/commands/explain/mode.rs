//! Reads what `--admission both` needs: the policy, its binding, and the rules of the namespace.

use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use targetgate_core::explain::PolicyFacts;
use targetgate_core::gate_rules::{GateRules, OBJECT, POLICY};
use tokio::time::timeout;

use crate::kubernetes::{CALL_TIMEOUT, admission_resource, gate_rules, is_absence, why};

/// What is known of the policy and the rules of a namespace.
pub(super) async fn read(client: &Client, namespace: &str) -> PolicyFacts {
    let policies = admission_resource("MutatingAdmissionPolicy");
    let bindings = admission_resource("MutatingAdmissionPolicyBinding");
    let resource = gate_rules::resource();
    let rules: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let (policy, binding, rules) = tokio::join!(
        one(Api::all_with(client.clone(), &policies), POLICY),
        one(Api::all_with(client.clone(), &bindings), POLICY),
        one(rules, OBJECT),
    );
    let mut facts = PolicyFacts::default();
    match policy {
        Ok(found) => facts.policy = Some(found.is_some()),
        Err(error) => facts.why = Some(error),
    }
    match binding {
        Ok(found) => facts.binding = Some(found.is_some()),
        Err(error) => facts.why = Some(error),
    }
    let read = rules.and_then(|found| found.as_ref().map(spec).transpose());
    match read {
        Ok(found) => facts.rules = Some(found),
        Err(error) => facts.why = Some(error),
    }
    facts
}

/// The rules of an object.
pub(in crate::commands) fn spec(object: &DynamicObject) -> Result<GateRules, String> {
    let spec = serde_json::from_value(object.data["spec"].clone());
    spec.map_err(|error| format!("GateRules: {error}"))
}

/// The object of this name, `None` if it or its kind does not exist; by a list of one where a get is denied.
async fn one(api: Api<DynamicObject>, name: &str) -> Result<Option<DynamicObject>, String> {
    let got = timeout(CALL_TIMEOUT, api.get(name)).await;
    let denied = match got {
        Ok(Ok(found)) => return Ok(Some(found)),
        Ok(Err(kube::Error::Api(status))) if is_absence(&status) || status.code == 404 => {
            return Ok(None);
        }
        Ok(Err(error)) => why(&error),
        Err(_) => return Err(format!("no answer within {CALL_TIMEOUT:?}")),
    };
    let params = ListParams::default().fields(&format!("metadata.name={name}"));
    let listed = timeout(CALL_TIMEOUT, api.list(&params)).await;
    match listed {
        Ok(Ok(listed)) => Ok(listed.items.into_iter().next()),
        _ => Err(denied),
    }
}
