//! The domain, named as CloudWatch Logs names it. Every room speaks these types and nothing here does I/O.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, as the service stamps events.
///
/// Negative values can't come from the service but may come from arithmetic near zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The hour that it lies in, counted from the epoch (a key of [`Hours`]).
    pub fn hour(self) -> i64 {
        self.0.div_euclid(HOUR_MS)
    }

    /// When an hour begins.
    pub fn of_hour(hour: i64) -> Timestamp {
        Timestamp(hour.saturating_mul(HOUR_MS))
    }

    /// The earliest time that can be asked for.
    pub const EPOCH: Timestamp = Timestamp(0);

    /// The same moment as the system's clock type; times before the epoch become the epoch.
    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0.max(0) as u64)
    }

    /// The millisecond that holds `time`; times before the epoch become the epoch.
    pub fn from_system_time(time: SystemTime) -> Timestamp {
        Timestamp(time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64))
    }
}

/// An hour in milliseconds.
const HOUR_MS: i64 = 3_600_000;

/// Numbers of events by the hour of their timestamps, counted from the epoch. Hours without events are left out.
pub type Hours = BTreeMap<i64, u64>;

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, rhs: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(rhs.as_millis() as i64))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;
    fn sub(self, rhs: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(rhs.as_millis() as i64))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => write!(f, "{t:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

/// A span of event timestamps: `start` is in it, `end` is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first millisecond inside.
    pub start: Timestamp,
    /// The first millisecond after.
    pub end: Timestamp,
}

impl Span {
    /// Whether `at` lies inside.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }
}

/// What a log group's class lets a reader do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum LogClass {
    /// Everything works.
    #[default]
    Standard,
    /// The event calls refuse it (InvalidOperationException); only Insights answers.
    InfrequentAccess,
    /// Holds nothing that can be read.
    Delivery,
}

/// A log group as DescribeLogGroups tells it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogGroup {
    /// Exact name: 1–512 of `a-zA-Z0-9.-_/#`.
    pub name: String,
    /// Amazon resource name without the trailing `:*`; empty where the service gave none.
    pub arn: String,
    /// When it was made; part of its identity, since a deleted group may be made again.
    pub created: Timestamp,
    /// Its class.
    pub class: LogClass,
    /// Days after which the service drops events; `None` keeps them for ever.
    pub retention_days: Option<u32>,
    /// Compressed size at the service, in bytes.
    pub stored_bytes: u64,
}

/// A log stream as DescribeLogStreams tells it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogStream {
    /// Exact name: 1–512 of anything but `:` and `*`.
    pub name: String,
    /// Amazon resource name; empty where the service gave none.
    pub arn: String,
    /// When it was made; part of its identity.
    pub created: Timestamp,
    /// Oldest event; `None` for a stream without events. May lag.
    pub first_event: Option<Timestamp>,
    /// Newest event. Lags by up to an hour, rarely more: never proof that nothing is newer.
    pub last_event: Option<Timestamp>,
    /// Newest ingestion. Lags likewise.
    pub last_ingestion: Option<Timestamp>,
}

/// One log event. Identity for merging is (timestamp, message); identical events exist and count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// The writer's stamp.
    pub timestamp: Timestamp,
    /// When the service took it in. Kept, not compared.
    pub ingestion_time: Timestamp,
    /// The text: UTF-8, up to 1 MB, may hold newlines, NUL, anything.
    pub message: String,
}

/// What the service counts for an event beside its message, in bytes:
/// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html>.
const EVENT_OVERHEAD: usize = 26;

impl LogEvent {
    /// What the service counts for it, in bytes: so much of a page's megabyte it takes.
    pub(crate) fn size(&self) -> usize {
        self.message.len() + EVENT_OVERHEAD
    }
}

/// A log group's row in the local catalogue. Group and stream ids come from one sequence and are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct GroupId(pub u64);

/// A log stream's row in the local catalogue: one *generation* of the stream. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct StreamId(pub u64);

/// Whether a character does something to what stands around it: a control character (C0, DEL and C1, with which terminals are
/// steered), a bidirectional control (Unicode's Bidi_Control), a line or paragraph separator.
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Printable form of a name from outside: what steers (see [`steers`]) is escaped, so that the name can't steer a terminal, turn text
/// round or forge a log line.
pub fn printable(name: &str) -> String {
    name.chars().flat_map(|c| if steers(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// An URL as it may be shown: without a user's name and password, should it hold them.
pub fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (&url[..scheme.len() + 3], rest));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rfind('@') {
        Some(at) => format!("{scheme}(hidden)@{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Characters that do something to what stands around them.
    const STEERING: &str = "\u{0}\n\u{1b}\u{7f}\u{80}\u{85}\u{9b}\u{9f}\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\
        \u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";

    #[test]
    fn what_steers_a_terminal_or_turns_text_round_is_escaped() {
        for c in STEERING.chars() {
            assert_eq!(printable(&format!("a{c}b")), format!("a{}b", c.escape_default()));
        }
        let plain = "/aws/[$LATEST] é 日本語 \u{1f525} a\u{30a} \u{200b}\u{200d}";
        assert_eq!(printable(plain), plain, "what is only odd is shown");
    }

    #[test]
    fn passwords_of_urls_are_hidden() {
        for (url, shown) in [
            ("https://u:p@host:1/a@b", "https://(hidden)@host:1/a@b"),
            ("https://u:p@q@host", "https://(hidden)@host"),
            ("u:p@host", "(hidden)@host"),
            ("http://localhost:4566/a?b=c@d", "http://localhost:4566/a?b=c@d"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
