//! Reads one object, or a collection with selectors and pages.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    Inner,
    kinds::Served,
    object::Object,
    selector::Selector,
    status::Status,
    store::{Page, Scan},
    target::Target,
    view::View,
};

/// The query of a request. The last value of a repeated parameter wins.
#[derive(Clone, Debug, Default)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Parses the part of a URI after the question mark.
    pub fn parse(text: &str) -> Query {
        Query(
            form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// A parameter; empty if it is absent.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Whether a parameter is `1` or `true`.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.text(name), "1" | "true")
    }

    /// A parameter as a number; `None` if it is absent.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Status> {
        match self.text(name) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| Status::bad_request(format!("{name} is not a number: \"{text}\""))),
        }
    }
}

/// The objects of a resource that a request selects.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The namespace; `None` means all namespaces.
    pub namespace: Option<String>,
    labels: Selector,
    fields: Selector,
}

impl Selection {
    /// Parses the selectors. A name in the path selects that object alone.
    pub fn read(target: &Target, query: &Query) -> Result<Selection, Status> {
        let labels = Selector::parse(query.text("labelSelector")).map_err(Status::bad_request)?;
        let mut fields = query.text("fieldSelector").to_owned();
        if !target.name.is_empty() {
            fields = format!("metadata.name={}", target.name);
        }
        let fields = Selector::parse(&fields).map_err(Status::bad_request)?;
        if let Some(field) = fields
            .keys()
            .find(|field| !selectable(&target.served, field))
        {
            return Err(Status::bad_request(format!(
                "field label not supported: {field}"
            )));
        }
        Ok(Selection {
            namespace: Some(target.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            labels,
            fields,
        })
    }

    /// Whether an object is selected.
    pub fn matches(&self, object: &Object) -> bool {
        self.namespace
            .as_deref()
            .is_none_or(|namespace| namespace == object.namespace())
            && self.labels.matches(&object.labels())
            && self.fields.matches_fields(object)
    }
}

fn selectable(served: &Served, field: &str) -> bool {
    match field {
        "metadata.name" | "metadata.namespace" => true,
        "spec.nodeName" | "status.phase" => served.is("", "pods"),
        field => {
            served.resource.plural == "events"
                && (field.starts_with("involvedObject.")
                    || field.starts_with("regarding.")
                    || matches!(field, "type" | "reason"))
        }
    }
}

pub fn read(api: &Inner, target: &Target) -> Result<Object, Status> {
    match api.store.read(&target.key()) {
        Some(object) => Ok(target.served.present(&object)),
        None => Err(Status::not_found(&target.served.resource, &target.name)),
    }
}

pub fn list(api: &Inner, target: &Target, query: &Query, view: View) -> Result<Value, Status> {
    let selection = Selection::read(target, query)?;
    check_version(api, query)?;
    let token = Token::read(query.text("continue"), api.store.oldest())?;
    let limit = query.number("limit")?.filter(|limit| *limit > 0);
    let page = api.store.list(&Scan {
        resource: &target.served.resource,
        namespace: selection.namespace.as_deref(),
        at: token.as_ref().and_then(|token| token.version),
        after: token.as_ref().map(|token| token.after.clone()),
        limit: limit.map_or(usize::MAX, |limit| limit.try_into().unwrap_or(usize::MAX)),
        keep: &|object| selection.matches(object),
    });
    // All pages name the version of the first one.
    let version = token.and_then(|token| token.version);
    let version = version.unwrap_or(page.version);
    let items: Vec<Object> = page
        .items
        .iter()
        .map(|(_, object)| target.served.present(object))
        .collect();
    Ok(view.list(&target.served, items, list_meta(&page, version), api))
}

fn list_meta(page: &Page, version: u64) -> Value {
    let mut meta = json!({"resourceVersion": version.to_string()});
    if page.remaining > 0
        && let Some((key, _)) = page.items.last()
    {
        let token = Token {
            version: Some(version),
            after: (key.namespace.clone(), key.name.clone()),
        };
        meta["continue"] = json!(token.write());
        meta["remainingItemCount"] = json!(page.remaining);
    }
    meta
}

/// Checks the `resourceVersion` of a list. A page continues a list at its older version, but a new
/// list at exactly an older version is refused as too old.
fn check_version(api: &Inner, query: &Query) -> Result<(), Status> {
    let now = api.store.version();
    let Some(wanted) = query.number("resourceVersion")? else {
        return Ok(());
    };
    if wanted > now {
        return Err(too_large(wanted, now));
    }
    if query.text("resourceVersionMatch") == "Exact" && wanted != now {
        return Err(Status::expired(format!(
            "The provided resource version {wanted} is too old"
        )));
    }
    Ok(())
}

/// The refusal of a version that this server has not reached.
pub fn too_large(wanted: u64, now: u64) -> Status {
    Status {
        details: json!({
            "causes": [{
                "reason": "ResourceVersionTooLarge",
                "message": "Too large resource version",
            }],
            "retryAfterSeconds": 1,
        }),
        ..Status::new(
            504,
            "Timeout",
            format!("Timeout: Too large resource version: {wanted}, current: {now}"),
        )
    }
}

/// The content of a `continue` token: where the next page starts.
struct Token {
    /// The version at which the list began; `None` means the current objects.
    version: Option<u64>,
    after: (String, String),
}

impl Token {
    fn read(text: &str, oldest: u64) -> Result<Option<Token>, Status> {
        if text.is_empty() {
            return Ok(None);
        }
        let decoded = URL_SAFE_NO_PAD.decode(text).ok();
        let decoded = decoded.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let Some((version, namespace, name)) = decoded else {
            return Err(Status::bad_request("continue key is not valid"));
        };
        let token = Token {
            version,
            after: (namespace, name),
        };
        match version {
            Some(version) if version < oldest => Err(token.expired()),
            _ => Ok(Some(token)),
        }
    }

    fn write(&self) -> String {
        let (namespace, name) = &self.after;
        URL_SAFE_NO_PAD.encode(json!([self.version, namespace, name]).to_string())
    }

    fn expired(self) -> Status {
        let now = Token {
            version: None,
            after: self.after,
        };
        Status {
            continue_token: now.write(),
            ..Status::expired(
                "The provided continue parameter is too old to display a consistent list result. \
                 You can start a new list without the continue parameter, or use the continue token \
                 in this response to retrieve the remainder of the results. Continuing with the \
                 provided token results in an inconsistent list - objects that were created, \
                 modified, or deleted between the time the first chunk was returned and now may \
                 show up in the list.",
            )
        }
    }
}
