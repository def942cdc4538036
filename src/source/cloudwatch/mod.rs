//! CloudWatch Logs through the AWS SDK; the only room that names `aws_`.
//!
//! Each call is one HTTP request: the SDK's retries are off, so that the scheduler sees every try. Connections are kept alive and
//! shared by all calls.
//!
//! The SDK keeps credentials until they expire by their own word, and parsed profile files for as long as the client lives. So a
//! refusal for the credentials marks the client as *refused*, and a later call reads environment, files and caches afresh, at most
//! once per [`RELOAD_INTERVAL`]: `aws sso login` in another terminal heals a running mount. The region is fixed at the start: the
//! cache belongs to it.

mod body;
mod clock;
mod config;
mod convert;
mod error;
mod files;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod left_out;
mod limit;
mod query;
#[cfg(any(fuzzing, test))]
mod second_reader;
#[cfg(test)]
mod tests;
mod trust;

pub(crate) use config::contradictions;
pub use config::{ConnectError, ConnectOptions};
pub use files::Places;

use crate::clock::ServiceClock;
use crate::model::{LogGroup, LogStream};
use crate::source::{
    Call, CountEvents, Counted, DescribeGroups, DescribeStreams, EventPage, FilterEvents, FilterPage, GetEvents,
    LogSource, Page, Quotas, SourceError, SourceErrorKind,
};
use async_trait::async_trait;
use aws_sdk_cloudwatchlogs::config::http::HttpResponse;
use aws_sdk_cloudwatchlogs::config::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_cloudwatchlogs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cloudwatchlogs::types::OrderBy;
use body::{Arrival, Read};
use clock::Exchange;
use config::{BaseLoader, Loaded};
use left_out::LeftOut;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How often credentials are read afresh at most, while they are refused.
const RELOAD_INTERVAL: Duration = Duration::from_secs(3);

/// The service.
pub struct CloudWatch {
    options: ConnectOptions,
    clock: Arc<ServiceClock>,
    base: BaseLoader,
    region: String,
    reload_interval: Duration,
    live: RwLock<Arc<Live>>,
    /// One permit: one call reloads, the others go on with the client that there is.
    reloading: Semaphore,
    left_out: LeftOut,
}

/// A client with its cached credentials.
struct Live {
    client: aws_sdk_cloudwatchlogs::Client,
    credentials: Option<SharedCredentialsProvider>,
    loaded_at: Instant,
    refused: AtomicBool,
}

/// Whose credentials are used, as far as may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The last four characters of the access key id.
    pub key_tail: String,
    /// The SDK's name of the provider that gave them, such as `EnvironmentVariable`.
    pub provider: String,
}

impl CloudWatch {
    /// Finds out region, endpoint and where credentials come from. No call of the service, so wrong credentials show only later.
    ///
    /// `clock` learns the service's time from its answers.
    pub async fn connect(options: ConnectOptions, clock: Arc<ServiceClock>) -> Result<CloudWatch, ConnectError> {
        CloudWatch::connect_from(options, clock, config::machine_loader, RELOAD_INTERVAL).await
    }

    async fn connect_from(
        options: ConnectOptions,
        clock: Arc<ServiceClock>,
        base: BaseLoader,
        reload_interval: Duration,
    ) -> Result<CloudWatch, ConnectError> {
        let loaded = config::load(&options, base, &clock).await?;
        let region = loaded.region.clone();
        let options = ConnectOptions { region: Some(region.clone()), ..options };
        let live = RwLock::new(Arc::new(Live::new(loaded)));
        let (reloading, left_out) = (Semaphore::new(1), LeftOut::new());
        Ok(CloudWatch { options, clock, base, region, reload_interval, live, reloading, left_out })
    }

    /// Resolves the credentials without a call of the service (the providers may call their own).
    pub async fn identity(&self) -> Result<Identity, (SourceErrorKind, String)> {
        let live = self.live().await;
        let Some(provider) = &live.credentials else {
            return Err((SourceErrorKind::Credentials, "no credentials are configured".into()));
        };
        let credentials = match tokio::time::timeout(self.options.operation_timeout, provider.provide_credentials())
            .await
        {
            Ok(Ok(credentials)) => credentials,
            Ok(Err(error)) => {
                live.refused.store(true, Ordering::Relaxed);
                return Err(error::of_credentials(&error));
            }
            Err(_) => return Err((SourceErrorKind::Timeout, "the credentials provider gave no answer in time".into())),
        };
        let id = credentials.access_key_id();
        let tail = id.char_indices().rev().nth(3).map_or(0, |(at, _)| at);
        // An id this short is no AWS key, and four characters would be most of it.
        let key_tail = if id.len() < 8 { "…".into() } else { id[tail..].to_string() };
        Ok(Identity { key_tail, provider: provider_name(&format!("{credentials:?}")) })
    }

