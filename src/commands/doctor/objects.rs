//! The CRD, the Lease, the bindings, and the Namespaces that have opted in.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt as _};
use serde::Deserialize as _;
use targetgate_core::binding::spec;
use targetgate_core::binding::spec::TargetGroupBindingSpec;
use targetgate_core::doctor;
use targetgate_core::doctor::{Crd, Known};
use targetgate_core::model::WhenUnused;
use targetgate_core::names::{
    BindingApi, FINALIZER, GATE_ANNOTATION, GroupKey, INJECT_ENABLED, INJECT_LABEL, ObjectKey,
    opts_out,
};

use crate::commands::doctor::read;
use crate::kubernetes::snapshot::own_annotations;

/// The prefixes of the labels by which the incumbent knows the bindings that it made, with their listeners, out of an
/// Ingress, a Service or a Gateway. Source: its `pkg/deploy/tracking` and `pkg/gateway/constants`.
const STACK_PREFIXES: [&str; 4] = [
    "ingress.k8s.aws",
    "service.k8s.aws",
    "gateway.k8s.aws.alb",
    "gateway.k8s.aws.nlb",
];
/// The labels, behind their prefix: one of a group of Ingresses, the other of one object.
const STACK_NAMES: [&str; 2] = ["stack", "stack-name"];
/// The CRD of TargetRecords, as it is shipped, and the version of it that targetgate reads and writes.
const RECORDS: &str = include_str!("../../../deploy/targets/targetrecords.yaml");
const RECORDS_VERSION: &str = "v1";

fn is_of_stack(label: &str) -> bool {
    let parts = label.split_once('/');
    parts.is_some_and(|(prefix, name)| {
        STACK_PREFIXES.contains(&prefix) && STACK_NAMES.contains(&name)
    })
}

/// A binding, of which more is needed than what the core judges.
pub(super) struct Binding {
    api: BindingApi,
    metadata: ObjectMeta,
    pub(super) spec: TargetGroupBindingSpec,
}

impl Binding {
    /// One whose spec cannot be read does not count: the CRD keeps such ones out.
    fn of(api: BindingApi, object: &DynamicObject) -> Option<Self> {
        let spec = object.data.get("spec")?;
        Some(Self {
            api,
            metadata: object.metadata.clone(),
            spec: TargetGroupBindingSpec::deserialize(spec).ok()?,
        })
    }

    pub(super) fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// The Service of whose pods each is due a gate, if each is.
    pub(super) fn gated_service(&self) -> Option<&str> {
        let annotations = self.metadata.annotations.as_ref();
        let annotation = annotations.and_then(|all| all.get(GATE_ANNOTATION));
        let gates = self.api == BindingApi::Elbv2
            && self.spec.target_type.as_deref() == Some("ip")
            && self.metadata.deletion_timestamp.is_none()
            && !annotation.is_some_and(|value| opts_out(value));
        self.service().filter(|_| gates)
    }

    fn service(&self) -> Option<&str> {
        self.spec.service_ref.as_ref()?.name.as_deref()
    }

    pub(super) fn fact(&self) -> doctor::Binding {
        let created = self.metadata.creation_timestamp.as_ref();
        let mut finalizers = self.metadata.finalizers.iter().flatten();
        let mut labels = self.metadata.labels.iter().flatten();
        doctor::Binding {
            created: created.map(|time| time.0),
            key: ObjectKey::new(self.namespace(), self.name()),
            api: self.api,
            arn: self.spec.target_group_arn.as_deref().map(Into::into),
            multi_cluster: self.spec.is_multi_cluster(),
            service: self.service().map(Into::into),
            our_finalizer: finalizers.any(|finalizer| finalizer == FINALIZER),
            of_stack: labels.any(|(label, _)| is_of_stack(label)),
        }
    }

    /// The ARN that no second binding may name.
    pub(super) fn bound_arn(&self) -> Option<&str> {
        let arn = self.spec.target_group_arn.as_deref();
        arn.filter(|_| self.api == BindingApi::Elbv2)
    }

    /// What its annotation says of a group that no load balancer uses.
    pub(super) fn when_unused(&self) -> Option<WhenUnused> {
        when_unused(&self.metadata)
    }

    /// The group that it names by an ARN.
    pub(super) fn group(&self) -> Option<GroupKey> {
        Some(GroupKey {
            arn: self.spec.target_group_arn.as_deref()?.parse().ok()?,
            role: self.spec.role(),
        })
    }
}

fn when_unused(metadata: &ObjectMeta) -> Option<WhenUnused> {
    let own = own_annotations(metadata.annotations.as_ref());
    own.policies.when_unused
}

/// A Namespace that has opted in.
pub(super) struct OptedIn {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) when_unused: Option<WhenUnused>,
}

/// The kind of bindings of an API group.
pub(super) fn resource(api: BindingApi) -> ApiResource {
    let gvk = GroupVersionKind::gvk(api.group(), api.version(), "TargetGroupBinding");
    ApiResource::from_gvk(&gvk)
}

