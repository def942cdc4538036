//! The service's part: each call once, against the first group that answers, and the permission that is missing for each.
//!
//! A refusal that shows the permission is there (a group or stream that doesn't exist) passes: the service asks for the permission
//! first. Throttled calls are tried again a few times, since a check must not fail for others' traffic.

use super::Lines;
use crate::model::{LogClass, LogGroup};
use crate::source::{
    Call, DescribeGroups, DescribeStreams, FilterEvents, GetEvents, LogSource, SourceError, SourceErrorKind,
};
use std::io::Write;
use std::time::Duration;

/// How many groups are tried at most until one answers.
const MAX_GROUPS: usize = 5;
/// Tries of a throttled call.
const TRIES: u32 = 4;
/// A name that no stream is likely to have.
const NO_STREAM: &str = "cwlogs-mount-check";

/// Makes each call once.
pub(super) async fn calls<W: Write>(
    report: &mut Lines<'_, W>,
    source: &dyn LogSource,
    prefixes: &[String],
    known_group: Option<&str>,
) {
    let groups = groups(report, source, prefixes, known_group).await;
    if groups.is_empty() {
        return skip(report, &Call::NEEDED[1..], "not tried: no log group is known (name one with --log-group)");
    }
    let (group, stream) = streams(report, source, &groups).await;
    events(report, source, group, stream).await;
}

/// Says of each call why it wasn't made.
pub(super) fn skip<W: Write>(report: &mut Lines<'_, W>, calls: &[Call], why: &str) {
    for call in calls {
        report.skipped(call.name(), why);
    }
}

async fn groups<W: Write>(
    report: &mut Lines<'_, W>,
    source: &dyn LogSource,
    prefixes: &[String],
    known_group: Option<&str>,
) -> Vec<LogGroup> {
    let call = Call::DescribeLogGroups;
    let region = source.region();
    let mut groups = Vec::new();
    let wanted: Vec<Option<String>> =
        if prefixes.is_empty() { vec![None] } else { prefixes.iter().cloned().map(Some).collect() };
    let mut failed = false;
    for prefix in wanted {
        let request = DescribeGroups { prefix: prefix.clone(), ..DescribeGroups::default() };
        match patiently(|| source.describe_log_groups(request.clone())).await {
            Ok(page) => groups.extend(page.items),
            Err(error) => {
                failed = true;
                let start = prefix.unwrap_or_default();
                tell(report, &error, &format!("arn:{}:logs:{region}:*:log-group:{start}*", partition(&region)));
                break;
            }
        }
    }
    if !failed && groups.is_empty() {
        let which = if prefixes.is_empty() { "" } else { " with the prefix asked for" };
        report.ok(
            call.name(),
            &format!("answers, but there is no log group{which} in {region}: is it the right region?"),
        );
    } else if !failed {
        report.ok(call.name(), &format!("answers, the first log group is {}", groups[0].name));
    }
    if let Some(name) = known_group
        && !groups.iter().any(|group| group.name == name)
    {
        groups.insert(0, unlisted(name));
    }
    // The event calls refuse the other classes for what they are.
    groups.sort_by_key(|group| group.class != LogClass::Standard);
    groups
}

fn unlisted(name: &str) -> LogGroup {
    LogGroup {
        name: name.into(),
        arn: String::new(),
        created: Default::default(),
        class: LogClass::Standard,
        retention_days: None,
        stored_bytes: 0,
    }
}

/// The group to go on with, and a stream of it if there is any.
async fn streams<'a, W: Write>(
    report: &mut Lines<'_, W>,
    source: &dyn LogSource,
    groups: &'a [LogGroup],
) -> (&'a LogGroup, Option<String>) {
    let call = Call::DescribeLogStreams;
    let mut empty = None;
    let mut refusal = None;
    for group in groups.iter().take(MAX_GROUPS) {
        let request = DescribeStreams { group: group.name.clone(), limit: Some(1), ..DescribeStreams::default() };
        match patiently(|| source.describe_log_streams(request.clone())).await {
            Ok(page) if page.items.is_empty() => empty = empty.or(Some(group)),
            Ok(page) => {
                report.ok(call.name(), &format!("answers for {}", group.name));
                return (group, page.items.into_iter().next().map(|stream| stream.name));
            }
            Err(error) => refusal = refusal.or(Some((group, error))),
        }
    }
    if let Some(group) = empty {
        report.ok(call.name(), &format!("answers for {}, which has no stream", group.name));
        return (group, None);
    }
    if let Some((group, error)) = refusal {
        tell(report, &error, &resource(source, group, ":*"));
        return (group, None);
    }
    (&groups[0], None)
}

