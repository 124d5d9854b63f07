//! `TargetRecord`s, in our own namespace: what we registered.
//!
//! Needs the verbs `create`, `delete`, `get`, `list`, `patch` and `watch` on `targetrecords.targetgate.dev`.

use std::sync::Arc;

use kube::Client;
use kube::api::{
    DeleteParams, GetParams, ListParams, ObjectList, Patch, PatchParams, PostParams, Preconditions,
};
use kube::core::Request;
use serde::de::IgnoredAny;
use serde_json::json;
use targetgate_core::targets::machine::action::Written;
use targetgate_core::targets::record::Record;
use tokio::time::Instant;

use crate::kubernetes::decode::{RecordObject, api_resource, record, url_path};
use crate::kubernetes::targets::{Failure, json_patch, send};
use crate::kubernetes::{CALL_TIMEOUT, MANAGER, WrittenObject};
use crate::state::cache::WatchedResource;

/// Maximum number of records in one page of a list. Chosen: one of 10,000 targets has half a megabyte.
const PAGE_SIZE: u32 = 20;
/// Maximum number of pages of a list, above which it fails. Chosen: 10,000 bindings.
const MAX_PAGES: usize = 500;

/// The records of one namespace; cheap to clone.
#[derive(Clone)]
pub struct TargetRecords {
    client: Client,
    namespace: Arc<str>,
}

/// A record with its resourceVersion.
pub type Stored = (Record, Arc<str>);

/// How a mark on a record ended.
#[derive(Debug)]
pub enum Marked {
    /// The record as it is now, or why it cannot be used.
    Done(Result<Record, String>),
    Absent,
    /// The API server does not serve records, without which nothing is registered.
    NotServed,
    Failed(Arc<str>),
}

/// All records at one time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listed {
    pub records: Vec<Stored>,
    /// Why others cannot be used: what they name stays in its group, and nothing is registered for their bindings.
    pub unreadable: Vec<String>,
}

impl TargetRecords {
    /// The records in this namespace, which is our own.
    pub fn new(client: Client, namespace: Arc<str>) -> Self {
        Self { client, namespace }
    }

    /// Creates the record, or replaces the one of this resourceVersion, whose labels, annotations and owners stay.
    /// Waits for the answer until `by`.
    pub async fn write(&self, record: &Record, replaces: Option<&str>, by: Instant) -> Written {
        let uid = &*record.uid;
        let request = match replaces {
            None => self.creation(record),
            Some(version) => {
                let written = record.written();
                // Another version in the object than the stored one is a conflict, as in a PUT.
                let patch = json!([
                    { "op": "replace", "path": "/metadata/resourceVersion", "value": version },
                    { "op": "add", "path": "/spec", "value": written.spec },
                    { "op": "add", "path": "/status", "value": written.status },
                ]);
                json_patch(&self.requests(), uid, None, &patch)
            }
        };
        match send::<WrittenObject>(&self.client, request, by).await {
            Ok(answer) => Written::Done(Some(answer.metadata.resource_version.into())),
            Err(failure) => failure.written("write", &self.what(uid)),
        }
    }

    /// Deletes the record of this UID and resourceVersion; one that is gone already counts as deleted.
    pub async fn delete(&self, uid: &str, version: &str, by: Instant) -> Written {
        let params = DeleteParams::default().preconditions(Preconditions {
            resource_version: Some(version.to_owned()),
            uid: None,
        });
        let request = self.requests().delete(uid, &params);
        match send::<IgnoredAny>(&self.client, request, by).await {
            Ok(_) => Written::Done(None),
            Err(failure) if failure.is_absence() => Written::Done(None),
            Err(failure) => failure.written("delete", &self.what(uid)),
        }
    }

