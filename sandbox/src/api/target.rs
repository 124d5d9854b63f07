//! The resource and the object that a request names.

use super::{kinds::Served, status::Status, store::Key};

/// The resource and the object that a request names.
#[derive(Clone, Debug)]
pub struct Target {
    /// The resource, in the version of the request.
    pub served: Served,
    /// The namespace; empty for all namespaces, and for a resource that has none.
    pub namespace: String,
    /// The name; empty for a collection.
    pub name: String,
    /// The subresource: `status`, `binding` or empty.
    pub subresource: String,
}

impl Target {
    /// Another object of the same resource.
    pub fn object(&self, namespace: &str, name: &str) -> Target {
        Target {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..self.clone()
        }
    }

    /// The key under which the object is stored.
    pub fn key(&self) -> Key {
        Key::new(&self.served.resource, &self.namespace, &self.name)
    }

    /// The plural with the subresource: `pods` or `pods/status`.
    pub fn path(&self) -> String {
        match self.subresource.as_str() {
            "" => self.served.resource.plural.clone(),
            subresource => format!("{}/{subresource}", self.served.resource.plural),
        }
    }

    /// The refusal that says that the object does not exist.
    pub(super) fn not_found(&self) -> Status {
        Status::not_found(&self.served.resource, &self.name)
    }
}
