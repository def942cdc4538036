//! GetLogEvents: one stream, in either direction.
//!
//! The end takes two calls more than there are pages: behind the last page's token is an empty page with another token, and only
//! that one comes back as it was sent.

use super::api::{Call, Refusal, Reply};
use super::key::{Direction, Key, Token};
use super::locks::RwLocked;
use super::stream::{Event, Events, Spot};

const FIVE_MINUTES: i64 = 300_000;

/// What a page starts from.
struct Start {
    direction: Direction,
    /// The token that was sent.
    token: Option<Token>,
    /// First millisecond wanted.
    low: i64,
    /// First millisecond not wanted.
    high: i64,
}

/// GetLogEvents.
pub(crate) fn get_events(call: &Call) -> Result<Reply, Refusal> {
    let args = call.args;
    let limit = call.limit(10_000)?.min(call.plan.page_events);
    call.check_times()?;
    let name = call.group_name()?;
    let stream_name = call.stream_name()?;
    let token = args.next_token.as_deref().map(|text| {
        call.check_token(text)?;
        Token::parse(text).ok_or_else(|| Refusal::invalid("The specified nextToken is invalid."))
    });
    let token = token.transpose()?;
    let from_head = args.start_from_head.unwrap_or(false);
    if token.is_some_and(|token| token.direction == Direction::Forward) && !from_head {
        return Err(Refusal::invalid("startFromHead must be true when nextToken is a forward token."));
    }
    let found = call.state.account.group(&name).map(|group| (group.stream(stream_name), group));
    let (group, stream) = match found {
        Some((Some(stream), group)) => (group, stream),
        other => {
            if call.state.account.lately_deleted(&name, stream_name, call.plan.deleted_empty_ms, call.now) {
                let none = Token { direction: Direction::Forward, key: Key::at(call.now), drained: true };
                return Ok(page(call, &[], none, Token { direction: Direction::Backward, ..none }));
            }
            return Err(Refusal::not_found(if other.is_some() { "stream" } else { "group" }));
        }
    };
    call.check_class(&group, "GetLogEvents")?;

    let direction = match token {
        Some(token) => token.direction,
        None if from_head => Direction::Forward,
        None => Direction::Backward,
    };
    let start = Start { direction, token, low: call.first_ms(&group), high: args.end_time.unwrap_or(i64::MAX) };
    let events = stream.events.reading();
    let is_expired = direction == Direction::Forward && call.is_expired(&group, std::iter::once(&*events), token);
    let (found, more) = start.collect(call, &events, limit, is_expired);
    let (forward, backward) = start.tokens(call, &found, more);
    Ok(page(call, &found, forward, backward))
}

impl Start {
    fn spot(&self, events: &Events) -> Spot {
        match (self.direction, self.token) {
            (Direction::Forward, Some(token)) if token.key >= Key::at(self.low) => events.seek(token.key, true),
            (Direction::Forward, _) => events.seek(Key::at(self.low), false),
            (Direction::Backward, Some(token)) if token.key < Key::at(self.high) => events.seek(token.key, false),
            (Direction::Backward, _) if self.high == i64::MAX => events.end(),
            (Direction::Backward, _) => events.seek(Key::at(self.high), false),
        }
    }

