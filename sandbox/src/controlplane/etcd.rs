//! Requests to etcd itself, over its JSON gateway.
//!
//! Source: <https://etcd.io/docs/v3.6/dev-guide/api_grpc_gateway/>

use std::{error::Error, net::SocketAddr, time::Duration};

use http::{Request, StatusCode};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::ControlPlaneError;
use crate::get::get;

/// The timeout of a request. Chosen.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

pub(super) async fn serves(etcd: SocketAddr) -> bool {
    let answer = get(etcd, "/health").await;
    answer.is_ok_and(|(code, _)| code == StatusCode::OK)
}

/// Compacts etcd's history, which drops every revision before the newest.
pub(super) async fn compact(etcd: SocketAddr) -> Result<(), ControlPlaneError> {
    let failed = |why: String| ControlPlaneError::Etcd {
        what: "compact its history",
        why,
    };
    // Any key will do, even one that does not exist, because each answer has the current revision.
    let read = post(etcd, "/v3/kv/range", &json!({ "key": "AA==" })).await;
    let read = read.map_err(|error| failed(error.to_string()))?;
    let revision = &read["header"]["revision"];
    let asked = json!({ "revision": revision, "physical": true });
    let compacted = post(etcd, "/v3/kv/compaction", &asked).await;
    compacted
        .map(drop)
        .map_err(|error| failed(format!("{error}, at revision {revision}")))
}

async fn post(
    etcd: SocketAddr,
    path: &str,
    body: &Value,
) -> Result<Value, Box<dyn Error + Send + Sync>> {
    let client = Client::try_from(Config::new(format!("http://{etcd}").parse()?))?;
    let request = Request::post(path).body(body.to_string().into_bytes())?;
    Ok(timeout(ANSWERS_WITHIN, client.request(request)).await??)
}
