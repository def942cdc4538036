//! FilterLogEvents: a group, or some of its streams, merged in the service's order.
//!
//! Every page with events has a token; the read is finished only by an empty page without one.

use super::account::Stream;
use super::api::{Call, Refusal, Reply};
use super::key::{Direction, Key, Token};
use super::locks::RwLocked;
use super::pattern::Pattern;
use super::read::write_number;
use super::stream::{Event, Events, Spot};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, RwLockReadGuard};

/// startFromHead=false is refused for reads that start before this: 2024-01-01, in ms.
const REVERSE_FROM: i64 = 1_704_067_200_000;

/// FilterLogEvents.
pub(crate) fn filter_events(call: &Call) -> Result<Reply, Refusal> {
    let args = call.args;
    let limit = call.limit(10_000)?.min(call.plan.page_events);
    call.check_times()?;
    let name = call.group_name()?;
    let pattern = Pattern::parse(args.filter_pattern.as_deref().unwrap_or("")).map_err(Refusal::invalid)?;
    let from_head = args.start_from_head.unwrap_or(true);
    if !from_head && args.start_time.unwrap_or(0) < REVERSE_FROM {
        return Err(Refusal::invalid("startFromHead=false needs a startTime of 2024-01-01 or later."));
    }
    let after = args.next_token.as_deref().map(|text| {
        call.check_token(text)?;
        let token = text.strip_prefix("Bx").and_then(|digits| Token::parse(&format!("f/{digits}/s")));
        token.ok_or_else(|| Refusal::invalid("The specified nextToken is invalid."))
    });
    let sent = after.transpose()?;
    let after = sent.map(|token| token.key);
    let streams = match select(call, &name)? {
        Some(streams) => streams,
        None => return Ok(empty(None)),
    };
    let Some(group) = call.state.account.group(&name) else { return Err(Refusal::not_found("group")) };
    call.check_class(&group, "FilterLogEvents")?;

    let low = call.first_ms(&group);
    let high = args.end_time.map_or(i64::MAX, |end| end.saturating_add(1));
    let written: Vec<Option<Vec<u8>>> = streams.iter().map(|stream| call.plan.written_name(&stream.name)).collect();
    let names = streams.iter().zip(&written).map(|(s, written)| written.as_deref().unwrap_or(s.json_name.as_bytes()));
    let guards: Vec<(&[u8], RwLockReadGuard<Events>)> =
        names.zip(&streams).map(|(name, stream)| (name, stream.events.reading())).collect();
    let is_expired = call.is_expired(&group, guards.iter().map(|(_, events)| &**events), sent);
    let mut merge = Merge::new(&guards, from_head, after, low, high);
    let mut page = Page::new(limit);
    let mut scanned = 0;
    let mut last = None;
    let mut more = false;
    while let Some((name, event, key)) = merge.next() {
        if !call.shows(&event) {
            continue;
        }
        if page.events == 0 && last.is_none() {
            if is_empty_by_hazard(call, sent) || is_expired {
                return Ok(empty_in_the_middle(call, from_head, sent, key));
            }
            if call.state.hit(call.plan.partial_page) {
                page.most = call.state.between(1, limit.min(200) as u64) as usize;
            }
        }
        if call.plan.scan_events > 0 && scanned == call.plan.scan_events {
            more = true;
            break;
        }
        scanned += 1;
        if matches(&pattern, &event) && !page.add(name, &event, key, call.plan.page_bytes) {
            break;
        }
        last = Some(key);
    }
    if last.is_none() && is_expired {
        return Ok(empty_in_the_middle(call, from_head, sent, Key::at(call.now)));
    }
    // A page in which nothing matched, but which was read to the end, is the end.
    let next = last.filter(|_| page.events > 0 || more).map(|key| token_text(key, false));
    if let Some(token) = &next {
        call.give_token(token);
    }
    Ok(page.finish(next))
}

/// The streams that are meant; `None`: lately deleted, reads as empty.
fn select(call: &Call, name: &str) -> Result<Option<Vec<Arc<Stream>>>, Refusal> {
    let names = call.args.log_stream_names.as_deref();
    let prefix = call.args.log_stream_name_prefix.as_deref();
    if names.is_some() && prefix.is_some() {
        return Err(Refusal::invalid("logStreamNames and logStreamNamePrefix are mutually exclusive parameters."));
    }
    if let Some(names) = names {
        if names.is_empty() || names.len() > 100 {
            let bound = if names.is_empty() { "greater than or equal to 1" } else { "less than or equal to 100" };
            return Err(Refusal::constraint("[...]", "logStreamNames", &format!("have length {bound}")));
        }
        names.iter().try_for_each(|name| super::api::check_stream_name(name, "logStreamNames"))?;
    }
    let lately = |stream: &str| call.state.account.lately_deleted(name, stream, call.plan.deleted_empty_ms, call.now);
    let Some(group) = call.state.account.group(name) else {
        return if lately("") { Ok(None) } else { Err(Refusal::not_found("group")) };
    };
    let streams = group.streams.reading();
    if let Some(names) = names {
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            match streams.by_name.get(name) {
                // Once each, however often it is named: two guards on one stream would double its events.
                Some(stream) if found.iter().any(|other| Arc::ptr_eq(other, stream)) => {}
                Some(stream) => found.push(stream.clone()),
                None if lately(name) => {}
                None => return Err(Refusal::not_found("stream")),
            }
        }
        return Ok(Some(found));
    }
    let prefix = prefix.unwrap_or("");
    let from = streams.by_name.range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
    Ok(Some(from.take_while(|(name, _)| name.starts_with(prefix)).map(|(_, stream)| stream.clone()).collect()))
}

