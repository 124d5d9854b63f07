//! The checks and changes that an object goes through before it is stored.

use serde_json::{Value, json};

use super::{
    builtin, crd,
    kinds::Served,
    object::Object,
    status::{Cause, Status},
    target::Target,
};

/// Checks that a new object agrees with the path, and fills in what the path determines.
pub(super) fn claim(target: &Target, mut object: Object) -> Result<Object, Status> {
    let served = &target.served;
    for (field, expected) in [
        ("apiVersion", served.api_version()),
        ("kind", served.resource.kind.clone()),
    ] {
        match object.field(field).as_str() {
            None | Some("") if served.resource.crd.is_some() => {
                return Err(Status::bad_request(format!(
                    "the object provided is unrecognized: Object '{field}' is missing"
                )));
            }
            None | Some("") => object.set(field, json!(expected)),
            Some(given) if given == expected => {}
            Some(given) => {
                return Err(Status::bad_request(format!(
                    "the {field} in the data ({given}) does not match the expected {field} \
                     ({expected})"
                )));
            }
        }
    }
    if !object.namespace().is_empty() && object.namespace() != target.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if served.resource.namespaced {
        object.set_meta("namespace", json!(target.namespace));
    }
    if object.name().is_empty() && object.meta_text("generateName").is_empty() {
        let cause = Cause::required("metadata.name", "name or generateName is required");
        return Err(Status::invalid(&served.resource, "", &[cause]));
    }
    if !object.version().is_empty() {
        return Err(Status::internal(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    Ok(object)
}

/// Fills in defaults, and prunes the fields that a custom resource's schema does not know.
pub(super) fn complete(served: &Served, mut object: Object) -> Object {
    if served.resource.crd.is_some() {
        crd::prune(&served.version().schema, &mut object);
    } else {
        builtin::set_defaults(served, &mut object);
    }
    object
}

pub(super) fn check(served: &Served, object: &Object, old: Option<&Object>) -> Result<(), Status> {
    let mut causes = builtin::check(served, object, old);
    causes.extend(old.and_then(|old| late_finalizers(object, old)));
    if served.resource.crd.is_some() {
        causes.extend(crd::check(&served.version().schema, object));
    }
    if causes.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&served.resource, object.name(), &causes))
}

/// Refuses new finalizers on a terminating object, because a client that waits for the deletion
/// does not expect more of them.
fn late_finalizers(new: &Object, old: &Object) -> Option<Cause> {
    let finalizers = |object: &Object| {
        let listed = object.meta("finalizers").as_array();
        listed.cloned().unwrap_or_default()
    };
    let had = finalizers(old);
    let late: Vec<String> = finalizers(new)
        .into_iter()
        .filter(|finalizer| !had.contains(finalizer))
        .map(|finalizer| finalizer.to_string())
        .collect();
    (old.is_terminating() && !late.is_empty()).then(|| {
        let late = late.join(", ");
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers \
             []string{{{late}}}"
        );
        Cause::forbidden("metadata.finalizers", &why)
    })
}

/// Restores the fields that this kind of write may not change. A write to `/status` changes the
/// status and, of a pod, some metadata. Any other write changes everything except the status and
/// the metadata that the server keeps itself.
pub(super) fn carry_over(target: &Target, mut new: Object, old: &Object) -> Object {
    if target.subresource == "status" {
        let mut kept = old.clone();
        kept.set("status", new.field("status").clone());
        if target.served.is("", "pods") {
            for field in ["labels", "annotations", "finalizers"] {
                kept.set_meta(field, new.meta(field).clone());
            }
        }
        return kept;
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ] {
        new.set_meta(field, old.meta(field).clone());
    }
    if target.served.version().status {
        new.set("status", old.field("status").clone());
    }
    for field in ["apiVersion", "kind"] {
        new.set(field, old.field(field).clone());
    }
    new
}

pub(super) fn spec_differs(new: &Object, old: &Object) -> bool {
    let strip = |object: &Object| {
        let mut bare = object.clone();
        bare.set("status", Value::Null);
        bare.set_metadata_of(old);
        bare
    };
    strip(new) != strip(old)
}

pub(super) fn bump_generation(new: &mut Object, old: &Object) {
    if let Some(generation) = old.meta("generation").as_u64() {
        new.set_meta("generation", json!(generation + 1));
    }
}
