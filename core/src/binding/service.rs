//! The Service of a binding, as far as the index tells.

use crate::model::{PortRef, ServicePort};

/// A message lists at most this many ports. Chosen so that the message stays short.
const MAX_LISTED: usize = 20;

/// The Service that a binding names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceLookup {
    /// `--watch-namespaces` leaves the binding's namespace out, so its Services are not known.
    NotWatched,
    /// The index does not have the Service, or the binding does not name one.
    Absent,
    /// The Service's ports, in order.
    Ports(Vec<ServicePort>),
}

/// Whether one of the ports has this number or name.
pub(super) fn has(ports: &[ServicePort], wanted: &PortRef) -> bool {
    ports.iter().any(|port| match wanted {
        PortRef::Number(number) => port.port == *number,
        PortRef::Name(name) => port.name.as_ref() == Some(name),
    })
}

/// The ports by number and name, as a message lists them.
pub(super) fn listed(ports: &[ServicePort]) -> String {
    let mut listed: Vec<String> = ports.iter().take(MAX_LISTED).map(shown).collect();
    if ports.len() > MAX_LISTED {
        listed.push(format!("{} more", ports.len() - MAX_LISTED));
    }
    listed.join(", ")
}

fn shown(port: &ServicePort) -> String {
    match &port.name {
        Some(name) => format!("{} {name:?}", port.port),
        None => port.port.to_string(),
    }
}