fn matches(pattern: &Pattern, event: &Event) -> bool {
    if pattern.is_empty() {
        return true;
    }
    let mut message = Vec::with_capacity(event.len());
    event.write(&mut message);
    pattern.matches(&String::from_utf8_lossy(&message))
}

fn is_empty_by_hazard(call: &Call, sent: Option<Token>) -> bool {
    if call.force_empty || call.repeat_token {
        return true;
    }
    match sent {
        None => call.state.hit(call.plan.empty_first),
        Some(token) if token.drained || token.key.is_between() && token.key.place >= call.plan.empty_run => false,
        Some(_) => call.state.hit(call.plan.empty_page),
    }
}

fn empty(token: Option<String>) -> Reply {
    Page::new(1).finish(token)
}

fn empty_in_the_middle(call: &Call, from_head: bool, sent: Option<Token>, next: Key) -> Reply {
    let run = sent.filter(|token| token.key.is_between()).map_or(0, |token| token.key.place);
    let between = Key { place: run + 1, ..Key::at(next.timestamp + !from_head as i64) };
    let (key, drained) = match sent {
        Some(sent) if call.repeat_token => (sent.key, sent.drained),
        // Within one millisecond there is no place between events: the place that was sent, marked otherwise.
        Some(sent) if from_head && sent.key >= between || !from_head && sent.key <= between => {
            (sent.key, !sent.drained)
        }
        _ => (between, false),
    };
    let token = token_text(key, drained);
    call.give_token(&token);
    empty(Some(token))
}

/// `Bx` and the key's digits.
fn token_text(key: Key, drained: bool) -> String {
    let text = Token { direction: Direction::Forward, key, drained }.text();
    format!("Bx{}", text.trim_start_matches("f/").trim_end_matches("/s"))
}

/// Several streams' events in one order.
struct Merge<'a> {
    guards: &'a [(&'a [u8], RwLockReadGuard<'a, Events>)],
    spots: Vec<Spot>,
    /// Sorts as the order asked for: the greatest is next.
    heap: BinaryHeap<(Rank, usize)>,
    from_head: bool,
    low: i64,
    high: i64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Oldest(Reverse<Key>),
    Newest(Key),
}

impl<'a> Merge<'a> {
    fn new(
        guards: &'a [(&'a [u8], RwLockReadGuard<'a, Events>)],
        from_head: bool,
        after: Option<Key>,
        low: i64,
        high: i64,
    ) -> Merge<'a> {
        let spot = |events: &Events| match after {
            Some(key) if from_head && key >= Key::at(low) => events.seek(key, true),
            Some(key) if !from_head && key < Key::at(high) => events.seek(key, false),
            _ if from_head => events.seek(Key::at(low), false),
            _ if high == i64::MAX => events.end(),
            _ => events.seek(Key::at(high), false),
        };
        let spots = guards.iter().map(|(_, events)| spot(events)).collect();
        let mut merge = Merge { guards, spots, heap: BinaryHeap::new(), from_head, low, high };
        for at in 0..guards.len() {
            merge.push(at);
        }
        merge
    }

    fn peek(&self, at: usize) -> Option<(Event<'a>, Spot)> {
        let events: &'a Events = &self.guards[at].1;
        if self.from_head { events.next(self.spots[at]) } else { events.previous(self.spots[at]) }
    }

    fn push(&mut self, at: usize) {
        if let Some((event, _)) = self.peek(at) {
            let key = event.key();
            if (self.low..self.high).contains(&key.timestamp) {
                let rank = if self.from_head { Rank::Oldest(Reverse(key)) } else { Rank::Newest(key) };
                self.heap.push((rank, at));
            }
        }
    }

    fn next(&mut self) -> Option<(&'a [u8], Event<'a>, Key)> {
        let (rank, at) = self.heap.pop()?;
        let (event, spot) = self.peek(at)?;
        self.spots[at] = spot;
        self.push(at);
        let (Rank::Oldest(Reverse(key)) | Rank::Newest(key)) = rank;
        Some((self.guards[at].0, event, key))
    }
}

/// A page being written.
struct Page {
    body: Vec<u8>,
    events: usize,
    most: usize,
    bytes: usize,
}

impl Page {
    fn new(most: usize) -> Page {
        Page { body: b"{\"events\":[".to_vec(), events: 0, most, bytes: 0 }
    }

    /// Adds an event of a stream, whose name is JSON already, if there is room.
    fn add(&mut self, stream: &[u8], event: &Event, key: Key, page_bytes: usize) -> bool {
        let bytes = self.bytes + event.len() + 26;
        if self.events == self.most || self.events > 0 && bytes > page_bytes {
            return false;
        }
        self.bytes = bytes;
        let body = &mut self.body;
        if self.events > 0 {
            body.push(b',');
        }
        self.events += 1;
        body.extend_from_slice(b"{\"logStreamName\":");
        body.extend_from_slice(stream);
        body.extend_from_slice(b",\"timestamp\":");
        write_number(key.timestamp, body);
        body.extend_from_slice(b",\"message\":\"");
        event.write_json(body);
        body.extend_from_slice(b"\",\"ingestionTime\":");
        write_number(key.ingestion, body);
        body.extend_from_slice(b",\"eventId\":\"");
        key.write(body);
        body.extend_from_slice(b"\"}");
        true
    }

    fn finish(mut self, next: Option<String>) -> Reply {
        self.body.extend_from_slice(b"],\"searchedLogStreams\":[]");
        if let Some(token) = next {
            self.body.extend_from_slice(format!(",\"nextToken\":\"{token}\"").as_bytes());
        }
        self.body.push(b'}');
        Reply { body: self.body, events: self.events as u64 }
    }
}
