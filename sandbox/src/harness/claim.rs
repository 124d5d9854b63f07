//! The objects that a run creates outside of its namespace: labelled as the run's own, never taken
//! over from another owner, and removed at the end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use kube::api::{ApiResource, DeleteParams, DynamicObject, PostParams, Preconditions};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::waiting::LOOK_EVERY;

/// The label of all objects that a run creates outside of its namespace. Its value identifies the
/// run.
const MARK: &str = "targetgate.dev/sandbox-run";
/// The removal of one object may take this long. Chosen, because a namespace is removed only after
/// its pods.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// The cluster-scoped objects that one run has created, its namespace among them.
pub struct Claim {
    client: Client,
    run: String,
    made: Mutex<Vec<(ApiResource, String)>>,
}

impl Claim {
    /// The claim of a new run, with no objects yet.
    pub fn new(client: Client) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let nanoseconds = since.unwrap_or_default().as_nanos();
        Self {
            client,
            run: format!("{}-{nanoseconds:x}", std::process::id()),
            made: Mutex::default(),
        }
    }

    /// The label, key and value, of the objects of this run.
    pub fn label(&self) -> (&'static str, &str) {
        (MARK, &self.run)
    }

    /// Creates a cluster-scoped object.
    ///
    /// # Errors
    ///
    /// When an object of that kind and name exists, which is left alone, or the API server refuses
    /// the object.
    pub async fn create(&self, object: Value) -> anyhow::Result<()> {
        let mut object: DynamicObject = serde_json::from_value(object)?;
        let types = object.types.clone().unwrap_or_default();
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
        let (kind, name) = (resource.kind.clone(), object.name_any());
        object
            .labels_mut()
            .insert(MARK.to_owned(), self.run.clone());
        // The object is noted before the call, because an interrupted caller must know which
        // objects may exist.
        self.made.lock().push((resource.clone(), name.clone()));
        let api = Api::all_with(self.client.clone(), &resource);
        match api.create(&PostParams::default(), &object).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let left = api.get(&name).await;
                let left = left.is_ok_and(|found| found.labels().contains_key(MARK));
                bail!(taken(&kind, &name, left))
            }
            Err(error) => Err(error).with_context(|| format!("cannot make the {kind} '{name}'")),
        }
    }

    /// Creates the run's namespace.
    ///
    /// # Errors
    ///
    /// Those of [`Claim::create`].
    pub async fn create_namespace(&self, name: &str) -> anyhow::Result<()> {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.create(namespace).await
    }

    /// Removes the run's objects, and no others: the namespace first, because its pods need their
    /// nodes to end, then the rest from the newest on. Returns when all of them are gone.
    ///
    /// # Errors
    ///
    /// When objects remain, which the error names.
    pub async fn remove(&self) -> anyhow::Result<()> {
        let mut left = Vec::new();
        let mut made = std::mem::take(&mut *self.made.lock());
        made.sort_by_key(|(resource, _)| resource.kind == "Namespace");
        while let Some((resource, name)) = made.pop() {
            let removed = timeout(GONE_WITHIN, self.remove_one(&resource, &name));
            let why = match removed.await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("not gone after {} s", GONE_WITHIN.as_secs()),
            };
            left.push(format!("{} '{name}' ({why})", resource.kind));
        }
        if left.is_empty() {
            return Ok(());
        }
        bail!(
            "cannot remove from the cluster what this run has made there: {}; remove it by hand, \
             its label is {MARK}={}",
            left.join(", "),
            self.run
        );
    }

    async fn remove_one(&self, resource: &ApiResource, name: &str) -> Result<(), kube::Error> {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), resource);
        loop {
            let Some(found) = api.get_opt(name).await? else {
                return Ok(());
            };
            if found.labels().get(MARK) != Some(&self.run) {
                return Ok(());
            }
            if found.metadata.deletion_timestamp.is_none() {
                let params = DeleteParams {
                    preconditions: Some(Preconditions {
                        uid: found.uid(),
                        resource_version: None,
                    }),
                    ..DeleteParams::default()
                };
                match api.delete(name, &params).await {
                    Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {}
                    answer => drop(answer?),
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

fn taken(kind: &str, name: &str, left: bool) -> String {
    let whose = match left {
        true => format!(
            "an earlier run that was killed has left it; remove it: kubectl delete {} {name}",
            kind.to_lowercase()
        ),
        false => "it is not this run's, and is left alone; use another cluster".to_owned(),
    };
    format!("the cluster has a {kind} '{name}' already: {whose}")
}
