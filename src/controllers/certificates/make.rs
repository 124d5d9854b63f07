//! Makes the CA and leaf for a step of a rotation.

use jiff::Timestamp;
use targetgate_core::rotation::{Authority, Leaf, Lifetimes, Pair};
use thiserror::Error;

use crate::pki::make;
use crate::pki::read;
use crate::pki::read::ReadError;

/// Why a certificate was not made.
#[derive(Debug, Error)]
pub enum MakeError {
    #[error("cannot make a certificate for {}; is each a DNS name or an IP address?", .names.join(", "))]
    Make {
        names: Vec<String>,
        source: rcgen::Error,
    },
    /// The certificate that was just made cannot be read.
    #[error("a certificate that was just made cannot be read")]
    Read(#[from] ReadError),
}

/// Makes CAs and leaves.
#[derive(Debug, Clone)]
pub struct Maker {
    /// Our Service, after which the certificates are named.
    pub service: String,
    /// The DNS names and IP addresses of each leaf.
    pub names: Vec<String>,
    pub lifetimes: Lifetimes,
}

impl Maker {
    /// Makes a CA and a leaf.
    ///
    /// # Errors
    /// A name is neither a DNS name nor an IP address.
    pub fn pair(&self, now: Timestamp) -> Result<Pair, MakeError> {
        let validity = self.lifetimes.of_ca(now);
        let made = make::ca(&format!("{} CA", self.service), validity);
        let made = made.map_err(|source| self.error(source))?;
        let ca = read::ca(&made.certificate)?;
        let mut authority = Authority {
            key: Some(read::ca_key(&made.certificate, &made.key)?),
            last_leaf: ca.validity.not_after,
            ca,
        };
        let leaf = self.leaf(&authority, now)?;
        authority.last_leaf = leaf.validity.not_after;
        Ok(Pair { authority, leaf })
    }

    /// Makes a leaf of this CA, which must have its key.
    ///
    /// # Errors
    /// A name is neither a DNS name nor an IP address, or the CA cannot sign.
    pub fn leaf(&self, authority: &Authority, now: Timestamp) -> Result<Leaf, MakeError> {
        let ca = &authority.ca;
        let key = authority.key.as_ref().ok_or(ReadError::CaKey)?;
        let validity = self.lifetimes.of_leaf(now, ca.validity);
        let made = make::leaf(&ca.pem, &key.0, &self.service, &self.names, validity);
        let made = made.map_err(|source| self.error(source))?;
        Ok(read::leaf(
            &made.certificate,
            &made.key,
            Some(ca),
            &self.names,
        )?)
    }

    fn error(&self, source: rcgen::Error) -> MakeError {
        MakeError::Make {
            names: self.names.clone(),
            source,
        }
    }
}