    /// The page of an answer that was read here; what was left out of it is told.
    fn page<P>(&self, call: Call, group: &str, read: Read<P>) -> P {
        self.left_out.tell(call, group, read.left_out);
        read.page
    }

    fn exchange(&self) -> Exchange {
        Exchange::new(self.clock.clone())
    }

    fn current(&self) -> Arc<Live> {
        // Only whole values are stored, so a panic elsewhere can't have left a broken one.
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The client to use now: read afresh if the present one's credentials were refused.
    async fn live(&self) -> Arc<Live> {
        let live = self.current();
        if !live.is_due(self.reload_interval) {
            return live;
        }
        let Ok(_permit) = self.reloading.try_acquire() else { return live };
        let live = self.current();
        if !live.is_due(self.reload_interval) {
            return live;
        }
        match config::load(&self.options, self.base, &self.clock).await {
            Ok(loaded) => {
                tracing::info!("credentials were refused: read afresh");
                let fresh = Arc::new(Live::new(loaded));
                *self.live.write().unwrap_or_else(PoisonError::into_inner) = fresh.clone();
                fresh
            }
            Err(error) => {
                tracing::warn!(%error, "the configuration can't be read afresh");
                live
            }
        }
    }

    /// What the failure means; remembers that the credentials were refused.
    fn failed<E>(
        live: &Live,
        call: Call,
        with_token: bool,
        exchange: &Exchange,
        error: &SdkError<E, HttpResponse>,
    ) -> SourceError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        if let Some(message) = exchange.refused_for_its_time(error) {
            // The credentials are as good as before.
            return SourceError { kind: SourceErrorKind::Unavailable, call, message };
        }
        let error = error::classify(call, with_token, error);
        if error.kind == SourceErrorKind::Credentials {
            live.refused.store(true, Ordering::Relaxed);
        }
        error
    }
}

impl Live {
    fn new(loaded: Loaded) -> Live {
        let Loaded { client, credentials, .. } = loaded;
        Live { client, credentials, loaded_at: Instant::now(), refused: AtomicBool::new(false) }
    }

    fn is_due(&self, interval: Duration) -> bool {
        self.refused.load(Ordering::Relaxed) && self.loaded_at.elapsed() >= interval
    }
}

/// The SDK shows the provider's name only in the debug form of credentials, in which secrets are hidden.
fn provider_name(debug: &str) -> String {
    let name = debug.split_once("provider_name: \"").and_then(|(_, rest)| rest.split_once('"'));
    name.map_or_else(|| "the SDK's chain".into(), |(name, _)| name.to_string())
}

#[async_trait]
impl LogSource for CloudWatch {
    async fn describe_log_groups(&self, request: DescribeGroups) -> Result<Page<LogGroup>, SourceError> {
        let (exchange, arrival) = (self.exchange(), Arrival::new());
        let live = self.live().await;
        let with_token = request.token.is_some();
        let output = live
            .client
            .describe_log_groups()
            .set_log_group_name_prefix(request.prefix)
            .set_log_group_name_pattern(request.pattern)
            .set_next_token(request.token)
            .set_limit(convert::limit(request.limit))
            .customize()
            .interceptor(exchange.clone())
            .interceptor(arrival.clone())
            .send()
            .await
            .map_err(|e| CloudWatch::failed(&live, Call::DescribeLogGroups, with_token, &exchange, &e))?;
        if let Some(read) = arrival.take() {
            return Ok(self.page(Call::DescribeLogGroups, "", read));
        }
        let groups = output.log_groups.unwrap_or_default();
        Ok(Page { items: groups.into_iter().filter_map(convert::group).collect(), next: output.next_token })
    }

