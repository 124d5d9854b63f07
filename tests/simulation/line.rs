//! The line of one replica to the API server, on which requests fail, get lost or arrive late.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use targetgate_sandbox::api::ResponseBody;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tower::{Service as _, service_fn};

use crate::direct;
use crate::facts::Failed;
use crate::kubelet::Written;
use crate::random::Random;
use crate::steps::SLICES;
use crate::witness::{Witness, is_judged, is_pod_status, object_path};

/// The objects on a page of a list. Chosen, so that the lists of seeds have a few pages.
const PAGE: usize = 5;

/// The percentage of requests that meet each fate. The others pass.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    /// Requests for which there is no connection.
    pub(crate) refused: u64,
    /// Whether requests about the Lease fail and all others pass. The Lease has a priority level of its own in
    /// the API server.
    pub(crate) no_lease: bool,
    /// Whether lists and watches of pods fail and all other requests pass.
    pub(crate) no_pods: bool,
    /// The same for Services.
    pub(crate) no_services: bool,
    /// Requests that fail with 500, 429 or, for a patch, 409, and have no effect.
    pub(crate) denied: u64,
    /// Requests that take effect, and are answered with a failure or not at all.
    pub(crate) unanswered: u64,
    /// Requests that take effect, and are answered after others have seen the effect.
    pub(crate) slow: u64,
    /// Requests that arrive up to 30 s later, though their sender may have given up or died by then.
    pub(crate) late: u64,
    /// How each status patch of a pod fails, whatever the fate of other requests.
    pub(crate) writes: Option<Failing>,
    /// Calls of ELB that register or deregister, take effect, and are not answered.
    pub(crate) calls_lost: u64,
    /// Such calls that arrive up to 9 s later, though their sender may have given up or died by then.
    pub(crate) calls_late: u64,
}

/// How the status patches of pods fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failing {
    /// They are answered with 500, and have no effect.
    Denied,
    /// They have no effect, and are not answered.
    Lost,
    /// Another client writes to the pod just before, and the watch reports that before the 409 arrives.
    Overtaken,
}

impl Failing {
    pub(crate) const ALL: [Self; 3] = [Self::Denied, Self::Lost, Self::Overtaken];

    fn fate(self, millis: u64) -> Fate {
        match self {
            Self::Denied => Fate::Denied(500),
            Self::Lost => Fate::Lost(Duration::from_millis(500 + millis % 5_000)),
            Self::Overtaken => Fate::Overtaken(Duration::from_millis(10 + millis % 500)),
        }
    }
}

