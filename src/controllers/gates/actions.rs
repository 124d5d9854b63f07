//! Does what the tracker asks for: writes of conditions, live reads, and descriptions of groups.

use std::sync::Arc;
use std::time::{Duration, Instant};

use targetgate_core::elb::query::{DescribeError, GroupQuery};
use targetgate_core::gates::machine::action::{Action, GateId, LiveRead, Write};
use targetgate_core::gates::requirements;
use targetgate_core::model::TargetGroup;
use targetgate_core::names::BindingApi;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::clock;
use crate::controllers::gates::failures::Unread;
use crate::controllers::gates::{Done, Loop, Work};
use crate::kubernetes::live_read;
use crate::kubernetes::pod_status::{self, Entry, Revision};

/// How long the loop waits for a group's ARN or health check settings. Chosen.
const DESCRIBE_DEADLINE: Duration = Duration::from_secs(10);

impl Loop {
    pub(super) fn carry_out(
        &self,
        action: Action,
        work: &mut Work,
        tasks: &mut JoinSet<Done>,
        now: Instant,
    ) {
        match action {
            Action::Write(write) => {
                self.log_decisions(&write);
                let writer = self.clone();
                tasks.spawn(async move { writer.write(write).await });
            }
            Action::Confirm(id) => {
                tasks.spawn(self.clone().read(id, work.reads_at_once.clone()));
            }
            Action::Prove(group) => {
                let prover = self.clone();
                tasks.spawn(async move {
                    let found = prover.describe(GroupQuery::from(&group)).await;
                    Done::Proven(group, found.map(|found| found.health_checks))
                });
            }
            Action::Resolve(group) => {
                let resolver = self.clone();
                tasks.spawn(async move {
                    let found = resolver.describe(GroupQuery::from(&group)).await;
                    Done::Resolved(group, found.map(|found| found.arn.clone()))
                });
            }
            Action::Report {
                about,
                reason,
                message,
            } => {
                self.report_problem(work, about, reason, message);
            }
            Action::MissingGroup(group) => {
                if work.sweep.missing(&group, now) {
                    self.tell_missing(work, vec![group]);
                }
            }
        }
    }

    async fn write(&self, write: Write) -> Done {
        let Some(write_by) = self.leadership.write_by() else {
            return Done::Unsent(write);
        };
        let revision = Revision {
            pod: &write.pod,
            uid: &write.uid,
            version: &write.version,
        };
        let now = (self.now)();
        let entries = write.changes.iter().map(|change| Entry {
            gate: &change.gate,
            condition: &change.condition,
            transition: change.transition.then_some(now),
        });
        let entries: Vec<Entry<'_>> = entries.collect();
        let written = pod_status::write_conditions(&self.kube, revision, &entries, write_by).await;
        let version = written.map(|written| written.resource_version);
        Done::Written(write, version)
    }

    /// Makes a live read, once a permit is free.
    async fn read(self, id: GateId, at_once: Arc<Semaphore>) -> Done {
        // The semaphore is never closed.
        let _permit = at_once.acquire().await.ok();
        let (namespace, gate) = (&id.pod.namespace, &id.gate);
        let apis = &self.settings.apis;
        let read = match live_read::read(&self.kube, namespace, gate, &BindingApi::ALL).await {
            Ok(read) if requirements::is_knowable(apis, &read.not_served) => Ok(LiveRead {
                bindings: read.bindings,
                services: read.services,
            }),
            Ok(_) => Err(Unread::NotServed),
            Err(error) => Err(Unread::Failed(error)),
        };
        Done::Read(id, read)
    }

    /// What AWS says of a group: its ARN, and how its health is checked.
    async fn describe(&self, query: GroupQuery) -> Result<Arc<TargetGroup>, DescribeError> {
        let deadline = clock::monotonic() + DESCRIBE_DEADLINE;
        self.groups.describe(&query, deadline.into()).await
    }
}