    async fn describe_log_streams(&self, request: DescribeStreams) -> Result<Page<LogStream>, SourceError> {
        let (exchange, arrival) = (self.exchange(), Arrival::new());
        let live = self.live().await;
        let with_token = request.token.is_some();
        // The service refuses a prefix beside an order by time.
        let order = if request.prefix.is_some() { OrderBy::LogStreamName } else { OrderBy::LastEventTime };
        let output = live
            .client
            .describe_log_streams()
            .log_group_name(&request.group)
            .descending(order == OrderBy::LastEventTime)
            .order_by(order)
            .set_log_stream_name_prefix(request.prefix)
            .set_next_token(request.token)
            .set_limit(convert::limit(request.limit))
            .customize()
            .interceptor(exchange.clone())
            .interceptor(arrival.clone())
            .send()
            .await
            .map_err(|e| CloudWatch::failed(&live, Call::DescribeLogStreams, with_token, &exchange, &e))?;
        if let Some(read) = arrival.take() {
            return Ok(self.page(Call::DescribeLogStreams, &request.group, read));
        }
        let streams = output.log_streams.unwrap_or_default();
        Ok(Page { items: streams.into_iter().filter_map(convert::stream).collect(), next: output.next_token })
    }

    async fn get_log_events(&self, request: GetEvents) -> Result<EventPage, SourceError> {
        let live = self.live().await;
        // The service wants startFromHead beside any forward token, even one that a read from the end gave.
        let forward = request.token.as_deref().is_some_and(|token| token.starts_with("f/"));
        let with_token = request.token.is_some();
        let (exchange, arrival) = (self.exchange(), Arrival::new());
        let output = live
            .client
            .get_log_events()
            .log_group_name(&request.group)
            .log_stream_name(request.stream)
            .start_from_head(request.from_head || forward)
            .set_start_time(request.start.map(|t| t.0))
            .set_end_time(request.end.map(|t| t.0))
            .set_next_token(request.token)
            .set_limit(convert::limit(request.limit))
            .set_unmask(self.options.unmask.then_some(true))
            .customize()
            .interceptor(exchange.clone())
            .interceptor(arrival.clone())
            .send()
            .await
            .map_err(|e| CloudWatch::failed(&live, Call::GetLogEvents, with_token, &exchange, &e))?;
        match arrival.take() {
            Some(read) => Ok(self.page(Call::GetLogEvents, &request.group, read)),
            None => convert::event_page(output).map_err(|lack| error::unusable(Call::GetLogEvents, lack)),
        }
    }

    async fn filter_log_events(&self, request: FilterEvents) -> Result<FilterPage, SourceError> {
        let live = self.live().await;
        let with_token = request.token.is_some();
        let (exchange, arrival) = (self.exchange(), Arrival::new());
        let output = live
            .client
            .filter_log_events()
            .log_group_name(&request.group)
            .set_log_stream_names((!request.streams.is_empty()).then_some(request.streams))
            .set_start_time(request.start.map(|t| t.0))
            .set_end_time(request.end.map(|t| t.0))
            .set_next_token(request.token)
            .set_limit(convert::limit(request.limit))
            .set_unmask(self.options.unmask.then_some(true))
            .customize()
            .interceptor(exchange.clone())
            .interceptor(arrival.clone())
            .send()
            .await
            .map_err(|e| CloudWatch::failed(&live, Call::FilterLogEvents, with_token, &exchange, &e))?;
        match arrival.take() {
            Some(read) => Ok(self.page(Call::FilterLogEvents, &request.group, read)),
            None => convert::filter_page(output).map_err(|lack| error::unusable(Call::FilterLogEvents, lack)),
        }
    }

    async fn start_count(&self, request: CountEvents) -> Result<String, SourceError> {
        let query = query::text(&request.stream).ok_or_else(query::unspeakable)?;
        let exchange = self.exchange();
        let live = self.live().await;
        let output = live
            .client
            .start_query()
            .log_group_name(request.group)
            .query_string(query)
            .start_time(request.start.0.div_euclid(1000))
            .end_time(request.end.0.div_euclid(1000))
            .customize()
            .interceptor(exchange.clone())
            .send()
            .await
            .map_err(|e| CloudWatch::failed(&live, Call::StartQuery, false, &exchange, &e))?;
        output.query_id.ok_or_else(|| error::unusable(Call::StartQuery, "no query id"))
    }

    async fn count_results(&self, query: String) -> Result<Counted, SourceError> {
        let exchange = self.exchange();
        let live = self.live().await;
        let output = live
            .client
            .get_query_results()
            .query_id(query)
            .customize()
            .interceptor(exchange.clone())
            .send()
            .await
            .map_err(|e| CloudWatch::failed(&live, Call::GetQueryResults, false, &exchange, &e))?;
        query::counted(output).map_err(|lack| error::unusable(Call::GetQueryResults, lack))
    }

    fn quotas(&self) -> Quotas {
        Quotas::of_region(&self.region)
    }

    fn region(&self) -> String {
        self.region.clone()
    }
}
