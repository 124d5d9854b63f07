//! The resources that are served, with their names and versions.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::object::Object;

/// One resource: what discovery says about it, and where its objects are stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: String,
    /// The plural, which is the name in the URL.
    pub plural: String,
    /// The singular, which `kubectl` accepts as well.
    pub singular: String,
    pub kind: String,
    /// The short names that `kubectl` accepts.
    pub short_names: Vec<String>,
    /// Whether its objects have a namespace.
    pub namespaced: bool,
    /// All versions, the preferred one first.
    pub versions: Vec<Version>,
    /// The group under which its objects are stored: the Events of both groups are the same
    /// objects.
    pub kept_in: String,
    /// The name of the CRD that defines it; `None` for a built-in resource.
    pub crd: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// The name, such as `v1beta1`.
    pub name: String,
    /// Whether requests for this version are answered.
    pub served: bool,
    /// Whether objects are stored in this version.
    pub stored: bool,
    /// Whether `/status` is a subresource, so that other writes do not change `status`.
    pub status: bool,
    /// The structural schema; null for a built-in resource.
    pub schema: Value,
    /// The `additionalPrinterColumns`; null for a built-in resource.
    pub columns: Value,
}

/// A resource in the version that a request names.
#[derive(Clone, Debug)]
pub struct Served {
    pub resource: Arc<Resource>,
    index: usize,
}

impl Resource {
    /// The qualified name: `deployments.apps`, or `pods` in the core group.
    pub fn qualified(&self) -> String {
        match self.group.as_str() {
            "" => self.plural.clone(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// The resource in one of its versions, served or not.
    pub fn in_version(self: &Arc<Self>, name: &str) -> Option<Served> {
        let index = self.versions.iter().position(|v| v.name == name)?;
        Some(Served {
            resource: Arc::clone(self),
            index,
        })
    }

    fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }
}

impl Served {
    pub fn version(&self) -> &Version {
        &self.resource.versions[self.index]
    }

    /// The `apiVersion`: `apps/v1`, or `v1` in the core group.
    pub fn api_version(&self) -> String {
        match self.resource.group.as_str() {
            "" => self.version().name.clone(),
            group => format!("{group}/{}", self.version().name),
        }
    }

    /// Whether this is the built-in resource of this group and plural.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.resource.is(group, plural)
    }

    /// Converts a stored object to this version. Only the `apiVersion` differs, and the field names
    /// of Events, which the two groups name differently.
    pub fn present(&self, object: &Object) -> Object {
        let mut shown = object.clone();
        shown.set("apiVersion", json!(self.api_version()));
        shown.set("kind", json!(self.resource.kind));
        if self.resource.plural == "events" {
            rename_event_fields(&mut shown, self.resource.group == "events.k8s.io");
        }
        shown
    }
}

/// The field names of Events in core/v1, with those in events.k8s.io/v1.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename_event_fields(event: &mut Object, to_new: bool) {
    for (core, new) in EVENT_FIELDS {
        let (from, to) = if to_new { (core, new) } else { (new, core) };
        let value = event.field(from).clone();
        if !value.is_null() {
            event.set(from, Value::Null);
            event.set(to, value);
        }
    }
}

/// All resources that are served at the moment.
#[derive(Clone, Debug)]
pub struct Catalog {
    builtin: Vec<Arc<Resource>>,
    custom: BTreeMap<String, Arc<Resource>>,
}

impl Catalog {
    /// The built-in resources.
    pub fn builtin() -> Catalog {
        Catalog {
            builtin: BUILTIN.iter().map(|row| Arc::new(row.resource())).collect(),
            custom: BTreeMap::new(),
        }
    }

    /// Finds the resource that a path names; `None` if it is not served.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Served> {
        let resource = self.all().find(|resource| resource.is(group, plural))?;
        let served = resource.in_version(version)?;
        served.version().served.then_some(served)
    }

    /// All resources, built-in and custom.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.builtin.iter().chain(self.custom.values())
    }

    /// Serves the resource that a CustomResourceDefinition defines, in place of its former
    /// definition.
    pub fn define(&mut self, crd: &Object) {
        self.custom
            .insert(crd.name().to_owned(), Arc::new(custom(crd)));
    }

    /// Stops serving the resource of a CustomResourceDefinition.
    pub fn forget(&mut self, crd_name: &str) {
        self.custom.remove(crd_name);
    }
}

