//! The calls that change the account: groups, streams, retention, events.

use super::account::{Group, Stream};
use super::api::{Call, InputEvent, Refusal, Reply};
use super::key::Key;
use super::locks::RwLocked;
use super::stream::Stored;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
const RETENTIONS: [u32; 23] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653, 0];

fn nothing() -> Result<Reply, Refusal> {
    // The service's empty answers have an empty body.
    Ok(Reply { body: Vec::new(), events: 0 })
}

/// CreateLogGroup.
pub(crate) fn create_group(call: &Call) -> Result<Reply, Refusal> {
    let name = call.group_name()?;
    let class = call.args.log_group_class.as_deref().unwrap_or("STANDARD");
    if !matches!(class, "STANDARD" | "INFREQUENT_ACCESS" | "DELIVERY") {
        let constraint = "satisfy enum value set: [INFREQUENT_ACCESS, STANDARD, DELIVERY]";
        return Err(Refusal::constraint(class, "logGroupClass", constraint));
    }
    let made = call.state.account.create_group(&name, class, call.now);
    made.ok_or_else(|| Refusal::new("ResourceAlreadyExistsException", "The specified log group already exists"))?;
    nothing()
}

/// CreateLogStream.
pub(crate) fn create_stream(call: &Call) -> Result<Reply, Refusal> {
    let name = call.stream_name()?;
    let made = call.group()?.create_stream(name, call.now);
    made.ok_or_else(|| Refusal::new("ResourceAlreadyExistsException", "The specified log stream already exists"))?;
    nothing()
}

/// DeleteLogGroup.
pub(crate) fn delete_group(call: &Call) -> Result<Reply, Refusal> {
    let name = call.group_name()?;
    if call.state.account.delete_group(&name, call.now) { nothing() } else { Err(Refusal::not_found("group")) }
}

/// DeleteLogStream.
pub(crate) fn delete_stream(call: &Call) -> Result<Reply, Refusal> {
    let group = call.group()?;
    let name = call.stream_name()?;
    if call.state.account.delete_stream(&group, name, call.now) { nothing() } else { Err(Refusal::not_found("stream")) }
}

/// PutRetentionPolicy.
pub(crate) fn put_retention(call: &Call) -> Result<Reply, Refusal> {
    let days = call.args.retention_in_days.unwrap_or(0);
    let group = call.group()?;
    if days == 0 || !RETENTIONS.contains(&days) {
        return Err(Refusal::constraint(&days.to_string(), "retentionInDays", "satisfy enum value set"));
    }
    group.retention.store(days, Ordering::Relaxed);
    nothing()
}

/// PutLogEvents.
pub(crate) fn put_events(call: &Call) -> Result<Reply, Refusal> {
    let group = call.group()?;
    let stream = call.stream(&group)?;
    let events = call.args.log_events.as_deref().unwrap_or_default();
    check_batch(events)?;

    let days = group.retention.load(Ordering::Relaxed) as i64;
    let expired = if days > 0 { call.now - days * DAY } else { i64::MIN };
    // The events are in order, so each refusal is a run at one end.
    let past_expired = events.partition_point(|event| event.timestamp < expired);
    let past_old = events.partition_point(|event| event.timestamp < call.now - 14 * DAY);
    let new_from = events.partition_point(|event| event.timestamp <= call.now + 2 * HOUR);
    let accepted = &events[past_old.max(past_expired).min(new_from)..new_from];
    store(call, &group, &stream, accepted);

    let mut rejected = serde_json::Map::new();
    if new_from < events.len() {
        rejected.insert("tooNewLogEventStartIndex".into(), new_from.into());
    }
    if past_old > 0 {
        rejected.insert("tooOldLogEventEndIndex".into(), past_old.into());
    }
    if past_expired > past_old {
        rejected.insert("expiredLogEventEndIndex".into(), past_expired.into());
    }
    let mut answer = json!({ "nextSequenceToken": format!("{:056}", call.state.account.next_batch()) });
    if !rejected.is_empty() {
        answer["rejectedLogEventsInfo"] = rejected.into();
    }
    Ok(Reply::json(answer))
}

fn check_batch(events: &[InputEvent]) -> Result<(), Refusal> {
    if events.is_empty() {
        return Err(Refusal::constraint("[]", "logEvents", "have length greater than or equal to 1"));
    }
    if events.len() > 10_000 {
        return Err(Refusal::constraint("[...]", "logEvents", "have length less than or equal to 10000"));
    }
    if let Some(at) = events.iter().position(|event| event.message.shown.is_empty()) {
        let field = format!("logEvents.{}.member.message", at + 1);
        return Err(Refusal::constraint("", &field, "have length greater than or equal to 1"));
    }
    if let Some(event) = events.iter().find(|event| event.timestamp < 0) {
        let value = event.timestamp.to_string();
        return Err(Refusal::constraint(&value, "timestamp", "have value greater than or equal to 0"));
    }
    let bytes: usize = events.iter().map(|event| event.message.shown.len() + 26).sum();
    if bytes > 1 << 20 {
        return Err(Refusal::invalid(format!("Upload too large: {bytes} bytes exceeds limit of 1048576")));
    }
    if !events.is_sorted_by_key(|event| event.timestamp) {
        let message = "Log events in a single PutLogEvents request must be in chronological order.";
        return Err(Refusal::invalid(message));
    }
    if events[events.len() - 1].timestamp - events[0].timestamp > DAY {
        return Err(Refusal::invalid(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.",
        ));
    }
    Ok(())
}

/// Stores events as one put, under the plan's hazards.
pub(crate) fn store(call: &Call, group: &Group, stream: &Arc<Stream>, events: &[InputEvent]) {
    if events.is_empty() {
        return;
    }
    let hidden = &call.plan.hidden;
    let until = || match (hidden.for_ms, hidden.from_ms) {
        (None, _) => i64::MAX,
        (Some(most), Some(least)) => call.now + call.state.between(least.min(most), most) as i64,
        (Some(most), None) => call.now + most as i64,
    };
    let batch_until = if call.state.hit(hidden.batch) { until() } else { i64::MIN };
    let batch = call.state.account.next_batch();
    let stored = events.iter().zip(0..).map(|(event, place)| {
        let key = Key { timestamp: event.timestamp, ingestion: call.now, batch, place };
        let alone = if call.state.hit(hidden.event) { until() } else { i64::MIN };
        Stored::new(key, event.message.clone(), batch_until.max(alone))
    });
    let stored = stored.collect();
    let first = stream.events.reading().count() == 0;
    let lag = if first { call.plan.lag.first_put_ms } else { call.plan.lag.later_puts_ms };
    group.put(stream, stored, call.now, call.now + lag as i64);
}
