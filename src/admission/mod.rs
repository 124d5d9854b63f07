//! The hooks: reviews in, answers out.

pub mod answer;
pub mod review;
