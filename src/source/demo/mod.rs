//! Sample logs that need no account and no network: deterministic in an epoch, and growing with a clock.
//!
//! Event `k` of a stream is a pure function of the stream's name and `k` (see `schedule`, `text`), and is visible from its timestamp
//! on. So nothing is kept, a page costs what it holds however long the stream is, and two demos of one epoch agree byte for byte.
//! Paging behaves as the service's does, its odd ends included: GetLogEvents takes two calls more at the end, FilterLogEvents one.
//! It never hides or delays anything.

mod count;
mod filter;
mod groups;
mod schedule;
#[cfg(test)]
mod tests;
mod text;

use crate::clock::Clock;
use crate::model::{LogClass, LogEvent, LogGroup, LogStream, Timestamp};
use crate::source::{
    Call, CountEvents, Counted, DescribeGroups, DescribeStreams, EventPage, FilterEvents, FilterPage, GetEvents,
    LogSource, Page, Quotas, SourceError, SourceErrorKind,
};
use async_trait::async_trait;
use groups::{Group, Stream};
use std::cmp::Reverse;
use std::sync::Arc;

/// Most events a page.
const MAX_EVENTS: u32 = 10_000;
/// Most bytes a page, counted as the service counts.
const MAX_BYTES: usize = 1024 * 1024;
/// Most rows a page of a listing.
const MAX_ROWS: u32 = 50;

/// The built-in source.
pub struct Demo {
    clock: Arc<dyn Clock>,
    groups: Vec<Group>,
}

impl Demo {
    /// Sample logs with their history before `epoch`, grown since to what `clock` shows. The same epoch gives the same logs: a copy
    /// of them stays good for as long as it is used again.
    pub fn new(epoch: Timestamp, clock: Arc<dyn Clock>) -> Demo {
        Demo { clock, groups: groups::all(epoch) }
    }

    fn group(&self, call: Call, name: &str) -> Result<&Group, SourceError> {
        let found = self.groups.iter().find(|group| group.name == name);
        found.ok_or_else(|| refuse(call, SourceErrorKind::NotFound, "The specified log group does not exist."))
    }
}

fn refuse(call: Call, kind: SourceErrorKind, message: &str) -> SourceError {
    SourceError { kind, call, message: message.into() }
}

/// A limit inside `1..=most`, which is also the default.
fn checked(call: Call, limit: Option<u32>, most: u32) -> Result<usize, SourceError> {
    match limit {
        None => Ok(most as usize),
        Some(limit) if (1..=most).contains(&limit) => Ok(limit as usize),
        Some(_) => Err(refuse(call, SourceErrorKind::Invalid, "limit is out of range")),
    }
}

fn bad_token(call: Call) -> SourceError {
    refuse(call, SourceErrorKind::InvalidToken, "The specified nextToken is invalid.")
}

/// The page of `rows` that a token (`time/offset`) means. The time keeps an order that shifts with the clock still while it is paged.
fn page<T>(rows: Vec<T>, at: Timestamp, offset: usize, limit: usize) -> Page<T> {
    let more = rows.len() > offset.saturating_add(limit);
    let items = rows.into_iter().skip(offset).take(limit).collect();
    Page { items, next: more.then(|| format!("{}/{}", at.0, offset + limit)) }
}

fn page_start(call: Call, token: Option<&str>, now: Timestamp) -> Result<(Timestamp, usize), SourceError> {
    let Some(token) = token else { return Ok((now, 0)) };
    let parsed =
        token.split_once('/').and_then(|(at, offset)| Some((Timestamp(at.parse().ok()?), offset.parse().ok()?)));
    parsed.filter(|(at, _)| *at <= now).ok_or_else(|| bad_token(call))
}

/// A place between the events of one stream, as its tokens tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    forward: bool,
    /// Number of the event after the place.
    before: u64,
    /// The token came with an empty page: the same again means the end.
    drained: bool,
}

impl Place {
    fn token(self, stream: &Stream) -> String {
        let (direction, end) = (if self.forward { 'f' } else { 'b' }, if self.drained { 'e' } else { 's' });
        format!("{direction}/{}/{:016x}/{end}", self.before, stream.seed)
    }

    fn parse(token: &str, stream: &Stream) -> Option<Place> {
        let mut parts = token.split('/');
        let forward = match parts.next()? {
            "f" => true,
            "b" => false,
            _ => return None,
        };
        let before = parts.next()?.parse().ok()?;
        let ours = u64::from_str_radix(parts.next()?, 16).ok()? == stream.seed;
        let drained = parts.next()? == "e";
        ours.then_some(Place { forward, before, drained })
    }
}

/// Events by their numbers, until the page is full; at least one if there is any.
fn fill(stream: &Stream, numbers: impl Iterator<Item = u64>, limit: usize) -> Vec<LogEvent> {
    let mut events = Vec::new();
    let mut bytes = 0;
    for k in numbers.take(limit) {
        let event = stream.event(k);
        bytes += event.size();
        if bytes > MAX_BYTES && !events.is_empty() {
            break;
        }
        events.push(event);
    }
    events
}

