//! Scenarios: what happens is written down, in calm weather, and what must come of it is asserted. The
//! invariants that need no [`facts`](crate::facts) are judged in them as well.

mod health_loop;
mod hooks;
mod leading;
mod replicas;
mod stage;
mod writes;
