//! `.cwlogs/status`: what the registries and the rooms know, for people and as JSON. Names from outside are printed escaped.

use super::{Report, errors, metrics};
use crate::error::Error;
use crate::model::{Timestamp, printable, steers, without_password};
use bytesize::ByteSize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

/// Groups shown.
const GROUPS: usize = 10;
/// Causes shown of what is shown from the copy, and names of each.
const CAUSES: usize = 5;
const NAMES: usize = 5;
/// Errors shown; `.cwlogs/errors` has all.
const ERRORS: usize = 10;

/// What stays the same while mounted.
#[derive(Clone, Debug, Default)]
pub struct MountFacts {
    /// Process id of the daemon.
    pub pid: u32,
    /// When it was mounted.
    pub since: Timestamp,
    /// Region, or `demo`.
    pub region: String,
    /// Profile chosen, if one was.
    pub profile: Option<String>,
    /// Endpoint chosen, if one was.
    pub endpoint_url: Option<String>,
    /// The mount point.
    pub mountpoint: PathBuf,
    /// The cache folder.
    pub cache_dir: PathBuf,
}

/// A stream that is followed.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    /// Exact name of its group.
    pub group: String,
    /// Exact name.
    pub stream: String,
    /// How often it is asked at present.
    pub interval: Duration,
    /// Its newest event.
    pub newest: Option<Timestamp>,
}

/// A download under way.
#[derive(Clone, Debug, Default)]
pub struct Transfer {
    /// Exact name of its group.
    pub group: String,
    /// Exact name.
    pub stream: String,
    /// Bytes committed so far.
    pub bytes: u64,
    /// When it began.
    pub since: Timestamp,
}

/// Something that is shown from the copy because bringing it up to date failed.
#[derive(Clone, Debug)]
pub struct Copy {
    /// Since when.
    pub since: Timestamp,
    /// Why; its subject is the stream or the group.
    pub error: Error,
}

/// What only the rooms know at the moment of asking.
#[derive(Clone, Debug, Default)]
pub struct StatusFacts {
    /// The moment of asking.
    pub now: Timestamp,
    /// Bytes that the cache takes on disk.
    pub cache_bytes: u64,
    /// Bytes that it may grow to.
    pub cache_limit: u64,
    /// Streams whose text was taken away to make room, since the mount.
    pub evicted: u64,
    /// Followed streams.
    pub followed: Vec<Followed>,
    /// Downloads under way.
    pub transfers: Vec<Transfer>,
    /// How this machine's clock differs from the service's, if it does by much.
    pub clock: Option<String>,
    /// Streams that are read once more because an unknown clock set their settled edges.
    pub aged: usize,
    /// Streams on whose files the cache's disk failed.
    pub sick: usize,
    /// What is shown from the copy.
    pub copies: Vec<Copy>,
}

impl Report {
    /// `.cwlogs/status`, for people.
    pub fn status_text(&self, facts: &StatusFacts) -> String {
        let mut out = String::new();
        // Writing to a String can't fail; the results are dropped for that reason.
        let _ = self.write_status(facts, &mut out);
        out
    }

