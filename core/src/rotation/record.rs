//! The content of the Secret, and how each step of a rotation changes it.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::rotation::lifetimes::{Lifetimes, Validity};

/// The fingerprint of a certificate, the SHA-256 of its DER.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// The first six bytes in hex, for logs.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A private key as PEM, which is never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PrivateKey(pub Arc<str>);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// A CA's certificate, as a `caBundle` holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ca {
    pub id: Fingerprint,
    pub validity: Validity,
    /// The certificate as PEM.
    pub pem: Arc<str>,
}

/// A CA with its key, which signs leaves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    pub ca: Ca,
    /// The key; `None` if the Secret's is broken or belongs to another certificate.
    pub key: Option<PrivateKey>,
    /// When the last leaf that the CA has signed expires.
    pub last_leaf: Timestamp,
}

impl Authority {
    /// Whether it has its key and is valid. Leaves of a CA that is valid only later would be so, too.
    fn signs(&self, now: Timestamp, lifetimes: &Lifetimes) -> bool {
        let validity = self.ca.validity;
        self.key.is_some() && now < validity.not_after && !lifetimes.is_ahead(validity, now)
    }
}

/// A serving certificate with the key that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Leaf {
    pub id: Fingerprint,
    pub validity: Validity,
    /// Whether it covers all names by which API servers call us.
    pub fits: bool,
    /// Whether the CA beside it in the Secret has signed it.
    pub signed: bool,
    /// The chain as PEM, the leaf first.
    pub chain: Arc<str>,
    pub key: PrivateKey,
}

/// A CA and a leaf that it has signed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pair {
    pub authority: Authority,
    pub leaf: Leaf,
}

/// A retired CA, which does not sign any more and stays trusted until its last leaf has expired.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RetiredCa {
    pub ca: Ca,
    /// The latest time at which its last leaf can expire.
    pub last_leaf: Timestamp,
}

/// The content of the Secret. A part that cannot be read is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Record {
    /// The leaf that replicas serve.
    pub leaf: Option<Leaf>,
    /// The present CA, which signs the leaves that replicas serve.
    pub authority: Option<Authority>,
    /// A new CA and its leaf, until API servers trust it.
    pub staged: Option<Pair>,
    /// The retired CAs.
    pub retired: Option<Vec<RetiredCa>>,
}

impl Record {
    /// A new Secret, whose leaf is staged until API servers trust it.
    pub fn new(staged: Pair) -> Self {
        Self {
            leaf: None,
            authority: None,
            staged: Some(staged),
            retired: Some(vec![]),
        }
    }

    /// Adds retired CAs. Of a CA that is there already, the later end of the last leaf counts.
    pub fn adopted(mut self, more: &[RetiredCa]) -> Self {
        let retired = self.retired.get_or_insert_default();
        for ca in more {
            let authority = self.authority.iter_mut();
            let authority = authority.map(|own| (own.ca.id, &mut own.last_leaf));
            let known = retired
                .iter_mut()
                .map(|known| (known.ca.id, &mut known.last_leaf));
            match authority.chain(known).find(|(id, _)| *id == ca.ca.id) {
                Some((_, last_leaf)) => *last_leaf = ca.last_leaf.max(*last_leaf),
                None => retired.push(ca.clone()),
            }
        }
        self
    }

    /// Removes the retired CAs whose last leaf has expired for all.
    pub fn forgotten(mut self, now: Timestamp, lifetimes: &Lifetimes) -> Self {
        if let Some(retired) = &mut self.retired {
            retired.retain(|retired| !retired.is_expired_for_all(now, lifetimes));
        }
        self
    }

    /// Replaces the leaf by one that the present CA has signed.
    pub fn signed(mut self, leaf: Leaf) -> Self {
        if let Some(authority) = &mut self.authority {
            authority.last_leaf = authority.last_leaf.max(leaf.validity.not_after);
        }
        self.leaf = Some(leaf);
        self
    }

    /// Stages a new CA and its leaf.
    pub fn staged(mut self, pair: Pair) -> Self {
        self.staged = Some(pair);
        self
    }

    /// Promotes what is staged, and retires the present CA.
    pub fn promoted(mut self) -> Self {
        let Some(Pair { authority, leaf }) = self.staged.take() else {
            return self;
        };
        let retired = self
            .authority
            .replace(authority)
            .map(|authority| RetiredCa {
                ca: authority.ca,
                last_leaf: authority.last_leaf,
            });
        self.leaf = Some(leaf);
        self.adopted(retired.as_slice())
    }

    /// The CAs that each `caBundle` must hold, and nothing else, without duplicates.
    pub fn trusted(&self) -> Vec<&Ca> {
        let staged = self.staged.as_ref().map(|pair| &pair.authority);
        let own = self.authority.iter().chain(staged);
        let retired = self.retired.iter().flatten();
        let mut trusted: Vec<&Ca> = own.map(|a| &a.ca).chain(retired.map(|f| &f.ca)).collect();
        trusted.sort_by_key(|ca| ca.id);
        trusted.dedup_by_key(|ca| ca.id);
        trusted
    }

    /// The CAs whose leaves a replica may serve.
    pub fn signers(&self) -> impl Iterator<Item = RetiredCa> {
        let authority = self.authority.iter().map(|authority| RetiredCa {
            ca: authority.ca.clone(),
            last_leaf: authority.last_leaf,
        });
        authority.chain(self.retired.iter().flatten().cloned())
    }

    /// The present CA, if it can sign.
    pub(super) fn signer(&self, now: Timestamp, lifetimes: &Lifetimes) -> Option<&Authority> {
        let authority = self.authority.as_ref();
        authority.filter(|authority| authority.signs(now, lifetimes))
    }

    /// Whether nothing was served and nothing trusted before what is staged, as far as the Secret knows.
    pub(super) fn is_first(&self) -> bool {
        let none_retired = self.retired.as_ref().is_some_and(Vec::is_empty);
        self.leaf.is_none() && self.authority.is_none() && none_retired
    }

    /// Whether what is staged cannot be served any more. A staged leaf that is merely due for renewal can be:
    /// staging anew each time one becomes due while it waits might never end.
    pub(super) fn is_stale(&self, now: Timestamp, lifetimes: &Lifetimes) -> bool {
        self.staged.as_ref().is_some_and(|pair| {
            let leaf = &pair.leaf;
            let valid = now < leaf.validity.not_after && !lifetimes.is_ahead(leaf.validity, now);
            !(leaf.fits && leaf.signed && valid && pair.authority.signs(now, lifetimes))
        })
    }
}

impl RetiredCa {
    /// Whether all its leaves have expired for all.
    pub(super) fn is_expired_for_all(&self, now: Timestamp, lifetimes: &Lifetimes) -> bool {
        now >= lifetimes.expired_for_all(self.last_leaf)
    }
}
