//! Enough of a stream's newest events for a tail, and no more.
//!
//! GetLogEvents reads backwards, a page or a few. Where the group refuses it, FilterLogEvents reads windows of time forwards, each reaching
//! further back than the one before, until there is enough.

use crate::error::{Error, ErrorKind};
use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::shared::Last;
use crate::fetch::stream::cursor::{Cursor, EMPTY_RUN};
use crate::fetch::stream::position::TOKEN_TRIES;
use crate::fetch::stream::state::Stream;
use crate::fetch::stream::tail_buffer::MEMORY;
use crate::fetch::stream::via::Via;
use crate::fetch::stream::watermark::AHEAD;
use crate::model::{LogEvent, Timestamp};
use crate::render::{Format, render};
use crate::source::GetEvents;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How far back the windows of FilterLogEvents reach, one after the other; the last one reaches back to the stream's beginning.
const REACHES: [Duration; 5] = [
    Duration::from_mins(1),
    Duration::from_hours(1),
    Duration::from_hours(24),
    Duration::from_hours(24 * 14),
    Duration::from_hours(24 * 400),
];

/// How far back from now the first ones reach where the listing's newest event is older.
const SOON: [Duration; 2] = [Duration::from_mins(1), Duration::from_mins(10)];

/// What has been read: whole pages, oldest first.
struct Found<'a> {
    stream: &'a Stream,
    last: Last,
    pages: VecDeque<Vec<LogEvent>>,
    lines: u64,
    bytes: u64,
    rendered: Vec<u8>,
}

impl Found<'_> {
    /// Puts older events before the others.
    fn put_first(&mut self, events: Vec<LogEvent>) -> Result<(), Fault> {
        for event in &events {
            self.rendered.clear();
            render(&Format::Message, &self.stream.group.name, &self.stream.name, event, &mut self.rendered);
            self.lines += self.rendered.iter().filter(|b| **b == b'\n').count() as u64;
            self.bytes += self.rendered.len() as u64;
        }
        self.pages.push_front(events);
        if self.bytes > MEMORY as u64 && !self.is_enough() {
            let cause = format!("its last lines take more than {} MiB", MEMORY >> 20);
            return Err(Error::new(ErrorKind::Unsupported, &self.stream.subject, cause).into());
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.pages.iter().all(Vec::is_empty)
    }

    /// Without an event there is no position from which to go on.
    fn is_enough(&self) -> bool {
        !self.is_empty()
            && match self.last {
                Last::Lines(lines) => self.lines >= lines,
                Last::Bytes(bytes) => self.bytes >= bytes,
            }
    }

    /// The oldest moment read; its events are taken out, for they come once more.
    fn retreat(&mut self) -> Option<Timestamp> {
        let oldest = self.pages.iter().flatten().map(|event| event.timestamp).min()?;
        let pages = std::mem::take(&mut self.pages);
        (self.lines, self.bytes) = (0, 0);
        for mut page in pages.into_iter().rev() {
            page.retain(|event| event.timestamp > oldest);
            // What fitted before fits now.
            let _ = self.put_first(page);
        }
        Some(oldest)
    }

    fn into_events(self) -> Vec<LogEvent> {
        self.pages.into_iter().flatten().collect()
    }
}

/// Enough of the newest events, oldest first; `now` is the latest that the present may be.
pub(crate) async fn read_back(stream: &Arc<Stream>, last: Last, now: Timestamp) -> Result<Vec<LogEvent>, Fault> {
    if stream.may(Via::Get) {
        match backwards(stream, last, now).await {
            Err(fault) if fault.is_refusal() && stream.may(Via::Filter) => {}
            read => return read,
        }
    }
    by_windows(stream, last, now).await
}

fn nothing(stream: &Stream, last: Last) -> Found<'_> {
    Found { stream, last, pages: VecDeque::new(), lines: 0, bytes: 0, rendered: Vec::new() }
}

