//! Parts of Kubernetes objects that reviews and watches both read.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::drain::{DrainAnnotations, DrainMode, Drained, SleepSeconds};
use crate::model::{AfterOpen, Policies, PortRef, UnreadableAnnotation, WhenUnused};
use crate::names::{
    ABANDON_ANNOTATION, AFTER_OPEN_ANNOTATION, DRAIN_ANNOTATION, DRAIN_LABEL,
    DRAIN_SECONDS_ANNOTATION, DRAINED_ANNOTATION, GATE_ANNOTATION, OPEN_AFTER_ANNOTATION,
    REGISTER_ANNOTATION, WHEN_UNUSED_ANNOTATION, opts_out,
};
use crate::text::cut;

/// An unreadable value is shown up to this many bytes. Chosen: it is recognized by its beginning.
const MAX_VALUE: usize = 60;
/// The modes of drain, in an annotation and in a Namespace's label.
const DRAIN_MODES: &str = "`sleep` or `off`";

/// A switch, in an annotation.
const TRUE_OR_FALSE: &str = "`\"true\"` or `\"false\"`";

/// A string that borrows inside of lists and maps, where serde's own `Cow` is always owned.
#[derive(Debug, Deserialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// A value that is read from a JSON object entry by entry.
pub trait Entries<'de>: Default {
    /// What serde's error says was expected.
    const EXPECTED: &'static str;

    /// Takes in one entry, whose value is the next of `map`.
    ///
    /// # Errors
    /// The error of reading the value.
    fn entry<A: MapAccess<'de>>(&mut self, key: Cow<'de, str>, map: &mut A)
    -> Result<(), A::Error>;
}

/// Reads a JSON object entry by entry, without an intermediate copy.
///
/// # Errors
/// If it is not an object, or an entry cannot be read.
pub fn entries<'de, T: Entries<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct EntriesVisitor<T>(PhantomData<T>);

    impl<'de, T: Entries<'de>> Visitor<'de> for EntriesVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::EXPECTED)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
            let mut read = T::default();
            while let Some(Text(key)) = map.next_key()? {
                read.entry(key, &mut map)?;
            }
            Ok(read)
        }
    }

    deserializer.deserialize_map(EntriesVisitor(PhantomData))
}

/// A Namespace's label [`DRAIN_LABEL`] with this value, which cannot be read.
pub fn unreadable_drain_label(value: &str) -> UnreadableAnnotation {
    UnreadableAnnotation {
        kind: "label",
        name: DRAIN_LABEL,
        value: cut(value, MAX_VALUE).into(),
        expected: DRAIN_MODES,
    }
}

/// Our annotations, out of `metadata.annotations`: others can be as large as the object.
#[derive(Debug, Clone, Default)]
pub struct OwnAnnotations {
    /// Whether [`GATE_ANNOTATION`] opts its object out.
    pub opted_out: bool,
    pub policies: Policies,
    /// Whether a Pod sleeps before its end.
    pub drain: Option<DrainMode>,
    /// How long it sleeps.
    pub drain_seconds: Option<SleepSeconds>,
    /// What the hook did to a Pod. A value that is not ours counts as absent, and the hook replaces it.
    pub drained: Option<Drained>,
    /// Whether we register the targets of a binding.
    pub register: Option<bool>,
    /// Whether the deletion of a binding may leave targets in its group.
    pub abandon: bool,
    /// Those whose value cannot be read, and therefore counts as absent, in the order of the object.
    pub unreadable: Vec<UnreadableAnnotation>,
}

impl OwnAnnotations {
    /// What they say about a Pod's end.
    pub fn of_drain(&self) -> DrainAnnotations {
        DrainAnnotations {
            mode: self.drain,
            seconds: self.drain_seconds,
        }
    }

    /// Each of them.
    pub const ALL: [&'static str; 9] = [
        GATE_ANNOTATION,
        WHEN_UNUSED_ANNOTATION,
        OPEN_AFTER_ANNOTATION,
        AFTER_OPEN_ANNOTATION,
        DRAIN_ANNOTATION,
        DRAIN_SECONDS_ANNOTATION,
        DRAINED_ANNOTATION,
        REGISTER_ANNOTATION,
        ABANDON_ANNOTATION,
    ];

