//! What a request is about.

use super::{kinds::Served, status::Status, store::Key};

/// What a request names.
#[derive(Clone, Debug)]
pub struct Target {
    /// The resource, in a version.
    pub served: Served,
    /// Empty for all, or for what has none.
    pub namespace: String,
    /// Empty for a collection.
    pub name: String,
    /// `status`, `binding` or empty.
    pub subresource: String,
}

impl Target {
    /// The same resource, another object.
    pub fn object(&self, namespace: &str, name: &str) -> Target {
        Target {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..self.clone()
        }
    }

    /// Where the object is kept.
    pub fn key(&self) -> Key {
        Key::new(&self.served.resource, &self.namespace, &self.name)
    }

    /// `pods`, or `pods/status`.
    pub fn path(&self) -> String {
        match self.subresource.as_str() {
            "" => self.served.resource.plural.clone(),
            subresource => format!("{}/{subresource}", self.served.resource.plural),
        }
    }

    /// That there is no such object.
    pub(super) fn not_found(&self) -> Status {
        Status::not_found(&self.served.resource, &self.name)
    }
}
