//! The subcommands of the program.

pub mod certs;
mod cluster;
pub mod doctor;
mod elb;
pub mod explain;
pub mod release;
pub mod serve;
mod waiting;

use serde::Serialize;

/// The JSON of an answer (`-o json`), none of whose maps has keys that are not strings.
fn json(answer: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(answer);
    // Only such a key, or a form that cannot be written, would be an error.
    format!("{}\n", text.expect("an answer is JSON"))
}
