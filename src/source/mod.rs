//! Where log events come from.
//!
//! [`LogSource`] is the service as the rest of the house sees it: a few calls, each one HTTP request, no retries, no pacing. Its
//! promises are CloudWatch's, and they are weak (an answer proves what it holds, never what it lacks): a page may be empty in the
//! middle, a drained read may miss accepted events, listings lag. Whoever calls must live with that; see `fetch`.

pub mod cloudwatch;
pub mod demo;

use crate::model::{Hours, LogEvent, LogGroup, LogStream, Timestamp};
use async_trait::async_trait;

/// A call of the service, each with a quota of its own (per account and region).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// Lists log groups, 50 a page, in ASCII order.
    DescribeLogGroups,
    /// Lists a group's streams, 50 a page.
    DescribeLogStreams,
    /// Reads one stream.
    GetLogEvents,
    /// Reads a group, or up to 100 named streams of it.
    FilterLogEvents,
    /// Starts a Logs Insights query; billed by the bytes that it scans.
    StartQuery,
    /// Asks how far a query is.
    GetQueryResults,
}

impl Call {
    /// Every call, in the order of the variants.
    pub const ALL: [Call; 6] = [
        Call::DescribeLogGroups,
        Call::DescribeLogStreams,
        Call::GetLogEvents,
        Call::FilterLogEvents,
        Call::StartQuery,
        Call::GetQueryResults,
    ];

    /// Its place in [`Call::ALL`], for tables with a row a call.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The calls that a mount can't do without.
    pub const NEEDED: [Call; 4] =
        [Call::DescribeLogGroups, Call::DescribeLogStreams, Call::GetLogEvents, Call::FilterLogEvents];

    /// The service's own name, as in an IAM action (`logs:GetLogEvents`).
    pub fn name(self) -> &'static str {
        match self {
            Call::DescribeLogGroups => "DescribeLogGroups",
            Call::DescribeLogStreams => "DescribeLogStreams",
            Call::GetLogEvents => "GetLogEvents",
            Call::FilterLogEvents => "FilterLogEvents",
            Call::StartQuery => "StartQuery",
            Call::GetQueryResults => "GetQueryResults",
        }
    }

    /// The name as `--rate` takes it (`get-log-events`).
    pub fn option_name(self) -> &'static str {
        match self {
            Call::DescribeLogGroups => "describe-log-groups",
            Call::DescribeLogStreams => "describe-log-streams",
            Call::GetLogEvents => "get-log-events",
            Call::FilterLogEvents => "filter-log-events",
            Call::StartQuery => "start-query",
            Call::GetQueryResults => "get-query-results",
        }
    }
}

/// Calls a second that the service allows at the start; the scheduler learns from there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quotas {
    /// DescribeLogGroups a second.
    pub describe_log_groups: f64,
    /// DescribeLogStreams a second.
    pub describe_log_streams: f64,
    /// GetLogEvents a second.
    pub get_log_events: f64,
    /// FilterLogEvents a second.
    pub filter_log_events: f64,
    /// StartQuery a second.
    pub start_query: f64,
    /// GetQueryResults a second.
    pub get_query_results: f64,
}

impl Quotas {
    /// The service's documented table for a region (not adjustable for the event calls).
    pub fn of_region(region: &str) -> Quotas {
        let get_log_events = match region {
            "us-west-2" | "eu-west-1" | "eu-central-1" | "ap-northeast-3" | "ap-southeast-3" | "ca-west-1"
            | "il-central-1" => 10.0,
            "eu-west-3" => 30.0,
            _ => 25.0,
        };
        let filter_log_events = match region {
            "us-east-1" => 25.0,
            "eu-central-1" | "ap-northeast-3" | "ap-southeast-3" | "ca-west-1" | "il-central-1" => 5.0,
            _ => 10.0,
        };
        Quotas {
            describe_log_groups: 10.0,
            describe_log_streams: 25.0,
            get_log_events,
            filter_log_events,
            start_query: 10.0,
            get_query_results: 10.0,
        }
    }

    /// The same rate for every call.
    pub fn all(rate: f64) -> Quotas {
        Quotas {
            describe_log_groups: rate,
            describe_log_streams: rate,
            get_log_events: rate,
            filter_log_events: rate,
            start_query: rate,
            get_query_results: rate,
        }
    }

