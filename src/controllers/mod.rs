//! Controllers: each observes, lets the core decide, carries out what it decides, and reports back.

pub mod certificates;
pub mod gates;
