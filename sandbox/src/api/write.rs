//! Creating, changing and deleting: admission first, without the store's lock, then one commit
//! that fails when someone else wrote in between.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Inner, builtin, crd,
    kinds::Served,
    object::Object,
    patch::Patch,
    status::{Cause, Status},
    store::{Key, Scan},
};

/// How often a write without a `resourceVersion` is decided again after a conflict.
const ATTEMPTS: usize = 5;

/// What a request names.
#[derive(Clone, Debug)]
pub struct Target {
    /// The resource, in a version.
    pub served: Served,
    /// Empty for all, or for what has none.
    pub namespace: String,
    /// Empty for a collection.
    pub name: String,
    /// `status`, `binding` or empty.
    pub subresource: String,
}

impl Target {
    /// The same resource, another object.
    pub fn object(&self, namespace: &str, name: &str) -> Target {
        Target {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..self.clone()
        }
    }

    /// Where the object is kept.
    pub fn key(&self) -> Key {
        Key::new(&self.served.resource, &self.namespace, &self.name)
    }

    fn not_found(&self) -> Status {
        Status::not_found(&self.served.resource, &self.name)
    }
}

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

/// One request that writes.
pub struct Write<'a> {
    pub(super) api: &'a Inner,
    /// Nothing is kept.
    pub dry_run: bool,
    /// What webhooks warned of.
    pub warnings: Vec<String>,
}

