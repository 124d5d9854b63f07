//! A snapshot of a namespace for a command: each kind is listed once, and nothing is watched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use kube::Client;
use kube::Error::BuildRequest;
use kube::api::{GetParams, ListParams, ObjectList};
use kube::core::Request;
use serde_json::Value;
use serde_json::value::RawValue;
use targetgate_core::drain::ServerVersion;
use targetgate_core::explain::{Elb, Facts, PodFacts, Settings, Told};
use targetgate_core::index::Index;
use targetgate_core::names::{BindingApi, ConditionPrefix, ObjectKey};
use thiserror::Error;
use tokio::time::timeout;

use crate::kubernetes::decode;
use crate::kubernetes::decode::{
    BindingObject, NamespaceObject, ServiceObject, Unreadable, url_path,
};
use crate::kubernetes::{CALL_TIMEOUT, is_absence, server_version, why};
use crate::state::cache::WatchedResource;

pub mod installation;
mod pod;

pub(crate) use crate::kubernetes::snapshot::pod::own_annotations;
pub use crate::kubernetes::snapshot::pod::{PodError, facts};

/// The number of objects in one page of a list, as `kubectl get` asks for.
const PAGE_SIZE: u32 = 500;
/// Maximum number of pages: a namespace with more objects is not explained. Chosen.
const MAX_PAGES: usize = 200;

/// The objects of a namespace.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Its Namespace, Services and bindings.
    pub index: Index,
    /// When the Namespace got the label that opts in, at the latest.
    pub opted_in: Option<Timestamp>,
    /// The API groups of bindings that the API server does not serve.
    pub not_served: BTreeSet<BindingApi>,
    /// The version of the API server; `None` if it does not tell.
    pub server: Option<ServerVersion>,
    pub pods: Vec<PodFacts>,
    /// The conditions `Ready` of the bindings of `elbv2.k8s.aws`, by their name.
    pub told: BTreeMap<Arc<str>, Told>,
}

impl Snapshot {
    /// What is known of the namespace by these objects alone, and its pods; `why` neither ELB nor the leader was asked.
    pub fn into_facts(
        self,
        namespace: &str,
        settings: Settings,
        why: &str,
    ) -> (Facts, Vec<PodFacts>) {
        let mut index = self.index;
        index.set_scope(settings.scope.clone());
        let facts = Facts {
            namespace: namespace.into(),
            index,
            opted_in: self.opted_in,
            not_served: self.not_served,
            server: self.server,
            settings,
            elb: Elb::NotAsked(why.to_owned()),
            leader: Err(why.to_owned()),
            registration: None,
            policy: None,
            now: Timestamp::now(),
        };
        (facts, self.pods)
    }
}

/// Which pods a snapshot has.
#[derive(Debug, Clone, Copy)]
pub enum Pods<'a> {
    None,
    One(&'a str),
    All,
}

/// Why there is no snapshot.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// An object that was asked for does not exist.
    #[error("{what} does not exist")]
    Absent { what: String },
    /// A call was refused or not answered.
    #[error("cannot {verb} {what}: {why}{}", remedy(*.denied))]
    Failed {
        verb: &'static str,
        what: String,
        why: String,
        denied: bool,
    },
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error(transparent)]
    Pod(#[from] PodError),
}

fn remedy(denied: bool) -> &'static str {
    match denied {
        true => {
            "; the command needs the rights to get the Namespace, and to list pods, services and targetgroupbindings in it"
        }
        false => "",
    }
}

/// Reads a namespace. Bindings of API groups that are not among `apis` are read where that is allowed.
///
/// # Errors
/// The namespace or the pod does not exist, a call fails or takes longer than ten seconds, or an object cannot be read.
pub async fn read(
    client: &Client,
    namespace: &str,
    pods: Pods<'_>,
    apis: &[BindingApi],
    prefixes: &[ConditionPrefix],
) -> Result<Snapshot, SnapshotError> {
    let reader = Reader {
        client,
        namespace: Some(namespace),
    };
    let (namespace_object, services, elbv2, eks, pods, server) = tokio::join!(
        reader.namespace(namespace),
        reader.list(WatchedResource::Services),
        reader.bindings(BindingApi::Elbv2, apis),
        reader.bindings(BindingApi::Eks, apis),
        reader.pods(namespace, pods),
        server_version::read(client),
    );
    let mut snapshot = Snapshot {
        server: server.ok(),
        ..Snapshot::default()
    };
    // That the namespace is absent says more than that it has no such pod.
    snapshot.take_namespace(&namespace_object?)?;
    snapshot.take_routes(services?, [elbv2?, eks?])?;
    for pod in pods? {
        snapshot.pods.push(facts(pod.get(), prefixes)?);
    }
    Ok(snapshot)
}

