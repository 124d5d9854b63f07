//! Maps HTTP requests to verbs on resources, and results to HTTP responses.

use std::{convert::Infallible, io, sync::Arc};

use bytes::Bytes;
use futures::stream;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Body as HttpBody, Frame};
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::{Value, json};

use super::{
    Inner,
    calls::{Call, Verb},
    delete::{DeleteOptions, Deleted},
    discovery,
    faults::{Away, When},
    list::{self, Query, Selection},
    object::Object,
    patch::Patch,
    status::Status,
    store::Scan,
    target::Target,
    view::View,
    watch::Watch,
    write::Write,
};

/// The body of a response.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The largest request body that is read, in bytes. kube-apiserver's limit.
const LARGEST: usize = 3 << 20;

/// Answers one request. An error stands for a server that refuses connections.
pub async fn handle<B>(api: Arc<Inner>, request: Request<B>) -> io::Result<Response<Body>>
where
    B: HttpBody<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let now = (api.now)();
    let mut answer = undated(api, request).await?;
    // hyper dates by the machine's clock what has no date, and the sandbox has a clock of its own.
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
    if let Some(date) = date.ok().and_then(|date| date.parse().ok()) {
        answer.headers_mut().insert(header::DATE, date);
    }
    Ok(answer)
}

async fn undated<B>(api: Arc<Inner>, request: Request<B>) -> io::Result<Response<Body>>
where
    B: HttpBody<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match api.faults.is_away() {
        Some(Away::Refusing) => {
            let away = "the sandbox's API server is away";
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, away));
        }
        Some(Away::Answering(code)) => {
            return Ok(refusal(&Status::new(code, "", "the server is away")));
        }
        None => {}
    }
    let path = request.uri().path().to_owned();
    let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if let ["healthz" | "livez" | "readyz", ..] = path.as_slice() {
        return Ok(plain(200, "ok"));
    }
    if let Some(answer) = discovery::answer(&api, &path) {
        return Ok(object_answer(200, &answer, &[]));
    }
    let Some(target) = target(&api, &path) else {
        return Ok(plain(404, "404 page not found\n"));
    };
    let answer = match resource(&api, target, request).await {
        Ok(answer) => answer,
        Err(status) => refusal(&status),
    };
    Ok(answer)
}

/// Parses a path such as `/api/v1/namespaces/NS/pods/NAME/status`.
fn target(api: &Inner, path: &[&str]) -> Option<Target> {
    let (group, version, rest) = match path {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", _, "status"] => ("", rest),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, "", ""),
        [plural, name] => (*plural, *name, ""),
        [plural, name, subresource] => (*plural, *name, *subresource),
        _ => return None,
    };
    let served = api.served(group, version, plural)?;
    let known = match subresource {
        "" => true,
        "status" => served.version().status,
        "binding" => served.is("", "pods"),
        _ => false,
    };
    // A namespaced object is named within its namespace, and a cluster-scoped one without any.
    let placed = match served.resource.namespaced {
        true => name.is_empty() || !namespace.is_empty(),
        false => namespace.is_empty(),
    };
    (known && placed).then(|| Target {
        served,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
    })
}

async fn resource<B>(
    api: &Arc<Inner>,
    target: Target,
    request: Request<B>,
) -> Result<Response<Body>, Status>
where
    B: HttpBody<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let verb = verb(request.method(), &target, &query).ok_or_else(Status::method_not_allowed)?;
    let call = call(verb, &target);
    api.calls.record(call.clone());
    let failure = api.faults.next_failure(&call);
    if let Some((status, When::Before)) = failure {
        return Err(status);
    }
    let answer = Exchange {
        api,
        target,
        query,
        view: View::accepted(header_text(&request, &header::ACCEPT)),
        content_type: header_text(&request, &header::CONTENT_TYPE).to_owned(),
        body: read_body(request.into_body()).await?,
    }
    .answer(verb)
    .await;
    match failure {
        Some((status, _)) => Err(status),
        None => answer,
    }
}

