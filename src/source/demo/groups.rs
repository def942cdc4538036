//! The demo's groups and streams: what exists, since when, and who writes it.
//!
//! All of it follows from the epoch: history lies before it, growth after it. Streams that existed at the epoch are made once; those
//! that are born later are made when the clock reaches them, and keep their place in the group's order for ever.

use super::schedule::{Schedule, mix};
use super::text::Writer;
use crate::model::{LogEvent, LogStream, Timestamp};
use crate::sync::lock;
use std::sync::{Arc, Mutex};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// How long before its first unit a stream is made.
const BIRTH_LEAD: i64 = 1500;

/// One stream: its name, and its events by number.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) schedule: Schedule,
    writer: Writer,
}

impl Stream {
    /// A stream whose units begin every `period` ms from `start` on; `units` is `None` for one that keeps growing.
    fn new(group: &str, name: String, writer: Writer, start: i64, period: i64, units: Option<u64>) -> Stream {
        let seed = xxh3_64_with_seed(name.as_bytes(), xxh3_64_with_seed(group.as_bytes(), 0));
        let lines = writer.lines();
        let gap = if lines > 1 { (period / (4 * lines as i64)).min(40) } else { 0 };
        let schedule = Schedule { start: Timestamp(start), period, lines, gap, units, seed };
        Stream { name, seed, schedule, writer }
    }

    pub(crate) fn created(&self) -> Timestamp {
        Timestamp(self.schedule.start.0 - BIRTH_LEAD)
    }

    /// Event `k`, stamped and worded.
    pub(crate) fn event(&self, k: u64) -> LogEvent {
        let timestamp = self.schedule.at(k);
        let message = self.writer.message(self.seed, k, timestamp);
        LogEvent { timestamp, ingestion_time: self.ingestion(k), message }
    }

    fn ingestion(&self, k: u64) -> Timestamp {
        Timestamp(self.schedule.at(k).0 + 20 + (mix(!self.seed, k) % 300) as i64)
    }

    /// The stream as the listing tells it at `now`.
    pub(crate) fn listed(&self, group_arn: &str, now: Timestamp) -> LogStream {
        let last = self.schedule.count_to(now).checked_sub(1);
        LogStream {
            name: self.name.clone(),
            arn: format!("{group_arn}:log-stream:{}", self.name),
            created: self.created(),
            first_event: last.map(|_| self.schedule.at(0)),
            last_event: last.map(|k| self.schedule.at(k)),
            last_ingestion: last.map(|k| self.ingestion(k)),
        }
    }
}

/// How streams are born after the epoch.
#[derive(Debug)]
struct Births {
    epoch: i64,
    every: i64,
    make: fn(&str, u64, i64) -> Stream,
    born: Mutex<Vec<Arc<Stream>>>,
}

/// One group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) retention_days: Option<u32>,
    fixed: Vec<Arc<Stream>>,
    births: Option<Births>,
}

impl Group {
    fn new(epoch: i64, name: &str, retention_days: Option<u32>, streams: Vec<Stream>) -> Group {
        let fixed = streams.into_iter().map(Arc::new).collect();
        Group { name: name.into(), created: Timestamp(epoch - 90 * DAY), retention_days, fixed, births: None }
    }

    pub(crate) fn arn(&self) -> String {
        format!("arn:aws:logs:demo:000000000000:log-group:{}", self.name)
    }

    /// The streams that exist at `now`, oldest member of the group first. Places never change.
    pub(crate) fn streams(&self, now: Timestamp) -> Vec<Arc<Stream>> {
        let mut streams: Vec<_> = self.fixed.iter().filter(|stream| stream.created() <= now).cloned().collect();
        if let Some(births) = &self.births
            && now.0 >= births.epoch
        {
            let count = ((now.0 - births.epoch) / births.every + 1) as usize;
            // Nothing but whole streams is pushed, so a panic elsewhere can't have left half of one.
            let mut born = lock(&births.born);
            while born.len() < count {
                let place = born.len() as u64;
                let at = births.epoch + place as i64 * births.every;
                born.push(Arc::new((births.make)(&self.name, place, at + BIRTH_LEAD)));
            }
            streams.extend_from_slice(&born[..count]);
        }
        streams
    }
}

