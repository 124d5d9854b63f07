//! The Query protocol, which takes a form and answers XML.
//!
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/Welcome.html>

mod actions;
mod attributes;
mod error;
mod lookup;
mod registration;
mod request;
mod response;
mod zones;

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Body;

pub use self::error::ApiError;
use self::request::{Action, Form};
use self::response::Answer;
use super::Elb;
use super::log::CallOutcome;

/// The longest body that is read. Chosen; 1,000 targets need a twentieth of it.
const MAX_BODY: usize = 1 << 20;

/// The Query API as a [`tower::Service`]; see [`Elb::service`].
#[derive(Clone, Debug)]
pub struct QueryApi {
    elb: Elb,
}

impl QueryApi {
    pub(super) fn new(elb: Elb) -> Self {
        Self { elb }
    }

    /// Answers one request. An error of the API is an answer too.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data: Buf, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let request_id = self.elb.next_request_id();
        let (status, body) = match self.call(request).await {
            Ok((action, answer)) => (
                StatusCode::OK,
                response::success(&action, &answer, &request_id),
            ),
            Err(error) => (error.status, response::failure(&error, &request_id)),
        };
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert("content-type", http::HeaderValue::from_static("text/xml"));
        if let Ok(id) = request_id.parse() {
            headers.insert("x-amzn-requestid", id);
        }
        response
    }

    async fn call<B>(&self, request: Request<B>) -> Result<(String, Answer), ApiError>
    where
        B: Body<Data: Buf, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let form = read_form(request).await?;
        let action = form.action().to_owned();
        let arns = form.arns();
        let guard = self.elb.call_began(&action, arns.clone());
        let result = match self.elb.faults().apply(&action, &arns).await {
            Ok(()) => self.perform(&form),
            Err(error) => Err(error),
        };
        guard.finish(match &result {
            Ok(_) => CallOutcome::Ok,
            Err(error) => CallOutcome::Error(error.code().to_owned()),
        });
        result.map(|answer| (action, answer))
    }

    fn perform(&self, form: &Form) -> Result<Answer, ApiError> {
        let prefix = self.elb.arn_prefix();
        let action = Action::parse(form, &prefix, &self.elb.options().delays)?;
        self.elb.perform(action)
    }
}

impl<B> tower::Service<Request<B>> for QueryApi
where
    B: Body<Data: Buf + Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move { Ok(api.answer(request).await) })
    }
}

/// Reads the parameters of a POST from its body, and those of a GET from its query.
async fn read_form<B>(request: Request<B>) -> Result<Form, ApiError>
where
    B: Body<Data: Buf, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    match *request.method() {
        Method::GET => Ok(Form::parse(
            request.uri().query().unwrap_or_default().as_bytes(),
        )),
        Method::POST => {
            let body = Limited::new(request.into_body(), MAX_BODY).collect().await;
            let body = body.map_err(|_| ApiError::too_large(MAX_BODY))?;
            Ok(Form::parse(&body.to_bytes()))
        }
        ref other => Err(ApiError::malformed(format!(
            "The method {other} is not part of the Query protocol, use POST"
        ))),
    }
}

#[cfg(test)]
mod tests;
