//! The health loop: asks ELB about the targets of waiting pods and writes their conditions.

mod gate;
mod rounds;
#[cfg(test)]
mod tests;
pub mod tracker;
