//! Live reads: they confirm an absence with the API server before a gate opens because of it (contract 5.5).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::Client;
use kube::Error::BuildRequest;
use kube::api::{Api, DynamicObject, GetParams, ListParams, ObjectList};
use kube::core::Request;
use serde::de::DeserializeOwned;
use targetgate_core::model::{Binding, Service};
use targetgate_core::names::{BindingApi, GateName};
use thiserror::Error;
use tokio::time::timeout;

use crate::kubernetes::decode::{
    BindingObject, Keyed as _, ServiceObject, Unreadable, binding, url_path,
};
use crate::kubernetes::{CALL_TIMEOUT, decode, is_absence, why};
use crate::state::cache::WatchedResource;

/// Maximum number of bindings in one page of a list. Chosen.
const PAGE_SIZE: u32 = 100;
/// Maximum number of pages: the read fails in a namespace with more bindings. Chosen.
const MAX_PAGES: usize = 50;

/// The bindings and Services of a gate as the API server has them now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confirmed {
    /// The bindings with the gate's name, in all requested API groups.
    pub bindings: Vec<Binding>,
    /// The Services that the bindings name, as far as these exist.
    pub services: BTreeMap<Arc<str>, Service>,
    /// API groups that are not served, so that it is unknown whether they have a binding with the name. The CRD may
    /// be absent on purpose, or be recreated soon.
    pub not_served: BTreeSet<BindingApi>,
}

/// Why a live read does not confirm anything.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfirmError {
    #[error("cannot {verb} {what} in namespace {namespace}: {why}")]
    Failed {
        verb: &'static str,
        /// The resource, with the name of a single object.
        what: String,
        namespace: String,
        why: String,
    },
    /// An object cannot be parsed.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// Reads the bindings of a gate, and their Services, from the API server itself.
///
/// A gate whose name may be shortened can be for any binding whose name shortens to it, so all bindings are listed.
///
/// # Errors
///
/// A call fails, takes longer than ten seconds, or returns an object that cannot be parsed: then the read does not
/// confirm anything.
pub async fn read(
    client: &Client,
    namespace: &str,
    gate: &GateName,
    apis: &[BindingApi],
) -> Result<Confirmed, ConfirmError> {
    let reader = Reader { client, namespace };
    let mut confirmed = Confirmed::default();
    for api in apis {
        match reader.bindings(gate, *api).await? {
            Some(bindings) => confirmed.bindings.extend(bindings),
            None => {
                confirmed.not_served.insert(*api);
            }
        }
    }
    let named: BTreeSet<Arc<str>> = confirmed
        .bindings
        .iter()
        .map(|b| b.service.clone())
        .collect();
    for name in named.into_iter().filter(|name| !name.is_empty()) {
        if let Some(found) = reader.service(&name).await? {
            confirmed.services.insert(name, found);
        }
    }
    Ok(confirmed)
}

