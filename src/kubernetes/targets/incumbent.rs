//! The incumbent's Lease, which says whether it leads.
//!
//! Needs the verb `get` on that one Lease.

use http::header::DATE;
use http::{Request as HttpRequest, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::GetParams;
use kube::client::Body;
use kube::core::{Request, Status};
use kube::{Client, Resource as _};
use targetgate_core::names::ObjectKey;
use targetgate_core::targets::incumbent::Look;
use tokio::time::timeout;
use tracing::debug;

use crate::kubernetes::{CALL_TIMEOUT, is_absence, why};

/// Maximum length of an answer, in bytes: the API server's limit on the body of a request.
const LARGEST_ANSWER: usize = 3 << 20;

/// Reads the Lease, with the API server's clock.
pub async fn look(client: &Client, lease: &ObjectKey) -> Look {
    let call = async {
        let requests = Request::new(Lease::url_path(&(), Some(&lease.namespace)));
        let request = requests
            .get(&lease.name, &GetParams::default())
            .map_err(kube::Error::BuildRequest)?;
        send(client, request).await
    };
    match timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(answer)) => read(&answer),
        Ok(Err(error)) => {
            debug!(%lease, error = why(&error), "the incumbent's Lease is not read");
            Look::Failed
        }
        Err(_) => Look::Failed,
    }
}

async fn send(client: &Client, request: HttpRequest<Vec<u8>>) -> kube::Result<Response<Vec<u8>>> {
    let answer = client.send(request.map(Body::from)).await?;
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, LARGEST_ANSWER).collect().await;
    let body = body.map_err(kube::Error::Service)?.to_bytes();
    Ok(Response::from_parts(parts, body.into()))
}

fn read(answer: &Response<Vec<u8>>) -> Look {
    match answer.status() {
        StatusCode::OK => found(answer).unwrap_or(Look::Failed),
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Look::Forbidden,
        StatusCode::NOT_FOUND => {
            let status: Option<Status> = serde_json::from_slice(answer.body()).ok();
            match status.is_some_and(|status| is_absence(&status)) {
                true => Look::Absent,
                false => Look::Failed,
            }
        }
        _ => Look::Failed,
    }
}

fn found(answer: &Response<Vec<u8>>) -> Option<Look> {
    let lease: Lease = serde_json::from_slice(answer.body()).ok()?;
    let renewed = lease.spec.and_then(|spec| spec.renew_time);
    let date = answer.headers().get(DATE)?.to_str().ok()?;
    let now: Timestamp = DateTimeParser::new().parse_timestamp(date).ok()?;
    let renewed = renewed.map(|time| time.0);
    Some(Look::Found { renewed, now })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    const DATE_: &str = "Mon, 30 Nov 2026 08:00:00 GMT";

    fn answered(status: u16, date: Option<&str>, body: &Value) -> Look {
        let mut answer = Response::builder().status(status);
        if let Some(date) = date {
            answer = answer.header("date", date);
        }
        read(&answer.body(body.to_string().into_bytes()).unwrap())
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_lease_is_read_with_the_api_servers_clock() {
        let lease = json!({ "spec": { "renewTime": "2026-11-30T07:59:58.123456Z" } });
        let found = Look::Found {
            renewed: Some(at("2026-11-30T07:59:58.123456Z")),
            now: at("2026-11-30T08:00:00Z"),
        };
        assert_eq!(answered(200, Some(DATE_), &lease), found);
        let never = Look::Found {
            renewed: None,
            now: at("2026-11-30T08:00:00Z"),
        };
        assert_eq!(answered(200, Some(DATE_), &json!({})), never);
    }

    #[rstest]
    #[case::denied(403, json!({}), Look::Forbidden)]
    #[case::absent(404, json!({ "code": 404, "details": { "name": "leader" } }), Look::Absent)]
    #[case::no_path(404, json!({ "code": 404 }), Look::Failed)]
    #[case::away(503, json!({}), Look::Failed)]
    #[case::no_lease(200, json!([]), Look::Failed)]
    fn what_is_no_lease_is_told_apart(
        #[case] status: u16,
        #[case] body: Value,
        #[case] expected: Look,
    ) {
        assert_eq!(answered(status, Some(DATE_), &body), expected);
        if status == 200 {
            assert_eq!(answered(200, None, &json!({})), Look::Failed, "no clock");
        }
    }
}