fn verb(method: &Method, target: &Target, query: &Query) -> Option<Verb> {
    let collection = target.name.is_empty();
    let watch = query.flag("watch") && target.subresource.is_empty();
    match *method {
        Method::GET if watch => Some(Verb::Watch),
        Method::GET if target.subresource == "binding" => None,
        Method::GET => Some(if collection { Verb::List } else { Verb::Get }),
        Method::POST if collection && !target.served.resource.namespaced => Some(Verb::Create),
        Method::POST if collection && !target.namespace.is_empty() => Some(Verb::Create),
        Method::POST if target.subresource == "binding" => Some(Verb::Create),
        Method::PUT if !collection => Some(Verb::Update),
        Method::PATCH if !collection => Some(Verb::Patch),
        Method::DELETE if collection => Some(Verb::DeleteCollection),
        Method::DELETE if target.subresource.is_empty() => Some(Verb::Delete),
        _ => None,
    }
}

fn call(verb: Verb, target: &Target) -> Call {
    Call {
        verb,
        resource: target.path(),
        namespace: target.namespace.clone(),
        name: target.name.clone(),
    }
}

fn header_text<'r, B>(request: &'r Request<B>, name: &header::HeaderName) -> &'r str {
    let value = request.headers().get(name);
    value.and_then(|v| v.to_str().ok()).unwrap_or_default()
}

async fn read_body<B>(body: B) -> Result<Bytes, Status>
where
    B: HttpBody<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match Limited::new(body, LARGEST).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Status::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {LARGEST}"),
        )),
        Err(error) => Err(Status::bad_request(format!("error reading body: {error}"))),
    }
}

struct Exchange<'a> {
    api: &'a Arc<Inner>,
    target: Target,
    query: Query,
    view: View,
    content_type: String,
    body: Bytes,
}