    fn read(&mut self, name: &'static str, value: &str) {
        let policies = &mut self.policies;
        let (read, expected) = match name {
            WHEN_UNUSED_ANNOTATION => {
                policies.when_unused = when_unused(value);
                (policies.when_unused.is_some(), "`wait` or `open`")
            }
            OPEN_AFTER_ANNOTATION => {
                policies.open_after = seconds(value);
                let expected = "a time of at least one second, such as `10m`";
                (policies.open_after.is_some(), expected)
            }
            AFTER_OPEN_ANNOTATION => {
                policies.after_open = after_open(value);
                (policies.after_open.is_some(), "`hold` or `follow`")
            }
            DRAIN_ANNOTATION => {
                self.drain = value.parse().ok();
                (self.drain.is_some(), DRAIN_MODES)
            }
            DRAIN_SECONDS_ANNOTATION => {
                self.drain_seconds = value.parse().ok();
                let expected = "a whole number of seconds from 1 to 600, such as `20`";
                (self.drain_seconds.is_some(), expected)
            }
            REGISTER_ANNOTATION => {
                self.register = value.parse().ok();
                (self.register.is_some(), TRUE_OR_FALSE)
            }
            ABANDON_ANNOTATION => {
                let abandon: Option<bool> = value.parse().ok();
                self.abandon = abandon == Some(true);
                (abandon.is_some(), TRUE_OR_FALSE)
            }
            DRAINED_ANNOTATION => {
                self.drained = value.parse().ok();
                (true, "")
            }
            _ => {
                self.opted_out = opts_out(value);
                (true, "")
            }
        };
        // If a key occurs twice, the API server takes the last value.
        self.unreadable.retain(|known| known.name != name);
        if !read {
            self.unreadable.push(UnreadableAnnotation {
                kind: "annotation",
                name,
                value: cut(value, MAX_VALUE).into(),
                expected,
            });
        }
    }
}

impl<'de> Entries<'de> for OwnAnnotations {
    const EXPECTED: &'static str = "an object of annotations";

    fn entry<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match Self::ALL.into_iter().find(|known| key == *known) {
            Some(known) => {
                let Text(value) = map.next_value()?;
                self.read(known, &value);
            }
            None => _ = map.next_value::<IgnoredAny>()?,
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for OwnAnnotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        entries(deserializer)
    }
}

fn when_unused(value: &str) -> Option<WhenUnused> {
    match value {
        "wait" => Some(WhenUnused::Wait),
        "open" => Some(WhenUnused::Open),
        _ => None,
    }
}

fn after_open(value: &str) -> Option<AfterOpen> {
    match value {
        "hold" => Some(AfterOpen::Hold),
        "follow" => Some(AfterOpen::Follow),
        _ => None,
    }
}

/// The seconds of a duration such as `10m` or `1h 30m`; `None` if it is none, or below a second.
fn seconds(value: &str) -> Option<NonZeroU32> {
    let duration: SignedDuration = value.parse().ok()?;
    NonZeroU32::new(u32::try_from(duration.as_secs()).ok()?)
}

/// A port by number or by name, as Kubernetes' `IntOrString` spells it.
///
/// Written here because `k8s-openapi` would be most of the core's cold build for this type and the
/// selector of [`crate::binding::spec`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    Number(i32),
    Text(String),
}

impl IntOrString {
    /// The port; `None` if this is empty or a number that is not a port.
    pub fn port(&self) -> Option<PortRef> {
        match self {
            Self::Number(number) => port_number(i64::from(*number)).map(PortRef::Number),
            Self::Text(name) => (!name.is_empty()).then(|| PortRef::Name(name.as_str().into())),
        }
    }
}

impl JsonSchema for IntOrString {
    fn schema_name() -> Cow<'static, str> {
        "IntOrString".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-int-or-string": true })
    }
}

