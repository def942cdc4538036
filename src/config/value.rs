//! Values as people write them, on the command line, in the environment and in the file alike. Pure.

use crate::fetch::Since;
use crate::model::Timestamp;
use crate::render::Format;
use crate::source::Call;
use crate::store::MinFree;
pub use crate::store::names::Names;
use std::time::Duration;

/// Calls a second of one call.
pub type Rate = (Call, f64);

const DAY: Duration = Duration::from_secs(86_400);
/// The service takes events up to 14 days old, so no later look can find more.
const LONGEST_WINDOW: Duration = Duration::from_secs(14 * 86_400);
const TEMPLATE_FIELDS: [&str; 5] = ["timestamp", "ingestion_time", "log_group", "log_stream", "message"];

/// `1s`, `5m`, `2h 30m`.
fn duration(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let parsed =
        humantime::parse_duration(text.trim()).map_err(|_| "not a duration such as 500ms, 1s, 5m or 2h".to_owned())?;
    if parsed < least || parsed > most {
        let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
        return Err(format!("must lie between {least} and {most}"));
    }
    Ok(parsed)
}

/// `--listing-ttl`.
pub(crate) fn listing_ttl(text: &str) -> Result<Duration, String> {
    duration(text, Duration::ZERO, DAY)
}

/// `--poll-interval`; shorter ones would spend the quota on one stream.
pub(crate) fn poll_interval(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(100), DAY)
}

/// `--late-window` and `--settle-after`.
pub(crate) fn window(text: &str) -> Result<Duration, String> {
    duration(text, Duration::ZERO, LONGEST_WINDOW)
}

/// `--names`.
pub(crate) fn names(text: &str) -> Result<Names, String> {
    match text {
        "slug" => Ok(Names::Slug),
        "exact" => Ok(Names::Exact),
        _ => Err("must be slug or exact".to_owned()),
    }
}

/// `--format`. `{word}` in a template must be a field; other braces stand for themselves.
pub(crate) fn format(text: &str) -> Result<Format, String> {
    match text {
        "message" => return Ok(Format::Message),
        "timestamped" => return Ok(Format::Timestamped),
        _ => {}
    }
    let mut fields = 0;
    for after in text.split('{').skip(1) {
        let Some((word, _)) = after.split_once('}') else { continue };
        if TEMPLATE_FIELDS.contains(&word) {
            fields += 1;
        } else if !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("unknown field {{{word}}}; there are {{{}}}", TEMPLATE_FIELDS.join("} {")));
        }
    }
    if fields == 0 {
        return Err("must be message, timestamped, or a template such as '{timestamp} {message}'".to_owned());
    }
    Ok(Format::Template(text.to_owned()))
}

/// `--since`: a duration before now, an RFC 3339 time, or a date, with or without a time of day (UTC).
pub(crate) fn since(text: &str) -> Result<Since, String> {
    let text = text.trim();
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(Since::Ago(ago));
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(Since::At(Timestamp(at.as_millisecond())));
    }
    let civil = text.parse::<jiff::civil::DateTime>().ok();
    let at = civil.and_then(|civil| jiff::tz::TimeZone::UTC.to_timestamp(civil).ok());
    at.map(|at| Since::At(Timestamp(at.as_millisecond())))
        .ok_or_else(|| "not a time such as 1h, 2026-11-23 or 2026-11-23T10:00Z".to_owned())
}

/// One `call=N` of `--rate`.
pub(crate) fn rate(text: &str) -> Result<Rate, String> {
    let names = Call::ALL.map(Call::option_name).join(", ");
    let (name, number) = text.split_once('=').ok_or_else(|| format!("must be CALL=N, CALL one of {names}"))?;
    let name = name.trim().replace('_', "-");
    let call = Call::ALL.into_iter().find(|call| call.option_name() == name);
    let call = call.ok_or_else(|| format!("unknown call; there are {names}"))?;
    let number: f64 = number.trim().parse().map_err(|_| "N must be a number of calls a second".to_owned())?;
    if !(0.01..=10_000.0).contains(&number) {
        return Err("N must lie between 0.01 and 10000 calls a second".to_owned());
    }
    Ok((call, number))
}

