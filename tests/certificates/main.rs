//! Certificates on a real control plane. `--tls self`: rotations under steady pod creation, crashes at
//! every step, and what others do to the Secret and the bundles. `--client-ca`: who may ask.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod accidents;
mod clients;
mod crashes;
mod creations;
mod proxy;
mod replica;
mod rotations;
mod world;