/// Reads a Service from the API server itself; `None` if there is none.
///
/// # Errors
///
/// As [`read`].
pub async fn service(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<Service>, ConfirmError> {
    Reader { client, namespace }.service(name).await
}

/// Reads the UID of an object; `None` if it does not exist. A list of one object needs no further right than the
/// watches have.
///
/// # Errors
///
/// The call fails, or takes longer than ten seconds: why.
pub async fn uid(
    client: &Client,
    watched: WatchedResource,
    namespace: &str,
    name: &str,
) -> Result<Option<String>, String> {
    let resource = decode::api_resource(watched);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let params = ListParams::default().fields(&format!("metadata.name={name}"));
    let listed = timeout(CALL_TIMEOUT, api.list_metadata(&params)).await;
    let listed = listed.map_err(|_| "no answer in time".to_owned())?;
    let listed = listed.map_err(|error| why(&error))?;
    let mut objects = listed.items.into_iter();
    Ok(objects.find_map(|object| object.metadata.uid))
}

/// The answer to a read of one object.
enum Answer<T> {
    Found(T),
    Absent,
    NotServed,
}

struct Reader<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl Reader<'_> {
    async fn service(&self, name: &str) -> Result<Option<Service>, ConfirmError> {
        match self
            .one::<ServiceObject>(WatchedResource::Services, name)
            .await?
        {
            Answer::Found(object) => Ok(Some(decode::service(object)?.1)),
            Answer::Absent => Ok(None),
            Answer::NotServed => {
                let what = format!("services {name}");
                Err(self.failed("get", what, "the path is not served (404)".to_owned()))
            }
        }
    }

    /// The bindings of a gate in one API group; `None` if the group is not served.
    async fn bindings(
        &self,
        gate: &GateName,
        api: BindingApi,
    ) -> Result<Option<Vec<Binding>>, ConfirmError> {
        let objects = if gate.may_be_shortened() {
            self.all(WatchedResource::Bindings(api)).await?
        } else {
            match self
                .one(WatchedResource::Bindings(api), gate.name())
                .await?
            {
                Answer::Found(object) => Some(vec![object]),
                Answer::Absent => Some(vec![]),
                Answer::NotServed => None,
            }
        };
        let Some(objects) = objects else {
            return Ok(None);
        };
        let of_gate = objects
            .into_iter()
            .filter(|o: &BindingObject| gate.is_of(&o.key().name));
        let bindings = of_gate.map(|object| Ok(binding(object, api)?.1));
        bindings.collect::<Result<_, ConfirmError>>().map(Some)
    }

    async fn one<O: DeserializeOwned>(
        &self,
        watched: WatchedResource,
        name: &str,
    ) -> Result<Answer<O>, ConfirmError> {
        let what = || format!("{} {name}", watched.as_str());
        let requests = self.requests(watched);
        let get = async {
            let request = requests.get(name, &GetParams::default());
            self.client.request(request.map_err(BuildRequest)?).await
        };
        match timeout(CALL_TIMEOUT, get).await {
            Ok(Ok(object)) => Ok(Answer::Found(object)),
            Ok(Err(kube::Error::Api(status))) if is_absence(&status) => Ok(Answer::Absent),
            Ok(Err(error)) if is_not_found(&error) => Ok(Answer::NotServed),
            Ok(Err(error)) => Err(self.failed("get", what(), why(&error))),
            Err(_) => Err(self.timed_out("get", what())),
        }
    }

    /// All objects of the namespace; `None` if the resource is not served.
    async fn all<O: Clone + DeserializeOwned>(
        &self,
        watched: WatchedResource,
    ) -> Result<Option<Vec<O>>, ConfirmError> {
        let what = || watched.as_str().to_owned();
        let requests = self.requests(watched);
        let mut params = ListParams::default().limit(PAGE_SIZE);
        let mut all = vec![];
        for _ in 0..MAX_PAGES {
            let list = async {
                let request = requests.list(&params).map_err(BuildRequest)?;
                self.client.request::<ObjectList<O>>(request).await
            };
            let page = match timeout(CALL_TIMEOUT, list).await {
                Ok(Ok(page)) => page,
                Ok(Err(error)) if is_not_found(&error) => return Ok(None),
                Ok(Err(error)) => return Err(self.failed("list", what(), why(&error))),
                Err(_) => return Err(self.timed_out("list", what())),
            };
            all.extend(page.items);
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                return Ok(Some(all));
            }
        }
        Err(self.failed("list", what(), format!("more than {MAX_PAGES} pages")))
    }

    /// Requests about a resource in the namespace.
    fn requests(&self, watched: WatchedResource) -> Request {
        Request::new(url_path(watched, Some(self.namespace)))
    }

    fn timed_out(&self, verb: &'static str, what: String) -> ConfirmError {
        self.failed(verb, what, format!("no answer within {CALL_TIMEOUT:?}"))
    }

    fn failed(&self, verb: &'static str, what: String, why: String) -> ConfirmError {
        ConfirmError::Failed {
            verb,
            what,
            namespace: self.namespace.to_owned(),
            why,
        }
    }
}