impl Weather {
    fn fate(self, writes: bool, random: &mut Random) -> Fate {
        // Each request draws as often as any other, so that its fate does not change later draws.
        let (drawn, which, millis) = (random.next() % 100, random.below(3), random.next());
        if let Some(failing) = self.writes.filter(|_| writes) {
            return failing.fate(millis);
        }
        let mut below = 0;
        let mut within = |share: u64| {
            below += share;
            drawn < below
        };
        if within(self.refused) {
            Fate::Refused
        } else if within(self.denied) {
            Fate::Denied([500, 429, 409][which])
        } else if within(self.unanswered) {
            Fate::Unanswered(Duration::from_millis([0, 0, 30_000][which]))
        } else if within(self.slow) {
            Fate::Slow(Duration::from_millis(millis % [500, 3_000, 9_000][which]))
        } else if within(self.late) {
            Fate::Late(Duration::from_millis(millis % [500, 5_000, 30_000][which]))
        } else {
            Fate::Passes
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Passes,
    Refused,
    Denied(u16),
    Unanswered(Duration),
    Slow(Duration),
    Late(Duration),
    Lost(Duration),
    Overtaken(Duration),
}

/// The settings of a line.
#[derive(Clone)]
pub(crate) struct Line {
    /// The replica, with the number of its life.
    pub(crate) incarnation: String,
    pub(crate) witness: Witness,
    pub(crate) weather: Arc<Mutex<Weather>>,
    /// Whether requests are held up at present.
    pub(crate) held_up: watch::Receiver<bool>,
    pub(crate) random: Arc<Mutex<Random>>,
    pub(crate) kubelet: Option<Written>,
}

impl Line {
    pub(crate) fn client(self) -> Client {
        let line = service_fn(move |request: Request<Body>| {
            // A request that was sent arrives, even if its sender has given up.
            let sent = tokio::spawn(self.clone().carry(request));
            async move { sent.await.map_err(std::io::Error::other)? }
        });
        Client::new(line, "targetgate-system")
    }

    async fn carry(self, request: Request<Body>) -> std::io::Result<Response<ResponseBody>> {
        let weather = *self.weather.lock();
        let (mut head, body) = request.into_parts();
        if self.witness.knows_all {
            shorten_page(&mut head.uri);
        }
        let writes = head.method == http::Method::PATCH && is_pod_status(head.uri.path());
        let fate = match weather.fate(writes, &mut self.random.lock()) {
            _ if weather.no_lease && head.uri.path().contains("/leases") => Fate::Refused,
            _ if weather.no_pods && head.uri.path().ends_with("/pods") => Fate::Refused,
            _ if weather.no_services && is_watched(&head, "services") => Fate::Refused,
            fate => fate,
        };
        let body = body
            .collect()
            .await
            .map_err(std::io::Error::other)?
            .to_bytes();
        let shown = shown(head.method.as_str(), head.uri.path());
        if fate == Fate::Passes && head.method == http::Method::GET {
            // Most requests are such, and what follows from their answers is in the trace anyway.
        } else {
            let page = if is_next_page(&head.uri) {
                " of a next page"
            } else {
                ""
            };
            self.note(&format!("{shown} {fate:?}{page}"));
        }
        match fate {
            Fate::Refused => return Err(std::io::ErrorKind::ConnectionRefused.into()),
            Fate::Lost(after) => {
                self.write_fails(writes, head.uri.path(), after);
                sleep(after).await;
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            Fate::Denied(500) if writes => {
                self.write_fails(writes, head.uri.path(), Duration::ZERO);
                return Ok(failure(500));
            }
            Fate::Denied(409) if head.method != http::Method::PATCH => return Ok(failure(500)),
            Fate::Denied(code) => return Ok(failure(code)),
            _ => {}
        }
        let judged = head.method == http::Method::PATCH && is_judged(head.uri.path());
        let patch = judged.then(|| {
            let patch: Value = serde_json::from_slice(&body).unwrap_or_default();
            let sent = self
                .witness
                .sent(&self.incarnation, head.uri.path(), &patch);
            (sent, head.uri.path().to_owned())
        });
        if let Fate::Overtaken(after) = fate {
            self.overtake(head.uri.path()).await;
            self.write_fails(writes, head.uri.path(), after);
            sleep(after).await;
        }
        if let Fate::Late(late) = fate {
            sleep(late).await;
        }
        self.passes().await;
        let slices = is_watched(&head, SLICES).then(|| !is_next_page(&head.uri));
        let incumbent = crate::incumbent::is_lease(head.uri.path())
            .then(|| self.witness.facts.lock().incumbent.leads());
        let api = &self.witness.api;
        let object = patch.map(|(sent, path)| (sent, direct::get(api, object_path(&path)), path));
        let answer = api
            .service()
            .call(Request::from_parts(head, Body::from(body.to_vec())))
            .await?;
        if let Some((sent, Some(before), path)) = object
            && answer.status().is_success()
            && let Some(after) = direct::get(api, object_path(&path))
        {
            self.witness.patched(&sent, &before, &after);
            if is_pod_status(&path) {
                self.write_works(&path);
                if let Some(kubelet) = &self.kubelet {
                    // The kubelet lives as long as the world.
                    let _ = kubelet.send(object_path(&path).to_owned()).await;
                }
            }
        }
        if fate != Fate::Passes || !answer.status().is_success() {
            self.note(&format!("{shown} done {}", answer.status().as_u16()));
        }
        if shown.contains("/leases/") {
            self.witness.see_leader();
        }
        if shown.contains("/targetrecords") {
            self.witness.expect_recorded("a write of a record");
        } else if shown.contains("/targetgroupbindings/") {
            self.witness.see_bindings_go();
        }
        let succeeds = answer.status().is_success();
        match fate {
            Fate::Unanswered(after) => {
                sleep(after).await;
                return Ok(failure(504));
            }
            Fate::Slow(after) => sleep(after).await,
            _ => {}
        }
        if let Some(leads) = incumbent.filter(|_| answer.status().is_success()) {
            let mut facts = self.witness.facts.lock();
            facts.incumbent.tell(&self.incarnation, leads);
        }
        Ok(match slices.filter(|_| succeeds) {
            Some(first_page) => answer.map(|body| {
                let witness = &self.witness;
                witness.overhear_slices(&self.incarnation, body, first_page)
            }),
            None => answer,
        })
    }

    /// Waits while the line is held up.
    async fn passes(&self) {
        let mut held_up = self.held_up.clone();
        // Without its sender, the line is not held up.
        let _ = held_up.wait_for(|held_up| !*held_up).await;
    }

    /// Writes to a pod as another client.
    async fn overtake(&self, path: &str) {
        let seen = self.random.lock().next().to_string();
        let patch = json!({ "metadata": { "annotations": { "example.com/overtook": seen } } });
        let api = &self.witness.api;
        direct::call(api, "MERGE", object_path(path), Some(&patch)).await;
    }

    /// Notes that a status patch failed, which its sender hears `after` that.
    fn write_fails(&self, writes: bool, path: &str, after: Duration) {
        if !writes {
            return;
        }
        let mut facts = self.witness.facts.lock();
        let failed = facts.failed.entry(object_path(path).to_owned());
        let until = Instant::now() + after;
        let failed = failed.or_insert(Failed { times: 0, until });
        failed.times += 1;
        failed.until = until;
    }

    fn write_works(&self, path: &str) {
        let mut facts = self.witness.facts.lock();
        facts.failed.remove(object_path(path));
    }

    fn note(&self, what: &str) {
        self.witness.trace.note(&self.incarnation, what);
    }
}

/// Asks for a page of so few objects that the lists of seeds have several, each of which may fail.
fn shorten_page(uri: &mut Uri) {
    let Some((path, query)) = uri
        .path_and_query()
        .and_then(|all| all.as_str().split_once('?'))
    else {
        return;
    };
    let shorter = |part: &str| match part.starts_with("limit=") {
        true => format!("limit={PAGE}"),
        false => part.to_owned(),
    };
    let parts: Vec<String> = query.split('&').map(shorter).collect();
    let shorter = format!("{path}?{}", parts.join("&"));
    *uri = shorter.parse().unwrap_or_else(|_| uri.clone());
}

fn is_next_page(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.contains("continue="))
}

/// Whether a request lists or watches the objects of this resource.
fn is_watched(head: &http::request::Parts, resource: &str) -> bool {
    head.method == http::Method::GET && head.uri.path().rsplit('/').next() == Some(resource)
}

/// The names of Events contain the real time, so they are left out.
fn shown(method: &str, path: &str) -> String {
    match path.split_once("/events/") {
        Some((before, _)) => format!("{method} {before}/events/…"),
        None => format!("{method} {path}"),
    }
}

fn failure(code: u16) -> Response<ResponseBody> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": "", "message": "on the simulation's request",
        "details": { "retryAfterSeconds": if code == 429 { 2 } else { 0 } },
    });
    let body = Full::new(Bytes::from(status.to_string())).boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = header::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}