    /// The rate of one call.
    pub fn of(&self, call: Call) -> f64 {
        match call {
            Call::DescribeLogGroups => self.describe_log_groups,
            Call::DescribeLogStreams => self.describe_log_streams,
            Call::GetLogEvents => self.get_log_events,
            Call::FilterLogEvents => self.filter_log_events,
            Call::StartQuery => self.start_query,
            Call::GetQueryResults => self.get_query_results,
        }
    }

    /// The rate of one call, to change it.
    pub fn of_mut(&mut self, call: Call) -> &mut f64 {
        match call {
            Call::DescribeLogGroups => &mut self.describe_log_groups,
            Call::DescribeLogStreams => &mut self.describe_log_streams,
            Call::GetLogEvents => &mut self.get_log_events,
            Call::FilterLogEvents => &mut self.filter_log_events,
            Call::StartQuery => &mut self.start_query,
            Call::GetQueryResults => &mut self.get_query_results,
        }
    }
}

/// One page of a listing; `next` is the token of the following page, `None` at the end.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// What the page lists, in the service's order.
    pub items: Vec<T>,
    /// Token of the next page.
    pub next: Option<String>,
}

/// A DescribeLogGroups request (50 a page, ASCII order).
#[derive(Clone, Debug, Default)]
pub struct DescribeGroups {
    /// Only names that start so.
    pub prefix: Option<String>,
    /// Only names in which this stands, in upper and lower case as given. The service refuses it beside a prefix.
    pub pattern: Option<String>,
    /// The page to give; `None` is the first.
    pub token: Option<String>,
    /// At most so many (1–50); `None` is the service's default, 50.
    pub limit: Option<u32>,
}

/// A DescribeLogStreams request.
#[derive(Clone, Debug, Default)]
pub struct DescribeStreams {
    /// The group's exact name.
    pub group: String,
    /// Only names that start so (ASCII order); `None` lists newest event first. The service doesn't combine the two.
    pub prefix: Option<String>,
    /// The page to give; `None` is the first.
    pub token: Option<String>,
    /// At most so many (1–50); `None` is the service's default, 50.
    pub limit: Option<u32>,
}

/// A GetLogEvents request: one stream.
#[derive(Clone, Debug, Default)]
pub struct GetEvents {
    /// The group's exact name.
    pub group: String,
    /// The stream's exact name.
    pub stream: String,
    /// Inclusive start of the timestamps wanted.
    pub start: Option<Timestamp>,
    /// **Exclusive** end.
    pub end: Option<Timestamp>,
    /// Oldest first (with forward tokens), or newest page first (with backward tokens). Events inside a page are oldest first always.
    pub from_head: bool,
    /// Token of a page given before; stays valid 24 h.
    pub token: Option<String>,
    /// At most so many events (1–10,000).
    pub limit: Option<u32>,
}

/// Events of a page of either event call at most, and where no limit is asked for.
const MOST_EVENTS: u32 = 10_000;

/// A page of GetLogEvents. Only a returned token equal to the one sent means the end.
#[derive(Clone, Debug, Default)]
pub struct EventPage {
    /// Sorted by timestamp, then ingestion time; may be empty anywhere.
    pub events: Vec<LogEvent>,
    /// Token towards newer events.
    pub forward: String,
    /// Token towards older events.
    pub backward: String,
}

/// A FilterLogEvents request: a whole group, or some streams of it.
#[derive(Clone, Debug, Default)]
pub struct FilterEvents {
    /// The group's exact name.
    pub group: String,
    /// Only these streams (at most 100); empty means all, new ones included.
    pub streams: Vec<String>,
    /// Inclusive start.
    pub start: Option<Timestamp>,
    /// **Inclusive** end, unlike GetLogEvents.
    pub end: Option<Timestamp>,
    /// Token of the page to give.
    pub token: Option<String>,
    /// At most so many events (1–10,000).
    pub limit: Option<u32>,
}

/// A page of FilterLogEvents. Finished only when there is no `next`; an empty page with one is the middle.
#[derive(Clone, Debug, Default)]
pub struct FilterPage {
    /// (stream's exact name, event), sorted by timestamp over all streams.
    pub events: Vec<(String, LogEvent)>,
    /// Token of the next page.
    pub next: Option<String>,
}

