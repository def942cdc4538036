//! The listings. A token is the last entry's place, so a listing that changes while it is paged shifts, as the service's does.

use super::account::{Group, Stream};
use super::api::{Call, Refusal, Reply};
use super::locks::{Locked, RwLocked};
use serde_json::{Value, json};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// DescribeLogGroups.
pub(crate) fn describe_groups(call: &Call) -> Result<Reply, Refusal> {
    let limit = call.limit(50)?;
    let args = call.args;
    let prefix = args.log_group_name_prefix.as_deref();
    let pattern = args.log_group_name_pattern.as_deref();
    if prefix.is_some() && pattern.is_some() {
        return Err(Refusal::invalid(
            "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.",
        ));
    }
    for (text, field) in [(prefix, "logGroupNamePrefix"), (pattern, "logGroupNamePattern")] {
        if text == Some("") && field == "logGroupNamePrefix" {
            return Err(Refusal::constraint("", field, "have length greater than or equal to 1"));
        }
    }
    let after = args.next_token.as_deref().map(|token| call.read_place(token)).transpose()?;
    let prefix = prefix.unwrap_or("");
    let from = match &after {
        Some(name) if name.as_str() >= prefix => Excluded(name.as_str()),
        _ => Included(prefix),
    };
    let mut page = {
        let groups = call.state.account.groups.reading();
        groups
            .range::<str, _>((from, Unbounded))
            .map(|(_, group)| group)
            .take_while(|group| group.name.starts_with(prefix))
            .filter(|group| pattern.is_none_or(|text| group.name.contains(text)))
            .filter(|group| args.log_group_class.as_deref().is_none_or(|class| class == group.class))
            .take(limit + 1)
            .cloned()
            .collect::<Vec<_>>()
    };
    let more = page.len() > limit;
    page.truncate(limit);
    let mut answer = json!({ "logGroups": page.iter().map(|group| group_json(call, group)).collect::<Vec<_>>() });
    if let Some(last) = page.last().filter(|_| more) {
        answer["nextToken"] = call.place(&last.name).into();
    }
    Ok(Reply::json(answer))
}

fn group_json(call: &Call, group: &Group) -> Value {
    let arn = call.group_arn(&group.name);
    let mut value = json!({
        "logGroupName": group.name,
        "creationTime": group.created,
        "metricFilterCount": 0,
        "arn": format!("{arn}:*"),
        "storedBytes": group.bytes.load(Ordering::Relaxed) / 8,
        "logGroupClass": group.class,
        "logGroupArn": arn,
    });
    let days = group.retention.load(Ordering::Relaxed);
    if days > 0 {
        value["retentionInDays"] = days.into();
    }
    value
}