/// Whether it is any 404. Without the name of an object it is about the path: the resource is not served.
fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::kubernetes::testing::{Answer, Scripted, list, page, status};
    use targetgate_core::names::ConditionPrefix;

    const ELBV2: &str = "/apis/elbv2.k8s.aws/v1beta1/namespaces/shop/targetgroupbindings";
    const EKS: &str = "/apis/eks.amazonaws.com/v1/namespaces/shop/targetgroupbindings";
    const SERVICE: &str = "/api/v1/namespaces/shop/services/web";

    async fn confirm(api: &Scripted, name: &str) -> Result<Confirmed, ConfirmError> {
        let gate = ConditionPrefix::default().gate(name);
        read(&api.client(), "shop", &gate, &BindingApi::ALL).await
    }

    fn web(name: &str) -> Value {
        json!({ "metadata": { "namespace": "shop", "name": name },
            "spec": { "serviceRef": { "name": "web", "port": 80 }, "selector": { "app": "web" } } })
    }

    fn absent(name: &str) -> Answer {
        let details = json!({ "name": name, "kind": "targetgroupbindings" });
        Answer::Json(404, status(404, "NotFound", "not found", details))
    }

    fn not_served() -> Answer {
        Answer::Text(404, "404 page not found\n")
    }

    fn names(confirmed: &Confirmed) -> Vec<(&str, BindingApi)> {
        let bindings = confirmed.bindings.iter();
        bindings
            .map(|binding| (&*binding.name, binding.api))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_binding_and_its_service_are_read() {
        let api = Scripted::default();
        api.answer(&format!("{ELBV2}/web"), Answer::Json(200, web("web")))
            .answer(&format!("{EKS}/web"), not_served())
            .answer(SERVICE, Answer::Json(200, web("web")));
        let confirmed = confirm(&api, "web").await.unwrap();
        assert_eq!(names(&confirmed), [("web", BindingApi::Elbv2)]);
        assert!(confirmed.services.contains_key("web"));
        assert_eq!(confirmed.not_served, [BindingApi::Eks].into());
    }

    #[tokio::test(start_paused = true)]
    async fn an_absent_object_is_no_absent_crd() {
        let api = Scripted::default();
        let no_kind = status(
            404,
            "NotFound",
            "the server could not find the requested resource",
            json!({}),
        );
        api.answer(&format!("{ELBV2}/web"), absent("web"))
            .answer(&format!("{EKS}/web"), Answer::Json(404, no_kind));
        let confirmed = confirm(&api, "web").await.unwrap();
        assert!(confirmed.bindings.is_empty());
        assert_eq!(confirmed.not_served, [BindingApi::Eks].into());
    }

    #[tokio::test(start_paused = true)]
    async fn an_absent_service_is_left_out() {
        let api = Scripted::default();
        api.answer(&format!("{ELBV2}/web"), Answer::Json(200, web("web")))
            .answer(&format!("{EKS}/web"), absent("web"))
            .answer(SERVICE, absent("web"));
        let confirmed = confirm(&api, "web").await.unwrap();
        assert_eq!((confirmed.bindings.len(), confirmed.services.len()), (1, 0));
        assert!(confirmed.not_served.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_shortened_name_is_looked_for_in_whole_lists() {
        let long = "b".repeat(70);
        let api = Scripted::default();
        api.answer(ELBV2, Answer::Json(200, page(&[web("web")], "1", "more")))
            .answer(ELBV2, Answer::Json(200, list(&[web(&long)], "1")))
            .answer(EKS, not_served())
            .answer(SERVICE, Answer::Json(200, web("web")));
        let confirmed = confirm(&api, &long).await.unwrap();
        assert_eq!(names(&confirmed), [(long.as_str(), BindingApi::Elbv2)]);
        assert_eq!(confirmed.not_served, [BindingApi::Eks].into());
    }

    #[rstest]
    #[case::away(Answer::Refused, "Connection refused")]
    #[case::silent(Answer::Silence, "no answer within 10s")]
    #[case::denied(Answer::Json(403, status(403, "Forbidden", "forbidden", json!({}))), "forbidden (403)")]
    #[case::bad(Answer::Json(200, json!({ "metadata": { "name": "web" }, "spec": 1 })), "its spec")]
    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_confirms_nothing(#[case] answer: Answer, #[case] why: &str) {
        let api = Scripted::default();
        api.answer(&format!("{ELBV2}/web"), answer);
        let error = confirm(&api, "web").await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_cannot_be_read_is_not_taken_for_absent() {
        let api = Scripted::default();
        api.answer(&format!("{ELBV2}/web"), Answer::Json(200, web("web")))
            .answer(&format!("{EKS}/web"), absent("web"))
            .answer(SERVICE, not_served());
        let error = confirm(&api, "web").await.unwrap_err().to_string();
        assert!(error.contains("services web"), "{error}");
    }
}
