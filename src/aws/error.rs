//! Why a call of the ELBv2 API failed, without secrets, so that it can be logged and shown.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_elasticloadbalancingv2::error::{ProvideErrorMetadata, SdkError};
use targetgate_core::elb::query::{DescribeError, FailureKind};
use targetgate_core::text::cut;
use thiserror::Error;

/// Maximum length of a foreign error code, in bytes; longer ones are truncated. Chosen.
const MAX_CODE: usize = 64;
/// Maximum length of a foreign message, in bytes; longer ones are truncated. Chosen.
const MAX_MESSAGE: usize = 300;
/// Maximum length of a chain of causes, in bytes. Chosen: the SDK lists each place where it looked for credentials.
const MAX_CAUSES_LENGTH: usize = 600;
/// Maximum number of links of a chain of causes. Chosen.
const MAX_CAUSES: usize = 6;

/// The code of a call without a Region.
const NO_REGION: &str = "NoRegion";
/// The code of a request that the SDK could not make.
const INVALID_REQUEST: &str = "InvalidRequest";

/// A call that was not answered, or that AWS answered with an error.
///
/// It never holds a credential: it keeps only the first line of AWS's message, because the further lines of
/// `SignatureDoesNotMatch` repeat the request with its session token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{action} for {about} failed: {code}: {message}{}", kind.remedy_of(action))]
pub struct ElbError {
    pub action: &'static str,
    /// The subject of the call: an ARN, a name, or how many of them.
    pub about: String,
    pub kind: ElbErrorKind,
    /// AWS's error code, or without one: `Timeout`, `Unreachable`, `NoCredentials`,
    /// `NoRegion`, `InvalidResponse`, `InvalidRequest`.
    pub code: String,
    /// AWS's message, at most 300 bytes, or the SDK's, at most 600.
    pub message: String,
}

impl From<&ElbError> for DescribeError {
    fn from(error: &ElbError) -> Self {
        let kind = match error.kind {
            ElbErrorKind::GroupNotFound => return Self::NotFound,
            ElbErrorKind::Denied => FailureKind::Denied,
            ElbErrorKind::NoCredentials => FailureKind::NoCredentials,
            // These two are not an answer of AWS: the Region is not set, or the SDK could not make the request.
            ElbErrorKind::Invalid if matches!(&*error.code, NO_REGION | INVALID_REQUEST) => {
                FailureKind::Unavailable
            }
            ElbErrorKind::Invalid => FailureKind::Invalid,
            ElbErrorKind::Throttled
            | ElbErrorKind::Timeout
            | ElbErrorKind::Unreachable
            | ElbErrorKind::Other => FailureKind::Unavailable,
        };
        // The hooks say which call it was, and what to do, in their own words.
        Self::Failed {
            kind,
            code: error.code.clone(),
            message: error.message.clone(),
        }
    }
}

/// The kind of failure of an [`ElbError`], which decides what can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElbErrorKind {
    GroupNotFound,
    /// AWS throttles calls in this account and Region.
    Throttled,
    /// AWS rejects the credentials as expired, unknown or not authorized.
    Denied,
    /// The SDK does not find credentials, or cannot assume the role of a binding.
    NoCredentials,
    /// AWS did not answer in time.
    Timeout,
    /// The connection failed or broke.
    Unreachable,
    /// The request is invalid: a malformed id, another account's ARN, an impossible target.
    Invalid,
    /// Another failure, such as an internal error of AWS.
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

    /// The kind of an error response without a code, such as a proxy's.
    fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Denied,
            429 => Self::Throttled,
            _ => Self::Other,
        }
    }

    /// What the reader can do about it, where the call is of this action.
    fn remedy_of(self, action: &str) -> &'static str {
        let changes = matches!(action, "RegisterTargets" | "DeregisterTargets");
        let of_doctor = matches!(
            action,
            "DescribeTargetGroupAttributes"
                | "DescribeLoadBalancers"
                | "DescribeLoadBalancerAttributes"
        );
        match self {
            // The registrar slows down by itself.
            Self::Throttled if changes => "",
            Self::Denied if changes => {
                "; check the credentials, and that their role allows elasticloadbalancing:RegisterTargets and elasticloadbalancing:DeregisterTargets on the target group"
            }
            Self::Denied if of_doctor => {
                "; check the credentials, and that their role has the policy for `targetgate doctor`, deploy/iam/policy-doctor.json"
            }
            _ => self.remedy(),
        }
    }

    /// What the reader can do about it; empty if the message suffices.
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
    /// AWS's error code, or the one that replaces it: see the field of this name.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The error of a call that exceeded its timeout.
    pub(crate) fn timeout(action: &'static str, about: String, limit: std::time::Duration) -> Self {
        Self {
            action,
            about,
            kind: ElbErrorKind::Timeout,
            code: "Timeout".to_owned(),
            message: format!("no answer within {limit:?}"),
        }
    }

    /// The error of a call without a Region: neither the ARN nor the SDK names one.
    pub(crate) fn no_region(action: &'static str, about: String) -> Self {
        Self {
            action,
            about,
            kind: ElbErrorKind::Invalid,
            code: NO_REGION.to_owned(),
            message: "no Region is known; set AWS_REGION".to_owned(),
        }
    }

    /// Converts an error of the SDK.
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
                (ElbErrorKind::Invalid, INVALID_REQUEST, causes(error))
            }
            _ => (ElbErrorKind::Other, "InvalidResponse", causes(error)),
        };
        // The parser takes a code without its closing tag to include the message.
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

/// The link of the chain that reports missing credentials: not configured, or a role that could not be
/// assumed.
fn missing_credentials<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CredentialsError> {
    std::iter::successors(Some(error), |&error| error.source())
        .find_map(|error| error.downcast_ref())
}

/// Joins an error's causes into one line: the outermost message of the SDK says only which step failed.
///
/// The lines of each cause are kept, because the SDK lists where it looked for credentials. The text after an
/// escaped line break is dropped: it is AWS's message, of which only the first line is free of secrets.
pub(crate) fn causes(error: &dyn Error) -> String {
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

/// The first line of a foreign text, truncated.
fn bounded(text: &str, length: usize) -> String {
    let line = text.trim().lines().next().unwrap_or("");
    cut(line, length).to_owned()
}
