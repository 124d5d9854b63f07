//! Rotation of our own certificates: which step comes next, so that at every moment every API server trusts
//! whatever leaf any replica may serve.
//!
//! The order is the point. A new CA and its leaf are first *staged* in the Secret; the CA joins the
//! `caBundle` of every webhook configuration beside the old; that is read back from each of them; the
//! API servers are given time to see it, unless it is the first of all; only then does the leaf move to the keys that replicas serve.
//! The old CA leaves the bundles when the last leaf that it signed has expired. Each step is one write
//! that its object's `resourceVersion` guards, and the next is decided on what is read, not on what is
//! remembered: after a crash, the next leader continues from the step at which the last one stopped.
//!
//! [`takes`] is the second guard, on the other side: a replica that serves a leaf which API servers
//! trust switches to another only when they have trusted that one for long enough as well.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

mod lifetimes;
mod record;
mod serving;
#[cfg(test)]
mod tests;

pub use crate::rotation::lifetimes::{Lifetimes, LifetimesError, NoShare, Share, Validity};
pub use crate::rotation::record::{
    Authority, Ca, Fingerprint, Leaf, Pair, PrivateKey, Record, RetiredCa,
};
pub use crate::rotation::serving::{Standing, takes};

/// At most this many retired CAs are adopted or remembered. Chosen: other clients may write any number of CAs
/// into a bundle.
const MAX_RETIRED: usize = 16;

/// The content of a `caBundle`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bundle {
    /// The certificates that can be read.
    pub cas: Vec<Ca>,
    /// Whether the bundle holds nothing else: an API server may reject a bundle with other content.
    pub sound: bool,
}

/// A webhook configuration as it was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// The bundle of each of its webhooks; empty if the configuration is absent.
    pub bundles: Vec<Bundle>,
    /// For how long this process knows that the configuration has not changed.
    pub unchanged_for: Duration,
}

/// The state on which a step is decided. The configurations must have been read *before* the Secret: then a
/// bundle that another replica wrote for a newer Secret is never reverted to an older one's, because the
/// configuration has another `resourceVersion` by then.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    /// The time by the wall clock.
    pub now: Timestamp,
    /// The Secret; `None` if it does not exist.
    pub record: Option<&'a Record>,
    /// All our webhook configurations; `None` while one of them cannot be read.
    pub configurations: Option<&'a [Configuration]>,
    /// The CAs that this process read from earlier versions of the Secret ([`Record::signers`]).
    pub remembered: &'a [RetiredCa],
}

/// Why a certificate is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// The present one cannot be read, or its key is broken.
    Unusable,
    /// The CA beside the leaf in the Secret has not signed it.
    NotOurCa,
    /// The leaf does not cover all our names.
    Names,
    /// It is valid only later, because the clock of the process that made it was wrong.
    NotYet,
    /// The renewal is due.
    Due,
}

impl Why {
    /// The words for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unusable => "none that can be used",
            Self::NotOurCa => "signed by another CA",
            Self::Names => "not for all our names",
            Self::NotYet => "valid later only",
            Self::Due => "due",
        }
    }
}

/// A change to the Secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// Create the Secret: [`Record::new`].
    Create,
    /// Add CAs that the Secret does not name and whose leaves may be in use: [`Record::adopted`].
    Adopt(Vec<RetiredCa>),
    /// Remove retired CAs: [`Record::forgotten`].
    Forget,
    /// Sign a leaf with the present CA: [`Record::signed`].
    Sign(Why),
    /// Make a CA and a leaf: [`Record::staged`].
    Stage(Why),
    /// Serve the staged leaf: [`Record::promoted`].
    Promote,
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Change the Secret.
    Secret(Change),
    /// Write [`Record::trusted`] into every bundle of the configuration with this index.
    Trust(usize),
    /// Wait this long until all API servers have seen the bundles with the staged CA.
    Wait(Duration),
    /// Rest until the next step is due.
    Rest(Timestamp),
}

