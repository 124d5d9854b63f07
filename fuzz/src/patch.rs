//! The patch of a new pod, applied to the raw object, gives exactly the planned pod, for any pod among any
//! Services and bindings.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use targetgate::admission::answer::Answer;
use targetgate::admission::pod;
use targetgate::admission::pod::PodPolicy;
use targetgate::state::cache::Cache;

use crate::answered;
use crate::unique;
use crate::world::{NAMESPACE, World};

/// Parses the bytes as `{"world": …, "pod": …}`, with a pod as a user writes it.
///
/// # Panics
///
/// If the patch gives another pod, a second patch changes something, or the reasons differ.
pub fn holds(bytes: &[u8]) {
    let Ok(case) = serde_json::from_slice::<Case>(bytes) else {
        return;
    };
    let raw = case.pod.get();
    let world = World::parse(case.world.get());
    let (Some(world), Some(object)) = (world, unique::value(raw.as_bytes())) else {
        return;
    };
    let (cache, policy) = (world.cache(), world.policy());
    let answer = answer(raw, &cache, &policy);
    let Some(plan) = world.plan(&object) else {
        assert_eq!(answer.reason.as_str(), "BadObject");
        return;
    };
    assert_eq!(answer.reason.as_str(), plan.reason);
    with_drain(raw, &object, &plan.pod, &world);
    let patched = patched(object, &answer);
    assert_eq!(patched, plan.pod);
    let again = self::answer(&patched.to_string(), &cache, &policy);
    assert!(again.patch.is_empty(), "reinvoked: {:?}", again.patch);
    let told = answer.audit.get("bindings").map_or("", String::as_str);
    if !told.ends_with('…') && !plan.bindings.iter().any(|(name, _)| name.contains(',')) {
        let mut told: Vec<&str> = told.split_terminator(',').collect();
        told.sort_unstable();
        let named = |(name, reason): &(String, _)| format!("{name}={reason}");
        let mut expected: Vec<String> = plan.bindings.iter().map(named).collect();
        expected.sort_unstable();
        assert_eq!(told, expected);
    }
}

/// Where drain is on, the gates are the same, the patch fits, and a second run changes nothing.
fn with_drain(raw: &str, object: &Value, planned: &Value, world: &World) {
    let (cache, policy) = (world.cache(), world.draining());
    let first = answer(raw, &cache, &policy);
    let after = patched(object.clone(), &first);
    let gates = "/spec/readinessGates";
    assert_eq!(after.pointer(gates), planned.pointer(gates));
    let again = answer(&after.to_string(), &cache, &policy);
    assert!(again.patch.is_empty(), "reinvoked: {:?}", again.patch);
}

/// The pod after the patch of an answer.
pub(crate) fn patched(mut pod: Value, answer: &Answer) -> Value {
    json_patch::patch(&mut pod, &answer.patch).expect("the patch fits the raw object");
    pod
}

#[derive(Deserialize)]
struct Case<'a> {
    #[serde(borrow)]
    world: &'a RawValue,
    #[serde(borrow)]
    pod: &'a RawValue,
}

/// The hook's answer to the creation of a pod.
fn answer(pod: &str, cache: &Cache, policy: &PodPolicy) -> Answer {
    let resource = r#"{"group":"","version":"v1","resource":"pods"}"#;
    let body = format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"1",
            "operation":"CREATE","namespace":"{NAMESPACE}","resource":{resource},"object":{pod}}}}}"#
    );
    let reply = pod::reply(body.as_bytes(), cache, policy).expect("it has a uid");
    answered::as_ever(&reply.answer, &reply.uid);
    reply.answer
}
