//! The hooks: reviews in, answers out.

pub mod answer;
pub mod binding;
pub mod review;
