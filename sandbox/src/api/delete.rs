//! Deletion: grace periods of pods, preconditions, finalizers.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    holders::holds_content,
    kinds::Served,
    object::Object,
    shape::bump_generation,
    status::Status,
    target::Target,
    write::{ATTEMPTS, Write},
};

/// The options of a DELETE: `metav1.DeleteOptions`.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// The grace period in seconds; `None` means the object's own.
    pub grace: Option<u64>,
    /// The precondition on the UID.
    pub uid: Option<String>,
    /// The precondition on the `resourceVersion`.
    pub version: Option<String>,
}

/// The outcome of a DELETE.
pub enum Deleted {
    /// The object has been removed; this is its last state.
    Gone(Arc<Object>),
    /// The object is terminating.
    Terminating(Arc<Object>),
}

impl Write<'_> {
    pub async fn delete(
        &mut self,
        target: &Target,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        let key = target.key();
        let seen = self
            .api
            .store
            .read(&key)
            .ok_or_else(|| target.not_found())?;
        preconditions(target, &seen, options)?;
        let seen = target.served.present(&seen);
        self.admit_deletion(target, &seen).await?;
        for _ in 0..ATTEMPTS {
            let old = self
                .api
                .store
                .read(&key)
                .ok_or_else(|| target.not_found())?;
            preconditions(target, &old, options)?;
            let next = self.deletion(target, &old, options);
            if self.dry_run || next.as_ref() == Some(&*old) {
                return Ok(match next {
                    None => Deleted::Gone(old),
                    Some(next) => Deleted::Terminating(Arc::new(next)),
                });
            }
            let Ok(stored) = self
                .api
                .store
                .commit(&key, Some(old.version()), next.clone())
            else {
                continue;
            };
            if next.is_none() {
                self.api.reap(&key);
                return Ok(Deleted::Gone(stored));
            }
            return self.empty(target, stored).await;
        }
        Err(Status::modified(&target.served.resource, &target.name))
    }

    /// The state after a deletion has been requested; `None` if the object is removed at once.
    fn deletion(&self, target: &Target, old: &Object, options: &DeleteOptions) -> Option<Object> {
        let grace = grace(&target.served, old, options);
        let holds = holds_content(&target.served);
        if grace == 0 && !old.has_finalizers() && !holds {
            return None;
        }
        let left = old.meta("deletionGracePeriodSeconds").as_u64();
        if old.is_terminating() && left.is_none_or(|left| left <= grace) {
            return Some(old.clone());
        }
        let mut next = old.clone();
        let seconds = i64::try_from(grace).unwrap_or(i64::MAX).min(1 << 31);
        let end = (self.api.now)() + jiff::SignedDuration::from_secs(seconds);
        next.set_meta("deletionTimestamp", json!(super::stamp(end)));
        next.set_meta("deletionGracePeriodSeconds", json!(grace));
        bump_generation(&mut next, old);
        if target.served.is("", "namespaces") {
            next.set("status", json!({"phase": "Terminating"}));
        }
        Some(next)
    }

    /// Deletes the content of a Namespace or CustomResourceDefinition, which is removed once its
    /// content is gone.
    async fn empty(&mut self, target: &Target, stored: Arc<Object>) -> Result<Deleted, Status> {
        for content in self.api.content(target) {
            // An object with a finalizer or a grace period is removed later, and its holder with
            // it. An object whose deletion a webhook refuses stays, as in a cluster.
            let delete = Box::pin(async {
                let _ = self.delete(&content, &DeleteOptions::default()).await;
            });
            delete.await;
        }
        if holds_content(&target.served) {
            self.api.reap_holder(&target.key());
        }
        match self.api.store.read(&target.key()) {
            Some(left) => Ok(Deleted::Terminating(left)),
            None => Ok(Deleted::Gone(stored)),
        }
    }
}

fn preconditions(target: &Target, object: &Object, options: &DeleteOptions) -> Result<(), Status> {
    let pairs = [
        ("UID", &options.uid, object.uid()),
        ("ResourceVersion", &options.version, object.version()),
    ];
    for (what, wanted, have) in pairs {
        if let Some(wanted) = wanted
            && wanted != have
        {
            let why = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: \
                 {have}"
            );
            return Err(Status::conflict(
                &target.served.resource,
                &target.name,
                &why,
            ));
        }
    }
    Ok(())
}

/// The grace period in seconds. Only pods that are bound to a node have one.
fn grace(served: &Served, object: &Object, options: &DeleteOptions) -> u64 {
    if !served.is("", "pods") {
        return 0;
    }
    let unscheduled = object.text("/spec/nodeName").unwrap_or_default().is_empty();
    let over = matches!(object.text("/status/phase"), Some("Succeeded" | "Failed"));
    if unscheduled || over {
        return 0;
    }
    let own = object.at("/spec/terminationGracePeriodSeconds");
    let own = own.and_then(Value::as_u64).unwrap_or(30);
    options.grace.unwrap_or(own)
}
