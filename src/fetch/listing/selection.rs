//! What the selection shows, and what can be an exact name. Pure.

use crate::fetch::settings::{Selection, Since};
use crate::model::{LogStream, Timestamp};
use std::time::Duration;

/// Listings lag by that much: a stream is hidden as too old only when it is older by that, too.
const LAG: Duration = Duration::from_hours(1);
/// Longest exact name of a group or stream, in characters.
const MAX_NAME: usize = 512;

/// Whether the group of this exact name is shown.
pub(crate) fn shows_group(selection: &Selection, name: &str) -> bool {
    let prefixes = &selection.group_prefixes;
    let patterns = &selection.group_patterns;
    (prefixes.is_empty() || prefixes.iter().any(|p| name.starts_with(p.as_str())))
        && (patterns.is_empty() || patterns.is_match(name))
}

/// Whether the stream is shown, at `now`.
pub(crate) fn shows_stream(selection: &Selection, stream: &LogStream, now: Timestamp) -> bool {
    (selection.streams.is_empty() || selection.streams.contains(&stream.name))
        && oldest_shown(selection, now).is_none_or(|oldest| last_sign(stream) >= oldest)
}

/// The time since which a stream must have shown a sign of life, the listing's lag allowed for; `None` shows all.
pub(crate) fn oldest_shown(selection: &Selection, now: Timestamp) -> Option<Timestamp> {
    let since = match selection.since? {
        Since::Ago(ago) => now - ago,
        Since::At(at) => at,
    };
    Some(since - LAG)
}

/// The newest time that the listing tells of a stream.
pub(crate) fn last_sign(stream: &LogStream) -> Timestamp {
    stream.last_event.max(stream.last_ingestion).unwrap_or(stream.created)
}

/// The prefixes to list groups by: none that another one covers, and `None` alone for all groups.
pub(crate) fn walk_prefixes(selection: &Selection) -> Vec<Option<String>> {
    let mut prefixes = selection.group_prefixes.clone();
    prefixes.sort();
    // Sorted, a prefix comes right before all that it covers.
    prefixes.dedup_by(|later, kept| later.starts_with(kept.as_str()));
    if prefixes.first().is_none_or(String::is_empty) { vec![None] } else { prefixes.into_iter().map(Some).collect() }
}

/// Whether a log group can have this exact name.
pub(crate) fn possible_group(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/' | b'#'))
}

/// Whether a log stream can have this exact name.
pub(crate) fn possible_stream(name: &str) -> bool {
    !name.is_empty() && !name.contains([':', '*']) && name.chars().count() <= MAX_NAME
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(name: &str, last: Option<i64>) -> LogStream {
        let last = last.map(Timestamp);
        LogStream {
            name: name.into(),
            arn: String::new(),
            created: Timestamp(5),
            first_event: last,
            last_event: last,
            last_ingestion: None,
        }
    }

    #[test]
    fn prefixes_merge() {
        let of = |prefixes: &[&str]| {
            let group_prefixes = prefixes.iter().map(ToString::to_string).collect();
            walk_prefixes(&Selection { group_prefixes, ..Default::default() })
        };
        assert_eq!(of(&[]), [None]);
        assert_eq!(of(&["/aws", ""]), [None]);
        assert_eq!(of(&["/b", "/aws/lambda", "/aws", "/b", "/awsx"]), [Some("/aws".into()), Some("/b".into())]);
    }

    #[test]
    fn groups_by_prefix_and_pattern() {
        let mut patterns = globset::GlobSetBuilder::new();
        patterns.add(globset::Glob::new("*checkout*").unwrap());
        let selection = Selection {
            group_prefixes: vec!["/aws/".into(), "/ecs/".into()],
            group_patterns: patterns.build().unwrap(),
            ..Default::default()
        };
        assert!(shows_group(&selection, "/ecs/checkout"));
        assert!(!shows_group(&selection, "/ecs/basket"));
        assert!(!shows_group(&selection, "checkout"));
        assert!(shows_group(&Selection::default(), "checkout"));
    }

    #[test]
    fn streams_by_name_and_time() {
        let hour = 3_600_000;
        let mut selection = Selection { since: Some(Since::Ago(Duration::from_hours(2))), ..Default::default() };
        let now = Timestamp(10 * hour);
        assert!(shows_stream(&selection, &stream("a", Some(7 * hour)), now));
        assert!(!shows_stream(&selection, &stream("a", Some(7 * hour - 1)), now));
        assert!(!shows_stream(&selection, &stream("a", None), now), "made at the epoch and never written");
        selection.since = Some(Since::At(Timestamp(8 * hour)));
        assert!(shows_stream(&selection, &stream("a", Some(7 * hour)), Timestamp(100 * hour)));
        selection.streams = vec!["b".into()];
        assert!(!shows_stream(&selection, &stream("a", Some(7 * hour)), now));
    }

    #[test]
    fn names() {
        assert!(possible_group("/aws/a.b-c_d#1"));
        assert!(!possible_group("a b") && !possible_group("") && !possible_group(&"a".repeat(513)));
        assert!(possible_stream("2026/11/23/[$LATEST]3f2a") && possible_stream(&"ü".repeat(512)));
        assert!(!possible_stream("a:b") && !possible_stream("a*") && !possible_stream(""));
    }
}
