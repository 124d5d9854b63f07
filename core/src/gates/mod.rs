//! Gates: which a new pod gets ([`inject`], [`patch`]), what each waits for ([`requirements`],
//! [`target`], [`absence`]), what ELB's answer says about it ([`attribution`], [`condition`]), and
//! the state machine that opens them ([`machine`], [`polling`], [`writes`]).

pub mod absence;
pub mod attribution;
pub mod condition;
pub mod inject;
pub mod machine;
pub mod patch;
pub mod polling;
pub mod requirements;
pub mod target;
pub mod writes;
