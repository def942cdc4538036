//! What the fake does beside answering rightly. All hazards are off in [`Plan::default`]; each is a field, and over HTTP a plan is
//! merged as JSON (RFC 7396), so a test switches one without naming the others.

use super::text::Text;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The hazards and limits in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Plan {
    /// Region in the ARNs.
    pub(crate) region: String,
    /// Seed of every random decision; setting a plan starts its sequence anew.
    pub(crate) seed: u64,
    /// By how much the service's clock is ahead of the machine's, in ms. It dates answers, ingests, and judges what is young,
    /// expired or stamped too far ahead. What an event was given stays as it is when this changes.
    pub(crate) clock_offset_ms: i64,
    /// Whether requests signed more than 5 minutes off the service's clock are refused, as the service does. Requests without
    /// X-Amz-Date never are.
    pub(crate) check_signing_time: bool,
    /// Whether answers have a `Date`.
    pub(crate) date_header: bool,
    /// The `Age` of every answer, as a cache in between would add it, in seconds.
    pub(crate) age_header: Option<u64>,
    /// Each call's latency in ms, where no rule of `slow` matches.
    pub(crate) latency_ms: u64,
    /// Latencies of some calls, groups or streams; the first that matches holds.
    pub(crate) slow: Vec<Slow>,
    /// Quotas of calls a second; none by default.
    pub(crate) quotas: Quotas,
    /// A page's limit in bytes (messages, and 26 for each). The service's is 1 MiB; some emulators have none but `page_events`.
    pub(crate) page_bytes: usize,
    /// A page's limit in events.
    pub(crate) page_events: usize,
    /// FilterLogEvents stops a page after so many events looked at, matching or not: empty pages with a token. 0: never.
    pub(crate) scan_events: usize,
    /// How often the first page of a read is empty, though events follow (0–1).
    pub(crate) empty_first: f64,
    /// How often a page in the middle is empty (0–1).
    pub(crate) empty_page: f64,
    /// The most empty pages in a row, so that every read ends.
    pub(crate) empty_run: u64,
    /// A read that begins more than a minute before what retention keeps gets so many empty pages first; where nothing expires, before the
    /// first event.
    pub(crate) expired_pages: u64,
    /// How often a page ends early (0–1).
    pub(crate) partial_page: f64,
    /// What reads don't show of a put.
    pub(crate) hidden: Hidden,
    /// Events leave answers now and then while they are young.
    pub(crate) missing: Missing,
    /// What the stream listing is late by.
    pub(crate) lag: Lag,
    /// Tokens are refused when older, in ms. 0: never.
    pub(crate) token_ttl_ms: u64,
    /// A deleted stream or group reads as empty for so long, in ms, before it is ResourceNotFoundException.
    pub(crate) deleted_empty_ms: u64,
    /// Whether reads drop what is older than the group's retention.
    pub(crate) enforce_retention: bool,
    /// Streams whose names DescribeLogStreams and FilterLogEvents write otherwise, by exact name: bytes as [`super::Fake::put_bytes`] takes
    /// them. Requests still name them exactly.
    pub(crate) written_names: BTreeMap<String, Vec<u8>>,
    /// A Logs Insights query is not complete for so many looks at it.
    pub(crate) query_looks: u64,
    /// Credentials are refused with this error type (`ExpiredTokenException`, `UnrecognizedClientException`, …).
    pub(crate) credentials_error: Option<String>,
    /// Every other access key id is refused as expired.
    pub(crate) accepted_key: Option<String>,
    /// Faults on demand. The first rule that matches and is due happens.
    pub(crate) faults: Vec<Fault>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            region: "us-east-1".into(),
            seed: 1,
            clock_offset_ms: 0,
            check_signing_time: true,
            date_header: true,
            age_header: None,
            latency_ms: 0,
            slow: Vec::new(),
            quotas: Quotas::default(),
            page_bytes: 1 << 20,
            page_events: 10_000,
            scan_events: 0,
            empty_first: 0.0,
            empty_page: 0.0,
            empty_run: 3,
            expired_pages: 0,
            partial_page: 0.0,
            hidden: Hidden::default(),
            missing: Missing::default(),
            lag: Lag::default(),
            token_ttl_ms: 0,
            deleted_empty_ms: 0,
            enforce_retention: false,
            written_names: BTreeMap::new(),
            query_looks: 2,
            credentials_error: None,
            accepted_key: None,
            faults: Vec::new(),
        }
    }
}

impl Plan {
    /// A stream's name as JSON, if the plan has it written otherwise.
    pub(crate) fn written_name(&self, stream: &str) -> Option<Vec<u8>> {
        let bytes = self.written_names.get(stream)?;
        Some([b"\"", Text::of(bytes).json(), b"\""].concat())
    }
}

/// Which calls a rule is about; what isn't named is any.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Which {
    /// The call, as `GetLogEvents`.
    pub(crate) call: Option<String>,
    /// The group's exact name.
    pub(crate) group: Option<String>,
    /// The stream's exact name; a call on many streams matches if it names this one, or none.
    pub(crate) stream: Option<String>,
}

impl Which {
    /// Whether a call is meant.
    pub(crate) fn matches(&self, call: &str, group: Option<&str>, streams: &[String]) -> bool {
        self.call.as_deref().is_none_or(|c| c == call)
            && self.group.as_deref().is_none_or(|g| Some(g) == group)
            && self
                .stream
                .as_ref()
                .is_none_or(|s| streams.contains(s) || streams.is_empty() && call == "FilterLogEvents")
    }
}