    fn write_status(&self, facts: &StatusFacts, out: &mut String) -> std::fmt::Result {
        writeln!(out, "cwlogs-mount {}", env!("CARGO_PKG_VERSION"))?;
        if let Some(mount) = self.mount() {
            writeln!(out, "mount point   {}", printable(&mount.mountpoint.to_string_lossy()))?;
            writeln!(
                out,
                "mounted       {} ({} ago), process {}",
                mount.since,
                age(facts.now, mount.since),
                mount.pid
            )?;
            write!(out, "region        {}", printable(&mount.region))?;
            if let Some(profile) = &mount.profile {
                write!(out, ", profile {}", printable(profile))?;
            }
            if let Some(endpoint) = &mount.endpoint_url {
                write!(out, ", endpoint {}", printable(&without_password(endpoint)))?;
            }
            writeln!(out)?;
            writeln!(out, "cache folder  {}", printable(&mount.cache_dir.to_string_lossy()))?;
        }
        write!(out, "cache         {} of {}", ByteSize(facts.cache_bytes), ByteSize(facts.cache_limit))?;
        writeln!(out, ", {} streams' text taken out to make room", facts.evicted)?;

        write_warnings(out, facts)?;

        writeln!(out, "\nfollowed streams: {}", facts.followed.len())?;
        for followed in &facts.followed {
            let newest = followed.newest.map_or_else(|| "no event yet".to_owned(), |at| format!("newest event {at}"));
            let every = humantime::format_duration(followed.interval);
            writeln!(out, "  {} {}: every {every}, {newest}", printable(&followed.group), printable(&followed.stream))?;
        }
        writeln!(out, "transfers under way: {}", facts.transfers.len())?;
        for transfer in &facts.transfers {
            let (group, stream) = (printable(&transfer.group), printable(&transfer.stream));
            writeln!(out, "  {group} {stream}: {} in {}", ByteSize(transfer.bytes), age(facts.now, transfer.since))?;
        }

        writeln!(out)?;
        write_row(out, ["calls", "last minute", "total", "answered", "throttled", "failed", "waited for quota"])?;
        for one in self.metrics.calls(facts.now.to_system_time()) {
            let [total, answered, throttled, failed, waited] = counts_row(&one.counts);
            let last_minute = one.last_minute.to_string();
            write_row(out, [one.call.name(), &last_minute, &total, &answered, &throttled, &failed, &waited])?;
            for (kind, count) in one.failures {
                writeln!(out, "  {count} × {kind:?}")?;
            }
        }
        let groups = self.metrics.groups(GROUPS);
        if !groups.is_empty() {
            writeln!(out, "\ncalls by group")?;
            for group in groups {
                let name = group.group.as_deref().map_or_else(|| "(all others)".to_owned(), printable);
                let counts = &group.counts;
                writeln!(
                    out,
                    "  {:>8}  {name} ({} throttled, {} failed)",
                    counts.total(),
                    counts.throttled,
                    counts.failed
                )?;
            }
        }

        write!(out, "\nrequests of the kernel:")?;
        for (request, count) in self.requests.counts() {
            write!(out, " {} {count}", request.name())?;
        }
        writeln!(out)?;

        let errors = self.errors();
        writeln!(out, "\nlast errors: {}", if errors.is_empty() { "none" } else { "newest first" })?;
        for entry in errors.iter().take(ERRORS) {
            let times = if entry.count > 1 { format!(" ({} times)", entry.count) } else { String::new() };
            writeln!(out, "  {}{times} {}: {}", entry.at, entry.error.subject(), entry.error.cause())?;
            writeln!(out, "    {}", entry.error.advice())?;
        }
        Ok(())
    }

    /// `.cwlogs/status.json`: the same for programs. It is looked at by people too, so strings are escaped as far as JSON can.
    pub fn status_json(&self, facts: &StatusFacts) -> String {
        let mount = self.mount().map(|mount| {
            json!({
                "pid": mount.pid,
                "since": mount.since.to_string(),
                "region": mount.region,
                "profile": mount.profile,
                "endpointUrl": mount.endpoint_url.as_deref().map(without_password),
                "mountPoint": mount.mountpoint.to_string_lossy(),
                "cacheFolder": mount.cache_dir.to_string_lossy(),
            })
        });
        let followed = facts.followed.iter().map(|followed| {
            json!({
                "logGroup": followed.group,
                "logStream": followed.stream,
                "intervalSeconds": followed.interval.as_secs_f64(),
                "newestEvent": followed.newest.map(|at| at.to_string()),
            })
        });
        let transfers = facts.transfers.iter().map(|transfer| {
            json!({
                "logGroup": transfer.group,
                "logStream": transfer.stream,
                "bytes": transfer.bytes,
                "since": transfer.since.to_string(),
            })
        });
        let copies = facts.copies.iter().map(|copy| {
            json!({
                "path": copy.error.subject(),
                "since": copy.since.to_string(),
                "cause": copy.error.cause(),
                "advice": copy.error.advice(),
            })
        });
        let calls = self.metrics.calls(facts.now.to_system_time()).into_iter().map(|one| {
            let failures = one.failures.iter().map(|(kind, count)| (format!("{kind:?}"), json!(count)));
            let mut value = counts_json(&one.counts);
            value["call"] = json!(one.call.name());
            value["lastMinute"] = json!(one.last_minute);
            value["failures"] = Value::Object(failures.collect());
            value
        });
        let groups = self.metrics.groups(GROUPS).into_iter().map(|group| {
            let mut value = counts_json(&group.counts);
            value["logGroup"] = json!(group.group);
            value
        });
        let requests = self.requests.counts().map(|(request, count)| (request.name().to_owned(), json!(count)));
        let whole = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "mount": mount,
            "cacheBytes": facts.cache_bytes,
            "cacheLimit": facts.cache_limit,
            "evictedStreams": facts.evicted,
            "followed": followed.collect::<Vec<_>>(),
            "transfers": transfers.collect::<Vec<_>>(),
            "clock": facts.clock,
            "sickStreams": facts.sick,
            "readAgain": facts.aged,
            "shownFromCopy": copies.collect::<Vec<_>>(),
            "calls": calls.collect::<Vec<_>>(),
            "groups": groups.collect::<Vec<_>>(),
            "requests": Value::Object(requests.collect()),
            "errors": self.errors().iter().map(error_json).collect::<Vec<_>>(),
        });
        // Outside of strings, where an escape would be wrong, there are only newlines of that kind.
        let escaped = |c: char| steers(c) && c != '\n';
        let mut text = String::new();
        for c in format!("{whole:#}\n").chars() {
            if escaped(c) { text.push_str(&format!("\\u{:04x}", u32::from(c))) } else { text.push(c) }
        }
        text
    }
}

