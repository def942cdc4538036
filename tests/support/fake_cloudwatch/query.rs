//! StartQuery and GetQueryResults, for one query only: a stream's events counted by the hour.
//!
//! A query counts every accepted event that retention has left, hidden ones included: Insights has an index of its own. It is
//! `Scheduled`, then `Running` for as many looks as the plan says, then `Complete`.

use super::api::{Call, Refusal, Reply};
use super::key::Key;
use super::locks::{Locked, RwLocked};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const HOUR: i64 = 3_600_000;
/// The service's limit of rows.
const ROWS: usize = 10_000;

/// A query that was started.
#[derive(Clone)]
pub(crate) struct Query {
    group: String,
    stream: String,
    /// In seconds, both included.
    start: i64,
    end: i64,
    /// How often it was looked at.
    looks: u64,
}

/// StartQuery.
pub(crate) fn start(call: &Call) -> Result<Reply, Refusal> {
    let group = call.group()?;
    let (Some(start), Some(end)) = (call.args.start_time, call.args.end_time) else {
        return Err(Refusal::constraint("null", "startTime", "not be null"));
    };
    if start > end || end > call.now {
        // Milliseconds in place of seconds land here.
        return Err(Refusal::invalid("Query start or end time is out of range"));
    }
    let text = call.args.query_string.as_deref().unwrap_or("");
    let stream = text.strip_prefix("filter @logStream = \"").and_then(|rest| rest.strip_suffix(SHAPE));
    let stream = stream.filter(|name| !name.contains(['"', '\\']));
    let stream = stream.ok_or_else(|| Refusal::new("MalformedQueryException", format!("unexpected: {text}")))?;
    let id = format!("{:08x}-0000-4000-8000-000000000000", call.state.account.next_batch());
    let query = Query { group: group.name.clone(), stream: stream.into(), start, end, looks: 0 };
    call.state.queries.locked().insert(id.clone(), query);
    Ok(Reply::json(json!({ "queryId": id })))
}

const SHAPE: &str = "\" | stats count(*) by bin(1h)";

/// GetQueryResults.
pub(crate) fn results(call: &Call) -> Result<Reply, Refusal> {
    let id = call.args.query_id.as_deref().unwrap_or("");
    let query = {
        let mut queries = call.state.queries.locked();
        let query = queries.get_mut(id).ok_or_else(|| Refusal::not_found("query"))?;
        query.looks += 1;
        query.clone()
    };
    if query.looks <= call.plan.query_looks {
        let status = if query.looks == 1 { "Scheduled" } else { "Running" };
        return Ok(Reply::json(json!({ "status": status, "results": [] })));
    }
    let rows: Vec<Value> = count(call, &query)
        .into_iter()
        .take(ROWS)
        .map(|(hour, count)| {
            json!([
                { "field": "bin(1h)", "value": text(hour) },
                { "field": "count(*)", "value": count.to_string() },
            ])
        })
        .collect();
    Ok(Reply::json(json!({ "status": "Complete", "results": rows })))
}

fn count(call: &Call, query: &Query) -> BTreeMap<i64, u64> {
    let mut hours = BTreeMap::new();
    let Some(group) = call.state.account.group(&query.group) else { return hours };
    let Some(stream) = group.stream(&query.stream) else { return hours };
    let first = (query.start * 1000).max(call.first_ms(&group));
    let events = stream.events.reading();
    let mut spot = events.seek(Key::at(first), false);
    while let Some((event, next)) = events.next(spot) {
        spot = next;
        let at = event.key().timestamp;
        if at > query.end * 1000 {
            break;
        }
        *hours.entry(at.div_euclid(HOUR)).or_default() += 1;
    }
    hours
}

/// `2026-11-23 10:00:00.000`.
fn text(hour: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(hour * HOUR).expect("a time of this era");
    at.strftime("%Y-%m-%d %H:%M:%S.000").to_string()
}
