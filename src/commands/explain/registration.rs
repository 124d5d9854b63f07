//! What is known of registration without the leader: the incumbent's Lease, and the TargetRecords.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use kube::Client;
use targetgate_core::explain::{Registration, Told};
use targetgate_core::targets::record::Record;

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
    let (found, records) = tokio::join!(
        look(client, &flags.incumbent_lease),
        records(client, installed, uids),
    );
    let watched = flags.incumbent_namespaces.iter();
    let watched: BTreeSet<Arc<str>> = watched.map(|name| name.as_str().into()).collect();
    Some(Registration {
        mode,
        incumbent_namespaces: Some(watched).filter(|watched| !watched.is_empty()),
        // One read has to do, where the registrar takes several.
        incumbent: found.alone(),
        told,
        records,
    })
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