fn custom(crd: &Object) -> Resource {
    let text = |pointer| crd.text(pointer).unwrap_or_default().to_owned();
    let strings = |value: Option<&Value>| -> Vec<String> {
        let list = value.and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let kind = text("/spec/names/kind");
    let singular = match text("/spec/names/singular") {
        given if given.is_empty() => kind.to_lowercase(),
        given => given,
    };
    let listed = crd.field("spec")["versions"].as_array();
    let mut versions: Vec<Version> = listed.into_iter().flatten().map(version).collect();
    // Clients prefer the most stable version: v1 before v1beta1 before v1alpha1.
    versions
        .sort_by_cached_key(|known| Reverse(kube::core::Version::parse(&known.name).priority()));
    Resource {
        group: text("/spec/group"),
        plural: text("/spec/names/plural"),
        singular,
        kind,
        short_names: strings(crd.at("/spec/names/shortNames")),
        namespaced: crd.text("/spec/scope") == Some("Namespaced"),
        versions,
        kept_in: text("/spec/group"),
        crd: Some(crd.name().to_owned()),
    }
}

fn version(entry: &Value) -> Version {
    Version {
        name: entry["name"].as_str().unwrap_or_default().to_owned(),
        served: entry["served"].as_bool().unwrap_or(false),
        stored: entry["storage"].as_bool().unwrap_or(false),
        status: !entry["subresources"]["status"].is_null(),
        schema: entry["schema"]["openAPIV3Schema"].clone(),
        columns: entry["additionalPrinterColumns"].clone(),
    }
}

struct Row {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    short: &'static [&'static str],
    namespaced: bool,
    status: bool,
}

impl Row {
    fn resource(&self) -> Resource {
        let kept_in = if self.plural == "events" {
            ""
        } else {
            self.group
        };
        Resource {
            group: self.group.to_owned(),
            plural: self.plural.to_owned(),
            singular: self.kind.to_lowercase(),
            kind: self.kind.to_owned(),
            short_names: self.short.iter().map(|s| (*s).to_owned()).collect(),
            namespaced: self.namespaced,
            versions: vec![Version {
                name: self.version.to_owned(),
                served: true,
                stored: true,
                status: self.status,
                schema: Value::Null,
                columns: Value::Null,
            }],
            kept_in: kept_in.to_owned(),
            crd: None,
        }
    }
}

/// The built-in resources: group, version, plural, kind, short names, namespaced, with a status
/// subresource.
#[rustfmt::skip]
const BUILTIN: [Row; 16] = [
    row("", "v1", "namespaces", "Namespace", &["ns"], false, true),
    row("", "v1", "nodes", "Node", &["no"], false, true),
    row("", "v1", "pods", "Pod", &["po"], true, true),
    row("", "v1", "services", "Service", &["svc"], true, true),
    row("", "v1", "configmaps", "ConfigMap", &["cm"], true, false),
    row("", "v1", "secrets", "Secret", &[], true, false),
    row("", "v1", "serviceaccounts", "ServiceAccount", &["sa"], true, false),
    row("", "v1", "events", "Event", &["ev"], true, false),
    row("events.k8s.io", "v1", "events", "Event", &["ev"], true, false),
    row("apps", "v1", "deployments", "Deployment", &["deploy"], true, true),
    row("apps", "v1", "replicasets", "ReplicaSet", &["rs"], true, true),
    row("coordination.k8s.io", "v1", "leases", "Lease", &[], true, false),
    row("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", &[], true, false),
    row("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", &["crd", "crds"], false, true),
    row("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", &[], false, false),
    row("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", &[], false, false),
];

const fn row(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    short: &'static [&'static str],
    namespaced: bool,
    status: bool,
) -> Row {
    Row {
        group,
        version,
        plural,
        kind,
        short,
        namespaced,
        status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_shows_in_the_words_of_the_group_that_is_asked() {
        let catalog = Catalog::builtin();
        let new = catalog.find("events.k8s.io", "v1", "events").unwrap();
        let core = catalog.find("", "v1", "events").unwrap();
        let event = Object::new(json!({"note": "n", "regarding": {"kind": "Pod"}})).unwrap();
        let shown = core.present(&event);
        assert_eq!(shown.field("message"), "n");
        assert_eq!(shown.text("/involvedObject/kind"), Some("Pod"));
        assert_eq!(shown.field("apiVersion"), "v1");
        let back = new.present(&shown);
        assert_eq!(back.field("note"), "n");
        assert_eq!(back.field("message"), &Value::Null);
    }

    #[test]
    fn a_version_that_is_not_served_is_not_found() {
        let crd = Object::new(json!({
            "metadata": {"name": "things.example.com"},
            "spec": {
                "group": "example.com",
                "scope": "Namespaced",
                "names": {"plural": "things", "kind": "Thing"},
                "versions": [
                    {"name": "v2", "served": true, "storage": true},
                    {"name": "v1", "served": false, "storage": false},
                ],
            },
        }))
        .unwrap();
        let mut catalog = Catalog::builtin();
        catalog.define(&crd);
        assert!(catalog.find("example.com", "v2", "things").is_some());
        assert!(catalog.find("example.com", "v1", "things").is_none());
        catalog.forget("things.example.com");
        assert!(catalog.find("example.com", "v2", "things").is_none());
    }
}
