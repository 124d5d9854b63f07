//! Properties that hold for any bytes: one function for each fuzz target (`targets/`), which panics if its
//! property does not hold. `make fuzz` searches for such bytes. `tests/corpus.rs` runs those in `corpus/` on
//! stable Rust: the seeds, and whatever was found.

pub mod arn;
pub mod elb;
pub mod patch;
pub mod review;
pub mod selector;

mod answered;
mod unique;
mod world;

/// A property, which panics for bytes for which it does not hold.
pub type Property = fn(&[u8]);

/// The targets, by the names of their folders in `corpus/`.
pub const TARGETS: [(&str, Property); 5] = [
    ("arn", arn::holds),
    ("elb", elb::holds),
    ("patch", patch::holds),
    ("review", review::holds),
    ("selector", selector::holds),
];