/// `2026/11/23`, with `separator` for the slash.
fn date(at: i64, separator: char) -> String {
    let time = jiff::Timestamp::from_millisecond(at).unwrap_or_default().to_zoned_datetime(jiff::tz::TimeZone::UTC);
    format!("{:04}{separator}{:02}{separator}{:02}", time.year(), time.month(), time.day())
}

fn hex32(seed: u64, number: u64) -> String {
    format!("{:016x}{:016x}", mix(seed, number), mix(!seed, number))
}

fn lambda_name(seed: u64, number: u64, at: i64) -> String {
    format!("{}/[$LATEST]{}", date(at, '/'), hex32(seed, number))
}

/// A checkout function's instance lives five minutes.
fn checkout_instance(group: &str, place: u64, start: i64) -> Stream {
    Stream::new(group, lambda_name(3, place, start), Writer::Lambda, start, 5 * SECOND, Some(60))
}

/// Every group, in ASCII order.
pub(crate) fn all(epoch: Timestamp) -> Vec<Group> {
    let epoch = epoch.0;
    let mut groups = vec![
        checkout(epoch),
        payments(epoch),
        storefront(epoch),
        nginx(epoch),
        orders(epoch),
        Group::new(epoch, "app-orders", None, several(epoch, "app-orders", "legacy-", 3, Writer::Json, 200)),
        nightly(epoch),
        audit(epoch),
        awkward(epoch),
    ];
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    groups
}

/// `count` finished streams of `units` units each, an hour apart.
fn several(epoch: i64, group: &str, prefix: &str, count: u64, writer: Writer, units: u64) -> Vec<Stream> {
    (0..count)
        .map(|n| {
            let start = epoch - (count - n) as i64 * HOUR;
            Stream::new(group, format!("{prefix}{n}"), writer, start, HOUR / units as i64, Some(units))
        })
        .collect()
}

fn checkout(epoch: i64) -> Group {
    let name = "/aws/lambda/checkout";
    let streams = (0..48)
        .map(|n| {
            let start = epoch - (48 - n as i64) * HOUR;
            Stream::new(name, lambda_name(1, n, start), Writer::Lambda, start, 45 * SECOND, Some(20 + mix(1, n) % 60))
        })
        .collect();
    let births = Births { epoch, every: MINUTE, make: checkout_instance, born: Mutex::default() };
    Group { births: Some(births), ..Group::new(epoch, name, Some(30), streams) }
}

fn payments(epoch: i64) -> Group {
    let name = "/aws/lambda/payments";
    let mut streams: Vec<Stream> = (0..24)
        .map(|n| {
            let start = epoch - (25 - n as i64) * HOUR;
            Stream::new(name, lambda_name(2, n, start), Writer::Lambda, start, 20 * SECOND, Some(10 + mix(2, n) % 90))
        })
        .collect();
    let start = epoch - 10 * MINUTE;
    streams.push(Stream::new(name, lambda_name(2, 99, start), Writer::Lambda, start, 3 * SECOND, None));
    Group::new(epoch, name, Some(14), streams)
}

fn storefront(epoch: i64) -> Group {
    let name = "/ecs/storefront";
    let task = |n: u64, container: &str| format!("storefront/{container}/{}", hex32(7, n));
    let mut streams: Vec<Stream> = (0..6)
        .map(|n| {
            let start = epoch - (30 - 4 * n as i64) * HOUR;
            Stream::new(name, task(n, "web"), Writer::Java, start, 10 * SECOND, Some(1200))
        })
        .collect();
    streams.push(Stream::new(name, task(10, "web"), Writer::Java, epoch - HOUR, SECOND, None));
    streams.push(Stream::new(name, task(11, "web"), Writer::Java, epoch - HOUR / 2, SECOND / 2, None));
    streams.push(Stream::new(name, task(12, "worker"), Writer::Java, epoch - HOUR, 5 * SECOND, None));
    Group::new(epoch, name, Some(90), streams)
}

