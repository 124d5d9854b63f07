//! Two processes of the shipped binary on a real API server: which of them leads after one dies, hangs or
//! leaves, and whether an admission fails while they are replaced one by one.

mod gated;
mod history;
mod installing;
mod line;
mod rolling;
mod taking_over;
