//! Scenarios: each writes down what happens, in calm weather, and asserts the outcome. The invariants that do
//! not need [`facts`](crate::facts) are judged in them as well.

mod certificates;
mod endings;
mod following;
mod health_loop;
mod hooks;
mod leading;
mod replicas;
mod stage;
mod trouble;
mod writes;
