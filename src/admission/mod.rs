//! The hooks: reviews in, answers out.

pub mod answer;
pub mod body;
pub mod refusal;
pub mod review;
