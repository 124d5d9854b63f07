//! X.509: certificates are made ([`make`]) and read ([`read`]) here, for development and for the
//! Secret that is ours.

pub mod make;
pub mod read;
#[cfg(test)]
mod tests;