/// Reads the Services of all namespaces, beside the bindings of all namespaces, which the caller has listed by API group.
///
/// # Errors
/// A call fails or takes longer than ten seconds, or an object cannot be read.
pub async fn routes(
    client: &Client,
    bindings: &[(BindingApi, Listed)],
) -> Result<Snapshot, SnapshotError> {
    let namespace = None;
    let reader = Reader { client, namespace };
    let services = reader.list(WatchedResource::Services);
    let (services, server) = tokio::join!(services, server_version::read(client));
    let mut snapshot = Snapshot {
        server: server.ok(),
        ..Snapshot::default()
    };
    snapshot.take_services(&services?.unwrap_or_default())?;
    for (api, listed) in bindings {
        snapshot.take_bindings(*api, listed.as_deref())?;
    }
    Ok(snapshot)
}

/// The objects of a list; `None` if their kind is not served.
pub type Listed = Option<Vec<Box<RawValue>>>;

impl Snapshot {
    fn take_namespace(&mut self, raw: &RawValue) -> Result<(), SnapshotError> {
        let (name, namespace) = decode::namespace(parsed::<NamespaceObject>(raw)?)?;
        self.opted_in = namespace.labelled;
        self.index.apply_namespace(&name, namespace);
        Ok(())
    }

    fn take_routes(
        &mut self,
        services: Listed,
        [elbv2, eks]: [Listed; 2],
    ) -> Result<(), SnapshotError> {
        self.take_services(&services.unwrap_or_default())?;
        self.take_bindings(BindingApi::Elbv2, elbv2.as_deref())?;
        self.take_bindings(BindingApi::Eks, eks.as_deref())
    }

    fn take_services(&mut self, all: &[Box<RawValue>]) -> Result<(), SnapshotError> {
        for raw in all {
            let (key, service) = decode::service(parsed::<ServiceObject>(raw)?)?;
            self.index.apply_service(&key, service);
        }
        Ok(())
    }

    fn take_bindings(
        &mut self,
        api: BindingApi,
        all: Option<&[Box<RawValue>]>,
    ) -> Result<(), SnapshotError> {
        let Some(all) = all else {
            self.not_served.insert(api);
            return Ok(());
        };
        for raw in all {
            let (namespace, binding) = decode::binding(parsed::<BindingObject>(raw)?, api)?;
            if let Some(told) = told(raw).filter(|_| api == BindingApi::Elbv2) {
                self.told.insert(binding.name.clone(), told);
            }
            self.index.apply_binding(&namespace, binding);
        }
        Ok(())
    }
}

/// The condition `Ready` of a binding, if it has one that can be read.
fn told(binding: &RawValue) -> Option<Told> {
    let whole: Value = serde_json::from_str(binding.get()).ok()?;
    let mut conditions = whole.pointer("/status/conditions")?.as_array()?.iter();
    let ready = conditions.find(|condition| condition["type"] == "Ready")?;
    let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
    Some(Told {
        ready: ready["status"] == "True",
        reason: text("reason"),
        message: text("message"),
        since: text("lastTransitionTime").parse().ok(),
    })
}

fn parsed<T: for<'de> serde::Deserialize<'de>>(raw: &RawValue) -> Result<T, SnapshotError> {
    serde_json::from_str(raw.get()).map_err(|error| SnapshotError::Failed {
        verb: "read",
        what: "an object of the API server".to_owned(),
        why: error.to_string(),
        denied: false,
    })
}

struct Reader<'a> {
    client: &'a Client,
    /// The only namespace that is read.
    namespace: Option<&'a str>,
}

/// The answer to a read of one object.
enum One {
    Found(Box<RawValue>),
    Absent,
}

