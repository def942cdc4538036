//! The service's clock: what teaches it, and who goes by it.
//!
//! Requests are signed by it, so that a machine whose clock is wrong is refused once at most and what was learnt outlives a client that
//! is made anew. The SDK corrects the time of signing by itself too, per client and by the answer before; both would correct twice,
//! so that is off for the service's client (`config`). The credential providers take the same clock and keep the SDK's correction: they
//! may be asked before the service has told its time.

use crate::clock::ServiceClock;
use crate::model::Timestamp;
use crate::sync::lock;
use aws_sdk_cloudwatchlogs::config::http::HttpResponse;
use aws_sdk_cloudwatchlogs::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_cloudwatchlogs::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_cloudwatchlogs::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_cloudwatchlogs::primitives::{DateTime, DateTimeFormat};
use aws_smithy_async::time::TimeSource;
use serde::Deserialize;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The service takes requests that are signed up to 5 minutes off its clock. A clock that moved by less than this was not the reason
/// why one was refused (the SDK's own threshold).
const MOVED: Duration = Duration::from_mins(4);

/// The service's clock, as the SDK reads one.
pub(crate) struct ServiceTime(pub(crate) Arc<ServiceClock>);

impl TimeSource for ServiceTime {
    fn now(&self) -> SystemTime {
        // Only a machine whose clock shows a time before 1970 has none here.
        UNIX_EPOCH + Duration::from_millis(u64::try_from(self.0.now().0).unwrap_or_default())
    }
}

impl fmt::Debug for ServiceTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceTime")
    }
}

/// One call's request and answer, and when they came and went. As an interceptor of that call it teaches the service's clock.
#[derive(Clone)]
pub(crate) struct Exchange {
    clock: Arc<ServiceClock>,
    times: Arc<Mutex<Times>>,
}

#[derive(Clone, Copy, Default)]
struct Times {
    /// When the request was signed: the service's time as it was known then, and the time since boot.
    signed: Option<(Timestamp, Duration)>,
    /// When it was sent, in time since boot.
    sent: Option<Duration>,
    /// When the answer's head came, in time since boot.
    received: Option<Duration>,
}

impl Exchange {
    pub(crate) fn new(clock: Arc<ServiceClock>) -> Exchange {
        Exchange { clock, times: Arc::default() }
    }

    /// A sentence about the clock, if the call was refused for the time of its signature and the clock has moved since it was signed: the
    /// next try is signed by another time.
    pub(crate) fn refused_for_its_time<E: ProvideErrorMetadata>(
        &self,
        error: &SdkError<E, HttpResponse>,
    ) -> Option<String> {
        let SdkError::ServiceError(refusal) = error else { return None };
        let (code, message) = (refusal.err().code()?, refusal.err().message().unwrap_or_default());
        if !is_dated(refusal.raw()) && is_typed(refusal.raw()) {
            self.hear(refusal.raw());
        }
        if !is_for_its_time(code, message) {
            return None;
        }
        let (known, at) = self.times().signed?;
        let gone_by = self.clock.machine().since_boot().saturating_sub(at);
        let moved = self.clock.now().0.abs_diff((known + gone_by).0) > MOVED.as_millis() as u64;
        moved.then(|| {
            let clock = self.clock.skew_told().unwrap_or_else(|| "the service's clock was not known".into());
            format!("{code}: the request was refused for its time; {clock}; requests are signed by the service's clock from now on")
        })
    }

    /// Takes in when the answer was dated.
    fn hear(&self, answer: &HttpResponse) {
        let Times { sent: Some(sent), received: Some(received), .. } = self.times() else { return };
        let date =
            answer.headers().get("date").and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
        // A cache's answer is as old as the cache says.
        if let Some(date) = date.filter(|_| answer.headers().get("age").is_none()) {
            self.clock.heard(Timestamp(date.secs().saturating_mul(1000)), sent, received);
        }
    }

    fn times(&self) -> Times {
        *lock(&self.times)
    }

    fn note(&self, note: impl FnOnce(&mut Times)) {
        note(&mut lock(&self.times));
    }
}

/// Whether the answer is the service's by its head. A proxy's own page (407, 502) has a `Date` too, but of the proxy's clock.
pub(super) fn is_dated(answer: &HttpResponse) -> bool {
    answer.headers().get("x-amzn-requestid").is_some()
}

/// Whether the answer is a refusal in the service's own form.
fn is_typed(answer: &HttpResponse) -> bool {
    #[derive(Deserialize)]
    struct Typed {
        #[serde(rename = "__type")]
        _type: String,
    }
    let typed = || answer.body().bytes().is_some_and(|body| serde_json::from_slice::<Typed>(body).is_ok());
    answer.headers().get("x-amzn-errortype").is_some() || typed()
}

/// Whether a refusal may be for the time at which the request was signed.
fn is_for_its_time(code: &str, message: &str) -> bool {
    match code {
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "AuthFailure" => true,
        "RequestTimeTooSkewed" | "RequestExpired" => true,
        _ => code.starts_with("AccessDenied") && message.contains("Signature"),
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchange")
    }
}

impl Intercept for Exchange {
    fn name(&self) -> &'static str {
        "Exchange"
    }

    fn read_before_signing(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let signed = (self.clock.now(), self.clock.machine().since_boot());
        self.note(|times| times.signed = Some(signed));
        Ok(())
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let sent = self.clock.machine().since_boot();
        self.note(|times| times.sent = Some(sent));
        Ok(())
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let received = self.clock.machine().since_boot();
        self.note(|times| times.received = Some(received));
        if is_dated(context.response()) {
            self.hear(context.response());
        }
        Ok(())
    }
}