/// The number of a port; `None` if it is not between 1 and 65535.
pub fn port_number(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| *number != 0)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn read(json: Value) -> OwnAnnotations {
        serde_json::from_str(&json.to_string()).unwrap()
    }

    #[rstest]
    #[case("10m", Some(600))]
    #[case("1h30m", Some(5400))]
    #[case("90s", Some(90))]
    #[case("1m 30s", Some(90))]
    #[case("0s", None)]
    #[case("-10m", None)]
    #[case("10", None)]
    #[case("soon", None)]
    #[case("", None)]
    #[case("9999999999h", None)]
    fn a_time_after_which_a_gate_opens_is_a_duration(
        #[case] value: &str,
        #[case] seconds: Option<u32>,
    ) {
        let read = read(json!({ "targetgate.dev/open-after": value }));
        assert_eq!(read.policies.open_after.map(NonZeroU32::get), seconds);
        let mut unreadable = read.unreadable.iter().map(|known| known.name);
        assert_eq!(
            unreadable.next(),
            seconds.is_none().then_some(OPEN_AFTER_ANNOTATION)
        );
    }

    #[rstest]
    #[case("sleep", "20", Some(DrainMode::Sleep), Some(20), 0)]
    #[case("off", "600", Some(DrainMode::Off), Some(600), 0)]
    #[case("on", "601", None, None, 2)]
    #[case("Sleep", "20s", None, None, 2)]
    #[case("", "20", None, Some(20), 1)]
    fn the_drain_of_a_pod_is_one_of_two_words_and_1_to_600_seconds(
        #[case] mode: &str,
        #[case] seconds: &str,
        #[case] expected_mode: Option<DrainMode>,
        #[case] expected_seconds: Option<u16>,
        #[case] unreadable: usize,
    ) {
        let read = read(json!({
            "targetgate.dev/drain": mode, "targetgate.dev/drain-seconds": seconds,
            "targetgate.dev/drained": "none of ours",
        }));
        assert_eq!(read.drain, expected_mode);
        assert_eq!(read.drain_seconds.map(SleepSeconds::get), expected_seconds);
        assert_eq!((read.unreadable.len(), read.drained), (unreadable, None));
    }

    #[rstest]
    #[case("open", Some(WhenUnused::Open))]
    #[case("wait", Some(WhenUnused::Wait))]
    #[case("Open", None)]
    #[case("true", None)]
    fn what_a_gate_does_while_its_group_is_unused_is_one_of_two_words(
        #[case] value: &str,
        #[case] expected: Option<WhenUnused>,
    ) {
        let read = read(json!({ "other": {}, "targetgate.dev/when-unused": value }));
        assert_eq!(read.policies.when_unused, expected);
        assert_eq!(read.unreadable.len(), usize::from(expected.is_none()));
    }

    #[rstest]
    #[case("true", Some(true), true, 0)]
    #[case("false", Some(false), false, 0)]
    #[case("True", None, false, 2)]
    #[case("1", None, false, 2)]
    fn registration_and_abandoning_are_true_or_false(
        #[case] value: &str,
        #[case] register: Option<bool>,
        #[case] abandon: bool,
        #[case] unreadable: usize,
    ) {
        let read =
            read(json!({ "targetgate.dev/register": value, "targetgate.dev/abandon": value }));
        assert_eq!((read.register, read.abandon), (register, abandon));
        assert_eq!(read.unreadable.len(), unreadable);
    }

    #[rstest]
    #[case("follow", Some(AfterOpen::Follow))]
    #[case("hold", Some(AfterOpen::Hold))]
    #[case("close", None)]
    #[case("true", None)]
    fn what_an_open_gate_does_is_one_of_two_words(
        #[case] value: &str,
        #[case] expected: Option<AfterOpen>,
    ) {
        let read = read(json!({ "targetgate.dev/after-open": value }));
        assert_eq!(read.policies.after_open, expected);
        assert_eq!(read.unreadable.len(), usize::from(expected.is_none()));
    }
}
