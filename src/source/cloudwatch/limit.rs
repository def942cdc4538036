//! No answer may take all the memory: a body is given up where it becomes larger than any that the service gives.
//!
//! The service's own pages end at 1 MB. Emulators end theirs at 10,000 events of any size, and a broken proxy never. The body is limited
//! while it streams in, before the SDK collects it; what is given up so takes its connection along.

use aws_sdk_cloudwatchlogs::config::http::HttpResponse;
use aws_sdk_cloudwatchlogs::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_cloudwatchlogs::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_cloudwatchlogs::error::BoxError;
use aws_smithy_types::body::SdkBody;
use bytesize::ByteSize;
use http_body_util::{LengthLimitError, Limited};
use std::error::Error;

/// Bytes of the largest body that is taken.
pub(crate) const MOST: usize = 64 << 20;

/// Limits each answer of a client that it is an interceptor of.
#[derive(Debug)]
pub(crate) struct Limit;

impl Intercept for Limit {
    fn name(&self) -> &'static str {
        "Limit"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response_mut();
        // Of one that says itself that it is too large, nothing is taken.
        let most = if announced(answer).is_some_and(|bytes| bytes > MOST as u64) { 0 } else { MOST };
        let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
        *answer.body_mut() = SdkBody::from_body_1_x(Limited::new(body, most));
        Ok(())
    }
}

/// How large an answer is by its own word.
fn announced(answer: &HttpResponse) -> Option<u64> {
    answer.headers().get("content-length")?.parse().ok()
}

/// A sentence about the size of `answer`, if `error` is that it is too large.
pub(crate) fn exceeded(error: &(dyn Error + 'static), answer: &HttpResponse) -> Option<String> {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    causes.any(|cause| cause.is::<LengthLimitError>()).then(|| {
        let most = ByteSize(MOST as u64).display().iec();
        match announced(answer) {
            Some(bytes) => {
                format!("its answer of {} is larger than the {most} that are taken", ByteSize(bytes).display().iec())
            }
            None => format!("its answer is larger than the {most} that are taken"),
        }
    })
}
