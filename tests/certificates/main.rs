//! Certificates on a real control plane. `--tls self`: rotations under steady pod creation, crashes at each
//! step, and changes of the Secret and the bundles by other clients. `--client-ca`: which clients may send
//! reviews.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod accidents;
mod clients;
mod crashes;
mod creations;
mod given;
mod proxy;
mod replica;
mod rotations;
mod upgrading;
mod world;