/// The bindings of all namespaces, as they are stored, by API group.
pub(super) type Stored = Vec<(BindingApi, Option<Vec<DynamicObject>>)>;

/// Lists the bindings of each API group.
pub(super) async fn stored_bindings(client: &Client) -> Known<Stored> {
    let mut all = vec![];
    for api in BindingApi::ALL {
        let bindings: Api<DynamicObject> = Api::all_with(client.clone(), &resource(api));
        let kinds = format!("targetgroupbindings.{}", api.group());
        all.push((api, read::list(&bindings, &kinds, "").await?));
    }
    Ok(all)
}

/// The bindings that can be read.
pub(super) fn bindings(stored: &Stored) -> Vec<Binding> {
    let all = stored.iter().flat_map(|(api, listed)| {
        let listed = listed.iter().flatten();
        listed.filter_map(|object| Binding::of(*api, object))
    });
    all.collect()
}

pub(super) async fn opted_in(client: &Client) -> Known<Vec<OptedIn>> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let labels = format!("{INJECT_LABEL}={INJECT_ENABLED}");
    let found = read::list(&namespaces, "namespaces", &labels).await?;
    let found = found.into_iter().flatten();
    let opted_in = found.map(|namespace| OptedIn {
        name: namespace.name_any(),
        labels: namespace.labels().clone(),
        when_unused: when_unused(&namespace.metadata),
    });
    Ok(opted_in.collect())
}

pub(super) async fn lease(client: &Client, lease: &ObjectKey) -> Known<Option<doctor::Lease>> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), &lease.namespace);
    let lease = read::get(&leases, "Lease", &lease.name).await?;
    Ok(lease.map(|lease| {
        let spec = lease.spec.unwrap_or_default();
        doctor::Lease {
            holder: spec.holder_identity.unwrap_or_default(),
            renewed: spec.renew_time.map(|time| time.0),
            seconds: spec.lease_duration_seconds.unwrap_or_default(),
        }
    }))
}

/// The CRD of bindings, compared with the one that `targetgate crd` prints.
pub(super) async fn bindings_crd(client: &Client) -> Known<Option<Crd>> {
    compared(client, &spec::yaml(), BindingApi::Elbv2.version()).await
}

/// The CRD of TargetRecords, compared with the one that is shipped.
pub(super) async fn records_crd(client: &Client) -> Known<Option<Crd>> {
    compared(client, RECORDS, RECORDS_VERSION).await
}

async fn compared(client: &Client, ours: &str, version: &str) -> Known<Option<Crd>> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let ours = serde_saphyr::from_str(ours);
    let ours: CustomResourceDefinition = ours.map_err(|error| error.to_string())?;
    let read = read::get(&crds, "CustomResourceDefinition", &ours.name_any()).await?;
    Ok(read.map(|served| pruned(&ours, &served, version)))
}

/// What a CRD drops of what ours keeps.
fn pruned(
    ours: &CustomResourceDefinition,
    served: &CustomResourceDefinition,
    version: &str,
) -> Crd {
    let (wanted, known) = (fields(ours, version), fields(served, version));
    let wanted = wanted.into_iter().flatten();
    let is_dropped = |field: &String| !known.iter().flatten().any(|known| known == field);
    Crd {
        served: known.is_some(),
        prunes: wanted.filter(is_dropped).collect(),
    }
}

/// The fields of spec and status of this version, if it is served.
fn fields(crd: &CustomResourceDefinition, version: &str) -> Option<Vec<String>> {
    let mut versions = crd.spec.versions.iter();
    let version = versions.find(|known| known.served && known.name == version)?;
    let schema = version.schema.as_ref()?.open_api_v3_schema.as_ref()?;
    let parts = schema.properties.iter().flatten();
    let parts = parts.filter(|(part, _)| matches!(part.as_str(), "spec" | "status"));
    let fields = parts.flat_map(|(part, schema)| {
        let fields = schema.properties.iter().flatten();
        fields.map(move |(field, _)| format!("{part}.{field}"))
    });
    Some(fields.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crd_drops_the_fields_that_ours_has_and_it_has_not() {
        let ours: CustomResourceDefinition = serde_saphyr::from_str(RECORDS).unwrap();
        let same = pruned(&ours, &ours, RECORDS_VERSION);
        assert!(same.served && same.prunes.is_empty(), "{same:?}");

        let mut older = ours.clone();
        let schema = older.spec.versions[0].schema.as_mut().unwrap();
        let schema = schema.open_api_v3_schema.as_mut().unwrap();
        let spec = schema.properties.as_mut().unwrap().get_mut("spec").unwrap();
        spec.properties.as_mut().unwrap().remove("targetGroupARN");
        let older = pruned(&ours, &older, RECORDS_VERSION);
        assert_eq!(older.prunes, ["spec.targetGroupARN"]);
        assert!(!pruned(&ours, &ours, "v2").served);
    }
}