/// DescribeLogStreams.
pub(crate) fn describe_streams(call: &Call) -> Result<Reply, Refusal> {
    let limit = call.limit(50)?;
    let args = call.args;
    let name = call.group_name()?;
    let by_time = match args.order_by.as_deref() {
        None | Some("LogStreamName") => false,
        Some("LastEventTime") => true,
        Some(other) => {
            let constraint = "satisfy enum value set: [LogStreamName, LastEventTime]";
            return Err(Refusal::constraint(other, "orderBy", constraint));
        }
    };
    let prefix = args.log_stream_name_prefix.as_deref();
    if by_time && prefix.is_some() {
        return Err(Refusal::invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
    }
    if let Some(prefix) = prefix {
        super::api::check_stream_name(prefix, "logStreamNamePrefix")?;
    }
    let after = args.next_token.as_deref().map(|token| call.read_place(token)).transpose()?;
    let group = call.state.account.group(&name).ok_or_else(|| Refusal::not_found("group"))?;
    let descending = args.descending.unwrap_or(false);
    let listed = |stream: &&Arc<Stream>| call.now - stream.created >= call.plan.lag.new_stream_ms as i64;

    let mut streams = group.streams.writing();
    streams.settle(call.now);
    let mut page: Vec<(String, Arc<Stream>)> = if by_time {
        let at = |after: &str| -> Result<(i64, String), Refusal> {
            let (time, name) = after.split_once(' ').ok_or_else(bad_token)?;
            Ok((time.parse().map_err(|_| bad_token())?, name.into()))
        };
        let after = after.as_deref().map(at).transpose()?;
        let bound = after.map_or(Unbounded, Excluded);
        let found = |(time, name): &(i64, String)| Some((format!("{time} {name}"), streams.by_name.get(name)?.clone()));
        if descending {
            let range = streams.by_time.range((Unbounded, bound));
            range.rev().filter_map(found).filter(|(_, s)| listed(&s)).take(limit + 1).collect()
        } else {
            let range = streams.by_time.range((bound, Unbounded));
            range.filter_map(found).filter(|(_, s)| listed(&s)).take(limit + 1).collect()
        }
    } else {
        let prefix = prefix.unwrap_or("");
        let found = |(name, stream): (&String, &Arc<Stream>)| (name.clone(), stream.clone());
        let after = after.as_deref();
        if descending {
            let upper = after.map_or(Unbounded, Excluded);
            let range = streams.by_name.range::<str, _>((Unbounded, upper)).rev();
            let range = range.skip_while(|(name, _)| !name.starts_with(prefix) && name.as_str() > prefix);
            let range = range.take_while(|(name, _)| name.starts_with(prefix));
            range.filter(|(_, s)| listed(s)).map(found).take(limit + 1).collect()
        } else {
            let lower = after.filter(|name| *name >= prefix).map_or(Included(prefix), Excluded);
            let range = streams.by_name.range::<str, _>((lower, Unbounded));
            let range = range.take_while(|(name, _)| name.starts_with(prefix));
            range.filter(|(_, s)| listed(s)).map(found).take(limit + 1).collect()
        }
    };
    drop(streams);
    let more = page.len() > limit;
    page.truncate(limit);
    let items: Vec<Value> = page.iter().map(|(_, stream)| stream_json(call, &group, stream)).collect();
    let mut answer = json!({ "logStreams": items });
    if let Some((place, _)) = page.last().filter(|_| more) {
        answer["nextToken"] = call.place(place).into();
    }
    let mut reply = Reply::json(answer);
    for (_, stream) in &page {
        if let Some(written) = call.plan.written_name(&stream.name) {
            reply.body = replaced(&reply.body, stream.json_name.as_bytes(), &written);
        }
    }
    Ok(reply)
}

fn replaced(body: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let Some(at) = body.windows(from.len()).position(|window| window == from) else { return body.to_vec() };
    [&body[..at], to, &body[at + from.len()..]].concat()
}

fn stream_json(call: &Call, group: &Group, stream: &Stream) -> Value {
    let mut value = json!({
        "logStreamName": stream.name,
        "creationTime": stream.created,
        "arn": format!("{}:log-stream:{}", call.group_arn(&group.name), stream.name),
        "storedBytes": 0,
    });
    if let Some(listed) = *stream.listed.locked() {
        value["firstEventTimestamp"] = listed.first.into();
        value["lastEventTimestamp"] = listed.last.into();
        value["lastIngestionTime"] = listed.ingestion.into();
        value["uploadSequenceToken"] = format!("{:056}", listed.ingestion).into();
    }
    value
}

fn bad_token() -> Refusal {
    Refusal::invalid("The specified nextToken is invalid.")
}

impl Call<'_> {
    /// A listing's token: the place in hexadecimal.
    fn place(&self, place: &str) -> String {
        let token: String = place.bytes().map(|b| format!("{b:02x}")).collect();
        self.give_token(&token);
        token
    }

    fn read_place(&self, token: &str) -> Result<String, Refusal> {
        self.check_token(token)?;
        let byte = |pair: &[u8]| {
            let text = std::str::from_utf8(pair).ok().filter(|text| text.len() == 2)?;
            u8::from_str_radix(text, 16).ok()
        };
        let bytes: Option<Vec<u8>> = token.as_bytes().chunks(2).map(byte).collect();
        bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(bad_token)
    }
}
