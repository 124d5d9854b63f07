//! Parts of Kubernetes objects that reviews and watches both read.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::model::PortRef;
use crate::names::{GATE_ANNOTATION, opts_out};

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

/// The one annotation that is read from `metadata.annotations`, because others can be as large as the object.
#[derive(Debug, Clone, Default)]
pub struct GateAnnotation {
    /// Whether [`GATE_ANNOTATION`] opts its object out.
    pub opted_out: bool,
}

impl<'de> Entries<'de> for GateAnnotation {
    const EXPECTED: &'static str = "an object of annotations";

    fn entry<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        if key == GATE_ANNOTATION {
            let Text(value) = map.next_value()?;
            self.opted_out = opts_out(&value);
        } else {
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for GateAnnotation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        entries(deserializer)
    }
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
