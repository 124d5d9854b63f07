//! The few fields of a Pod's raw object that decide about its gates, borrowed from the body.

use std::borrow::Cow;

use serde::de::MapAccess;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use targetgate_core::names::{
    AFTER_OPEN_ANNOTATION, DRAIN_ANNOTATION, DRAIN_SECONDS_ANNOTATION, DRAINED_ANNOTATION,
    GATE_ANNOTATION, OPEN_AFTER_ANNOTATION, WHEN_UNUSED_ANNOTATION,
};
use targetgate_core::object::{Entries, OwnAnnotations, Text, entries};
use targetgate_core::selector::LabelSet;

use crate::admission::prune_json::{Keep, Member};
use crate::admission::review::Object;

/// The members of a Pod's raw object that are parsed.
pub(super) const KEPT: &[Member] = &[
    KIND,
    ("metadata", Keep::Only(&[LABELS, OWN_ANNOTATIONS])),
    ("spec", Keep::Only(&[GATES])),
];
/// The same, and those that decide about its end.
pub(super) const KEPT_WITH_END: &[Member] = &[
    KIND,
    ("metadata", Keep::Only(&[LABELS, OWN_ANNOTATIONS, OWNERS])),
    ("spec", Keep::Only(&[GATES, GRACE, CONTAINERS])),
];
const KIND: Member = ("kind", Keep::Whole);
const LABELS: Member = ("labels", Keep::Whole);
const OWN_ANNOTATIONS: Member = ("annotations", Keep::Only(ANNOTATIONS));
const GATES: Member = ("readinessGates", Keep::Whole);
const OWNERS: Member = ("ownerReferences", Keep::Each(&OWNER));
const GRACE: Member = ("terminationGracePeriodSeconds", Keep::Whole);
const CONTAINERS: Member = ("containers", Keep::Each(&CONTAINER));
const OWNER: Keep = Keep::Only(&[
    ("apiVersion", Keep::Whole),
    ("kind", Keep::Whole),
    ("controller", Keep::Whole),
]);
const CONTAINER: Keep = Keep::Only(&[("lifecycle", Keep::Only(&[("preStop", PRE_STOP)]))]);
const PRE_STOP: Keep = Keep::Only(&[("sleep", Keep::Whole)]);
const ANNOTATIONS: &[Member] = &[
    (GATE_ANNOTATION, Keep::Whole),
    (WHEN_UNUSED_ANNOTATION, Keep::Whole),
    (OPEN_AFTER_ANNOTATION, Keep::Whole),
    (AFTER_OPEN_ANNOTATION, Keep::Whole),
    (DRAIN_ANNOTATION, Keep::Whole),
    (DRAIN_SECONDS_ANNOTATION, Keep::Whole),
    (DRAINED_ANNOTATION, Keep::Whole),
];

/// The fields of a Pod's raw object that decide. Those about its end are raw, because they may be unreadable and the
/// pod gets its gates all the same.
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
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata<'a> {
    #[serde(borrow)]
    pub(super) labels: Option<LabelList<'a>>,
    pub(super) annotations: Option<OwnAnnotations>,
    #[serde(borrow)]
    pub(super) owner_references: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec<'a> {
    #[serde(borrow)]
    pub(super) readiness_gates: Option<Vec<Object<Gate<'a>>>>,
    #[serde(borrow)]
    pub(super) termination_grace_period_seconds: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) containers: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Gate<'a> {
    #[serde(borrow)]
    pub(super) condition_type: Cow<'a, str>,
}

/// `metadata.labels`. Pods have few labels, so a linear search costs less than a map.
#[derive(Default)]
pub(super) struct LabelList<'a>(Vec<(Text<'a>, Text<'a>)>);

impl LabelSet for LabelList<'_> {
    fn value(&self, key: &str) -> Option<&str> {
        // If a key occurs twice, the API server takes the last value.
        let mut pairs = self.0.iter().rev();
        pairs.find(|(Text(k), _)| k == key).map(|(_, Text(v))| &**v)
    }
}

impl<'de: 'a, 'a> Entries<'de> for LabelList<'a> {
    const EXPECTED: &'static str = "an object of labels";

    fn entry<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        if self.0.is_empty() {
            self.0.reserve(16);
        }
        self.0.push((Text(key), map.next_value()?));
        Ok(())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for LabelList<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        entries(deserializer)
    }
}