/// Decides on the next step.
///
/// ```
/// use jiff::Timestamp;
/// use targetgate_core::rotation::{Change, Lifetimes, Situation, Step, next};
///
/// let situation = Situation {
///     now: Timestamp::UNIX_EPOCH,
///     record: None,
///     configurations: Some(&[]),
///     remembered: &[],
/// };
/// let step = next(&situation, &Lifetimes::default());
/// assert_eq!(step, Step::Secret(Change::Create));
/// ```
pub fn next(situation: &Situation<'_>, lifetimes: &Lifetimes) -> Step {
    let Some(record) = situation.record else {
        return Step::Secret(Change::Create);
    };
    let now = situation.now;
    let change = adopts(situation, record, lifetimes).or_else(|| signs(now, record, lifetimes));
    if let Some(change) = change {
        return Step::Secret(change);
    }
    let Some(configurations) = situation.configurations else {
        return Step::Rest(rest(now, record, lifetimes));
    };
    if let Some(index) = untrusting(configurations, record) {
        return Step::Trust(index);
    }
    if let Some(why) = stages(now, record, lifetimes) {
        return Step::Secret(Change::Stage(why));
    }
    if record.staged.is_none() {
        // Forgetting comes last, because it changes the bundles, and a promotion waits for bundles that do
        // not change.
        return match forgets(now, record, lifetimes) {
            Some(change) => Step::Secret(change),
            None => Step::Rest(rest(now, record, lifetimes)),
        };
    }
    // As long as nothing was served and nothing trusted, no replica has a leaf that the staged one could replace too
    // early: waiting would only keep the first replicas from serving.
    let seen_after = match record.is_first() {
        true => Duration::ZERO,
        false => lifetimes.seen_after,
    };
    match seen_after.saturating_sub(unchanged_for(configurations)) {
        Duration::ZERO => Step::Secret(Change::Promote),
        more => Step::Wait(more),
    }
}

/// Adopts CAs that may have signed what a replica serves and that the Secret does not name, or names with an
/// earlier end of the last leaf: those that this process remembers and, if the Secret was lost or is broken, any
/// CA in a bundle.
fn adopts(situation: &Situation<'_>, record: &Record, lifetimes: &Lifetimes) -> Option<Change> {
    let now = situation.now;
    let known: BTreeSet<_> = record.trusted().into_iter().map(|ca| ca.id).collect();
    let damaged = record.authority.is_none() || record.retired.is_none();
    let found = damaged
        .then(|| in_bundles(situation))
        .into_iter()
        .flatten()
        .map(|ca| {
            let served = record.leaf.as_ref().map(|leaf| leaf.validity.not_after);
            let at_most = served.max(Some(lifetimes.latest_leaf(now)));
            RetiredCa {
                last_leaf: at_most.unwrap_or(now).min(ca.validity.not_after),
                ca,
            }
        });
    let in_use = |retired: &RetiredCa| !retired.is_expired_for_all(now, lifetimes);
    // Another replica may have signed a leaf since this one has read the lost Secret, so what is remembered of a
    // CA is not trusted to be its end where the bundle's bound is later.
    let mut unnamed = latest(situation.remembered.iter().cloned().chain(found));
    unnamed.retain(|retired| in_use(retired) && !known.contains(&retired.ca.id));
    unnamed.truncate(MAX_RETIRED.saturating_sub(record.retired.iter().flatten().count()));
    let outlasts = |retired: &&RetiredCa| {
        let mut named = record
            .signers()
            .filter(|named| named.ca.id == retired.ca.id);
        named.any(|named| named.last_leaf < retired.last_leaf)
    };
    let longer = situation.remembered.iter().filter(outlasts);
    let adopted: Vec<RetiredCa> = longer
        .filter(|ca| in_use(ca))
        .cloned()
        .chain(unnamed)
        .collect();
    let unlisted = record.retired.is_none() && situation.configurations.is_some();
    let due = unlisted || !adopted.is_empty();
    due.then_some(Change::Adopt(adopted))
}

/// Each CA once, with the latest end of its last leaf.
fn latest(retired: impl Iterator<Item = RetiredCa>) -> Vec<RetiredCa> {
    let mut each: Vec<RetiredCa> = vec![];
    for retired in retired {
        match each.iter_mut().find(|known| known.ca.id == retired.ca.id) {
            Some(known) => known.last_leaf = known.last_leaf.max(retired.last_leaf),
            None => each.push(retired),
        }
    }
    each
}

fn in_bundles(situation: &Situation<'_>) -> Vec<Ca> {
    let configurations = situation.configurations.iter().copied().flatten();
    let bundles = configurations.flat_map(|configuration| &configuration.bundles);
    bundles.flat_map(|bundle| &bundle.cas).cloned().collect()
}

fn forgets(now: Timestamp, record: &Record, lifetimes: &Lifetimes) -> Option<Change> {
    let mut retired = record.retired.iter().flatten();
    let over = retired.any(|retired| retired.is_expired_for_all(now, lifetimes));
    over.then_some(Change::Forget)
}

