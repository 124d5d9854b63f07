//! Why a call of the ELBv2 API failed, in words that may be logged and shown.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_elasticloadbalancingv2::error::{ProvideErrorMetadata, SdkError};
use targetgate_core::elb::query::DescribeError;
use targetgate_core::text::cut;
use thiserror::Error;

/// Bytes of a foreign error code that are kept.
const MAX_CODE: usize = 64;
/// Bytes of a foreign message that are kept.
const MAX_MESSAGE: usize = 300;
/// Bytes of a chain of causes that are kept: the SDK names each place where it looked.
const MAX_CAUSES_LENGTH: usize = 600;
/// Links of a chain of causes that are kept.
const MAX_CAUSES: usize = 6;

/// A call that got no answer, or an answer that is an error.
///
/// Nothing in it holds a credential: of what AWS says only the first line is kept, because the
/// further lines of `SignatureDoesNotMatch` repeat the request with its session token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{action} for {about} failed: {code}: {message}{}", kind.remedy())]
pub struct ElbError {
    /// The API action.
    pub action: &'static str,
    /// What was asked about: an ARN, a name, or how many of them.
    pub about: String,
    /// What sort of failure it is.
    pub kind: ElbErrorKind,
    /// AWS's error code, or where AWS gave none: `Timeout`, `Unreachable`, `NoCredentials`,
    /// `NoRegion`, `InvalidResponse`, `InvalidRequest`.
    pub code: String,
    /// What AWS says, at most 300 bytes, or the SDK, at most 600.
    pub message: String,
}

impl From<&ElbError> for DescribeError {
    fn from(error: &ElbError) -> Self {
        match error.kind {
            ElbErrorKind::GroupNotFound => Self::NotFound,
            _ => Self::Failed {
                code: error.code.clone(),
                message: error.to_string(),
            },
        }
    }
}

/// What sort of failure an [`ElbError`] is, and so what can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElbErrorKind {
    /// A target group does not exist.
    GroupNotFound,
    /// Too many calls in this account and Region.
    Throttled,
    /// The credentials are expired, unknown or not allowed to.
    Denied,
    /// No credentials could be had, the role of a binding included.
    NoCredentials,
    /// No answer in time.
    Timeout,
    /// No connection, or one that broke.
    Unreachable,
    /// The request is wrong: a malformed id, another account's ARN, a target that cannot be.
    Invalid,
    /// Anything else, such as an internal error of AWS.
    Other,
}

impl ElbErrorKind {
    /// Source of the codes: <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/CommonErrors.html>
    fn of(code: &str) -> Self {
        match code {
            "TargetGroupNotFound" | "TargetGroupNotFoundException" => Self::GroupNotFound,
            "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestLimitExceeded"
            | "RequestThrottled"
            | "TooManyRequestsException" => Self::Throttled,
            "AccessDenied"
            | "AccessDeniedException"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "IncompleteSignature"
            | "InvalidClientTokenId"
            | "MissingAuthenticationToken"
            | "NotAuthorized"
            | "OptInRequired"
            | "RequestExpired"
            | "SignatureDoesNotMatch"
            | "UnauthorizedOperation"
            | "UnrecognizedClientException" => Self::Denied,
            "ValidationError"
            | "InvalidTarget"
            | "InvalidParameterValue"
            | "InvalidParameterCombination"
            | "MissingParameter" => Self::Invalid,
            _ => Self::Other,
        }
    }

    /// Of an answer whose body names no code, such as a proxy's.
    fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Denied,
            429 => Self::Throttled,
            _ => Self::Other,
        }
    }

    /// What the reader can do about it; empty where the message says it all.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::GroupNotFound => {
                "; check that the target group exists in the ARN's account and Region"
            }
            Self::Throttled => {
                "; the account's quota is shared by all callers in the Region: lower --elb-rate-max or ask AWS for more"
            }
            Self::Denied => {
                "; check the credentials, and that their role allows elasticloadbalancing:DescribeTargetHealth and elasticloadbalancing:DescribeTargetGroups on *"
            }
            Self::NoCredentials => {
                "; give the ServiceAccount a role (IRSA or EKS Pod Identity) or the nodes, and check that the role's trust policy lets it in; where a binding names a role, the first role must be allowed sts:AssumeRole on it"
            }
            Self::Timeout | Self::Unreachable => {
                "; check the network path to the Region's elasticloadbalancing endpoint (DNS, NAT or VPC endpoint, proxy)"
            }
            Self::Invalid => "; check the ARN, its account and the targets",
            Self::Other => "",
        }
    }
}

