//! Checks the law of `docs/architecture.md` against the source: which module may use which, what the core keeps
//! out, and what is documented.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod documented;
mod law;
mod source;