/// `--cache-size`, in bytes; a smaller one would hold no busy stream.
pub(crate) fn cache_size(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 1 << 20;
    match size(text)? {
        bytes if bytes < LEAST => Err("must be 1MiB at least".to_owned()),
        bytes => Ok(bytes),
    }
}

/// `--min-free`.
pub(crate) fn min_free(text: &str) -> Result<MinFree, String> {
    let Some(share) = text.trim().strip_suffix('%') else { return size(text).map(MinFree::Bytes) };
    match share.trim().parse() {
        Ok(share) if (0.0..100.0).contains(&share) => Ok(MinFree::Percent(share)),
        _ => Err("must lie between 0% and 99%".to_owned()),
    }
}

fn size(text: &str) -> Result<u64, String> {
    let parsed = text.trim().parse::<bytesize::ByteSize>();
    parsed.map(|size| size.0).map_err(|_| "not a size such as 500MB or 10GiB".to_owned())
}

/// Permission bits in octal.
pub(crate) fn mode(text: &str) -> Result<u16, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    match u16::from_str_radix(digits, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("must be permission bits in octal, such as 755".to_owned()),
    }
}

/// LOG_STREAMS_FILTER: a JSON list of strings, or names separated by commas.
pub(crate) fn stream_list(text: &str) -> Result<Vec<String>, String> {
    if text.trim_start().starts_with('[')
        && let Ok(list) = serde_json::from_str::<Vec<String>>(text)
    {
        return Ok(list);
    }
    // A stream may be called `[$LATEST]…`: only what is JSON through and through is taken as such.
    Ok(text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// A set of globs over exact group names; `*` matches `/` too, since group names aren't paths.
pub(crate) fn patterns(patterns: &[String]) -> Result<globset::GlobSet, String> {
    let mut set = globset::GlobSetBuilder::new();
    for pattern in patterns {
        set.add(globset::Glob::new(pattern).map_err(|error| error.to_string())?);
    }
    set.build().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_takes_durations_times_and_dates() {
        assert_eq!(since("1h 30m"), Ok(Since::Ago(Duration::from_secs(5400))));
        let ten = Since::At(Timestamp(1_795_428_000_000));
        for text in ["2026-11-23T10:00Z", "2026-11-23T10:00:00Z", "2026-11-23T11:00:00+01:00", "2026-11-23T10:00"] {
            assert_eq!(since(text), Ok(ten), "{text}");
        }
        assert_eq!(since("2026-11-23"), Ok(Since::At(Timestamp(1_795_392_000_000))));
        assert!(since("yesterday").is_err());
        assert!(since("").is_err());
    }

    #[test]
    fn formats() {
        assert_eq!(format("message"), Ok(Format::Message));
        assert_eq!(format("{timestamp} {message}"), Ok(Format::Template("{timestamp} {message}".into())));
        assert!(format("{timestamp} {nonsense}").unwrap_err().contains("nonsense"));
        assert!(format("plain").is_err());
    }

    #[test]
    fn rates_and_modes() {
        assert_eq!(rate("get-log-events=25"), Ok((Call::GetLogEvents, 25.0)));
        assert_eq!(rate("filter_log_events = 0.5"), Ok((Call::FilterLogEvents, 0.5)));
        for bad in ["get-log-events", "other=1", "get-log-events=0", "get-log-events=NaN", "get-log-events=x"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
        assert_eq!(mode("0755"), Ok(0o755));
        assert!(mode("1777").is_err());
        assert!(mode("9").is_err());
    }

    #[test]
    fn stream_lists_are_json_or_commas() {
        assert_eq!(stream_list(r#"["a,b", "c"]"#).unwrap(), ["a,b", "c"]);
        assert_eq!(stream_list("a, b,,c").unwrap(), ["a", "b", "c"]);
        assert_eq!(stream_list("[$LATEST]x").unwrap(), ["[$LATEST]x"]);
    }

    #[test]
    fn a_star_matches_slashes() {
        let set = patterns(&["/aws/*/checkout".to_owned()]).unwrap();
        assert!(set.is_match("/aws/lambda/eu/checkout"));
        assert!(!set.is_match("/aws/lambda/checkout2"));
    }

    #[test]
    fn durations_are_bounded() {
        assert!(poll_interval("50ms").is_err());
        assert_eq!(poll_interval("250ms"), Ok(Duration::from_millis(250)));
        assert!(window("15days").is_err());
    }
}