impl ElbError {
    /// AWS's error code, or the one that stands in for it: see the field of this name.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The call was given up after its time.
    pub(crate) fn timeout(action: &'static str, about: String, limit: std::time::Duration) -> Self {
        Self {
            action,
            about,
            kind: ElbErrorKind::Timeout,
            code: "Timeout".to_owned(),
            message: format!("no answer within {limit:?}"),
        }
    }

    /// Nobody said which Region to ask.
    pub(crate) fn no_region(action: &'static str, about: String) -> Self {
        Self {
            action,
            about,
            kind: ElbErrorKind::Invalid,
            code: "NoRegion".to_owned(),
            message: "no Region is known; set AWS_REGION".to_owned(),
        }
    }

    /// The SDK's error in these words.
    pub(crate) fn of_sdk<E>(action: &'static str, about: String, error: &SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        if let Some(missing) = missing_credentials(error) {
            return Self {
                action,
                about,
                kind: ElbErrorKind::NoCredentials,
                code: "NoCredentials".to_owned(),
                message: causes(missing),
            };
        }
        let (kind, code, message) = match error {
            SdkError::ServiceError(service) => match service.err().code() {
                Some(code) => {
                    let message = service.err().message().unwrap_or("no message");
                    (ElbErrorKind::of(code), code, bounded(message, MAX_MESSAGE))
                }
                None => {
                    let status = service.raw().status().as_u16();
                    let message = format!("HTTP {status} with a body that is no error of AWS's");
                    (ElbErrorKind::of_status(status), "InvalidResponse", message)
                }
            },
            SdkError::TimeoutError(_) => (ElbErrorKind::Timeout, "Timeout", causes(error)),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                (ElbErrorKind::Timeout, "Timeout", causes(error))
            }
            SdkError::DispatchFailure(_) => {
                (ElbErrorKind::Unreachable, "Unreachable", causes(error))
            }
            SdkError::ConstructionFailure(_) => {
                (ElbErrorKind::Invalid, "InvalidRequest", causes(error))
            }
            _ => (ElbErrorKind::Other, "InvalidResponse", causes(error)),
        };
        // The parser lets a code that is not closed run on into the message.
        let code = bounded(code, MAX_CODE);
        Self {
            action,
            about,
            kind,
            code,
            message,
        }
    }
}

/// The link that says that no credentials could be had: none configured, or a role that could not be
/// assumed.
fn missing_credentials<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CredentialsError> {
    std::iter::successors(Some(error), |&error| error.source())
        .find_map(|error| error.downcast_ref())
}

/// An error's causes in one line: the SDK's own outermost words say only which step failed.
///
/// Of each the lines are kept, for the SDK lists where it looked for credentials; but not what follows a
/// line break that is escaped: that is AWS's message, whose first line alone is safe.
pub(super) fn causes(error: &dyn Error) -> String {
    let chain: Vec<String> = std::iter::successors(error.source(), |&error| error.source())
        .take(MAX_CAUSES)
        .map(|error| error.to_string())
        .collect();
    let text = match chain.is_empty() {
        true => error.to_string(),
        false => chain.join(": "),
    };
    let safe = text.split("\\n").next().unwrap_or("");
    let lines: Vec<&str> = safe.lines().map(str::trim).collect();
    let line = lines.join("; ").replace(":; ", ": ");
    cut(&line, MAX_CAUSES_LENGTH).to_owned()
}

/// The first line of a foreign text, cut.
fn bounded(text: &str, length: usize) -> String {
    let line = text.trim().lines().next().unwrap_or("");
    cut(line, length).to_owned()
}
