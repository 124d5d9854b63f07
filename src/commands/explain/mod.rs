//! `targetgate explain`: reads a namespace once, asks ELB where it can, and says what the core makes of it (contract 10).

use std::io;
use std::io::Write;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use targetgate_core::drain::DrainPolicy;
use targetgate_core::explain;
use targetgate_core::explain::{Answer, Elb, Facts, PodFacts, SettingsAnswer, Verdict};
use targetgate_core::gates::inject::GatePolicy;
use targetgate_core::index::HookScope;
use targetgate_core::model::Binding;
use targetgate_core::names::{BindingApi, ObjectKey};
use thiserror::Error;
use tokio::time::{Instant, sleep};

use crate::args::{DecidingFlags, Explain, Kind, Output};
use crate::commands::explain::elb::Asker;
use crate::commands::explain::manifest::ManifestError;
use crate::commands::{cluster, json};
use crate::kubernetes::snapshot;
use crate::kubernetes::snapshot::{Pods, SnapshotError, installation};

pub(super) mod elb;
mod manifest;

/// The pause between two looks with `--watch`. Chosen: a flip is seen soon, at a handful of requests each time.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A line comes at least this often with `--watch`. Contract 10.
const LINE_EVERY: Duration = Duration::from_secs(30);

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
    let client = cluster::of_flags(&settings.cluster).await;
    let client = client.map_err(ExplainError::NoCluster)?;
    let namespace = subject.namespace(settings, client.default_namespace())?;
    let decides = decides(settings, &client).await;
    let look = Look {
        settings,
        decides,
        client,
        namespace,
        asker: Asker::new(settings.no_aws),
    };
    match settings.watch {
        true => look.watch(&subject, out).await,
        false => {
            let answer = look.answer(&subject).await?;
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
        match (own, settings.namespace.as_deref()) {
            (Some(own), Some(flag)) if own != flag => Err(ExplainError::Usage(format!(
                "--namespace {flag} contradicts namespace {own} of what is to be explained"
            ))),
            (own, flag) => Ok(own.or(flag).unwrap_or(default).to_owned()),
        }
    }
}

/// A look at one namespace, which can be taken again.
struct Look<'a> {
    settings: &'a Explain,
    decides: explain::Settings,
    client: Client,
    namespace: String,
    asker: Asker,
}