/// What a person should know before believing what is shown.
fn write_warnings(out: &mut String, facts: &StatusFacts) -> std::fmt::Result {
    if let Some(clock) = &facts.clock {
        writeln!(out, "clock         {clock}")?;
    }
    if facts.sick > 0 {
        let streams = if facts.sick == 1 { "stream" } else { "streams" };
        writeln!(out, "disk          it fails on the files of {} {streams}, which are made anew", facts.sick)?;
    }
    if facts.aged > 0 {
        writeln!(out, "read again    {} streams that an unknown clock may have settled too early", facts.aged)?;
    }
    if facts.copies.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nshown from the copy, not up to date: {}", facts.copies.len())?;
    for (cause, copies) in by_cause(&facts.copies).into_iter().take(CAUSES) {
        let since = copies.iter().map(|copy| copy.since).min().unwrap_or_default();
        writeln!(out, "  since {since}, because {cause}:")?;
        for copy in copies.iter().take(NAMES) {
            writeln!(out, "    {}", copy.error.subject())?;
        }
        if copies.len() > NAMES {
            writeln!(out, "    and {} more", copies.len() - NAMES)?;
        }
        if let Some(copy) = copies.first() {
            writeln!(out, "    {}", copy.error.advice())?;
        }
    }
    Ok(())
}

/// What is shown from the copy, by why: the most frequent cause first, and of each the longest first.
fn by_cause(copies: &[Copy]) -> Vec<(&str, Vec<&Copy>)> {
    let mut causes: BTreeMap<&str, Vec<&Copy>> = BTreeMap::new();
    for copy in copies {
        causes.entry(copy.error.cause()).or_default().push(copy);
    }
    let mut causes: Vec<_> = causes.into_iter().collect();
    causes.iter_mut().for_each(|(_, copies)| copies.sort_by_key(|copy| copy.since));
    causes.sort_by_key(|(_, copies)| std::cmp::Reverse(copies.len()));
    causes
}

fn counts_row(counts: &metrics::Counts) -> [String; 5] {
    [
        counts.total().to_string(),
        counts.answered.to_string(),
        counts.throttled.to_string(),
        counts.failed.to_string(),
        format!("{:.1} s", counts.waited.as_secs_f64()),
    ]
}

fn write_row(out: &mut String, [call, numbers @ ..]: [&str; 7]) -> std::fmt::Result {
    write!(out, "{call:<20}")?;
    for (number, width) in numbers.into_iter().zip([12, 10, 10, 10, 8, 18]) {
        write!(out, "{number:>width$}")?;
    }
    writeln!(out)
}

