//! An answer that is cut off is none: the SDK's parser takes what is there for all there is, so that
//! targets would seem to be gone.

use aws_sdk_elasticloadbalancingv2 as sdk;
use sdk::config::interceptors::AfterDeserializationInterceptorContextRef;
use sdk::config::{ConfigBag, Intercept, RuntimeComponents};
use sdk::error::BoxError;

/// The end of every answer, `</DescribeTargetHealthResponse>` and its like.
const END: &[u8] = b"Response>";

/// Refuses a success without its end.
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
        // It has been read into memory to be parsed.
        let body = response.body().bytes().unwrap_or_default();
        match response.status().is_success() && !body.trim_ascii_end().ends_with(END) {
            true => Err("the answer is cut off".into()),
            false => Ok(()),
        }
    }
}
