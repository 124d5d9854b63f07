//! Gates: which a new pod gets ([`inject`], [`patch`]), what each waits for ([`requirements`],
//! [`target`], [`absence`]), what ELB's answer says about it ([`attribution`], [`condition`]), and
//! the state machine that opens them ([`machine`], [`polling`], [`writes`]).

use std::time::Duration;

use crate::backoff::Backoff;

pub mod absence;
pub mod attribution;
pub mod condition;
pub mod inject;
pub mod machine;
pub mod patch;
pub mod polling;
pub mod refusals;
pub mod requirements;
pub mod target;
pub mod writes;

/// Backoff of polls and writes that fail: 1, 2, 4 … 30 s. Contract 5.7 sets the bound; the first pause is
/// chosen.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