impl Exchange<'_> {
    async fn answer(self, verb: Verb) -> Result<Response<Body>, Status> {
        match verb {
            Verb::Get => {
                let object = list::read(self.api, &self.target)?;
                Ok(self.object(200, object, &[]))
            }
            Verb::List => {
                let list = list::list(self.api, &self.target, &self.query, self.view)?;
                Ok(object_answer(200, &list, &[]))
            }
            Verb::Watch => {
                let watch = Watch::open(self.api, &self.target, &self.query, self.view)?;
                Ok(stream_answer(watch))
            }
            Verb::Create | Verb::Update | Verb::Patch => self.write(verb).await,
            Verb::Delete => self.delete().await,
            Verb::DeleteCollection => self.delete_collection().await,
        }
    }

    fn object(&self, code: u16, object: Object, warnings: &[String]) -> Response<Body> {
        let shown = self.view.one(&self.target.served, object, self.api);
        object_answer(code, &shown, warnings)
    }

    fn writer(&self) -> Result<Write<'_>, Status> {
        let dry_run = match self.query.text("dryRun") {
            "" => false,
            "All" => true,
            other => {
                return Err(Status::bad_request(format!(
                    "dryRun: Unsupported value: \"{other}\": supported values: \"All\""
                )));
            }
        };
        Ok(Write {
            api: self.api,
            dry_run,
            warnings: vec![],
        })
    }

    fn read_object(&self) -> Result<Object, Status> {
        let value = if self.content_type.contains("protobuf") || self.content_type.contains("cbor")
        {
            return Err(Status::new(
                415,
                "UnsupportedMediaType",
                format!(
                    "the body of the request was in an unknown format ({}) - accepted media types \
                     include: application/json, application/yaml",
                    self.content_type
                ),
            ));
        } else if self.content_type.contains("yaml") {
            serde_saphyr::from_slice(&self.body).map_err(|error| error.to_string())
        } else {
            serde_json::from_slice(&self.body).map_err(|error| error.to_string())
        };
        value.and_then(Object::new).map_err(|error| {
            Status::bad_request(format!("the object provided is unrecognized: {error}"))
        })
    }

    async fn write(&self, verb: Verb) -> Result<Response<Body>, Status> {
        let mut write = self.writer()?;
        let (code, object) = match verb {
            Verb::Create if self.target.subresource == "binding" => {
                write.bind(&self.target, &self.read_object()?).await?;
                let done = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {},
                    "status": "Success", "code": 201,
                });
                return Ok(object_answer(201, &done, &write.warnings));
            }
            Verb::Create => {
                let object = write.create(&self.target, self.read_object()?).await?;
                (201, object)
            }
            Verb::Update => {
                let object = write.replace(&self.target, self.read_object()?).await?;
                (200, object)
            }
            _ => {
                let custom = self.target.served.resource.crd.is_some();
                let patch = Patch::read(&self.content_type, &self.body, custom)?;
                let (object, created) = write.patch(&self.target, &patch).await?;
                (if created { 201 } else { 200 }, object)
            }
        };
        Ok(self.object(code, object, &write.warnings))
    }

    fn delete_options(&self) -> Result<(DeleteOptions, bool), Status> {
        let body: Value = if self.body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&self.body)
                .map_err(|error| Status::bad_request(format!("DeleteOptions: {error}")))?
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let in_query = self.query.number("gracePeriodSeconds")?;
        let options = DeleteOptions {
            grace: body["gracePeriodSeconds"].as_u64().or(in_query),
            uid: text(&body["preconditions"]["uid"]),
            version: text(&body["preconditions"]["resourceVersion"]),
        };
        let dry_run = body["dryRun"].as_array();
        Ok((options, dry_run.is_some_and(|list| !list.is_empty())))
    }

    async fn delete(&self) -> Result<Response<Body>, Status> {
        let mut write = self.writer()?;
        let (options, dry_run) = self.delete_options()?;
        write.dry_run |= dry_run;
        let served = &self.target.served;
        let deleted = write.delete(&self.target, &options).await?;
        Ok(match deleted {
            // A deleted pod is returned itself; for other kinds a `Status` only confirms the
            // deletion.
            Deleted::Gone(object) if !served.is("", "pods") => {
                let mut details = json!({
                    "name": object.name(),
                    "kind": served.resource.plural,
                    "uid": object.uid(),
                });
                if !served.resource.group.is_empty() {
                    details["group"] = json!(served.resource.group);
                }
                let done = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {},
                    "status": "Success", "details": details,
                });
                object_answer(200, &done, &write.warnings)
            }
            Deleted::Gone(object) | Deleted::Terminating(object) => {
                self.object(200, served.present(&object), &write.warnings)
            }
        })
    }

    async fn delete_collection(&self) -> Result<Response<Body>, Status> {
        let selection = Selection::read(&self.target, &self.query)?;
        let mut write = self.writer()?;
        let (options, dry_run) = self.delete_options()?;
        write.dry_run |= dry_run;
        let page = self.api.store.list(&Scan {
            keep: &|object| selection.matches(object),
            ..Scan::all(&self.target.served.resource, selection.namespace.as_deref())
        });
        let mut items = Vec::new();
        for (key, object) in page.items {
            let target = self.target.object(&key.namespace, &key.name);
            match write.delete(&target, &options).await {
                Ok(_) => items.push(self.target.served.present(&object)),
                Err(status) if status.code == 404 => {}
                Err(status) => return Err(status),
            }
        }
        let meta = json!({"resourceVersion": page.version.to_string()});
        let list = View::Whole.list(&self.target.served, items, meta, self.api);
        Ok(object_answer(200, &list, &write.warnings))
    }
}

fn stream_answer(watch: Watch) -> Response<Body> {
    let lines = stream::unfold(watch, |mut watch| async move {
        let line = watch.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(line)), watch))
    });
    let mut response = Response::new(StreamBody::new(lines).boxed_unsync());
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn refusal(status: &Status) -> Response<Body> {
    let mut response = object_answer(status.code, &status.body(), &[]);
    if let Some(seconds) = status.details["retryAfterSeconds"].as_u64() {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn object_answer(code: u16, value: &Value, warnings: &[String]) -> Response<Body> {
    let mut response = whole(code, value.to_string(), "application/json");
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = format!("299 - \"{quoted}\"").parse() {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

fn plain(code: u16, text: &'static str) -> Response<Body> {
    whole(code, text.to_owned(), "text/plain; charset=utf-8")
}

fn whole(code: u16, text: String, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    // A code that a test asked for and that HTTP does not know becomes a 500.
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let value = header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}
