//! `targetgate explain`: reads a namespace once, asks ELB where it can, and says what the core makes of it (contract 10).

use std::io;
use std::io::Write;
use std::time::Duration;

use jiff::Timestamp;
use targetgate_core::explain;
use targetgate_core::explain::{Answer, Verdict};
use thiserror::Error;
use tokio::time::{Instant, sleep};

use crate::args::{Explain, Kind, Output};
use crate::commands::explain::look::Look;
use crate::commands::explain::manifest::ManifestError;
use crate::commands::waiting::{LINE_EVERY, with_progress};
use crate::commands::{cluster, json};
use crate::kubernetes::snapshot::SnapshotError;

mod deciding;
mod elb;
mod look;
mod manifest;
pub(super) mod mode;
mod registration;
mod screen;
pub mod watch;

pub(super) use crate::commands::explain::deciding::of_flags;

/// The pause between two looks with `--watch`. Chosen: a flip is seen soon, at a handful of requests each time.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What a look that lasts is told as.
const LOOKING: &str = "looking at the namespace";

/// The exit status of a question that is answered by no, or not yet.
const NO: u8 = 1;
const USAGE: u8 = 2;
const UNKNOWN: u8 = 3;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ExplainError {
    #[error("{0}")]
    Usage(String),
    #[error("--filename {file}: {why}")]
    Manifest { file: String, why: ManifestError },
    /// No cluster can be asked.
    #[error("{0:#}")]
    NoCluster(anyhow::Error),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("binding {0} does not exist")]
    NoBinding(String),
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

impl ExplainError {
    /// The exit status: what does not exist is a no, and what cannot be asked is unknown.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Manifest { .. } => USAGE,
            Self::Snapshot(SnapshotError::Absent { .. }) | Self::NoBinding(_) => NO,
            Self::NoCluster(_) | Self::Snapshot(_) | Self::Output(_) => UNKNOWN,
        }
    }
}

/// Explains what the settings name, and writes the answer. Returns the exit status.
///
/// # Errors
/// There is no answer.
pub async fn run(settings: &Explain, out: &mut impl Write) -> Result<u8, ExplainError> {
    let subject = Subject::of(settings)?;
    let client = cluster::of_flags(&settings.look.cluster).await;
    let client = client.map_err(ExplainError::NoCluster)?;
    let namespace = subject.namespace(settings, client.default_namespace())?;
    let look = Look::new(&settings.look, client, namespace).await;
    match settings.watch {
        true => watch_one(settings, &look, &subject, out).await,
        false => {
            let answer = with_progress(LOOKING, look.answer(&subject)).await?;
            let text = match settings.output {
                Output::Text => explain::render(&answer),
                Output::Json => json(&answer),
            };
            out.write_all(text.as_bytes())?;
            Ok(exit_status(answer.verdict()))
        }
    }
}

fn exit_status(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Yes => 0,
        Verdict::NotYet | Verdict::No => NO,
    }
}

/// What is explained.
enum Subject {
    Pod(crate::args::Subject),
    Manifest(manifest::Manifest),
    Binding(crate::args::Subject),
    Namespace,
}

impl Subject {
    fn of(settings: &Explain) -> Result<Self, ExplainError> {
        let name = || {
            let missing = "name what is to be explained, such as shop/web-0";
            let name = settings.name.clone();
            name.ok_or_else(|| ExplainError::Usage(missing.to_owned()))
        };
        match (settings.kind, &settings.filename) {
            (None, _) => Ok(Self::Namespace),
            (Some(Kind::Binding), Some(_)) => {
                let only = "--filename is for pods: explain pod -f FILE";
                Err(ExplainError::Usage(only.to_owned()))
            }
            (Some(Kind::Pod), Some(file)) => {
                manifest::read(file).map(Self::Manifest).map_err(|why| {
                    let file = file.display().to_string();
                    ExplainError::Manifest { file, why }
                })
            }
            (Some(Kind::Pod), None) => Ok(Self::Pod(name()?)),
            (Some(Kind::Binding), None) => Ok(Self::Binding(name()?)),
        }
    }

    /// The namespace that the subject names, else the flag, else the default.
    fn namespace(&self, settings: &Explain, default: &str) -> Result<String, ExplainError> {
        let own = match self {
            Self::Pod(name) | Self::Binding(name) => name.namespace.as_deref(),
            Self::Manifest(manifest) => manifest.namespace.as_deref(),
            Self::Namespace => None,
        };
        match (own, settings.look.namespace.as_deref()) {
            (Some(own), Some(flag)) if own != flag => Err(ExplainError::Usage(format!(
                "--namespace {flag} contradicts namespace {own} of what is to be explained"
            ))),
            (own, flag) => Ok(own.or(flag).unwrap_or(default).to_owned()),
        }
    }
}

/// Looks again and again, until the answer is yes.
async fn watch_one(
    settings: &Explain,
    look: &Look,
    subject: &Subject,
    out: &mut impl Write,
) -> Result<u8, ExplainError> {
    let mut last: Option<(String, Instant)> = None;
    loop {
        let answer = with_progress(LOOKING, look.answer(subject)).await;
        let answer = match in_reach(answer)? {
            Ok(answer) => answer,
            Err(why) => {
                eprintln!("targetgate: {why}");
                sleep(LOOK_EVERY).await;
                continue;
            }
        };
        let said = said(&answer);
        let due = last
            .as_ref()
            .is_none_or(|(known, at)| *known != said || at.elapsed() + LOOK_EVERY > LINE_EVERY);
        if due {
            write_line(settings.output, &answer, &said, out)?;
            last = Some((said, Instant::now()));
        }
        if answer.verdict() == Verdict::Yes {
            return Ok(0);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What was found, or why the cluster is out of reach, which may come back.
fn in_reach<T>(looked: Result<T, ExplainError>) -> Result<Result<T, SnapshotError>, ExplainError> {
    match looked {
        Ok(found) => Ok(Ok(found)),
        Err(ExplainError::Snapshot(why @ SnapshotError::Failed { denied: false, .. })) => {
            Ok(Err(why))
        }
        Err(error) => Err(error),
    }
}

fn write_line(form: Output, answer: &Answer, said: &str, out: &mut impl Write) -> io::Result<()> {
    match form {
        Output::Json => writeln!(out, "{}", serde_json::to_string(answer)?)?,
        Output::Text => {
            let now = Timestamp::now();
            writeln!(out, "{} {said}", now.strftime("%H:%M:%SZ"))?;
        }
    }
    out.flush()
}

/// The answer in one line.
fn said(answer: &Answer) -> String {
    let text = explain::render(answer);
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default().to_owned();
    let message = lines.next().unwrap_or_default().trim();
    format!("{head}: {message}")
}
