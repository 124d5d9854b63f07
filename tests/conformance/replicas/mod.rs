//! Two processes of the binary on a real API server, as it is shipped: who leads when one dies, hangs
//! or leaves, and whether an admission fails when one after the other is replaced.

mod gated;
mod history;
mod installing;
mod line;
mod rolling;
mod taking_over;