/// A StartQuery request that counts one stream's events by the hour.
#[derive(Clone, Debug, Default)]
pub struct CountEvents {
    /// The group's exact name.
    pub group: String,
    /// The stream's exact name.
    pub stream: String,
    /// Start of the timestamps wanted; a whole hour.
    pub start: Timestamp,
    /// **Exclusive** end; a whole hour. The answer holds at most 10,000 hours.
    pub end: Timestamp,
}

/// How far a query is, as GetQueryResults tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Scheduled or running: ask again.
    Running,
    /// Events by the hour; hours without any are left out.
    Done(Hours),
    /// It ended without an answer, for this reason.
    Failed(String),
}

/// What kind of refusal or failure a call met; decides between retrying, giving up and telling a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceErrorKind {
    /// The group or stream isn't there.
    NotFound,
    /// Over the quota: slow down and try again.
    Throttled,
    /// 5xx or ServiceUnavailable: try again.
    Unavailable,
    /// Connection refused, reset or cut, name not resolved, truncated body: try again.
    Network,
    /// No answer in time: try again.
    Timeout,
    /// The permission for this call is missing, or the region is not enabled.
    Denied,
    /// Credentials missing, expired or not accepted (a new token or `aws sso login` cures it).
    Credentials,
    /// The token is too old or unknown: start again from the position.
    InvalidToken,
    /// The request is refused for its content.
    Invalid,
    /// The group's class doesn't answer this call.
    Unsupported,
    /// The whole answer came, from the service itself, and is no JSON or lacks what it must hold.
    Undecodable,
    /// The answer is larger than any that is taken: ask for less ([`halved`]).
    TooLarge,
}

/// A call that failed, with the service's own sentence.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{} failed: {message}", call.name())]
pub struct SourceError {
    /// What kind of failure.
    pub kind: SourceErrorKind,
    /// Which call.
    pub call: Call,
    /// The service's or the transport's sentence, without secrets.
    pub message: String,
}

/// The limit to ask an event call with once the answer to `limit` was too large; `None` if there is less of nothing.
pub fn halved(limit: Option<u32>) -> Option<u32> {
    let half = limit.unwrap_or(MOST_EVENTS) / 2;
    (half > 0).then_some(half)
}

/// The service. One method call is one request: no retries and no pacing here, so that the scheduler sees every try.
#[async_trait]
pub trait LogSource: Send + Sync + 'static {
    /// One page of log groups.
    async fn describe_log_groups(&self, request: DescribeGroups) -> Result<Page<LogGroup>, SourceError>;
    /// One page of a group's streams.
    async fn describe_log_streams(&self, request: DescribeStreams) -> Result<Page<LogStream>, SourceError>;
    /// One page of one stream's events.
    async fn get_log_events(&self, request: GetEvents) -> Result<EventPage, SourceError>;
    /// One page of a group's events.
    async fn filter_log_events(&self, request: FilterEvents) -> Result<FilterPage, SourceError>;
    /// Starts counting a stream's events by the hour (Logs Insights); gives the query's id.
    async fn start_count(&self, _: CountEvents) -> Result<String, SourceError> {
        Err(no_insights(Call::StartQuery))
    }
    /// How far the count with this id is.
    async fn count_results(&self, _: String) -> Result<Counted, SourceError> {
        Err(no_insights(Call::GetQueryResults))
    }
    /// The quotas to start from.
    fn quotas(&self) -> Quotas;
    /// The region, for the mount's source name (`cwlogs:REGION`).
    fn region(&self) -> String;
}

fn no_insights(call: Call) -> SourceError {
    SourceError { kind: SourceErrorKind::Unsupported, call, message: "there is no Logs Insights here".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_s_index_is_its_place_among_all() {
        assert!(Call::ALL.iter().enumerate().all(|(place, call)| call.index() == place));
    }

    #[test]
    fn a_limit_is_halved_down_to_one_event_and_no_further() {
        let limits: Vec<u32> = std::iter::successors(halved(None), |limit| halved(Some(*limit))).collect();
        assert_eq!(limits, [5000, 2500, 1250, 625, 312, 156, 78, 39, 19, 9, 4, 2, 1]);
        assert_eq!((halved(Some(1)), halved(Some(0)), halved(Some(10_000))), (None, None, Some(5000)));
    }
}
