//! The few fields of a Pod's raw object that decide about its gates, borrowed from the body.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::admission::condense::Keep;
use crate::admission::review::Object;
use crate::names::{GATE_ANNOTATION, opts_out};
use crate::rules::selector::LabelSet;

/// What is read of a Pod's raw object.
pub(super) const KEPT: &[(&str, Keep)] = &[
    ("kind", Keep::Whole),
    ("metadata", Keep::Only(METADATA)),
    ("spec", Keep::Only(&[("readinessGates", Keep::Whole)])),
];
const METADATA: &[(&str, Keep)] = &[
    ("labels", Keep::Whole),
    ("annotations", Keep::Only(&[(GATE_ANNOTATION, Keep::Whole)])),
];

/// What decides of a Pod's raw object.
#[derive(Deserialize)]
pub(super) struct Pod<'a> {
    #[serde(borrow, default)]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) metadata: Option<Object<Metadata<'a>>>,
    #[serde(borrow)]
    pub(super) spec: Option<Object<Spec<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct Metadata<'a> {
    #[serde(borrow)]
    pub(super) labels: Option<LabelList<'a>>,
    pub(super) annotations: Option<GateAnnotation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec<'a> {
    #[serde(borrow)]
    pub(super) readiness_gates: Option<Vec<Object<Gate<'a>>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Gate<'a> {
    #[serde(borrow)]
    pub(super) condition_type: Cow<'a, str>,
}

/// A string that borrows inside of lists and maps, where serde's own `Cow` is always owned.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// `metadata.labels`. Pods have few: looking through them costs less than a map.
#[derive(Default)]
pub(super) struct LabelList<'a>(Vec<(Text<'a>, Text<'a>)>);

impl LabelSet for LabelList<'_> {
    fn value(&self, key: &str) -> Option<&str> {
        // Of a key that stands twice, the API server takes the last.
        let mut pairs = self.0.iter().rev();
        pairs.find(|(Text(k), _)| k == key).map(|(_, Text(v))| &**v)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for LabelList<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Labels;

        impl<'de> Visitor<'de> for Labels {
            type Value = LabelList<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut labels = Vec::with_capacity(16);
                while let Some(pair) = map.next_entry()? {
                    labels.push(pair);
                }
                Ok(LabelList(labels))
            }
        }

        deserializer.deserialize_map(Labels)
    }
}

/// The one annotation that is read of `metadata.annotations`.
#[derive(Default)]
pub(super) struct GateAnnotation {
    pub(super) opted_out: bool,
}

impl<'de> Deserialize<'de> for GateAnnotation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Annotations;

        impl<'de> Visitor<'de> for Annotations {
            type Value = GateAnnotation;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of annotations")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut read = GateAnnotation::default();
                while let Some(Text(key)) = map.next_key()? {
                    if key == GATE_ANNOTATION {
                        let Text(value) = map.next_value()?;
                        read.opted_out = opts_out(&value);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(read)
            }
        }

        deserializer.deserialize_map(Annotations)
    }
}
