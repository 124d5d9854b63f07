//! The review of a new pod: for any bytes, the hook does not panic and does not deny, and it decides as a
//! parser of the whole review would.

use std::sync::LazyLock;

use serde_json::Value;
use targetgate::admission::pod;
use targetgate::state::cache::Cache;

use crate::world::{NAMESPACE, Plan, World};
use crate::{answered, patch, unique};

/// The cluster in which the pods of the reviews would be created. The seeds are those of `benches/reviews`,
/// trimmed.
static SHOP: LazyLock<(World, Cache)> = LazyLock::new(|| {
    let world = World::parse(include_str!("shop.json")).expect("it is a world");
    let cache = world.cache();
    (world, cache)
});

/// Parses the bytes as an `AdmissionReview`.
///
/// # Panics
///
/// If the answer denies, exceeds a bound, or differs from the answer to the parsed review.
pub fn holds(bytes: &[u8]) {
    let (world, cache) = &*SHOP;
    let reply = pod::reply(bytes, cache, &world.policy());
    if let Ok(reply) = &reply {
        answered::as_ever(&reply.answer, &reply.uid);
    }
    let Some(review) = unique::value(bytes) else {
        return;
    };
    match (reply, expected(world, &review)) {
        (Err(_), Expected::Refused) => {}
        (Ok(reply), Expected::Allowed(uid, reason)) => {
            assert_eq!((&*reply.uid, reply.answer.reason.as_str()), (uid, reason));
            assert!(reply.answer.patch.is_empty());
        }
        (Ok(reply), Expected::Decided(uid, plan)) => {
            assert_eq!(
                (&*reply.uid, reply.answer.reason.as_str()),
                (uid, plan.reason)
            );
            let object = review["request"]["object"].clone();
            assert_eq!(patch::patched(object, &reply.answer), plan.pod);
        }
        (reply, expected) => panic!("{reply:?} instead of {expected:?}"),
    }
}

#[derive(Debug)]
enum Expected<'a> {
    /// There is no uid to answer to, or one that an API server would not send.
    Refused,
    /// The answer to this uid allows the pod without a decision, for this reason.
    Allowed(&'a str, &'static str),
    /// The answer to this uid decides about the pod.
    Decided(&'a str, Plan),
}

fn expected<'a>(world: &World, review: &'a Value) -> Expected<'a> {
    let request = &review["request"];
    let uid = match request["uid"].as_str() {
        Some(uid) if (1..=128).contains(&uid.len()) => uid,
        _ => return Expected::Refused,
    };
    let whole = request["operation"].is_string()
        && request["resource"]["version"].is_string()
        && request["resource"]["resource"].is_string()
        && ["namespace", "name", "subResource"]
            .iter()
            .all(|name| is_text(request, name))
        && is_text(&request["resource"], "group");
    if !whole
        || review["apiVersion"] != "admission.k8s.io/v1"
        || review["kind"] != "AdmissionReview"
    {
        return Expected::Allowed(uid, "BadReview");
    }
    let text = |name: &str| request[name].as_str().unwrap_or("");
    let resource = |name: &str| request["resource"][name].as_str().unwrap_or("");
    let about = [resource("group"), resource("version"), resource("resource")];
    if about != ["", "v1", "pods"]
        || text("operation") != "CREATE"
        || !text("subResource").is_empty()
    {
        return Expected::Allowed(uid, "NotPodCreate");
    }
    let elsewhere = World::default();
    let world = if text("namespace") == NAMESPACE {
        world
    } else {
        &elsewhere
    };
    match world.plan(&request["object"]) {
        Some(plan) => Expected::Decided(uid, plan),
        None => Expected::Allowed(uid, "BadObject"),
    }
}

/// Whether a member is a text or absent.
fn is_text(object: &Value, name: &str) -> bool {
    object.get(name).is_none_or(Value::is_string)
}