async fn events<W: Write>(report: &mut Lines<'_, W>, source: &dyn LogSource, group: &LogGroup, stream: Option<String>) {
    let place = stream.as_ref().map_or(group.name.clone(), |stream| format!("{}, stream {stream}", group.name));
    let request = GetEvents {
        group: group.name.clone(),
        stream: stream.unwrap_or_else(|| NO_STREAM.into()),
        limit: Some(1),
        ..GetEvents::default()
    };
    let answer = patiently(|| source.get_log_events(request.clone())).await.map(|page| page.events.len());
    outcome(report, source, group, Call::GetLogEvents, ":log-stream:*", &place, answer);

    let request = FilterEvents { group: group.name.clone(), limit: Some(1), ..FilterEvents::default() };
    let answer = patiently(|| source.filter_log_events(request.clone())).await.map(|page| page.events.len());
    outcome(report, source, group, Call::FilterLogEvents, ":*", &group.name, answer);
}

fn outcome<W: Write>(
    report: &mut Lines<'_, W>,
    source: &dyn LogSource,
    group: &LogGroup,
    call: Call,
    suffix: &str,
    place: &str,
    answer: Result<usize, SourceError>,
) {
    match answer {
        Ok(_) => report.ok(call.name(), &format!("answers for {place}")),
        Err(error) if error.kind == SourceErrorKind::NotFound => {
            report.ok(call.name(), &format!("is permitted (nothing to read in {})", group.name));
        }
        Err(error) => tell(report, &error, &resource(source, group, suffix)),
    }
}

/// The group's resource name as a policy wants it.
fn resource(source: &dyn LogSource, group: &LogGroup, suffix: &str) -> String {
    if group.arn.is_empty() {
        let region = source.region();
        format!("arn:{}:logs:{region}:*:log-group:{}{suffix}", partition(&region), group.name)
    } else {
        format!("{}{suffix}", group.arn)
    }
}

/// The partition that a region belongs to.
fn partition(region: &str) -> &'static str {
    match region {
        _ if region.starts_with("cn-") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

fn tell<W: Write>(report: &mut Lines<'_, W>, error: &SourceError, resource: &str) {
    let cure = match error.kind {
        SourceErrorKind::Denied => {
            format!("missing permission: allow logs:{} on {resource} (or enable the region)", error.call.name())
        }
        SourceErrorKind::Credentials => credentials_cure(error.kind, None),
        SourceErrorKind::NotFound => "check --log-group and the region".into(),
        SourceErrorKind::Throttled => "others use up the quota: try again, or lower our share with --rate".into(),
        SourceErrorKind::Unavailable => "the service has a bad moment: try again".into(),
        SourceErrorKind::Network | SourceErrorKind::Timeout => {
            "check the network, a proxy, the region and --endpoint-url".into()
        }
        SourceErrorKind::Undecodable | SourceErrorKind::TooLarge => {
            "no such answer is the service's: check --endpoint-url and the proxy".into()
        }
        SourceErrorKind::Unsupported => {
            "this log group's class answers only Logs Insights: name another with --log-group".into()
        }
        SourceErrorKind::Invalid | SourceErrorKind::InvalidToken => {
            "check the region and --endpoint-url: the service doesn't understand the request".into()
        }
    };
    report.failed(error.call.name(), &error.message, Some(&cure));
}

/// What helps when credentials can't be had or are refused.
pub(super) fn credentials_cure(kind: SourceErrorKind, profile: Option<&str>) -> String {
    let login = profile.map_or_else(|| "aws sso login".into(), |profile| format!("aws sso login --profile {profile}"));
    match kind {
        SourceErrorKind::Network | SourceErrorKind::Timeout => {
            "the credentials provider isn't reached: check the network".into()
        }
        _ => format!("renew them (`{login}`), set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a --profile"),
    }
}

/// Calls again after a pause while the answer is about the quota or a bad moment.
async fn patiently<T, F>(mut call: impl FnMut() -> F) -> Result<T, SourceError>
where
    F: Future<Output = Result<T, SourceError>>,
{
    let mut pause = Duration::from_millis(250);
    for _ in 1..TRIES {
        match call().await {
            Err(error) if matches!(error.kind, SourceErrorKind::Throttled | SourceErrorKind::Unavailable) => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            answer => return answer,
        }
    }
    call().await
}
