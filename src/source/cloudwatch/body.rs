//! Pages of events straight from an answer's body.
//!
//! The SDK's deserialiser looks at each field several times over and makes a string of every name it meets; on a page of thousands of
//! events that is most of what a download costs. And it takes a whole page for broken if one string of it is no text. So the calls that
//! give pages put a deserialiser of their own before the SDK's: a good answer is read here in one pass, into the domain's types; one with
//! text that is none is read in a second, loose one (`text`). What neither can read in full, refusals and cut bodies among it, goes to the
//! SDK's deserialiser unchanged, so every error is still the SDK's own. Signing, credentials, endpoints and time limits aren't touched.

use crate::model::{LogEvent, Timestamp};
use crate::source::{EventPage, FilterPage};
use crate::sync::lock;
use aws_sdk_cloudwatchlogs::config::http::HttpResponse;
use aws_sdk_cloudwatchlogs::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_cloudwatchlogs::config::{ConfigBag, FrozenLayer, Intercept, RuntimeComponents, RuntimePlugin};
use aws_sdk_cloudwatchlogs::error::BoxError;
use aws_sdk_cloudwatchlogs::operation::filter_log_events::{FilterLogEvents, FilterLogEventsOutput};
use aws_sdk_cloudwatchlogs::operation::get_log_events::{GetLogEvents, GetLogEventsOutput};
use aws_smithy_runtime_api::client::interceptors::context::{Error, Output};
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;
use aws_smithy_runtime_api::client::ser_de::{DeserializeResponse, SharedResponseDeserializer};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use text::{Bytes, Text, loosely};

mod listing;
mod text;

/// A page that can be read straight from a body.
pub(crate) trait Direct: fmt::Debug + Sized + Send + Sync + 'static {
    /// The page; `None` leaves the answer to the SDK.
    fn read(body: &[u8]) -> Option<Read<Self>>;
    /// What the SDK is given in place of its own output; nothing looks at it.
    fn stand_in() -> Output;
    /// Where the SDK keeps its own deserialiser of the call.
    fn sdk() -> Option<FrozenLayer>;
}

/// A page as it was read.
#[derive(Debug)]
pub(crate) struct Read<P> {
    pub(crate) page: P,
    /// Names that are no text, as bytes: the rows or events that carry them are not in the page.
    pub(crate) left_out: Vec<Vec<u8>>,
}

/// Where one call's page arrives. As an interceptor of that call it reads the answer.
pub(crate) struct Arrival<P>(Arc<Mutex<Option<Read<P>>>>);

impl<P> Arrival<P> {
    pub(crate) fn new() -> Arrival<P> {
        Arrival(Arc::default())
    }

    /// The page, if the answer was read here.
    pub(crate) fn take(&self) -> Option<Read<P>> {
        lock(&self.0).take()
    }
}

impl<P> Clone for Arrival<P> {
    fn clone(&self) -> Arrival<P> {
        Arrival(self.0.clone())
    }
}

impl<P> fmt::Debug for Arrival<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Arrival")
    }
}

