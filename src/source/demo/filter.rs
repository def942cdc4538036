//! FilterLogEvents over the demo's streams: a merge by (timestamp, the stream's place in the group, the event's number).
//!
//! A token names the last event that was given. Timestamps don't decrease within a stream, and an event is visible from its timestamp
//! on, so whatever comes after that event in the merge's order is exactly what a later page owes.

use super::groups::{Group, Stream};
use super::{MAX_BYTES, MAX_EVENTS, bad_token, checked, refuse};
use crate::model::Timestamp;
use crate::source::{Call, FilterEvents, FilterPage, SourceError, SourceErrorKind};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

/// Most stream names a call.
const MAX_STREAMS: usize = 100;

/// An event's place in the merge.
type Place = (Timestamp, usize, u64);

fn parse(token: &str) -> Option<Place> {
    let mut parts = token.strip_prefix("t/")?.split('/');
    let place = (Timestamp(parts.next()?.parse().ok()?), parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(place)
}

/// Number of the stream's first event inside the window and after `given`.
fn first(stream: &Stream, place: usize, start: Timestamp, given: Option<Place>) -> u64 {
    let from = stream.schedule.first_from(start);
    let Some((at, given_place, k)) = given else { return from };
    from.max(match place.cmp(&given_place) {
        std::cmp::Ordering::Less => stream.schedule.count_to(at),
        std::cmp::Ordering::Equal => k.saturating_add(1),
        std::cmp::Ordering::Greater => stream.schedule.first_from(at),
    })
}

/// The page that `request` asks for at `now`.
pub(crate) fn page(group: &Group, now: Timestamp, request: FilterEvents) -> Result<FilterPage, SourceError> {
    let call = Call::FilterLogEvents;
    let limit = checked(call, request.limit, MAX_EVENTS)?;
    if request.streams.len() > MAX_STREAMS {
        return Err(refuse(call, SourceErrorKind::Invalid, "logStreamNames holds more than 100 names"));
    }
    let given = match request.token.as_deref() {
        Some(token) => Some(parse(token).ok_or_else(|| bad_token(call))?),
        None => None,
    };
    let start = request.start.unwrap_or(Timestamp::EPOCH);
    let end = request.end.map_or(now, |end| end.min(now));
    let streams: Vec<(usize, Arc<Stream>)> = group.streams(now).into_iter().enumerate().collect();
    let known: HashSet<&str> = streams.iter().map(|(_, stream)| stream.name.as_str()).collect();
    if let Some(missing) = request.streams.iter().find(|name| !known.contains(name.as_str())) {
        let message = format!("The specified log stream does not exist: {missing}");
        return Err(refuse(call, SourceErrorKind::NotFound, &message));
    }

    let mut next: BinaryHeap<Reverse<Place>> = BinaryHeap::new();
    let push = |next: &mut BinaryHeap<Reverse<Place>>, place: usize, stream: &Stream, k: u64| {
        if k < stream.schedule.count_to(end) {
            next.push(Reverse((stream.schedule.at(k), place, k)));
        }
    };
    let wanted: HashSet<&str> = request.streams.iter().map(String::as_str).collect();
    for (place, stream) in &streams {
        if wanted.is_empty() || wanted.contains(stream.name.as_str()) {
            push(&mut next, *place, stream, first(stream, *place, start, given));
        }
    }

    let mut events = Vec::new();
    let mut bytes = 0;
    let mut last = None;
    while events.len() < limit
        && let Some(Reverse((at, place, k))) = next.pop()
    {
        let stream = &streams[place].1;
        let event = stream.event(k);
        bytes += event.size();
        if bytes > MAX_BYTES && !events.is_empty() {
            break;
        }
        events.push((stream.name.clone(), event));
        last = Some((at, place, k));
        push(&mut next, place, stream, k + 1);
    }
    // Even the last events come with a token; only the empty page after them has none.
    Ok(FilterPage { events, next: last.map(|(at, place, k)| format!("t/{}/{place}/{k}", at.0)) })
}