impl Write<'_> {
    /// POST on a collection.
    pub async fn create(&mut self, target: &Target, object: Object) -> Result<Object, Status> {
        let object = claim(target, object)?;
        self.check_namespace(target)?;
        let object = complete(&target.served, object);
        let object = complete(&target.served, object);
        let object = self.prepare(target, object);
        let target = target.object(object.namespace(), object.name());
        check(&target.served, &object, None)?;
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

    /// PATCH. An apply of what is not there creates it; the flag says so.
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
            if let Some(uid) = patch.uid()
                && uid != old.uid()
            {
                let why = "field is immutable";
                let cause = Cause::invalid("metadata.uid", &json!(uid), why);
                return Err(Status::invalid(&resource, old.name(), &[cause]));
            }
            Object::new(patch.apply(&old.to_value())?).map_err(Status::bad_request)
        };
        Ok((self.modify(target, &change).await?, false))
    }

    /// POST on `pods/NAME/binding`: what a scheduler does.
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
            let mut new = carry_over(target, complete(&target.served, new), &old);
            check(&target.served, &new, Some(&old))?;
            if new == old {
                return Ok(old);
            }
            if spec_differs(&new, &old) {
                bump_generation(&mut new, &old);
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

    /// Gives a new object what only the server gives.
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

    /// A namespace must be there, and not on its way out, before anything is made in it.
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

impl Inner {
    /// Everything that goes with a Namespace or a CustomResourceDefinition.
    fn content(&self, holder: &Target) -> Vec<Target> {
        let resources: Vec<_> = self
            .store
            .catalog(|catalog| catalog.all().cloned().collect());
        let is_namespace = holder.served.is("", "namespaces");
        let is_crd = holder
            .served
            .is("apiextensions.k8s.io", "customresourcedefinitions");
        let mut found = Vec::new();
        for resource in &resources {
            let namespace = match (is_namespace, is_crd) {
                (true, _) if resource.namespaced && resource.group == resource.kept_in => {
                    Some(holder.name.as_str())
                }
                (_, true) if resource.crd.as_deref() == Some(&holder.name) => None,
                _ => continue,
            };
            let Some(served) = resource
                .versions
                .iter()
                .find(|version| version.stored)
                .and_then(|version| resource.in_version(&version.name))
            else {
                continue;
            };
            let page = self.store.list(&Scan::all(resource, namespace));
            found.extend(page.items.into_iter().map(|(key, _)| Target {
                served: served.clone(),
                namespace: key.namespace,
                name: key.name,
                subresource: String::new(),
            }));
        }
        found
    }

    /// After an object has gone: its namespace or its definition may have waited for that.
    pub(super) fn reap(&self, gone: &Key) {
        if !gone.namespace.is_empty() {
            self.reap_holder(&Key::new(&self.namespaces(), "", &gone.namespace));
        }
        let definition = self.store.catalog(|catalog| {
            let mut all = catalog.all();
            let resource = all.find(|r| r.kept_in == gone.group && r.plural == gone.resource)?;
            resource.crd.clone()
        });
        if let Some(name) = definition
            && let Some(definitions) =
                self.served("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        {
            self.reap_holder(&Key::new(&definitions.resource, "", &name));
        }
    }

    /// Removes a terminating Namespace or definition that holds nothing any more.
    fn reap_holder(&self, key: &Key) {
        let Some(holder) = self.store.read(key) else {
            return;
        };
        let Some(served) = self
            .store
            .catalog(|catalog| catalog.find(&key.group, "v1", &key.resource))
        else {
            return;
        };
        let target = Target {
            served,
            namespace: String::new(),
            name: key.name.clone(),
            subresource: String::new(),
        };
        if holder.is_terminating() && !holder.has_finalizers() && self.content(&target).is_empty() {
            // Raced by another writer: the next removal looks again.
            let _ = self.store.commit(key, Some(holder.version()), None);
        }
    }
}

fn holds_content(served: &Served) -> bool {
    served.is("", "namespaces") || served.is("apiextensions.k8s.io", "customresourcedefinitions")
}

/// Checks that a new object is what the path says, and fills in what the path knows.
fn claim(target: &Target, mut object: Object) -> Result<Object, Status> {
    let served = &target.served;
    for (field, expected) in [
        ("apiVersion", served.api_version()),
        ("kind", served.resource.kind.clone()),
    ] {
        match object.field(field).as_str() {
            None | Some("") => object.set(field, json!(expected)),
            Some(given) if given == expected => {}
            Some(given) => {
                return Err(Status::bad_request(format!(
                    "the {field} in the data ({given}) does not match the expected {field} \
                     ({expected})"
                )));
            }
        }
    }
    if !object.namespace().is_empty() && object.namespace() != target.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if served.resource.namespaced {
        object.set_meta("namespace", json!(target.namespace));
    }
    if object.name().is_empty() && object.meta_text("generateName").is_empty() {
        let cause = Cause::required("metadata.name", "name or generateName is required");
        return Err(Status::invalid(&served.resource, "", &[cause]));
    }
    if !object.version().is_empty() {
        return Err(Status::internal(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    Ok(object)
}

/// Fills in defaults, and drops what a custom resource's schema does not know.
fn complete(served: &Served, mut object: Object) -> Object {
    if served.resource.crd.is_some() {
        crd::prune(&served.version().schema, &mut object);
    } else {
        builtin::set_defaults(served, &mut object);
    }
    object
}

fn check(served: &Served, object: &Object, old: Option<&Object>) -> Result<(), Status> {
    let mut causes = builtin::check(served, object, old);
    if served.resource.crd.is_some() {
        causes.extend(crd::check(&served.version().schema, object));
    }
    if causes.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&served.resource, object.name(), &causes))
}

/// Keeps what this kind of write may not change: `/status` changes the status alone, and a plain
/// write everything else but what the server itself keeps in `metadata`.
fn carry_over(target: &Target, mut new: Object, old: &Object) -> Object {
    if target.subresource == "status" {
        let mut kept = old.clone();
        kept.set("status", new.field("status").clone());
        return kept;
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ] {
        new.set_meta(field, old.meta(field).clone());
    }
    if target.served.version().status {
        new.set("status", old.field("status").clone());
    }
    for field in ["apiVersion", "kind"] {
        new.set(field, old.field(field).clone());
    }
    new
}

fn spec_differs(new: &Object, old: &Object) -> bool {
    let strip = |object: &Object| {
        let mut bare = object.clone();
        bare.set("status", Value::Null);
        bare.set_metadata_of(old);
        bare
    };
    strip(new) != strip(old)
}

fn bump_generation(new: &mut Object, old: &Object) {
    if let Some(generation) = old.meta("generation").as_u64() {
        new.set_meta("generation", json!(generation + 1));
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