/// Signs a leaf with the present CA if that can sign: every bundle holds that CA already.
fn signs(now: Timestamp, record: &Record, lifetimes: &Lifetimes) -> Option<Change> {
    let authority = record.signer(now, lifetimes)?;
    let why = match &record.leaf {
        None => Some(Why::Unusable),
        Some(leaf) if !leaf.signed => Some(Why::NotOurCa),
        Some(leaf) if !leaf.fits => Some(Why::Names),
        Some(leaf) if lifetimes.is_ahead(leaf.validity, now) => Some(Why::NotYet),
        Some(leaf) => {
            let gained = lifetimes.of_leaf(now, authority.ca.validity).not_after;
            // A leaf is cut to its CA's life, so at the end of that a new leaf would not live longer.
            let better = gained > leaf.validity.not_after;
            // A new CA is staged with a leaf of its own, so signing waits for that until the last call.
            let at = match record.staged.is_some() || is_due(now, authority, lifetimes) {
                true => lifetimes.last_call(leaf.validity),
                false => lifetimes.renewal(leaf.validity),
            };
            (better && now >= at).then_some(Why::Due)
        }
    };
    why.map(Change::Sign)
}

fn is_due(now: Timestamp, authority: &Authority, lifetimes: &Lifetimes) -> bool {
    now >= lifetimes.renewal(authority.ca.validity)
}

/// The first configuration with a bundle that differs from what it should hold. Bundles are not touched
/// before the Secret has a CA.
fn untrusting(configurations: &[Configuration], record: &Record) -> Option<usize> {
    let wanted: BTreeSet<_> = record.trusted().into_iter().map(|ca| ca.id).collect();
    if wanted.is_empty() {
        return None;
    }
    let right = |bundle: &Bundle| {
        let held = bundle.cas.iter().map(|ca| ca.id);
        bundle.sound && held.collect::<BTreeSet<_>>() == wanted
    };
    configurations
        .iter()
        .position(|configuration| !configuration.bundles.iter().all(right))
}

fn stages(now: Timestamp, record: &Record, lifetimes: &Lifetimes) -> Option<Why> {
    if record.staged.is_some() {
        return record.is_stale(now, lifetimes).then_some(Why::Unusable);
    }
    match record.signer(now, lifetimes) {
        None => {
            let authority = record.authority.as_ref();
            let ahead = authority.is_some_and(|a| lifetimes.is_ahead(a.ca.validity, now));
            Some(if ahead { Why::NotYet } else { Why::Unusable })
        }
        Some(authority) => (now >= lifetimes.renewal(authority.ca.validity)).then_some(Why::Due),
    }
}

/// When the next step is due, given that none is due now.
fn rest(now: Timestamp, record: &Record, lifetimes: &Lifetimes) -> Timestamp {
    let leaf = record.leaf.iter().flat_map(|leaf| {
        let validity = leaf.validity;
        [lifetimes.renewal(validity), lifetimes.last_call(validity)]
    });
    let authority = record.authority.iter();
    let authority = authority.map(|a| lifetimes.renewal(a.ca.validity));
    let retired = record.retired.iter().flatten();
    let retired = retired.map(|retired| lifetimes.expired_for_all(retired.last_leaf));
    let later = leaf.chain(authority).chain(retired).filter(|at| *at > now);
    later.min().unwrap_or(Timestamp::MAX)
}

/// The CAs to remember after reading a Secret: those that it names and those remembered before, until their
/// last leaf has expired.
pub fn remember(
    remembered: Vec<RetiredCa>,
    record: &Record,
    now: Timestamp,
    lifetimes: &Lifetimes,
) -> Vec<RetiredCa> {
    let mut each = latest(record.signers().chain(remembered));
    each.retain(|retired| !retired.is_expired_for_all(now, lifetimes));
    each.truncate(MAX_RETIRED);
    each
}

/// For how long none of these configurations has changed.
pub fn unchanged_for(configurations: &[Configuration]) -> Duration {
    let each = configurations.iter().map(|c| c.unchanged_for);
    each.min().unwrap_or(Duration::MAX)
}

/// The text of a bundle: its certificates as PEM, one after the other.
pub fn pem(cas: &[&Ca]) -> Arc<str> {
    let texts: Vec<&str> = cas.iter().map(|ca| ca.pem.trim_end()).collect();
    format!("{}\n", texts.join("\n")).into()
}
