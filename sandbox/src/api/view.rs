//! The representations that a client can ask for: whole objects, their metadata alone, or a table
//! for `kubectl get`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Inner, kinds::Served, object::Object};

/// The representation that the `Accept` header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The whole objects.
    Whole,
    /// The metadata alone, as `PartialObjectMetadata`.
    Metadata,
    /// A table, as `meta.k8s.io/v1` `Table`.
    Table,
}

impl View {
    /// The first representation in the header that is known; whole objects if none of them is.
    pub fn accepted(header: &str) -> View {
        let known = header.split(',').find_map(|kind| {
            if !kind.trim_start().starts_with("application/json") {
                None
            } else if kind.contains("as=Table") && !kind.contains("v=v1beta1") {
                Some(View::Table)
            } else if kind.contains("as=PartialObjectMetadata") {
                Some(View::Metadata)
            } else {
                (!kind.contains("as=")).then_some(View::Whole)
            }
        });
        known.unwrap_or(View::Whole)
    }

    /// Represents one object.
    pub fn one(self, served: &Served, object: Object, api: &Inner) -> Value {
        match self {
            View::Whole => object.into_value(),
            View::Metadata => metadata(&object),
            View::Table => {
                let version = json!({"resourceVersion": object.version()});
                table(served, &[object], version, (api.now)())
            }
        }
    }

    /// Represents a collection.
    pub fn list(self, served: &Served, items: Vec<Object>, meta: Value, api: &Inner) -> Value {
        match self {
            View::Whole => {
                let items = items.into_iter().map(|mut object| {
                    // The items of a typed list carry no type of their own.
                    if served.resource.crd.is_none() {
                        object.set("apiVersion", Value::Null);
                        object.set("kind", Value::Null);
                    }
                    object.into_value()
                });
                json!({
                    "kind": format!("{}List", served.resource.kind),
                    "apiVersion": served.api_version(),
                    "metadata": meta,
                    "items": items.collect::<Vec<_>>(),
                })
            }
            View::Metadata => json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": meta,
                "items": items.iter().map(metadata).collect::<Vec<_>>(),
            }),
            View::Table => table(served, &items, meta, (api.now)()),
        }
    }
}

fn metadata(object: &Object) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.metadata(),
    })
}

fn table(served: &Served, objects: &[Object], meta: Value, now: Timestamp) -> Value {
    let columns = columns(served);
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let cells = columns.iter().map(|column| (column.cell)(object, now));
            json!({"cells": cells.collect::<Vec<_>>(), "object": metadata(object)})
        })
        .collect();
    let definitions: Vec<Value> = columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "type": "string",
                "format": if column.name == "Name" { "name" } else { "" },
                "description": column.name,
                "priority": column.priority,
            })
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta,
        "columnDefinitions": definitions,
        "rows": rows,
    })
}

type Cell = Box<dyn Fn(&Object, Timestamp) -> Value>;

struct Column {
    name: String,
    priority: u64,
    cell: Cell,
}

fn column(
    name: &str,
    priority: u64,
    cell: impl Fn(&Object, Timestamp) -> Value + 'static,
) -> Column {
    Column {
        name: name.to_owned(),
        priority,
        cell: Box::new(cell),
    }
}

fn columns(served: &Served) -> Vec<Column> {
    let mut columns = vec![column("Name", 0, |object, _| json!(object.name()))];
    if served.is("", "pods") {
        columns.extend(pod_columns());
    } else if served.is("apps", "deployments") {
        columns.push(column("Ready", 0, |object, _| {
            let ready = object.at("/status/readyReplicas").and_then(Value::as_u64);
            let wanted = object.at("/spec/replicas").and_then(Value::as_u64);
            json!(format!("{}/{}", ready.unwrap_or(0), wanted.unwrap_or(0)))
        }));
    }
    for printed in served.version().columns.as_array().into_iter().flatten() {
        let name = printed["name"].as_str().unwrap_or_default();
        let path = printed["jsonPath"].as_str().unwrap_or_default();
        let pointer = path.replace('.', "/");
        columns.push(column(
            name,
            printed["priority"].as_u64().unwrap_or(0),
            move |object, _| object.at(&pointer).cloned().unwrap_or(Value::Null),
        ));
    }
    if columns
        .iter()
        .all(|column| !column.name.eq_ignore_ascii_case("age"))
    {
        columns.push(column("Age", 0, |object, now| json!(age(object, now))));
    }
    columns
}

fn pod_columns() -> Vec<Column> {
    let text = |pointer: &'static str| {
        move |object: &Object, _: Timestamp| json!(object.text(pointer).unwrap_or("<none>"))
    };
    vec![
        column("Ready", 0, |pod, _| {
            let ready = condition(pod, "ContainersReady");
            let all = pod.at("/spec/containers").and_then(Value::as_array);
            let all = all.map_or(0, Vec::len);
            json!(format!("{}/{all}", if ready { all } else { 0 }))
        }),
        column("Status", 0, |pod, _| match pod.is_terminating() {
            true => json!("Terminating"),
            false => json!(pod.text("/status/phase").unwrap_or_default()),
        }),
        column("Restarts", 0, |pod, _| {
            let statuses = pod
                .at("/status/containerStatuses")
                .and_then(Value::as_array);
            let counts = statuses.into_iter().flatten();
            let counts = counts.filter_map(|status| status["restartCount"].as_u64());
            json!(counts.sum::<u64>().to_string())
        }),
        column("Age", 0, |object, now| json!(age(object, now))),
        column("IP", 1, text("/status/podIP")),
        column("Node", 1, text("/spec/nodeName")),
        column("Readiness Gates", 1, |pod, _| {
            let gates = pod.at("/spec/readinessGates").and_then(Value::as_array);
            let Some(gates) = gates else {
                return json!("<none>");
            };
            let open = gates
                .iter()
                .filter_map(|gate| gate["conditionType"].as_str());
            let open = open.filter(|kind| condition(pod, kind)).count();
            json!(format!("{open}/{}", gates.len()))
        }),
    ]
}

fn condition(pod: &Object, kind: &str) -> bool {
    let conditions = pod.at("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// The age as `kubectl` shows it, in one unit.
fn age(object: &Object, now: Timestamp) -> String {
    let Ok(made) = object.meta_text("creationTimestamp").parse::<Timestamp>() else {
        return "<unknown>".to_owned();
    };
    match now.duration_since(made).as_secs() {
        seconds if seconds < 120 => format!("{}s", seconds.max(0)),
        seconds if seconds < 7200 => format!("{}m", seconds / 60),
        seconds if seconds < 172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}