async fn backwards(stream: &Arc<Stream>, last: Last, now: Timestamp) -> Result<Vec<LogEvent>, Fault> {
    let mut limit = match last {
        Last::Lines(lines) => lines.saturating_mul(2).clamp(1_000, 10_000) as u32,
        Last::Bytes(_) => 10_000,
    };
    let mut found = nothing(stream, last);
    let mut end = now + AHEAD + Duration::from_millis(1);
    let mut token: Option<String> = None;
    let (mut tries, mut empties) = (0, 0);
    loop {
        let mut request = GetEvents {
            end: Some(end),
            from_head: false,
            token: token.clone(),
            limit: Some(limit),
            ..stream.request()
        };
        let answer = stream.streams.get(Priority::Waiting, &mut request).await;
        limit = request.limit.unwrap_or(limit);
        let page = match answer {
            // It goes on from the whole millisecond at which it stands.
            Err(fault) if fault.is_invalid_token() && token.is_some() && tries < TOKEN_TRIES => {
                tries += 1;
                token = None;
                end = found.retreat().map_or(end, |oldest| oldest + Duration::from_millis(1));
                continue;
            }
            page => page?,
        };
        empties = if page.events.is_empty() { empties + 1 } else { 0 };
        let ended = token.as_deref() == Some(page.backward.as_str());
        found.put_first(page.events)?;
        if found.is_enough() || ended {
            return Ok(found.into_events());
        }
        if empties >= EMPTY_RUN {
            // Before what was found the events have expired, as it seems.
            return if found.is_empty() { Err(Fault::Empties) } else { Ok(found.into_events()) };
        }
        token = Some(page.backward);
    }
}

async fn by_windows(stream: &Arc<Stream>, last: Last, now: Timestamp) -> Result<Vec<LogEvent>, Fault> {
    let mut found = nothing(stream, last);
    let starts = starts(stream.row()?.stream.last_event, now);
    let mut end = now + AHEAD + Duration::from_millis(1);
    for start in starts {
        let Some(window) = window(stream, start, end).await? else {
            // Before what was found the events have expired, as it seems.
            return if found.is_empty() { Err(Fault::Empties) } else { Ok(found.into_events()) };
        };
        found.put_first(window.into())?;
        match start {
            Some(start) if !found.is_enough() => end = start,
            _ => break,
        }
    }
    Ok(found.into_events())
}

/// Where the windows begin, one before the other. A stream that has been quiet for long ends long ago; but what a listing tells of a busy
/// one may be an hour old, and that hour takes a thousand pages.
fn starts(told: Option<Timestamp>, now: Timestamp) -> Vec<Option<Timestamp>> {
    let newest = told.map_or(now, |told| told.min(now));
    let first = newest - REACHES[0];
    let soon = SOON.iter().map(|reach| now - *reach).filter(|start| *start > first);
    soon.chain(REACHES.iter().map(|reach| newest - *reach)).map(Some).chain([None]).collect()
}

/// The events of a window, of which the oldest are let go where they are too many; `None` if nothing but empty pages comes.
async fn window(
    stream: &Arc<Stream>,
    start: Option<Timestamp>,
    end: Timestamp,
) -> Result<Option<VecDeque<LogEvent>>, Fault> {
    let mut cursor = Cursor::new(Via::Filter, start, end);
    let (mut events, mut bytes): (VecDeque<LogEvent>, usize) = (VecDeque::new(), 0);
    loop {
        let page = cursor.next(stream, Priority::Waiting, None).await?;
        if page.restarted {
            // The newest millisecond comes once more.
            let newest = events.back().map(|event| event.timestamp);
            events.retain(|event| Some(event.timestamp) < newest);
        }
        bytes += page.events.iter().map(|event| event.message.len()).sum::<usize>();
        events.extend(page.events);
        while bytes > MEMORY / 2
            && let Some(oldest) = events.pop_front()
        {
            bytes = bytes.saturating_sub(oldest.message.len());
        }
        if page.ended {
            return Ok(Some(events));
        }
        if page.stuck {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_reach_back_from_now_first_and_then_from_what_is_told() {
        const MINUTE: i64 = 60_000;
        let now = Timestamp(100 * 24 * 60 * MINUTE);
        let minutes = |told: Option<i64>| {
            let starts = starts(told.map(|minutes| now - Duration::from_millis((minutes * MINUTE) as u64)), now);
            assert!(starts.windows(2).all(|pair| pair[1] < pair[0]), "{starts:?}");
            assert_eq!(starts.last(), Some(&None), "to the beginning");
            starts.iter().flatten().map(|start| (now.0 - start.0) / MINUTE).take(3).collect::<Vec<_>>()
        };
        assert_eq!(minutes(None), [1, 60, 1_440]);
        assert_eq!(minutes(Some(0)), [1, 60, 1_440]);
        assert_eq!(minutes(Some(30)), [1, 10, 31]);
        assert_eq!(minutes(Some(5)), [1, 6, 65]);
        assert_eq!(minutes(Some(3 * 1_440)), [1, 10, 4_321]);
    }
}
