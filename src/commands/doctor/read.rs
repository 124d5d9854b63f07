//! Reads of the API server, whose errors say what was tried.

use std::fmt::Debug;

use kube::api::{Api, ListParams};
use serde::de::DeserializeOwned;
use targetgate_core::doctor::Known;
use tokio::time::timeout;

use crate::kubernetes::{CALL_TIMEOUT, why};

/// The number of objects in one page of a list, as `kubectl get` asks for.
const PAGE_SIZE: u32 = 500;
/// Maximum number of pages: of more objects the answer is not known. Chosen.
const MAX_PAGES: usize = 200;

/// An object; `None` if it does not exist.
pub(super) async fn get<K>(api: &Api<K>, kind: &str, name: &str) -> Known<Option<K>>
where
    K: Clone + DeserializeOwned + Debug,
{
    let what = format!("{kind} {name}");
    let read = timeout(CALL_TIMEOUT, api.get_opt(name)).await;
    let read = read.map_err(|_| failed("get", &what, &no_answer()))?;
    read.map_err(|error| failed("get", &what, &why(&error)))
}

/// All objects; `None` if their kind is not served.
pub(super) async fn list<K>(api: &Api<K>, kinds: &str, labels: &str) -> Known<Option<Vec<K>>>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut params = ListParams::default().labels(labels).limit(PAGE_SIZE);
    let mut all = vec![];
    for _ in 0..MAX_PAGES {
        let page = timeout(CALL_TIMEOUT, api.list(&params)).await;
        let page = match page.map_err(|_| failed("list", kinds, &no_answer()))? {
            Ok(page) => page,
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(error) => return Err(failed("list", kinds, &why(&error))),
        };
        all.extend(page.items);
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(Some(all));
        }
    }
    Err(failed(
        "list",
        kinds,
        &format!("more than {MAX_PAGES} pages"),
    ))
}

fn failed(verb: &str, what: &str, why: &str) -> String {
    format!("Cannot {verb} {what}: {why}.")
}

pub(super) fn no_answer() -> String {
    format!("no answer within {CALL_TIMEOUT:?}")
}
