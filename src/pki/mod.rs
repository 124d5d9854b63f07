//! X.509: makes ([`make`]) and reads ([`read`]) certificates, for development and for the Secret of `--tls self`.

pub mod make;
pub mod read;
#[cfg(test)]
mod tests;
