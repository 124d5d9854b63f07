//! Rejects truncated responses: the SDK's XML parser accepts them as complete, and registered targets would
//! look absent.

use aws_sdk_elasticloadbalancingv2 as sdk;
use sdk::config::interceptors::AfterDeserializationInterceptorContextRef;
use sdk::config::{ConfigBag, Intercept, RuntimeComponents};
use sdk::error::BoxError;

/// The end of the closing tag of every response, such as `</DescribeTargetHealthResponse>`.
const END: &[u8] = b"Response>";

/// Turns a successful response without its closing tag into an error.
#[derive(Debug)]
pub(super) struct RejectTruncated;

impl Intercept for RejectTruncated {
    fn name(&self) -> &'static str {
        "RejectTruncated"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        // The SDK has read the body into memory to parse it.
        let body = response.body().bytes().unwrap_or_default();
        match response.status().is_success() && !body.trim_ascii_end().ends_with(END) {
            true => Err("the answer is cut off".into()),
            false => Ok(()),
        }
    }
}
