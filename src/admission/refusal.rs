//! Refusals of HTTP requests that are not reviews: a status and one sentence.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use thiserror::Error;

/// Why an HTTP request is not answered with an `AdmissionReview`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("there is no hook at this path")]
    Path,
    #[error("a hook is called by POST")]
    Method,
    /// The content type is not JSON.
    #[error("a review is sent as Content-Type application/json")]
    ContentType,
    /// The body is longer than a review can be.
    #[error("the body is longer than {limit} bytes, which no review is")]
    TooLarge { limit: usize },
    /// The body did not arrive within its deadline.
    #[error("the body did not arrive within {seconds} s")]
    TooSlow { seconds: u64 },
    /// Memory for bodies was exhausted, and this incomplete body was the slowest.
    #[error("there was no room for all bodies, and this one came the slowest; send it again")]
    SlowestBody,
    /// The connection failed before the body's end.
    #[error("the body ended before its end")]
    CutOff,
    /// The request does not have a uid that an answer could repeat, or the hook must not answer a request that it
    /// cannot parse.
    #[error("this is no AdmissionReview that can be answered: {problem}")]
    NoReview { problem: String },
    /// Too many reviews are in progress, and this one cannot be answered unread.
    #[error("targetgate is overloaded, try again")]
    Overloaded,
    /// The hook panicked.
    #[error("targetgate failed inside on this review; its log says where")]
    Internal,
}

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Path => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::CutOff | Self::NoReview { .. } => StatusCode::BAD_REQUEST,
            Self::SlowestBody | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The label value in metrics.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Path => "Path",
            Self::Method => "Method",
            Self::ContentType => "ContentType",
            Self::TooLarge { .. } => "TooLarge",
            Self::TooSlow { .. } => "TooSlow",
            Self::SlowestBody => "SlowestBody",
            Self::CutOff => "CutOff",
            Self::NoReview { .. } => "NoReview",
            Self::Overloaded => "Overloaded",
            Self::Internal => "Internal",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
        (self.status(), text, format!("{self}\n")).into_response()
    }
}
