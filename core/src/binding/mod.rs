//! `TargetGroupBinding`: its type, its defaults and its rules (contract 3, 4).

pub mod allow_list;
pub mod defaults;
pub mod failure;
pub mod field;
pub mod service;
pub mod spec;
pub mod validate;
