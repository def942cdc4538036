//! Counting by the hour, from the schedule alone.

use super::groups::Stream;
use crate::model::{Hours, Timestamp};
use crate::source::CountEvents;

/// A query's id: the question itself.
pub(crate) fn id(request: &CountEvents) -> String {
    serde_json::json!([request.group, request.stream, request.start, request.end]).to_string()
}

/// The question that an id stands for.
pub(crate) fn parse(id: &str) -> Option<CountEvents> {
    let (group, stream, start, end) = serde_json::from_str(id).ok()?;
    Some(CountEvents { group, stream, start, end })
}

/// What the stream shows at `now` of the hours asked for.
pub(crate) fn hours(stream: &Stream, request: &CountEvents, now: Timestamp) -> Hours {
    let seen = stream.schedule.count_to(now);
    let before = |time: Timestamp| stream.schedule.first_from(time).min(seen);
    let mut hours = Hours::new();
    let mut k = before(request.start);
    let end = before(request.end);
    while k < end {
        let hour = stream.schedule.at(k).hour();
        let next = before(Timestamp::of_hour(hour + 1)).min(end);
        hours.insert(hour, next - k);
        k = next;
    }
    hours
}
