//! The errors of the API, with their status, code and message.

use std::borrow::Cow;
use std::net::IpAddr;

use http::StatusCode;

/// An error in the Query protocol: an HTTP status, a code, and a message for people.
///
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/CommonErrors.html>
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} ({status}): {message}")]
pub struct ApiError {
    pub(super) status: StatusCode,
    pub(super) code: Cow<'static, str>,
    pub(super) message: String,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: Cow::Owned(code.to_owned()),
            message: message.into(),
        }
    }

    /// The code, such as `TargetGroupNotFound`.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The side that is to blame, in the protocol's words.
    pub(super) fn blame(&self) -> &'static str {
        if self.status.is_server_error() {
            "Receiver"
        } else {
            "Sender"
        }
    }

    pub(in crate::elb) fn throttled() -> Self {
        Self::bad_request("Throttling", "Rate exceeded")
    }

    pub(super) fn invalid_action(action: &str) -> Self {
        let message = format!("Could not find operation {action} for version 2015-12-01");
        Self::bad_request("InvalidAction", message)
    }

    pub(super) fn missing_action() -> Self {
        Self::bad_request(
            "MissingAction",
            "The request must contain the parameter Action",
        )
    }

    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::bad_request("MalformedQueryString", message)
    }

    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::bad_request("ValidationError", message)
    }

    pub(super) fn invalid_arn(arn: &str) -> Self {
        Self::validation(format!("'{arn}' is not a valid target group ARN"))
    }

    pub(super) fn no_such_group(arn: &str) -> Self {
        let message = format!("Target groups '{arn}' not found");
        Self::bad_request("TargetGroupNotFound", message)
    }

    pub(super) fn groups_missing() -> Self {
        Self::bad_request("TargetGroupNotFound", "One or more target groups not found")
    }

    pub(super) fn balancer_missing(arn: &str) -> Self {
        let message = format!("Load balancers '{arn}' not found");
        Self::bad_request("LoadBalancerNotFound", message)
    }

    pub(super) fn invalid_target(message: impl Into<String>) -> Self {
        Self::bad_request("InvalidTarget", message)
    }

    pub(super) fn too_many_targets(limit: usize, arn: &str) -> Self {
        let message = format!(
            "The maximum number of targets per target group '{limit}' has been reached on target \
             group '{arn}'"
        );
        Self::bad_request("TooManyTargets", message)
    }

    /// <https://github.com/kubernetes/kubernetes/issues/86441>
    pub(super) fn full_balancer(limit: usize, arn: &str) -> Self {
        let message = format!(
            "The maximum number of targets per load balancer '{limit}' has been reached on load \
             balancer '{arn}'"
        );
        Self::bad_request("TooManyTargets", message)
    }

    /// No public text of this error was found; the words follow those of `TooManyTargets`.
    pub(super) fn too_many_registrations(limit: usize, ip: IpAddr) -> Self {
        let message = format!(
            "The maximum number of registrations per target '{limit}' has been reached for target \
             '{ip}'"
        );
        Self::bad_request("TooManyRegistrationsForTargetId", message)
    }

    /// AWS documents no limit of a call, and no text.
    pub(super) fn long_call(limit: usize) -> Self {
        Self::validation(format!(
            "At most {limit} targets can be named in a single call"
        ))
    }

    /// <https://github.com/zalando-incubator/kube-ingress-aws-controller/issues/495>
    pub(super) fn wrong_family(ip: IpAddr, wanted: &str) -> Self {
        Self::validation(format!(
            "The IP address '{ip}' is not a valid {wanted} address"
        ))
    }

    pub(super) fn duplicate_name(name: &str) -> Self {
        let message = format!(
            "A target group with the same name '{name}' exists, but with different settings"
        );
        Self::bad_request("DuplicateTargetGroupName", message)
    }

    pub(super) fn group_in_use(arn: &str) -> Self {
        let message = format!("Target group '{arn}' is currently in use by a listener or a rule");
        Self::bad_request("ResourceInUse", message)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        Self {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            code: Cow::Borrowed("RequestEntityTooLarge"),
            message: format!("The body is longer than {limit} bytes, or broke off"),
        }
    }

    fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: Cow::Borrowed(code),
            message: message.into(),
        }
    }
}
