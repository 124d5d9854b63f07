//! What the Secret holds, and how each step of a rotation changes it.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::rotation::lifetimes::{Lifetimes, Validity};

/// Which certificate: the SHA-256 of its DER.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// In short, as in logs.
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

/// A private key as PEM. It is never printed.
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
    /// Which.
    pub id: Fingerprint,
    /// How long it is valid.
    pub validity: Validity,
    /// The certificate as PEM.
    pub pem: Arc<str>,
}

/// A CA that is ours to sign with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    /// Its certificate.
    pub ca: Ca,
    /// Its key; `None` where the Secret's is broken or another's.
    pub key: Option<PrivateKey>,
    /// When the last leaf expires that it has signed.
    pub last_leaf: Timestamp,
}

impl Authority {
    /// Whether it can sign a leaf that is worth something.
    fn signs(&self, now: Timestamp) -> bool {
        self.key.is_some() && now < self.ca.validity.not_after
    }
}

/// A serving certificate with its key, known to belong together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Leaf {
    /// Which.
    pub id: Fingerprint,
    /// How long it is valid.
    pub validity: Validity,
    /// Whether it is good for all names under which API servers ask for us.
    pub fits: bool,
    /// Whether the CA that stands beside it has signed it.
    pub signed: bool,
    /// The chain as PEM, the leaf first.
    pub chain: Arc<str>,
    /// Its key.
    pub key: PrivateKey,
}

/// A CA and a leaf that it has signed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pair {
    /// The CA.
    pub authority: Authority,
    /// The leaf.
    pub leaf: Leaf,
}

/// A CA that signs no more, and must stay trusted until its last leaf has expired.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Former {
    /// Its certificate.
    pub ca: Ca,
    /// When the last leaf expires that it has signed, as far as is known at the latest.
    pub last_leaf: Timestamp,
}

/// The Secret's content, as far as it can be read. What is broken is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Record {
    /// What is to be served.
    pub leaf: Option<Leaf>,
    /// The CA that signs the leaves that are served.
    pub authority: Option<Authority>,
    /// A new CA and its leaf, until API servers trust it.
    pub staged: Option<Pair>,
    /// CAs of before.
    pub former: Option<Vec<Former>>,
}

impl Record {
    /// A new Secret: nothing of it is served before API servers trust it.
    pub fn new(staged: Pair) -> Self {
        Self {
            leaf: None,
            authority: None,
            staged: Some(staged),
            former: Some(vec![]),
        }
    }

    /// With these CAs among those of before.
    pub fn adopted(mut self, more: &[Former]) -> Self {
        let former = self.former.get_or_insert_default();
        former.extend_from_slice(more);
        self
    }

    /// Without the CAs of before whose last leaf has expired by now.
    pub fn forgotten(mut self, now: Timestamp, lifetimes: &Lifetimes) -> Self {
        if let Some(former) = &mut self.former {
            former.retain(|former| !former.is_over(now, lifetimes));
        }
        self
    }

    /// With another leaf, which the CA of now has signed.
    pub fn signed(mut self, leaf: Leaf) -> Self {
        if let Some(authority) = &mut self.authority {
            authority.last_leaf = authority.last_leaf.max(leaf.validity.not_after);
        }
        self.leaf = Some(leaf);
        self
    }

    /// With a new CA and its leaf, which wait.
    pub fn staged(mut self, pair: Pair) -> Self {
        self.staged = Some(pair);
        self
    }

    /// With what was staged as what is served; the CA of until now is one of before.
    pub fn promoted(mut self) -> Self {
        let Some(Pair { authority, leaf }) = self.staged.take() else {
            return self;
        };
        let former = self.authority.replace(authority).map(|authority| Former {
            ca: authority.ca,
            last_leaf: authority.last_leaf,
        });
        self.leaf = Some(leaf);
        self.adopted(former.as_slice())
    }

    /// The CAs that a `caBundle` must hold, each once, and nothing else.
    pub fn trusted(&self) -> Vec<&Ca> {
        let staged = self.staged.as_ref().map(|pair| &pair.authority);
        let own = self.authority.iter().chain(staged);
        let former = self.former.iter().flatten();
        let mut trusted: Vec<&Ca> = own.map(|a| &a.ca).chain(former.map(|f| &f.ca)).collect();
        trusted.sort_by_key(|ca| ca.id);
        trusted.dedup_by_key(|ca| ca.id);
        trusted
    }

    /// The CAs whose leaves somebody may serve.
    pub fn signers(&self) -> impl Iterator<Item = Former> {
        let authority = self.authority.iter().map(|authority| Former {
            ca: authority.ca.clone(),
            last_leaf: authority.last_leaf,
        });
        authority.chain(self.former.iter().flatten().cloned())
    }

    /// The CA of now, if it can sign.
    pub(super) fn signer(&self, now: Timestamp) -> Option<&Authority> {
        self.authority.as_ref().filter(|a| a.signs(now))
    }

    /// Whether something is staged that is not worth serving. What is merely due for renewal is worth
    /// it: to stage anew whenever it has become that while it waited might never come to an end.
    pub(super) fn is_stale(&self, now: Timestamp) -> bool {
        self.staged.as_ref().is_some_and(|pair| {
            let leaf = &pair.leaf;
            let good = leaf.fits && leaf.signed && now < leaf.validity.not_after;
            !(good && pair.authority.signs(now))
        })
    }
}

impl Former {
    /// Whether no leaf of it can be in use any more.
    pub(super) fn is_over(&self, now: Timestamp, lifetimes: &Lifetimes) -> bool {
        now >= lifetimes.over(self.last_leaf)
    }
}