impl Reader<'_> {
    /// The Namespace. Whoever may only see one namespace may get it, and our own account may only list.
    async fn namespace(&self, name: &str) -> Result<Box<RawValue>, SnapshotError> {
        let what = format!("namespace {name}");
        let requests = Request::new(url_path(WatchedResource::Namespaces, None));
        match self.one(&requests, name, &what).await? {
            One::Found(found) => Ok(found),
            One::Absent => Err(SnapshotError::Absent { what }),
        }
    }

    async fn pods(
        &self,
        namespace: &str,
        pods: Pods<'_>,
    ) -> Result<Vec<Box<RawValue>>, SnapshotError> {
        let name = match pods {
            Pods::None => return Ok(vec![]),
            Pods::All => return Ok(self.list(WatchedResource::Pods).await?.unwrap_or_default()),
            Pods::One(name) => name,
        };
        let what = format!("pod {}", ObjectKey::new(namespace, name));
        let path = url_path(WatchedResource::Pods, Some(namespace));
        match self.one(&Request::new(path), name, &what).await? {
            One::Found(found) => Ok(vec![found]),
            One::Absent => Err(SnapshotError::Absent { what }),
        }
    }

    /// The bindings of an API group; `None` if it is not served, or not gated and denied to us.
    async fn bindings(
        &self,
        api: BindingApi,
        apis: &[BindingApi],
    ) -> Result<Listed, SnapshotError> {
        match self.list(WatchedResource::Bindings(api)).await {
            Err(SnapshotError::Failed { denied: true, .. }) if !apis.contains(&api) => Ok(None),
            listed => listed,
        }
    }

    /// One object: by its name, or where that is denied, out of a list of one.
    async fn one(&self, requests: &Request, name: &str, what: &str) -> Result<One, SnapshotError> {
        let request = requests.get(name, &GetParams::default());
        match self.call::<Box<RawValue>>(request, "get", what).await {
            Ok(found) => Ok(One::Found(found)),
            Err(Refusal::Absent) => Ok(One::Absent),
            Err(Refusal::Other(error @ SnapshotError::Failed { denied: true, .. })) => {
                let params = ListParams::default().fields(&format!("metadata.name={name}"));
                let listed = self.pages(requests, params, what).await;
                // Of two denials the first is about what was asked for.
                let listed = listed.map_err(|_| error)?;
                let found = listed.into_iter().flatten().next();
                Ok(found.map_or(One::Absent, One::Found))
            }
            Err(Refusal::NotServed) => {
                Err(self.failed("get", what, "the path is not served (404)"))
            }
            Err(Refusal::Other(error)) => Err(error),
        }
    }

    /// All objects of a kind, of the namespace if there is one.
    async fn list(&self, watched: WatchedResource) -> Result<Listed, SnapshotError> {
        let what = match self.namespace {
            Some(namespace) => format!("{} of namespace {namespace}", watched.as_str()),
            None => watched.as_str().to_owned(),
        };
        let requests = Request::new(url_path(watched, self.namespace));
        self.pages(&requests, ListParams::default(), &what).await
    }

    async fn pages(
        &self,
        requests: &Request,
        params: ListParams,
        what: &str,
    ) -> Result<Listed, SnapshotError> {
        let mut params = params.limit(PAGE_SIZE);
        let mut all = vec![];
        for _ in 0..MAX_PAGES {
            let request = requests.list(&params);
            let page = self
                .call::<ObjectList<Box<RawValue>>>(request, "list", what)
                .await;
            let page = match page {
                Ok(page) => page,
                Err(Refusal::Absent | Refusal::NotServed) => return Ok(None),
                Err(Refusal::Other(error)) => return Err(error),
            };
            all.extend(page.items);
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                return Ok(Some(all));
            }
        }
        Err(self.failed("list", what, &format!("more than {MAX_PAGES} pages")))
    }

    async fn call<T: serde::de::DeserializeOwned>(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
        verb: &'static str,
        what: &str,
    ) -> Result<T, Refusal> {
        let call = async { self.client.request(request.map_err(BuildRequest)?).await };
        match timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) if is_absence(&status) => Err(Refusal::Absent),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(Refusal::NotServed),
            Ok(Err(error)) => Err(Refusal::Other(SnapshotError::Failed {
                verb,
                what: what.to_owned(),
                denied: matches!(&error, kube::Error::Api(status) if matches!(status.code, 401 | 403)),
                why: why(&error),
            })),
            Err(_) => {
                let why = format!("no answer within {CALL_TIMEOUT:?}");
                Err(Refusal::Other(self.failed(verb, what, &why)))
            }
        }
    }

    fn failed(&self, verb: &'static str, what: &str, why: &str) -> SnapshotError {
        SnapshotError::Failed {
            verb,
            what: what.to_owned(),
            why: why.to_owned(),
            denied: false,
        }
    }
}

/// Why a call has no answer.
enum Refusal {
    /// The object does not exist.
    Absent,
    /// The resource is not served.
    NotServed,
    Other(SnapshotError),
}
