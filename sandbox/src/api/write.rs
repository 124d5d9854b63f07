//! Creating, changing and deleting: first admission, without the store's lock, then one commit,
//! which fails if another client wrote to the object in between.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Inner,
    admission::Operation,
    builtin,
    holders::holds_content,
    object::Object,
    patch::Patch,
    shape::{bump_generation, carry_over, check, claim, complete, spec_differs},
    status::{Cause, Status},
    target::Target,
};

/// A write without a `resourceVersion` is attempted this often when it conflicts with other writes.
/// kube-apiserver's `MaxRetryWhenPatchConflicts`.
pub(super) const ATTEMPTS: usize = 5;

pub struct Write<'a> {
    pub(super) api: &'a Inner,
    /// Whether the write is a dry run, which stores nothing.
    pub dry_run: bool,
    /// The warnings that webhooks returned.
    pub warnings: Vec<String>,
}

impl Write<'_> {
    /// POST to a collection.
    pub async fn create(&mut self, target: &Target, object: Object) -> Result<Object, Status> {
        let object = claim(target, object)?;
        // `generateName` becomes a name only later, so that webhooks see an empty one.
        let target = target.object(&target.namespace, object.name());
        self.check_namespace(&target)?;
        let object = complete(&target.served, object);
        let object = self
            .mutate(Operation::Create, &target, object, None)
            .await?;
        let object = claim(&target, complete(&target.served, object))?;
        let object = self.prepare(&target, object);
        let target = target.object(object.namespace(), object.name());
        check(&target.served, &object, None)?;
        self.validate(Operation::Create, &target, Some(&object), None)
            .await?;
        let key = target.key();
        let exists = || Status::already_exists(&target.served.resource, &target.name);
        if self.dry_run {
            return match self.api.store.read(&key) {
                Some(_) => Err(exists()),
                None => Ok(object),
            };
        }
        self.check_namespace(&target)?;
        let stored = self.api.store.commit(&key, None, Some(object));
        stored
            .map(|stored| target.served.present(&stored))
            .map_err(|_| exists())
    }

    /// PUT.
    pub async fn replace(&mut self, target: &Target, object: Object) -> Result<Object, Status> {
        if !object.name().is_empty() && object.name() != target.name {
            return Err(Status::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                object.name(),
                target.name
            )));
        }
        let resource = Arc::clone(&target.served.resource);
        if object.version().is_empty() && resource.crd.is_some() {
            let why = "must be specified for an update";
            let cause = Cause::invalid("metadata.resourceVersion", &json!("0x0"), why);
            return Err(Status::invalid(&resource, &target.name, &[cause]));
        }
        self.modify(target, &move |old| {
            if !object.uid().is_empty() && object.uid() != old.uid() {
                let why = format!(
                    "Precondition failed: UID in precondition: {}, UID in object meta: {}",
                    object.uid(),
                    old.uid()
                );
                return Err(Status::conflict(&resource, old.name(), &why));
            }
            Ok(object.clone())
        })
        .await
    }

    /// PATCH. Returns whether it created the object, as an apply to an object that does not exist
    /// does.
    pub async fn patch(
        &mut self,
        target: &Target,
        patch: &Patch,
    ) -> Result<(Object, bool), Status> {
        if let Patch::Apply(value) = patch
            && target.subresource.is_empty()
            && self.api.store.read(&target.key()).is_none()
        {
            let mut object = Object::new(value.clone()).map_err(Status::bad_request)?;
            object.set_meta("name", json!(target.name));
            return Ok((self.create(target, object).await?, true));
        }
        let resource = Arc::clone(&target.served.resource);
        let change = |old: &Object| {
            let new = Object::new(patch.apply(&old.to_value())?).map_err(Status::bad_request)?;
            // The version is compared before the fields are.
            let outdated = !new.version().is_empty() && new.version() != old.version();
            if !outdated && !new.uid().is_empty() && new.uid() != old.uid() {
                let why = "field is immutable";
                let cause = Cause::invalid("metadata.uid", &json!(new.uid()), why);
                return Err(Status::invalid(&resource, old.name(), &[cause]));
            }
            Ok(new)
        };
        Ok((self.modify(target, &change).await?, false))
    }

    /// POST to `pods/NAME/binding`, by which a scheduler binds a pod.
    pub async fn bind(&mut self, target: &Target, binding: &Object) -> Result<(), Status> {
        let node = binding.text("/target/name").unwrap_or_default().to_owned();
        if node.is_empty() {
            return Err(Status::bad_request("target.name is required"));
        }
        let key = target.key();
        for _ in 0..ATTEMPTS {
            let old = self
                .api
                .store
                .read(&key)
                .ok_or_else(|| target.not_found())?;
            if let Some(bound) = old.text("/spec/nodeName") {
                let why = format!("pod {} is already assigned to node \"{bound}\"", old.name());
                return Err(Status::conflict(&target.served.resource, old.name(), &why));
            }
            let mut pod = (*old).clone();
            let mut spec = pod.field("spec").clone();
            spec["nodeName"] = json!(node);
            pod.set("spec", spec);
            builtin::at_binding(&mut pod, &super::stamp((self.api.now)()));
            if self.dry_run
                || self
                    .api
                    .store
                    .commit(&key, Some(old.version()), Some(pod))
                    .is_ok()
            {
                return Ok(());
            }
        }
        Err(Status::modified(&target.served.resource, &target.name))
    }

    async fn modify(
        &mut self,
        target: &Target,
        change: &(dyn Fn(&Object) -> Result<Object, Status> + Send + Sync),
    ) -> Result<Object, Status> {
        let key = target.key();
        let resource = &target.served.resource;
        for _ in 0..ATTEMPTS {
            let stored = self
                .api
                .store
                .read(&key)
                .ok_or_else(|| target.not_found())?;
            let old = target.served.present(&stored);
            let asked = change(&old)?;
            if !asked.version().is_empty() && asked.version() != old.version() {
                return Err(Status::modified(resource, old.name()));
            }
            let new = carry_over(target, complete(&target.served, asked), &old);
            let new = self
                .mutate(Operation::Update, target, new, Some(&old))
                .await?;
            let mut new = carry_over(target, complete(&target.served, new), &old);
            if spec_differs(&new, &old) {
                bump_generation(&mut new, &old);
            }
            check(&target.served, &new, Some(&old))?;
            self.validate(Operation::Update, target, Some(&new), Some(&old))
                .await?;
            if new == old {
                return Ok(old);
            }
            if self.dry_run {
                return Ok(new);
            }
            let ends = old.is_terminating()
                && !new.has_finalizers()
                && new.meta("deletionGracePeriodSeconds").as_u64().unwrap_or(0) == 0
                && !holds_content(&target.served);
            let next = (!ends).then_some(new);
            if let Ok(done) = self.api.store.commit(&key, Some(stored.version()), next) {
                if ends {
                    self.api.reap(&key);
                } else if holds_content(&target.served) {
                    self.api.reap_holder(&key);
                }
                return Ok(target.served.present(&done));
            }
        }
        Err(Status::modified(resource, &target.name))
    }

    /// Fills in the fields of a new object that only the server sets.
    fn prepare(&self, target: &Target, mut object: Object) -> Object {
        let now = super::stamp((self.api.now)());
        if object.name().is_empty() {
            let name = self
                .api
                .store
                .generated_name(object.meta_text("generateName"));
            object.set_meta("name", json!(name));
        }
        object.set_meta("uid", json!(self.api.store.uid()));
        object.set_meta("creationTimestamp", json!(now));
        for field in [
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ] {
            object.set_meta(field, Value::Null);
        }
        let counted = target.served.version().status || target.served.resource.crd.is_some();
        let generation = if counted { json!(1) } else { Value::Null };
        object.set_meta("generation", generation);
        builtin::at_birth(&target.served, &mut object, &now);
        object
    }

    /// Refuses a new object in a namespace that does not exist or is terminating.
    fn check_namespace(&self, target: &Target) -> Result<(), Status> {
        if !target.served.resource.namespaced {
            return Ok(());
        }
        let Some(namespace) = self.api.namespace(&target.namespace) else {
            let resource = self.api.namespaces();
            return Err(Status::not_found(&resource, &target.namespace));
        };
        if namespace.is_terminating() {
            return Err(Status::forbidden(format!(
                "{} \"{}\" is forbidden: unable to create new content in namespace {} because it \
                 is being terminated",
                target.served.resource.qualified(),
                target.name,
                target.namespace
            )));
        }
        Ok(())
    }
}
