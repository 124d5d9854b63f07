//! Namespaces: their labels, and when they got the one that opts in.

use std::sync::Arc;

use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use targetgate_core::drain::DrainLabel;
use targetgate_core::model::Namespace;
use targetgate_core::names::{DRAIN_LABEL, INJECT_ENABLED, INJECT_LABEL, ObjectKey};
use targetgate_core::object::unreadable_drain_label;

use crate::kubernetes::decode::shape::Part;
use crate::kubernetes::decode::{Keyed, Object, Unreadable, readable_key};

/// A Namespace, of which only metadata is used.
#[derive(Debug, Clone)]
pub struct NamespaceObject {
    object: Object<IgnoredAny, IgnoredAny>,
    labelled: Option<Timestamp>,
}

/// `metadata.managedFields`, which is long, and is read of Namespaces alone.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Managed {
    managed_fields: Part<Vec<Manager>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Manager {
    time: Option<String>,
    fields_v1: Value,
}

impl<'de> Deserialize<'de> for NamespaceObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(default)]
            metadata: Part<Managed>,
        }
        let text = <&'de RawValue>::deserialize(deserializer)?.get();
        let object = serde_json::from_str(text).map_err(serde::de::Error::custom)?;
        let wire: Wire = serde_json::from_str(text).map_err(serde::de::Error::custom)?;
        let managers = wire.metadata.read().unwrap_or_default().managed_fields;
        Ok(Self {
            object,
            labelled: labelled(&managers.read().unwrap_or_default()),
        })
    }
}

impl Keyed for NamespaceObject {
    fn key(&self) -> &ObjectKey {
        self.object.key()
    }

    fn version(&self) -> Option<&str> {
        self.object.version()
    }
}

/// When the label that opts in was set, at the latest: when a manager that set it last changed what it manages.
fn labelled(managers: &[Manager]) -> Option<Timestamp> {
    let label = format!("/f:metadata/f:labels/f:{}", INJECT_LABEL.replace('/', "~1"));
    let setting = managers
        .iter()
        .filter(|manager| manager.fields_v1.pointer(&label).is_some());
    let times = setting.filter_map(|manager| manager.time.as_ref()?.parse().ok());
    times.min()
}

/// Reads a Namespace object.
pub fn namespace(object: NamespaceObject) -> Result<(Arc<str>, Namespace), Unreadable> {
    let NamespaceObject {
        mut object,
        labelled,
    } = object;
    let key = readable_key(&object)?;
    let mut unreadable = object.meta.unreadable();
    let labels = object.labels();
    let label = |name: &str| labels.get(name).map(|value| &**value);
    let drain = DrainLabel::of(label(DRAIN_LABEL));
    let label_unreadable = label(DRAIN_LABEL).filter(|_| drain == DrainLabel::Unreadable);
    unreadable.extend(label_unreadable.map(unreadable_drain_label));
    let opted_in = label(INJECT_LABEL) == Some(INJECT_ENABLED);
    let told = opted_in || !unreadable.is_empty();
    let uid = object.meta.uid.take().filter(|_| told);
    let namespace = Namespace {
        opted_in,
        drain,
        policies: object.meta.policies(),
        unreadable,
        uid: uid.map(Into::into),
        labelled: labelled.filter(|_| opted_in),
    };
    Ok((key.name, namespace))
}