    /// The page's events, oldest first; if it is empty by a hazard, the key of the event that would have been next.
    fn collect<'a>(
        &self,
        call: &Call,
        events: &'a Events,
        limit: usize,
        is_expired: bool,
    ) -> (Vec<Event<'a>>, Option<Key>) {
        let mut spot = self.spot(events);
        let mut found: Vec<Event> = Vec::new();
        let mut bytes = 0;
        let mut most = limit;
        loop {
            let next = match self.direction {
                Direction::Forward => events.next(spot),
                Direction::Backward => events.previous(spot),
            };
            let Some((event, behind)) = next else { break };
            spot = behind;
            let at = event.key().timestamp;
            if self.direction == Direction::Forward && at >= self.high
                || self.direction == Direction::Backward && at < self.low
            {
                break;
            }
            if at < self.low || at >= self.high || !call.shows(&event) {
                continue;
            }
            if found.is_empty() {
                if self.is_empty_by_hazard(call) || is_expired {
                    return (found, Some(event.key()));
                }
                if call.state.hit(call.plan.partial_page) {
                    most = call.state.between(1, limit.min(200) as u64) as usize;
                }
            }
            bytes += event.len() + 26;
            if found.len() == most || !found.is_empty() && bytes > call.plan.page_bytes {
                break;
            }
            found.push(event);
        }
        if found.is_empty() && is_expired {
            return (found, Some(Key::at(call.now)));
        }
        if self.direction == Direction::Backward {
            found.reverse();
        }
        (found, None)
    }

    fn is_empty_by_hazard(&self, call: &Call) -> bool {
        if call.force_empty || call.repeat_token {
            return true;
        }
        match self.token {
            None => call.state.hit(call.plan.empty_first),
            Some(token) if token.drained || token.key.is_between() && token.key.place >= call.plan.empty_run => false,
            Some(_) => call.state.hit(call.plan.empty_page),
        }
    }

    /// (forward, backward) of a page.
    fn tokens(&self, call: &Call, found: &[Event], more: Option<Key>) -> (Token, Token) {
        let forward = |key, drained| Token { direction: Direction::Forward, key, drained };
        let backward = |key, drained| Token { direction: Direction::Backward, key, drained };
        if let (Some(first), Some(last)) = (found.first(), found.last()) {
            return (forward(last.key(), false), backward(first.key(), false));
        }
        if let Some(sent) = self.token
            && (call.repeat_token || more.is_none())
        {
            // The end, or what looks like it: the way that was asked, marked; the other way starts with the last page's events.
            let drained = !call.repeat_token || sent.drained;
            return match sent.direction {
                Direction::Forward => (forward(sent.key, drained), backward(sent.key.after(), false)),
                Direction::Backward => (forward(sent.key.before(), false), backward(sent.key, drained)),
            };
        }
        if let Some(next) = more {
            let run = self.token.filter(|t| t.key.is_between()).map_or(0, |t| t.key.place);
            let between = |at| Key { place: run + 1, ..Key::at(at) };
            return match (self.direction, self.token) {
                (Direction::Forward, None) => {
                    let key = between((next.timestamp - FIVE_MINUTES).max(0));
                    (forward(key, false), backward(key, false))
                }
                (Direction::Forward, Some(sent)) => {
                    let key = between(next.timestamp);
                    if sent.key < key {
                        (forward(key, false), backward(key, false))
                    } else {
                        // Within one millisecond there is no place between events: the place that was sent, marked otherwise.
                        (forward(sent.key, !sent.drained), backward(sent.key.after(), false))
                    }
                }
                (Direction::Backward, None) => {
                    let key = between(next.timestamp + FIVE_MINUTES);
                    (forward(between(next.timestamp), false), backward(key, false))
                }
                (Direction::Backward, Some(sent)) => {
                    let key = between(next.timestamp + 1);
                    if sent.key > key {
                        (forward(key, false), backward(key, false))
                    } else {
                        (forward(sent.key.before(), false), backward(sent.key, !sent.drained))
                    }
                }
            };
        }
        // Nothing in the window: the tokens enclose it, so that whatever comes lies ahead.
        let high = if self.high == i64::MAX { call.now + 7_200_000 } else { self.high };
        (forward(Key::at(self.low), true), backward(Key::at(high), true))
    }
}

fn page(call: &Call, events: &[Event], forward: Token, backward: Token) -> Reply {
    let bytes: usize = events.iter().map(|event| event.len() + 100).sum();
    let mut body = Vec::with_capacity(bytes + 256);
    body.extend_from_slice(b"{\"events\":[");
    for (i, event) in events.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        let key = event.key();
        body.extend_from_slice(b"{\"timestamp\":");
        write_number(key.timestamp, &mut body);
        body.extend_from_slice(b",\"message\":\"");
        event.write_json(&mut body);
        body.extend_from_slice(b"\",\"ingestionTime\":");
        write_number(key.ingestion, &mut body);
        body.push(b'}');
    }
    let (forward, backward) = (forward.text(), backward.text());
    call.give_token(&forward);
    call.give_token(&backward);
    body.extend_from_slice(
        format!("],\"nextForwardToken\":\"{forward}\",\"nextBackwardToken\":\"{backward}\"}}").as_bytes(),
    );
    Reply { body, events: events.len() as u64 }
}

/// A number in decimal, appended.
pub(crate) fn write_number(number: i64, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    super::synth::decimal(number.unsigned_abs(), &mut digits);
    let first = digits.iter().position(|d| *d != b'0').unwrap_or(19);
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[first..]);
}
