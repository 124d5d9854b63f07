//! Carries out what the registrar has decided.

use std::sync::Arc;
use std::time::Instant;

use targetgate_core::index::BindingKey;
use targetgate_core::model::Service;
use targetgate_core::notices::{Found, Regarded, Topic};
use targetgate_core::reason::Reason;
use targetgate_core::targets::calls::{Call, Kind};
use targetgate_core::targets::machine::action::{Action, Written};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::{Instant as TokioInstant, timeout_at};

use crate::aws::client::ZonedTarget;
use crate::aws::error::{ElbError, ElbErrorKind};
use crate::controllers::targets::{Controller, Done, Work};
use crate::kubernetes::live_read::{self, ConfirmError};
use crate::kubernetes::targets::bindings::{patch_finalizer, write_status};
use crate::kubernetes::targets::records::Stored;

impl Controller {
    pub(super) fn carry_out(
        self: &Arc<Self>,
        action: Action,
        work: &Work,
        tasks: &mut JoinSet<Done>,
        now: Instant,
    ) {
        let this = self.clone();
        let at_once = work.requests_at_once.clone();
        match action {
            Action::Call(call) => {
                let waits = work.registrar.waits(&call);
                self.metrics.waited(call.kind, &waits);
                tasks.spawn(async move { this.call(call).await });
            }
            Action::Describe(group) => {
                tasks.spawn(async move {
                    let answer = this.elb.target_health(&group, &[]).await;
                    Done::Described(group, now, answer)
                });
            }
            Action::WriteRecord { record, replaces } => {
                tasks.spawn(async move {
                    let written = match this.may_write(&at_once).await {
                        Some((_permit, by)) => {
                            this.records.write(&record, replaces.as_deref(), by).await
                        }
                        None => Written::Unsent,
                    };
                    let now_is = this.reread(&record.uid, &written).await;
                    Done::Recorded(record.uid, written, now_is)
                });
            }
            Action::DeleteRecord { uid, version } => {
                tasks.spawn(async move {
                    let written = match this.may_write(&at_once).await {
                        Some((_permit, by)) => this.records.delete(&uid, &version, by).await,
                        None => Written::Unsent,
                    };
                    let now_is = match written {
                        Written::Done(_) => Some(None),
                        _ => this.reread(&uid, &written).await,
                    };
                    Done::Recorded(uid, written, now_is)
                });
            }
            Action::Patch {
                binding,
                uid,
                finalizer,
            } => {
                tasks.spawn(async move {
                    let written = match this.may_write(&at_once).await {
                        Some((_permit, by)) => {
                            patch_finalizer(&this.kube, &binding, &uid, finalizer, by).await
                        }
                        None => Written::Unsent,
                    };
                    Done::Patched(binding, written)
                });
            }
            Action::Status(status) => {
                tasks.spawn(async move {
                    let written = match this.may_write(&at_once).await {
                        Some((_permit, by)) => {
                            write_status(&this.kube, &status, (this.now)(), by).await
                        }
                        None => Written::Unsent,
                    };
                    Done::StatusWritten(status.binding, written)
                });
            }
            Action::Confirm(binding) => {
                tasks.spawn(async move {
                    // The semaphore is never closed.
                    let _permit = at_once.acquire().await.ok();
                    let found = this.service(&binding).await;
                    Done::Confirmed(binding, found)
                });
            }
            // The controller does that in its next round.
            Action::ReadLease => {}
            Action::Refused { group, targets } => self.registrations.refused(&group, targets),
            Action::TellPod {
                pod,
                uid,
                reason,
                message,
            } => {
                let pod = Regarded::Pod {
                    namespace: pod.namespace,
                    name: pod.name,
                    uid: Some(uid),
                };
                self.tell(pod, reason, &message);
            }
            Action::Tell {
                binding,
                reason,
                message,
            } => {
                let regarded = |index: &_| Regarded::binding_of(&binding, index);
                self.tell(self.cache.read(regarded), reason, &message);
            }
        }
    }

    /// Sends a call, unless this replica does not lead any more, and gives it up once another replica may lead.
    async fn call(&self, call: Call) -> Done {
        let Some(write_by) = self.leadership.write_by() else {
            return Done::Unsent(call);
        };
        let targets = call.targets.iter();
        let targets: Vec<ZonedTarget> = targets
            .map(|named| (named.target, named.zone.clone()))
            .collect();
        let sent = async {
            match call.kind {
                Kind::Register => self.elb.register_targets(&call.group, &targets).await,
                Kind::Deregister => self.elb.deregister_targets(&call.group, &targets).await,
            }
        };
        let result = timeout_at(write_by, sent).await;
        let result = result.unwrap_or_else(|_| Err(given_up(&call)));
        Done::Called(call, result)
    }

    /// Waits for a permit. Returns it with the time by which a write must be over, if this replica still leads then.
    async fn may_write<'a>(
        &self,
        at_once: &'a Semaphore,
    ) -> Option<(SemaphorePermit<'a>, TokioInstant)> {
        // The semaphore is never closed.
        let permit = at_once.acquire().await.ok()?;
        Some((permit, self.leadership.write_by()?))
    }

    /// Reads a record that another client has written since; `None` unless that succeeds.
    async fn reread(&self, uid: &str, written: &Written) -> Option<Option<Stored>> {
        match written {
            Written::Conflict => self.records.get(uid).await.ok(),
            _ => None,
        }
    }

    /// Reads the Service of a binding; `None` if there is none.
    async fn service(&self, binding: &BindingKey) -> Result<Option<Service>, ConfirmError> {
        let name = self
            .cache
            .read(|index| Some(index.binding(binding)?.service.clone()));
        match name.filter(|name| !name.is_empty()) {
            Some(name) => live_read::service(&self.kube, &binding.object.namespace, &name).await,
            None => Ok(None),
        }
    }

    /// Tells by an Event what keeps targets from being as they should.
    fn tell(&self, regarded: Regarded, reason: Reason, message: &str) {
        let note = format!("{}. {}", message.trim_end_matches('.'), reason.remedy());
        let found = Found {
            action: "RegisterTargets",
            ..Found::news(note.trim_end().to_owned())
        };
        self.registrations
            .noticed(Topic::new(regarded, reason), found);
    }
}

/// The error of a call that was not answered before another replica may lead.
fn given_up(call: &Call) -> ElbError {
    ElbError {
        action: call.kind.action(),
        about: call.group.arn.as_str().to_owned(),
        kind: ElbErrorKind::Timeout,
        code: "Timeout".to_owned(),
        message: "not answered before another replica may lead".to_owned(),
    }
}
