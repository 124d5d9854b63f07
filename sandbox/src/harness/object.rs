//! Objects of any kind, as tests read and patch them.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail as the tests themselves do"
)]

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, TypeMeta};
use kube::core::GroupVersionKind;
use serde_json::Value;

/// A kind, by its `apiVersion` and name.
pub fn resource(api_version: &str, kind: &str) -> ApiResource {
    let types = TypeMeta {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    };
    ApiResource::from_gvk(&GroupVersionKind::try_from(&types).unwrap())
}

/// Patches an object, and panics if that fails.
pub async fn patch(api: &Api<DynamicObject>, name: &str, patch: Patch<Value>) {
    let params = match &patch {
        Patch::Apply(_) => PatchParams::apply("test").force(),
        _ => PatchParams::default(),
    };
    api.patch(name, &params, &patch).await.unwrap();
}

/// A field by its path, such as `/spec/replicas`; null if it is absent.
pub fn field<'a>(object: &'a DynamicObject, path: &str) -> &'a Value {
    object.data.pointer(path).unwrap_or(&Value::Null)
}
