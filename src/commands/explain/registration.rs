//! What is known of registration without the leader: the incumbent's Lease, and the TargetRecords.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use kube::Client;
use targetgate_core::explain::{Registration, Told};
use targetgate_core::names::ObjectKey;
use targetgate_core::targets::incumbent::{LEADS_FOR, Look};
use targetgate_core::targets::record::Record;
use targetgate_core::targets::standing::Incumbent;

use crate::args::TargetFlags;
use crate::kubernetes::targets::incumbent::look;
use crate::kubernetes::targets::records::TargetRecords;

/// At most this many records are read, so many at once. Chosen: they only tell a number.
const MOST: usize = 40;
const AT_ONCE: usize = 8;

/// What is known of registration; `None` with `--register none`.
pub(super) async fn read(
    client: &Client,
    flags: &TargetFlags,
    installed: &str,
    uids: Vec<Arc<str>>,
    told: BTreeMap<Arc<str>, Told>,
) -> Option<Registration> {
    let mode = flags.register.mode()?;
    let (incumbent, records) = tokio::join!(
        incumbent(client, &flags.incumbent_lease),
        records(client, installed, uids),
    );
    let watched = flags.incumbent_namespaces.iter();
    let watched: BTreeSet<Arc<str>> = watched.map(|name| name.as_str().into()).collect();
    Some(Registration {
        mode,
        incumbent_namespaces: Some(watched).filter(|watched| !watched.is_empty()),
        incumbent,
        told,
        records,
    })
}

/// As the registrar has it, but by one read: where the Lease cannot be read, the incumbent counts as there.
async fn incumbent(client: &Client, lease: &ObjectKey) -> Incumbent {
    match look(client, lease).await {
        Look::Absent => Incumbent::Gone,
        Look::Forbidden | Look::Failed => Incumbent::Leads,
        Look::Found { renewed, now } => {
            let age = renewed.map(|renewed| now.duration_since(renewed));
            let fresh = age.is_some_and(|age| age.unsigned_abs() < LEADS_FOR);
            if fresh {
                Incumbent::Leads
            } else {
                Incumbent::Gone
            }
        }
    }
}

/// The records of these bindings, as far as they can be read.
async fn records(
    client: &Client,
    namespace: &str,
    uids: Vec<Arc<str>>,
) -> BTreeMap<Arc<str>, Record> {
    let records = TargetRecords::new(client.clone(), namespace.into());
    let read = uids.into_iter().take(MOST).map(|uid| {
        let records = records.clone();
        async move { records.get(&uid).await.ok().flatten() }
    });
    let read = stream::iter(read).buffer_unordered(AT_ONCE);
    let read = read.filter_map(async |stored| stored);
    read.map(|(record, _)| (record.uid.clone(), record))
        .collect()
        .await
}