    /// Marks the record of this UID as released by a Deployment, or clears the mark, whatever else is in it: a write of
    /// the registrar's, which replaces the version that it knows, then conflicts.
    pub async fn mark(&self, uid: &str, deployment: Option<&str>, by: Instant) -> Marked {
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({ "spec": { "releasedBy": deployment } }));
        let request = self.requests().patch(uid, &params, &patch);
        match send::<RecordObject>(&self.client, request, by).await {
            Ok(object) => Marked::Done(
                record(object)
                    .map(|(record, _)| record)
                    .map_err(|unreadable| unreadable.to_string()),
            ),
            Err(failure) if failure.is_absence() => Marked::Absent,
            Err(failure) if failure.code() == 404 => Marked::NotServed,
            Err(failure) => Marked::Failed(failure.told("mark", &self.what(uid))),
        }
    }

    /// Reads one record, as after a conflict; `None` if there is none.
    ///
    /// # Errors
    /// The call fails, takes longer than ten seconds, or returns a record that cannot be used.
    pub async fn get(&self, uid: &str) -> Result<Option<Stored>, Arc<str>> {
        let request = self.requests().get(uid, &GetParams::default());
        let by = Instant::now() + CALL_TIMEOUT;
        match send::<RecordObject>(&self.client, request, by).await {
            Ok(object) => {
                let read = record(object).map(Some);
                read.map_err(|unreadable| unreadable.to_string().into())
            }
            Err(failure) if failure.is_absence() => Ok(None),
            Err(failure) => Err(failure.told("get", &self.what(uid))),
        }
    }

    /// Reads all records as they are now, not out of a cache of the API server.
    ///
    /// # Errors
    /// A call fails or takes longer than ten seconds, or there are too many records.
    pub async fn list(&self) -> Result<Listed, Arc<str>> {
        let mut params = ListParams::default().limit(PAGE_SIZE);
        let mut listed = Listed::default();
        for _ in 0..MAX_PAGES {
            let by = Instant::now() + CALL_TIMEOUT;
            let request = self.requests().list(&params);
            let page = send::<ObjectList<RecordObject>>(&self.client, request, by).await;
            let page = page.map_err(|failure: Failure| failure.told("list", "TargetRecords"))?;
            for object in page.items {
                match record(object) {
                    Ok(stored) => listed.records.push(stored),
                    Err(unreadable) => listed.unreadable.push(unreadable.to_string()),
                }
            }
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                return Ok(listed);
            }
        }
        Err(format!("cannot list TargetRecords: there are more than {MAX_PAGES} pages").into())
    }

    fn creation(
        &self,
        record: &Record,
    ) -> Result<http::Request<Vec<u8>>, kube::core::request::Error> {
        let resource = api_resource(WatchedResource::TargetRecords);
        let written = record.written();
        let object = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": { "name": &*record.uid, "namespace": &*self.namespace },
            "spec": written.spec,
            "status": written.status,
        });
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        self.requests()
            .create(&params, object.to_string().into_bytes())
    }

    fn requests(&self) -> Request {
        Request::new(url_path(
            WatchedResource::TargetRecords,
            Some(&self.namespace),
        ))
    }

    fn what(&self, uid: &str) -> String {
        format!("TargetRecord {}/{uid}", self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;
    use targetgate_core::fixtures::arn;
    use targetgate_core::names::{GroupKey, ObjectKey};

    use super::*;
    use crate::kubernetes::testing::{Answer as Scripted_, Scripted, page, status};

    const RECORDS: &str = "/apis/targetgate.dev/v1/namespaces/targetgate-system/targetrecords";
    const RECORD: &str =
        "/apis/targetgate.dev/v1/namespaces/targetgate-system/targetrecords/uid-web";

    fn web() -> Record {
        let group = GroupKey {
            arn: arn("web"),
            role: None,
        };
        let record = Record::new("uid-web".into(), ObjectKey::new("shop", "web"), group);
        record.with([([10, 0, 0, 1].into(), 8080)])
    }

    fn records(api: &Scripted) -> TargetRecords {
        TargetRecords::new(api.client(), "targetgate-system".into())
    }

    fn object(name: &str, version: &str) -> Value {
        let written = web().written();
        json!({ "metadata": { "name": name, "namespace": "targetgate-system", "resourceVersion": version },
            "spec": written.spec, "status": written.status })
    }

    fn in_a_minute() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_is_created_and_then_replaced_under_its_version() {
        let api = Scripted::default();
        api.answer(RECORDS, Scripted_::Json(201, object("uid-web", "1")))
            .answer(RECORD, Scripted_::Json(200, object("uid-web", "2")));
        let records = records(&api);
        let created = records.write(&web(), None, in_a_minute()).await;
        assert_eq!(created, Written::Done(Some("1".into())));
        let replaced = records.write(&web(), Some("1"), in_a_minute()).await;
        assert_eq!(replaced, Written::Done(Some("2".into())));
        let seen = [api.seen(RECORDS).remove(0), api.seen(RECORD).remove(0)];
        assert_eq!((&*seen[0].method, &*seen[1].method), ("POST", "PATCH"));
        assert_eq!(seen[1].content_type, "application/json-patch+json");
        assert_eq!(seen[0].body["metadata"]["name"], "uid-web");
        assert_eq!(seen[1].body[0]["value"], "1");
        assert_eq!(
            seen[1].body[2]["value"],
            json!({ "count": 1, "targets": ["10.0.0.1:8080"] })
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_wrote_is_a_conflict_and_what_fails_is_told() {
        let api = Scripted::default();
        let details = json!({ "name": "uid-web", "kind": "targetrecords" });
        let answers = [
            Scripted_::Json(409, status(409, "Conflict", "modified", details.clone())),
            Scripted_::Json(404, status(404, "NotFound", "not found", details)),
            Scripted_::Text(404, "404 page not found\n"),
            Scripted_::Json(403, status(403, "Forbidden", "hook x denied", json!({}))),
            Scripted_::Silence,
        ];
        for answer in answers {
            api.answer(RECORD, answer);
        }
        let records = records(&api);
        let mut told = vec![];
        for _ in 0..5 {
            let by = Instant::now() + Duration::from_secs(3);
            told.push(match records.write(&web(), Some("1"), by).await {
                Written::Conflict => "conflict".to_owned(),
                Written::Failed(why) => why.to_string(),
                other => panic!("{other:?}"),
            });
        }
        let begin = "cannot write TargetRecord targetgate-system/uid-web: ";
        assert_eq!(&told[..2], ["conflict", "conflict"]);
        assert!(told[2].starts_with(begin), "{}", told[2]);
        assert_eq!(told[3], format!("{begin}hook x denied (403)"));
        assert_eq!(told[4], format!("{begin}no answer in time"));
    }

    #[tokio::test(start_paused = true)]
    async fn all_records_are_listed_page_by_page_and_one_that_cannot_be_used_is_told() {
        let api = Scripted::default();
        let bad = json!({ "metadata": { "name": "uid-bad", "resourceVersion": "3" } });
        api.answer(
            RECORDS,
            Scripted_::Json(200, page(&[object("uid-a", "1")], "9", "more")),
        )
        .answer(
            RECORDS,
            Scripted_::Json(200, page(&[bad, object("uid-b", "2")], "9", "")),
        );
        let listed = records(&api).list().await.unwrap();
        let uids: Vec<&str> = listed
            .records
            .iter()
            .map(|(record, _)| &*record.uid)
            .collect();
        assert_eq!(uids, ["uid-a", "uid-b"]);
        assert_eq!(listed.unreadable.len(), 1);
        assert!(
            listed.unreadable[0].contains("uid-bad"),
            "{:?}",
            listed.unreadable
        );
        let seen = api.seen(RECORDS);
        assert!(seen[1].uri.contains("continue=more"), "{}", seen[1].uri);
        assert!(!seen[0].uri.contains("resourceVersion"), "{}", seen[0].uri);
    }
}