fn nginx(epoch: i64) -> Group {
    let name = "nginx/access";
    let streams = (0..3)
        .map(|n| {
            let host = format!("ip-10-0-{n}-{}", 17 + 31 * n);
            Stream::new(name, host, Writer::Nginx, epoch - HOUR, 350 + 150 * n, None)
        })
        .collect();
    Group::new(epoch, name, Some(7), streams)
}

fn orders(epoch: i64) -> Group {
    let name = "app/orders";
    let mut streams = several(epoch, name, "orders-archive-", 4, Writer::Json, 400);
    streams.push(Stream::new(name, "orders-1".into(), Writer::Json, epoch - HOUR, SECOND, None));
    streams.push(Stream::new(name, "orders-2".into(), Writer::Json, epoch - HOUR, 1700, None));
    streams.push(Stream::new(name, "never-written".into(), Writer::Json, epoch - DAY, SECOND, Some(0)));
    Group::new(epoch, name, None, streams)
}

/// A thousand small streams.
fn nightly(epoch: i64) -> Group {
    let name = "batch/nightly";
    let streams = (0..1000u64)
        .map(|n| {
            let night = epoch - (4 - n as i64 / 250) * DAY;
            let start = night + (n % 250) as i64 * 20 * SECOND;
            let stream = format!("{}/shard-{:03}", date(night, '-'), n % 250);
            Stream::new(name, stream, Writer::Batch, start, 3 * SECOND, Some(4 + mix(5, n) % 16))
        })
        .collect();
    Group::new(epoch, name, Some(30), streams)
}

/// One stream of about 20 MB, and small ones beside it.
fn audit(epoch: i64) -> Group {
    let name = "audit/trail";
    let mut streams = several(epoch, name, "summary-", 3, Writer::Audit, 50);
    streams.push(Stream::new(name, "export-full".into(), Writer::Audit, epoch - 3 * DAY, 2300, Some(90_000)));
    Group::new(epoch, name, None, streams)
}

/// Names that are legal and awkward: for a shell, a path, a terminal, or beside each other.
fn awkward(epoch: i64) -> Group {
    let name = "demo/awkward-names_#1";
    let long = [
        "x".repeat(512),
        format!("{}-a", "y".repeat(510)),
        format!("{}-b", "y".repeat(510)),
        "é".repeat(512),
        "long/".repeat(100),
    ];
    let names = [
        "a/b",
        "a-b",
        "a b",
        "A-B",
        "a//b/",
        "/",
        ".",
        "..",
        "../../etc/passwd",
        ".hidden",
        "-rf",
        "--help",
        "@all",
        "@since=1h",
        "%2F",
        "100%",
        "~",
        "$HOME",
        "`reboot`",
        "$@!&();|<>",
        "[[[]]]",
        "???",
        "\"quoted\" and 'quoted'",
        "back\\slash",
        " leading and trailing ",
        "tab\there",
        "line\nbreak",
        "bell\u{7} red\u{1b}[31m",
        "nul\u{0}inside",
        "stream.log",
        "stream.jsonl",
        "日本語/ログ",
        "Ångström",
        "A\u{30a}ngstro\u{308}m",
        "🔥",
        "\u{202e}right to left",
    ];
    let streams = names.iter().map(ToString::to_string).chain(long);
    let streams = streams
        .enumerate()
        .map(|(n, stream)| {
            let start = epoch - HOUR - n as i64 * MINUTE;
            Stream::new(name, stream, Writer::Batch, start, MINUTE, Some(5 + n as u64 % 7))
        })
        .collect();
    Group::new(epoch, name, Some(1), streams)
}