/// A latency of some calls.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Slow {
    /// Which calls.
    #[serde(flatten)]
    pub(crate) which: Which,
    /// The latency in ms.
    pub(crate) ms: u64,
}

/// How calls are counted against their quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Limiter {
    /// A bucket that fills at the rate.
    #[default]
    Bucket,
    /// At most the rate within any second.
    SlidingSecond,
    /// No counting: a fixed part of the calls is refused, whatever the rate.
    Random,
}

/// Quotas of calls a second.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Quotas {
    /// The region whose table holds; `None`: only `rates`.
    pub(crate) region: Option<String>,
    /// How it is counted.
    pub(crate) model: Limiter,
    /// The bucket's size in seconds of the rate (at least one call).
    pub(crate) burst_seconds: f64,
    /// The part that [`Limiter::Random`] refuses.
    pub(crate) random: f64,
    /// Rates by call (`"GetLogEvents": 5`), over the region's.
    pub(crate) rates: BTreeMap<String, f64>,
}

impl Default for Quotas {
    fn default() -> Quotas {
        Quotas { region: None, model: Limiter::Bucket, burst_seconds: 1.0, random: 0.01, rates: BTreeMap::new() }
    }
}

impl Quotas {
    /// The rate of a call; `None` has no quota.
    pub(crate) fn rate(&self, call: &str) -> Option<f64> {
        if let Some(rate) = self.rates.get(call) {
            return Some(*rate);
        }
        let region = self.region.as_deref()?;
        let slow =
            matches!(region, "eu-central-1" | "ap-northeast-3" | "ap-southeast-3" | "ca-west-1" | "il-central-1");
        match call {
            "GetLogEvents" if slow || matches!(region, "us-west-2" | "eu-west-1") => Some(10.0),
            "GetLogEvents" if region == "eu-west-3" => Some(30.0),
            "GetLogEvents" => Some(25.0),
            "FilterLogEvents" if region == "us-east-1" => Some(25.0),
            "FilterLogEvents" if slow => Some(5.0),
            "FilterLogEvents" => Some(10.0),
            "DescribeLogGroups" => Some(10.0),
            "DescribeLogStreams" => Some(25.0),
            "StartQuery" | "GetQueryResults" => Some(10.0),
            _ => None,
        }
    }
}

/// What reads don't show of a put.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Hidden {
    /// How often a whole put is hidden, though later ones are shown (0–1).
    pub(crate) batch: f64,
    /// How often a single event is, though its neighbours in the put are shown (0–1).
    pub(crate) event: f64,
    /// For how long, in ms; `None`: until released by control.
    pub(crate) for_ms: Option<u64>,
    /// Where given, the time is random between this and `for_ms`.
    pub(crate) from_ms: Option<u64>,
}

/// Events leave answers now and then while they are young.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Missing {
    /// How often an answer lacks a young event (0–1, drawn for each event of each answer).
    pub(crate) rate: f64,
    /// How long after ingestion an event is young, in ms.
    pub(crate) young_ms: u64,
}

/// What the stream listing is late by.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Lag {
    /// Times of a stream's first put show after so many ms.
    pub(crate) first_put_ms: u64,
    /// Times of later puts show after so many ms.
    pub(crate) later_puts_ms: u64,
    /// A new stream shows after so many ms.
    pub(crate) new_stream_ms: u64,
}

/// A fault on demand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// Which calls.
    #[serde(flatten)]
    pub(crate) which: Which,
    /// What happens.
    pub(crate) kind: FaultKind,
    /// How often (0–1).
    #[serde(default = "always")]
    pub(crate) rate: f64,
    /// Lets so many matching calls pass first.
    #[serde(default)]
    pub(crate) skip: u64,
    /// Happens so many times at most.
    #[serde(default)]
    pub(crate) times: Option<u64>,
    /// Slow bodies: ms between pieces of 16 KiB.
    #[serde(default)]
    pub(crate) ms: u64,
}

impl Fault {
    /// A fault of every call.
    pub(crate) fn new(kind: FaultKind) -> Fault {
        Fault { which: Which::default(), kind, rate: 1.0, skip: 0, times: None, ms: 0 }
    }

    /// Only of `call`.
    pub(crate) fn of(mut self, call: &str) -> Fault {
        self.which.call = Some(call.into());
        self
    }

    /// At most `times` times.
    pub(crate) fn times(mut self, times: u64) -> Fault {
        self.times = Some(times);
        self
    }
}

fn always() -> f64 {
    1.0
}

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    /// Status 500, InternalFailure.
    InternalError,
    /// Status 503, ServiceUnavailableException.
    ServiceUnavailable,
    /// ThrottlingException, whatever the quota.
    Throttle,
    /// AccessDeniedException with the action's name.
    AccessDenied,
    /// ExpiredTokenException: the credentials' token.
    ExpiredCredentials,
    /// The page token is refused (only of calls with one).
    ExpiredToken,
    /// An empty page with the token that was sent (only of calls with one): a false end of GetLogEvents, a loop of FilterLogEvents.
    RepeatToken,
    /// An empty page with a token, whatever `empty_page` says (event calls only).
    EmptyPage,
    /// The connection is reset before the answer's head.
    ResetBeforeHead,
    /// The connection is reset within the head.
    ResetInHead,
    /// The connection is reset within the body.
    ResetInBody,
    /// The body ends at half its length.
    TruncatedBody,
    /// The body comes in pieces, `ms` apart.
    SlowBody,
    /// The body is no JSON.
    GarbledBody,
    /// The body goes on for ever, with blanks in place of its last byte.
    EndlessBody,
    /// No answer, ever.
    Hang,
}
