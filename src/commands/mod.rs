//! What users call besides `serve`.

pub mod certs;
