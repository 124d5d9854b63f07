//! Deleting: grace for pods, preconditions, finalizers.

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

/// How a DELETE wants it done: `metav1.DeleteOptions`.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// In seconds; the object's own when absent.
    pub grace: Option<u64>,
    /// Only the object with this UID.
    pub uid: Option<String>,
    /// Only the object at this version.
    pub version: Option<String>,
}

/// What a DELETE left.
pub enum Deleted {
    /// The object is gone; this was its last state.
    Gone(Arc<Object>),
    /// The object is terminating.
    Terminating(Arc<Object>),
}

impl Write<'_> {
    /// DELETE of one object.
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

    /// The state after a deletion has been asked for; `None` is gone.
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

    /// A Namespace and a CustomResourceDefinition go when their content has gone.
    async fn empty(&mut self, target: &Target, stored: Arc<Object>) -> Result<Deleted, Status> {
        for content in self.api.content(target) {
            // What is held by a finalizer or its grace goes later, and takes the holder with it;
            // what a webhook refuses to let go stays, as in a cluster.
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

/// The grace period in seconds: only pods have one, and of them only those that a node runs.
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
