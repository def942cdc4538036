//! Pages of events straight from an answer's body.
//!
//! The SDK's deserialiser looks at each field several times over and makes a string of every name it meets; on a page of thousands of
//! events that is most of what a download costs. So the two event calls put a deserialiser of their own before the SDK's: a good answer
//! is read here in one pass, into the domain's types. What it can't read in full, refusals and cut bodies among it, goes to the SDK's
//! deserialiser unchanged, so every error is still the SDK's own. Signing, credentials, endpoints and time limits aren't touched.

use crate::model::{LogEvent, Timestamp};
use crate::source::{EventPage, FilterPage};
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
use std::sync::{Arc, Mutex, PoisonError};

/// A page that can be read straight from a body.
pub(crate) trait Direct: fmt::Debug + Sized + Send + Sync + 'static {
    /// The page; `None` leaves the answer to the SDK.
    fn read(body: &[u8]) -> Option<Self>;
    /// What the SDK is given in place of its own output; nobody looks at it.
    fn stand_in() -> Output;
    /// Where the SDK keeps its own deserialiser of the call.
    fn sdk() -> Option<FrozenLayer>;
}

/// Where one call's page arrives. As an interceptor of that call it reads the answer.
pub(crate) struct Arrival<P>(Arc<Mutex<Option<P>>>);

impl<P> Arrival<P> {
    pub(crate) fn new() -> Arrival<P> {
        Arrival(Arc::default())
    }

    /// The page, if the answer was read here.
    pub(crate) fn take(&self) -> Option<P> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
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
            *self.arrival.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(page);
            return Ok(P::stand_in());
        }
        match self.sdk.load::<SharedResponseDeserializer>() {
            Some(sdk) => sdk.deserialize_nonstreaming_with_config(response, cfg),
            None => Err(OrchestratorError::other("the SDK has no deserialiser of this call")),
        }
    }
}

/// Looks at the encoding of the whole body, fields that nobody reads included, once and not string by string.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    serde_json::from_str(std::str::from_utf8(body).ok()?).ok()
}

impl Direct for EventPage {
    fn read(body: &[u8]) -> Option<EventPage> {
        let page: GetBody = parse(body)?;
        Some(EventPage {
            events: page.events.0,
            forward: page.next_forward_token?,
            backward: page.next_backward_token?,
        })
    }

    fn stand_in() -> Output {
        Output::erase(GetLogEventsOutput::builder().build())
    }

    fn sdk() -> Option<FrozenLayer> {
        GetLogEvents::new().config()
    }
}

impl Direct for FilterPage {
    fn read(body: &[u8]) -> Option<FilterPage> {
        let page: FilterBody = parse(body)?;
        Some(FilterPage { events: page.events.0, next: page.next_token })
    }

    fn stand_in() -> Output {
        Output::erase(FilterLogEventsOutput::builder().build())
    }

    fn sdk() -> Option<FrozenLayer> {
        FilterLogEvents::new().config()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GetBody {
    #[serde(default, bound = "")]
    events: Events<LogEvent>,
    next_forward_token: Option<String>,
    next_backward_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FilterBody {
    #[serde(default, bound = "")]
    events: Events<(String, LogEvent)>,
    next_token: Option<String>,
}

/// An event as both calls write it; GetLogEvents without the stream.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    timestamp: i64,
    ingestion_time: Option<i64>,
    message: Option<String>,
    log_stream_name: Option<String>,
}

impl Event {
    fn event(self) -> LogEvent {
        LogEvent {
            timestamp: Timestamp(self.timestamp),
            ingestion_time: Timestamp(self.ingestion_time.unwrap_or(self.timestamp)),
            message: self.message.unwrap_or_default(),
        }
    }
}

impl TryFrom<Event> for LogEvent {
    type Error = &'static str;
    fn try_from(event: Event) -> Result<LogEvent, &'static str> {
        Ok(event.event())
    }
}

impl TryFrom<Event> for (String, LogEvent) {
    type Error = &'static str;
    fn try_from(mut event: Event) -> Result<(String, LogEvent), &'static str> {
        let stream = event.log_stream_name.take().ok_or("an event without a stream's name")?;
        Ok((stream, event.event()))
    }
}

/// Events made into the domain's as they are read: no second pass over a page. A `null` is none.
struct Events<E>(Vec<E>);

impl<E> Default for Events<E> {
    fn default() -> Events<E> {
        Events(Vec::new())
    }
}

impl<'de, E: TryFrom<Event, Error = &'static str>> Deserialize<'de> for Events<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Events<E>, D::Error> {
        deserializer.deserialize_option(Listed(PhantomData))
    }
}

struct Listed<E>(PhantomData<E>);

impl<'de, E: TryFrom<Event, Error = &'static str>> Visitor<'de> for Listed<E> {
    type Value = Events<E>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("events")
    }

    fn visit_none<R: serde::de::Error>(self) -> Result<Events<E>, R> {
        Ok(Events::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Events<E>, D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Events<E>, A::Error> {
        let mut events = Vec::new();
        while let Some(event) = list.next_element::<Event>()? {
            events.push(E::try_from(event).map_err(A::Error::custom)?);
        }
        Ok(Events(events))
    }
}

#[cfg(test)]
mod tests;