#[async_trait]
impl LogSource for Demo {
    async fn describe_log_groups(&self, request: DescribeGroups) -> Result<Page<LogGroup>, SourceError> {
        let call = Call::DescribeLogGroups;
        let limit = checked(call, request.limit, MAX_ROWS)?;
        let (at, offset) = page_start(call, request.token.as_deref(), self.clock.now())?;
        if request.prefix.is_some() && request.pattern.is_some() {
            let why = "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.";
            return Err(refuse(call, SourceErrorKind::Invalid, why));
        }
        let (prefix, pattern) = (request.prefix.unwrap_or_default(), request.pattern.unwrap_or_default());
        let is_asked_for = |group: &&Group| group.name.starts_with(&prefix) && group.name.contains(&pattern);
        let rows = self.groups.iter().filter(is_asked_for).map(|group| LogGroup {
            name: group.name.clone(),
            arn: group.arn(),
            created: group.created,
            class: LogClass::Standard,
            retention_days: group.retention_days,
            stored_bytes: group.streams(at).iter().map(|s| s.schedule.count_to(at)).sum::<u64>() * 24,
        });
        Ok(page(rows.collect(), at, offset, limit))
    }

    async fn describe_log_streams(&self, request: DescribeStreams) -> Result<Page<LogStream>, SourceError> {
        let call = Call::DescribeLogStreams;
        let group = self.group(call, &request.group)?;
        let limit = checked(call, request.limit, MAX_ROWS)?;
        let (at, offset) = page_start(call, request.token.as_deref(), self.clock.now())?;
        let mut streams = group.streams(at);
        match &request.prefix {
            Some(prefix) => {
                streams.retain(|stream| stream.name.starts_with(prefix.as_str()));
                streams.sort_by(|a, b| a.name.cmp(&b.name));
            }
            None => streams.sort_by_cached_key(|stream| {
                let last = stream.schedule.count_to(at).checked_sub(1).map(|k| stream.schedule.at(k));
                (Reverse(last), stream.name.clone())
            }),
        }
        let Page { items, next } = page(streams, at, offset, limit);
        let arn = group.arn();
        Ok(Page { items: items.iter().map(|stream| stream.listed(&arn, at)).collect(), next })
    }

    async fn get_log_events(&self, request: GetEvents) -> Result<EventPage, SourceError> {
        let call = Call::GetLogEvents;
        let now = self.clock.now();
        let group = self.group(call, &request.group)?;
        let stream = group.streams(now).into_iter().find(|stream| stream.name == request.stream);
        let stream = stream
            .ok_or_else(|| refuse(call, SourceErrorKind::NotFound, "The specified log stream does not exist."))?;
        let limit = checked(call, request.limit, MAX_EVENTS)?;
        let place = match request.token.as_deref() {
            Some(token) => Some(Place::parse(token, &stream).ok_or_else(|| bad_token(call))?),
            None => None,
        };
        let low = request.start.map_or(0, |start| stream.schedule.first_from(start));
        let seen = stream.schedule.count_to(now);
        let high = request.end.map_or(seen, |end| stream.schedule.first_from(end).min(seen)).max(low.min(seen));
        let drained = place.is_some_and(|place| place.drained);

        if place.map_or(request.from_head, |place| place.forward) {
            let from = place.map_or(low, |place| place.before.max(low));
            let events = fill(&stream, from..high, limit);
            let end = from + events.len() as u64;
            // An empty page's token differs from the one sent, unless that came with an empty page itself.
            let forward = match request.token {
                Some(token) if events.is_empty() && drained => token,
                _ => Place { forward: true, before: end, drained: events.is_empty() }.token(&stream),
            };
            let backward = Place { forward: false, before: from, drained: false }.token(&stream);
            Ok(EventPage { events, forward, backward })
        } else {
            let to = place.map_or(high, |place| place.before.min(high));
            let mut events = fill(&stream, (low..to).rev(), limit);
            events.reverse();
            let first = to - events.len() as u64;
            let backward = match request.token {
                Some(token) if events.is_empty() && drained => token,
                _ => Place { forward: false, before: first, drained: events.is_empty() }.token(&stream),
            };
            let forward = Place { forward: true, before: to.max(low), drained: events.is_empty() }.token(&stream);
            Ok(EventPage { events, forward, backward })
        }
    }

    async fn filter_log_events(&self, request: FilterEvents) -> Result<FilterPage, SourceError> {
        let group = self.group(Call::FilterLogEvents, &request.group)?;
        filter::page(group, self.clock.now(), request)
    }

    async fn start_count(&self, request: CountEvents) -> Result<String, SourceError> {
        self.group(Call::StartQuery, &request.group)?;
        // Nothing is kept here, so the id is the question.
        Ok(count::id(&request))
    }

    async fn count_results(&self, query: String) -> Result<Counted, SourceError> {
        let call = Call::GetQueryResults;
        let unknown = || refuse(call, SourceErrorKind::NotFound, "There is no such query.");
        let request = count::parse(&query).ok_or_else(unknown)?;
        let now = self.clock.now();
        let streams = self.group(call, &request.group)?.streams(now);
        let stream = streams.into_iter().find(|stream| stream.name == request.stream);
        Ok(Counted::Done(stream.map(|stream| count::hours(&stream, &request, now)).unwrap_or_default()))
    }

    fn quotas(&self) -> Quotas {
        // Nobody shares this service, so nothing is worth pacing.
        Quotas::all(1e6)
    }

    fn region(&self) -> String {
        "demo".into()
    }
}