impl<P: Direct> Intercept for Arrival<P> {
    fn name(&self) -> &'static str {
        "Arrival"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if context.response().status().as_u16() == 200
            && let Some(sdk) = P::sdk()
        {
            let reader = Reader { arrival: self.clone(), sdk };
            cfg.interceptor_state().store_put(SharedResponseDeserializer::new(reader));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Reader<P> {
    arrival: Arrival<P>,
    sdk: FrozenLayer,
}

impl<P: Direct> DeserializeResponse for Reader<P> {
    fn deserialize_nonstreaming_with_config(
        &self,
        response: &HttpResponse,
        cfg: &ConfigBag,
    ) -> Result<Output, OrchestratorError<Error>> {
        if let Some(page) = response.body().bytes().and_then(P::read) {
            *lock(&self.arrival.0) = Some(page);
            return Ok(P::stand_in());
        }
        match self.sdk.load::<SharedResponseDeserializer>() {
            Some(sdk) => sdk.deserialize_nonstreaming_with_config(response, cfg),
            None => Err(OrchestratorError::other("the SDK has no deserialiser of this call")),
        }
    }
}

/// A body by its proper text, or else loosely. Proper is what nearly all are: the encoding of the whole body is looked at once then,
/// fields that nothing reads included, and not string by string.
fn parse<L: Listed>(body: &[u8]) -> Option<Body<L>> {
    let proper = std::str::from_utf8(body).ok().and_then(|body| serde_json::from_str::<Written<L, String>>(body).ok());
    proper.map(Body::from).or_else(|| loosely::<Written<L, Bytes>>(body).map(Body::from))
}

impl Direct for EventPage {
    fn read(body: &[u8]) -> Option<Read<EventPage>> {
        let Body { events, left_out, next_forward_token, next_backward_token, .. } = parse(body)?;
        let page = EventPage { events, forward: next_forward_token?, backward: next_backward_token? };
        Some(Read { page, left_out })
    }

    fn stand_in() -> Output {
        Output::erase(GetLogEventsOutput::builder().build())
    }

    fn sdk() -> Option<FrozenLayer> {
        GetLogEvents::new().config()
    }
}

impl Direct for FilterPage {
    fn read(body: &[u8]) -> Option<Read<FilterPage>> {
        let Body { events, left_out, next_token, .. } = parse(body)?;
        Some(Read { page: FilterPage { events, next: next_token }, left_out })
    }

    fn stand_in() -> Output {
        Output::erase(FilterLogEventsOutput::builder().build())
    }

    fn sdk() -> Option<FrozenLayer> {
        FilterLogEvents::new().config()
    }
}

/// A body of either call. Tokens are text or there is no page.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "L: Listed, T: Text")]
struct Written<L, T> {
    #[serde(default = "Events::none")]
    events: Events<L, T>,
    next_forward_token: Option<String>,
    next_backward_token: Option<String>,
    next_token: Option<String>,
}

/// The same, however its text was read.
struct Body<L> {
    events: Vec<L>,
    left_out: Vec<Vec<u8>>,
    next_forward_token: Option<String>,
    next_backward_token: Option<String>,
    next_token: Option<String>,
}

impl<L, T> From<Written<L, T>> for Body<L> {
    fn from(written: Written<L, T>) -> Body<L> {
        let Written { events, next_forward_token, next_backward_token, next_token } = written;
        let Events { listed: events, left_out, .. } = events;
        Body { events, left_out, next_forward_token, next_backward_token, next_token }
    }
}

/// An event as both calls write it; GetLogEvents without the stream.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "T: Text")]
struct Event<T> {
    timestamp: i64,
    ingestion_time: Option<i64>,
    message: Option<T>,
    log_stream_name: Option<T>,
}

impl<T: Text> Event<T> {
    fn event(self) -> LogEvent {
        LogEvent {
            timestamp: Timestamp(self.timestamp),
            ingestion_time: Timestamp(self.ingestion_time.unwrap_or(self.timestamp)),
            message: self.message.map(T::message).unwrap_or_default(),
        }
    }
}

/// What a call lists.
trait Listed: Sized {
    /// What an event is to that call, or what it lacks. An event whose stream's name is no text is none: its name is put to `left_out`.
    fn of<T: Text>(event: Event<T>, left_out: &mut Vec<Vec<u8>>) -> Result<Option<Self>, &'static str>;
}

impl Listed for LogEvent {
    fn of<T: Text>(event: Event<T>, _: &mut Vec<Vec<u8>>) -> Result<Option<LogEvent>, &'static str> {
        Ok(Some(event.event()))
    }
}

impl Listed for (String, LogEvent) {
    fn of<T: Text>(mut event: Event<T>, left_out: &mut Vec<Vec<u8>>) -> Result<Option<Self>, &'static str> {
        match event.log_stream_name.take().ok_or("an event without a stream's name")?.name() {
            Ok(stream) => Ok(Some((stream, event.event()))),
            Err(name) => {
                // A page may hold thousands of events of one stream.
                if left_out.last() != Some(&name) {
                    left_out.push(name);
                }
                Ok(None)
            }
        }
    }
}

/// Events made into the domain's as they are read: no second pass over a page. A `null` is none.
struct Events<L, T> {
    listed: Vec<L>,
    left_out: Vec<Vec<u8>>,
    text: PhantomData<T>,
}

impl<L, T> Events<L, T> {
    fn none() -> Events<L, T> {
        Events { listed: Vec::new(), left_out: Vec::new(), text: PhantomData }
    }
}

impl<'de, L: Listed, T: Text> Deserialize<'de> for Events<L, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Events<L, T>, D::Error> {
        deserializer.deserialize_option(Visit(PhantomData))
    }
}

struct Visit<L, T>(PhantomData<(L, T)>);

impl<'de, L: Listed, T: Text> Visitor<'de> for Visit<L, T> {
    type Value = Events<L, T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("events")
    }

    fn visit_none<R: serde::de::Error>(self) -> Result<Events<L, T>, R> {
        Ok(Events::none())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Events<L, T>, D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Events<L, T>, A::Error> {
        let mut events = Events::none();
        while let Some(event) = list.next_element::<Event<T>>()? {
            events.listed.extend(L::of(event, &mut events.left_out).map_err(A::Error::custom)?);
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests;
