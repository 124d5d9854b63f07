//! A look at one namespace: reads it once, asks the leader or ELB where it can, and lets the core explain.

use jiff::Timestamp;
use kube::Client;
use targetgate_core::explain;
use targetgate_core::explain::leader::ReplicaView;
use targetgate_core::explain::{Answer, Facts, Frame, PodFacts, Questions};
use targetgate_core::model::Binding;
use targetgate_core::names::{BindingApi, ObjectKey};

use crate::args::{Admission, LookFlags};
use crate::commands::explain::deciding::{Decides, decides};
use crate::commands::explain::elb::Asker;
use crate::commands::explain::{ExplainError, Subject, manifest, mode, registration};
use crate::commands::serve::LEASE;
use crate::kubernetes::replica;
use crate::kubernetes::snapshot::{self, Pods, Snapshot, SnapshotError};

/// A look at one namespace, which can be taken again.
pub(super) struct Look {
    decides: Decides,
    client: Client,
    namespace: String,
    asker: Asker,
    no_leader: bool,
}

impl Look {
    pub(super) async fn new(settings: &LookFlags, client: Client, namespace: String) -> Self {
        Self {
            decides: decides(settings, &client).await,
            client,
            namespace,
            asker: Asker::new(settings.no_aws),
            no_leader: settings.no_leader,
        }
    }

    pub(super) async fn answer(&self, subject: &Subject) -> Result<Answer, ExplainError> {
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
        self.ask(&mut facts, Some(name), asked).await;
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
        let its_pods = || pods.iter().filter(|pod| pod.has_gate_of(&binding.name));
        let asked = |facts: &Facts| {
            let mut asked = explain::questions(facts, its_pods(), false);
            let of_binding = explain::questions_of_binding(facts, &binding);
            // Without targets the answer is about the whole group.
            asked.groups.extend(of_binding.groups);
            asked.names.extend(of_binding.names);
            asked
        };
        self.ask(&mut facts, None, asked).await;
        let answer = explain::binding(&facts, &binding, &pods);
        Ok(Answer::Binding(Box::new(answer)))
    }

    /// The binding of this name, first of an API group that is gated.
    fn found(&self, facts: &Facts, name: &str) -> Option<Binding> {
        let view = facts.index.namespace(&self.namespace)?;
        let apis = self
            .decides
            .settings
            .gates
            .apis
            .iter()
            .chain(&BindingApi::ALL);
        let mut found = apis.filter_map(|api| view.routes.binding(&name.into(), *api));
        found.next().cloned()
    }

    async fn all(&self) -> Result<Answer, ExplainError> {
        let (facts, pods) = self.whole().await?;
        let answer = explain::namespace(&facts, &pods);
        Ok(Answer::Namespace(Box::new(answer)))
    }

    /// The namespace as `watch` shows it.
    pub(super) async fn frame(&self) -> Result<Frame, ExplainError> {
        let (facts, pods) = self.whole().await?;
        Ok(explain::frame(&facts, &pods))
    }

    async fn whole(&self) -> Result<(Facts, Vec<PodFacts>), ExplainError> {
        let (mut facts, pods) = self.facts(Pods::All).await?;
        let asked = |facts: &Facts| explain::questions(facts, &pods, false);
        self.ask(&mut facts, None, asked).await;
        Ok((facts, pods))
    }

    async fn facts(&self, pods: Pods<'_>) -> Result<(Facts, Vec<PodFacts>), ExplainError> {
        let settings = self.decides.settings.clone();
        let (apis, prefixes) = (&settings.gates.apis, &settings.prefixes);
        let read = snapshot::read(&self.client, &self.namespace, pods, apis, prefixes);
        let snapshot = read.await?;
        let (registration, policy) = tokio::join!(self.registration(&snapshot), self.policy());
        let why = "nothing waits for ELB";
        let (facts, pods) = snapshot.into_facts(&self.namespace, settings, why);
        let facts = Facts {
            registration,
            policy,
            ..facts
        };
        Ok((facts, pods))
    }

    async fn policy(&self) -> Option<explain::PolicyFacts> {
        match self.decides.flags.mode.admission {
            Admission::Webhook => None,
            Admission::Both => Some(mode::read(&self.client, &self.namespace).await),
        }
    }

    async fn registration(&self, snapshot: &Snapshot) -> Option<explain::Registration> {
        let view = snapshot.index.namespace(&self.namespace);
        let bindings = view.into_iter().flat_map(|view| view.routes.bindings());
        let ours = bindings.filter(|binding| binding.registration.our_finalizer);
        let uids = ours.filter_map(|binding| binding.uid.clone()).collect();
        let flags = &self.decides.flags.targets;
        let told = snapshot.told.clone();
        registration::read(&self.client, flags, &self.decides.installed, uids, told).await
    }

    /// Asks the leader what it knows, else ELB.
    async fn ask(
        &self,
        facts: &mut Facts,
        pod: Option<&str>,
        questions: impl Fn(&Facts) -> Questions,
    ) {
        if facts.registration.is_none() && questions(facts) == Questions::default() {
            return;
        }
        let knows = |view: ReplicaView| match view.gates.gates.is_empty() {
            // Of an open gate ELB can tell more.
            true if pod.is_some() => Err("it asks ELB about none of the pod's gates".to_owned()),
            _ => Ok(view),
        };
        facts.leader = self.leader(pod).await.and_then(knows);
        if facts.leader.is_err() {
            self.asker.ask(facts, questions).await;
        }
        facts.now = Timestamp::now();
    }

    async fn leader(&self, pod: Option<&str>) -> Result<ReplicaView, String> {
        if self.no_leader {
            return Err("--no-leader".to_owned());
        }
        let port = self.decides.flags.mode.explain_listen.port();
        let port = port.ok_or("--explain-listen is off")?;
        let lease = ObjectKey::new(self.decides.installed.clone(), LEASE);
        replica::leader(&self.client, &lease, port, &self.namespace, pod).await
    }
}
