//! The two kinds of work of which a Lease of its own says who does it.

/// The work that only the holder of a Lease does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The conditions of gates.
    Conditions,
    /// The Secret of the certificate, and the bundles of the webhook configurations.
    Certificates,
}

impl Work {
    /// What the holder does, for logs.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Conditions => "this replica writes conditions",
            Self::Certificates => "this replica writes certificates",
        }
    }
}
