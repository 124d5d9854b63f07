//! The log: lines or JSON on standard error.

use std::io;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{fmt, registry};

use crate::args::LogFormat;

/// Starts logging for the whole process; to be called once.
pub fn init(format: LogFormat, levels: Targets) {
    let lines = fmt::layer().with_writer(io::stderr);
    let layer = match format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    registry().with(layer.with_filter(levels)).init();
}