fn counts_json(counts: &metrics::Counts) -> Value {
    json!({
        "total": counts.total(),
        "answered": counts.answered,
        "throttled": counts.throttled,
        "failed": counts.failed,
        "items": counts.items,
        "waitedSeconds": counts.waited.as_secs_f64(),
    })
}

fn error_json(entry: &errors::Entry) -> Value {
    json!({
        "time": entry.at.to_string(),
        "count": entry.count,
        "path": entry.error.subject(),
        "kind": format!("{:?}", entry.error.kind()),
        "cause": entry.error.cause(),
        "advice": entry.error.advice(),
    })
}

/// `2h 5m`: whole seconds, two units at most.
fn age(now: Timestamp, since: Timestamp) -> String {
    let seconds = (now.0 - since.0).max(0) as u64 / 1000;
    let long = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    long.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::source::{Call, SourceErrorKind};

    fn report() -> (Report, StatusFacts) {
        let report = Report::default();
        report.describe(MountFacts {
            pid: 7,
            since: Timestamp(0),
            region: "eu-west-1".into(),
            mountpoint: "/mnt/logs".into(),
            cache_dir: "/cache".into(),
            ..MountFacts::default()
        });
        report.call(Call::GetLogEvents, Some("a\u{1b}[2Jb"), Ok(3), Duration::from_secs(1));
        report.call(Call::GetLogEvents, None, Err(SourceErrorKind::Throttled), Duration::ZERO);
        report.error(&Error::new(ErrorKind::Denied, "group/stream", "token expired"));
        let facts = StatusFacts {
            now: Timestamp(7_500_000),
            cache_bytes: 2048,
            cache_limit: 1 << 20,
            evicted: 3,
            followed: vec![Followed { group: "g\n\u{9b}\u{202e}".into(), stream: "s".into(), ..Followed::default() }],
            transfers: vec![Transfer { stream: "t".into(), bytes: 10, ..Transfer::default() }],
            clock: Some("this machine's clock is 1h ahead of the service's".into()),
            aged: 12,
            sick: 1,
            copies: vec![
                Copy { since: Timestamp(5_000), error: Error::new(ErrorKind::TimedOut, "g/one", "no network") },
                Copy { since: Timestamp(1_000), error: Error::new(ErrorKind::Denied, "g/a", "not allowed") },
                Copy { since: Timestamp(2_000), error: Error::new(ErrorKind::Denied, "g/b", "not allowed") },
            ],
        };
        (report, facts)
    }

    #[test]
    fn people_see_facts_calls_and_advice() {
        let (report, facts) = report();
        let text = report.status_text(&facts);
        for part in ["eu-west-1", "/mnt/logs", "2h 5m ago", "process 7", "aws sso login", "1 × Throttled", "2.0 KiB"] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        assert!(text.chars().all(|c| c == '\n' || !(c.is_control() || c == '\u{202e}')));
    }

    #[test]
    fn what_may_be_old_is_told_by_its_cause() {
        let (report, facts) = report();
        let text = report.status_text(&facts);
        for part in ["1h ahead", "files of 1 stream,", "12 streams", "not up to date: 3"] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        let denied = text.find("since 1970-01-01T00:00:01.000Z, because not allowed:\n    g/a\n    g/b\n").unwrap();
        assert!(denied < text.find("because no network").unwrap(), "the most frequent cause is first");
        let (_, quiet) = (report, StatusFacts::default());
        assert!(!Report::default().status_text(&quiet).contains("not up to date"));
    }

    #[test]
    fn programs_see_the_same() {
        let (report, facts) = report();
        let text = report.status_json(&facts);
        assert!(
            text.chars().all(|c| c == '\n' || !(c.is_control() || c == '\u{202e}')),
            "programs' output meets eyes too"
        );
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["followed"][0]["logGroup"], "g\n\u{9b}\u{202e}");
        assert_eq!(value["mount"]["pid"], 7);
        assert_eq!(value["calls"][Call::GetLogEvents as usize]["throttled"], 1);
        assert_eq!(value["errors"][0]["path"], "group/stream");
        assert_eq!(value["followed"].as_array().unwrap().len(), 1);
        assert_eq!(value["shownFromCopy"][1]["cause"], "not allowed");
    }
}