impl Look<'_> {
    async fn answer(&self, subject: &Subject) -> Result<Answer, ExplainError> {
        match subject {
            Subject::Pod(name) => self.pod(&name.name).await,
            Subject::Manifest(manifest) => self.manifest(manifest).await,
            Subject::Binding(name) => self.binding(&name.name).await,
            Subject::Namespace => self.all().await,
        }
    }

    async fn pod(&self, name: &str) -> Result<Answer, ExplainError> {
        let (mut facts, pods) = self.facts(Pods::One(name)).await?;
        let asked = |facts: &Facts| explain::questions(facts, &pods, true);
        self.asker.ask(&mut facts, asked).await;
        let Some(pod) = pods.first() else {
            let what = format!("pod {}/{name}", self.namespace);
            return Err(SnapshotError::Absent { what }.into());
        };
        Ok(Answer::Pod(Box::new(explain::pod(&facts, pod))))
    }

    async fn manifest(&self, manifest: &manifest::Manifest) -> Result<Answer, ExplainError> {
        let (facts, _) = self.facts(Pods::None).await?;
        let prefixes = &facts.settings.prefixes;
        let pod = manifest.pod(&self.namespace, prefixes);
        let pod = pod.map_err(|why| ExplainError::Manifest {
            file: manifest.file.clone(),
            why: why.into(),
        })?;
        Ok(Answer::Pod(Box::new(explain::pod(&facts, &pod))))
    }

    async fn binding(&self, name: &str) -> Result<Answer, ExplainError> {
        let (mut facts, pods) = self.facts(Pods::All).await?;
        let binding = self.found(&facts, name);
        let absent = || ExplainError::NoBinding(format!("{}/{name}", self.namespace));
        let binding = binding.ok_or_else(absent)?;
        let its_pods = || pods.iter().filter(|pod| gated_by(pod, &binding));
        let asked = |facts: &Facts| {
            let mut asked = explain::questions(facts, its_pods(), false);
            let of_binding = explain::questions_of_binding(facts, &binding);
            // Without targets the answer is about the whole group.
            asked.groups.extend(of_binding.groups);
            asked.names.extend(of_binding.names);
            asked
        };
        self.asker.ask(&mut facts, asked).await;
        let answer = explain::binding(&facts, &binding, &pods);
        Ok(Answer::Binding(Box::new(answer)))
    }

    /// The binding of this name, first of an API group that is gated.
    fn found(&self, facts: &Facts, name: &str) -> Option<Binding> {
        let view = facts.index.namespace(&self.namespace)?;
        let apis = self.decides.gates.apis.iter().chain(&BindingApi::ALL);
        let mut found = apis.filter_map(|api| view.routes.binding(&name.into(), *api));
        found.next().cloned()
    }

    async fn all(&self) -> Result<Answer, ExplainError> {
        let (mut facts, pods) = self.facts(Pods::All).await?;
        let asked = |facts: &Facts| explain::questions(facts, &pods, false);
        self.asker.ask(&mut facts, asked).await;
        let answer = explain::namespace(&facts, &pods);
        Ok(Answer::Namespace(Box::new(answer)))
    }

    async fn facts(&self, pods: Pods<'_>) -> Result<(Facts, Vec<PodFacts>), ExplainError> {
        let settings = self.decides.clone();
        let (apis, prefixes) = (&settings.gates.apis, &settings.prefixes);
        let read = snapshot::read(&self.client, &self.namespace, pods, apis, prefixes);
        let snapshot = read.await?;
        let facts = Facts {
            namespace: self.namespace.as_str().into(),
            index: snapshot.index,
            opted_in: snapshot.opted_in,
            not_served: snapshot.not_served,
            server: snapshot.server,
            settings,
            elb: Elb::NotAsked("nothing is waiting".to_owned()),
            now: Timestamp::now(),
        };
        Ok((facts, snapshot.pods))
    }

    /// Looks again and again, until the answer is yes.
    async fn watch(&self, subject: &Subject, out: &mut impl Write) -> Result<u8, ExplainError> {
        let mut last: Option<(String, Instant)> = None;
        loop {
            let answer = match self.answer(subject).await {
                Ok(answer) => answer,
                // What is out of reach may come back.
                Err(ExplainError::Snapshot(
                    error @ SnapshotError::Failed { denied: false, .. },
                )) => {
                    eprintln!("targetgate: {error}");
                    sleep(LOOK_EVERY).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let said = said(&answer);
            let due = last
                .as_ref()
                .is_none_or(|(known, at)| *known != said || at.elapsed() + LOOK_EVERY > LINE_EVERY);
            if due {
                self.write_line(&answer, &said, out)?;
                last = Some((said, Instant::now()));
            }
            if answer.verdict() == Verdict::Yes {
                return Ok(0);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn write_line(&self, answer: &Answer, said: &str, out: &mut impl Write) -> io::Result<()> {
        match self.settings.output {
            Output::Json => writeln!(out, "{}", serde_json::to_string(answer)?)?,
            Output::Text => {
                let now = Timestamp::now();
                writeln!(out, "{} {said}", now.strftime("%H:%M:%SZ"))?;
            }
        }
        out.flush()
    }
}

/// The answer in one line.
fn said(answer: &Answer) -> String {
    let text = explain::render(answer);
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default().to_owned();
    let message = lines.next().unwrap_or_default().trim();
    format!("{head}: {message}")
}

fn gated_by(pod: &PodFacts, binding: &Binding) -> bool {
    let mut gates = pod.pod.gates.iter();
    gates.any(|(gate, _)| gate.is_of(&binding.name))
}

/// How the installation decides: by the flags of its Deployment, unless others were given.
async fn decides(settings: &Explain, client: &Client) -> explain::Settings {
    let named = &settings.installation;
    let namespace = named
        .namespace
        .as_deref()
        .unwrap_or(client.default_namespace());
    let deployment = ObjectKey::new(namespace, named.name.as_str());
    let read = installation::read(client, &deployment).await;
    let read = read.and_then(|started| {
        let (arguments, variables) = (&started.arguments, &started.variables);
        let read = DecidingFlags::of(arguments, variables, &settings.given);
        read.map_err(|why| format!("those of Deployment {deployment} cannot be read: {why}"))
    });
    match read {
        Ok(flags) => {
            let from = SettingsAnswer {
                deployment: Some(deployment.to_string()),
                why: None,
            };
            let mut decides = of_flags(&flags, from);
            // serve leaves its own namespace out.
            decides.scope.excluded.insert(deployment.namespace);
            decides
        }
        Err(why) => {
            let from = SettingsAnswer {
                deployment: None,
                why: Some(why),
            };
            of_flags(&settings.deciding, from)
        }
    }
}

pub(super) fn of_flags(flags: &DecidingFlags, from: SettingsAnswer) -> explain::Settings {
    let (gates, drain) = (&flags.gates, &flags.drain);
    let excluded = gates.excluded_namespaces.iter();
    explain::Settings {
        gates: GatePolicy {
            prefix: gates.condition_prefix.clone(),
            apis: gates.gate_apis.clone(),
        },
        prefixes: gates.served_prefixes(),
        scope: HookScope {
            opt_in: gates.opt_in.into(),
            excluded: excluded.map(|name| name.as_str().into()).collect(),
        },
        drain: DrainPolicy {
            mode: drain.drain,
            seconds: drain.drain_seconds,
        },
        from,
    }
}
