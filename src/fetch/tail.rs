//! The end of a stream that isn't downloaded: what `tail` asks for, and what comes after it.
//!
//! The last lines are read backwards, a page or a few; nothing is stored. What polls of the followed stream bring later is compared with
//! a multiset of the recent events and put behind, in order of discovery. What is older than the first event read isn't part of it,
//! unless the service took it in later: then it is new. The text is in memory, bounded: what was read by the tail is let go of, and a
//! tail that doesn't read isn't polled for.

use crate::error::Error;
use crate::fetch::follow::poll_loop::Follow;
use crate::fetch::shared::Last;
use crate::fetch::stream::merge::{Counted, Pass, missing};
use crate::fetch::stream::state::Stream;
use crate::fetch::stream::watermark::OVERLAP;
use crate::model::{LogEvent, Timestamp};
use crate::render::{Format, render};
use crate::store::Counts;
use crate::sync::lock;
use read_back::{MEMORY, read_back};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

mod read_back;

/// Text kept before the furthest read, for readers that step back.
const BEHIND: u64 = 4 << 20;
/// How often an empty answer that the listing contradicts is asked again, and how long after.
const DOUBTS: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(400)];

/// The end of a stream that isn't downloaded: offset 0 is the start of a line; grows as events arrive. Rendered canonically.
pub struct Tail {
    stream: Arc<Stream>,
    text: Mutex<Text>,
    len: watch::Sender<u64>,
    _follow: Follow,
}

#[derive(Debug, Default)]
struct Text {
    bytes: Vec<u8>,
    /// Bytes let go of before `bytes`.
    dropped: u64,
    /// End of the furthest read.
    read_end: u64,
    /// Recent events, complete from `horizon` on.
    counts: Counts,
    horizon: Timestamp,
    /// Least timestamp read at the beginning.
    floor: Timestamp,
    /// What the service took in later is new, whatever its stamp.
    ingested_after: Timestamp,
    newest: Option<Timestamp>,
    /// Up to this moment it has all that the service showed.
    asked: Timestamp,
    grown_at: Timestamp,
}

impl Tail {
    /// Bytes now; only grows.
    pub fn len(&self) -> u64 {
        *self.len.borrow()
    }

    /// Whether there is nothing yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells of each growth of `len`.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.len.subscribe()
    }

    /// Up to `size` bytes at `offset`. Of a tail that went on for more than 64 MiB the beginning is gone: empty.
    pub fn read_at(&self, offset: u64, size: usize) -> Vec<u8> {
        lock(&self.text).read_at(offset, size)
    }

    /// When it last grew, or the newest event's time.
    pub fn grown_at(&self) -> Timestamp {
        lock(&self.text).grown_at
    }

    /// Greatest timestamp seen.
    pub(crate) fn newest(&self) -> Option<Timestamp> {
        lock(&self.text).newest
    }

    /// Up to this moment it has all that the service showed.
    pub(crate) fn asked(&self) -> Timestamp {
        lock(&self.text).asked
    }

    /// Polls have shown it all up to this moment.
    pub(crate) fn was_asked(&self, at: Timestamp) {
        let mut text = lock(&self.text);
        text.asked = text.asked.max(at);
    }

    /// Whether there is room for more.
    pub(crate) fn has_room(&self) -> bool {
        let text = lock(&self.text);
        (text.dropped + text.bytes.len() as u64).saturating_sub(text.read_end) < MEMORY as u64
    }

    /// Puts what is new of a poll's page behind; whether there was something.
    pub(crate) fn take(&self, page: Vec<Counted>, now: Timestamp, late_window: Duration) -> bool {
        let len = {
            let mut text = lock(&self.text);
            let before = text.bytes.len();
            for event in text.new_events(page, now, late_window) {
                render(&Format::Message, &self.stream.group.name, &self.stream.name, &event, &mut text.bytes);
            }
            if text.bytes.len() == before {
                return false;
            }
            text.grown_at = now;
            text.let_go();
            text.dropped + text.bytes.len() as u64
        };
        // Two pages may be taken at once: the length never goes back.
        self.len.send_if_modified(|old| std::mem::replace(old, len.max(*old)) < len);
        true
    }
}

impl Text {
    fn new_events(&mut self, page: Vec<Counted>, now: Timestamp, late_window: Duration) -> Vec<LogEvent> {
        let mine = |c: &Counted| {
            c.event.timestamp >= self.horizon
                && (c.event.timestamp > self.floor || c.event.ingestion_time > self.ingested_after)
        };
        let page: Vec<Counted> = page.into_iter().filter(mine).collect();
        let events = missing(page, &mut self.counts);
        self.newest = events.iter().map(|e| e.timestamp).chain(self.newest).max();
        self.move_horizon(now, late_window);
        events
    }

    fn move_horizon(&mut self, now: Timestamp, late_window: Duration) {
        let horizon = self.newest.map_or(now, |n| n.min(now)) - late_window - OVERLAP - OVERLAP;
        // In steps: each one goes through the whole multiset.
        if horizon >= self.horizon + OVERLAP {
            self.horizon = horizon;
            self.counts.retain(|key, _| key.0 >= horizon);
        }
    }

    fn read_at(&mut self, offset: u64, size: usize) -> Vec<u8> {
        let Some(start) = offset.checked_sub(self.dropped) else { return Vec::new() };
        let start = usize::try_from(start).unwrap_or(usize::MAX).min(self.bytes.len());
        let end = start.saturating_add(size).min(self.bytes.len());
        let bytes = self.bytes[start..end].to_vec();
        self.read_end = self.read_end.max(offset + bytes.len() as u64);
        bytes
    }

    fn let_go(&mut self) {
        if self.bytes.len() <= MEMORY {
            return;
        }
        let to = self.read_end.saturating_sub(BEHIND);
        let count = usize::try_from(to.saturating_sub(self.dropped)).unwrap_or(0).min(self.bytes.len());
        self.bytes.drain(..count);
        self.dropped += count as u64;
    }
}

/// See [`Stream::last`].
pub(crate) async fn last(stream: &Arc<Stream>, last: Last) -> Result<Arc<Tail>, Error> {
    stream.check_class()?;
    let row = stream.row()?;
    if row.gone {
        return Err(stream.not_found());
    }
    let moment = stream.streams.shared.clock.moment();
    let now = moment.now;
    let mut doubts = DOUBTS.iter();
    let events = loop {
        let events = match read_back(stream, last, moment.latest).await {
            Ok(events) => events,
            Err(fault) if fault.is_not_found() => {
                stream.is_gone();
                return Err(stream.not_found());
            }
            Err(fault) => return Err(fault.about(&stream.subject)),
        };
        let told = stream.row()?.stream;
        if events.is_empty()
            && (told.first_event.is_some() || told.last_event.is_some())
            && let Some(delay) = doubts.next()
        {
            tokio::time::sleep(*delay).await;
            continue;
        }
        break events;
    };
    let late_window = stream.streams.shared.settings.borrow().late_window;
    let mut text = begin(&events, now, late_window);
    for event in &events {
        render(&Format::Message, &stream.group.name, &stream.name, event, &mut text.bytes);
    }
    let cut = start_of(&text.bytes, last);
    text.bytes.drain(..cut);
    let len = text.bytes.len() as u64;
    let tail = Arc::new(Tail {
        stream: stream.clone(),
        text: Mutex::new(text),
        len: watch::Sender::new(len),
        _follow: stream.follow(),
    });
    lock(&stream.tails).push(Arc::downgrade(&tail));
    Ok(tail)
}

/// The state after the first read, without its bytes.
fn begin(events: &[LogEvent], now: Timestamp, late_window: Duration) -> Text {
    let mut text = Text { floor: Timestamp(i64::MIN), horizon: Timestamp(i64::MIN), ..Text::default() };
    if let Some(least) = events.iter().map(|e| e.timestamp).min() {
        text.floor = least;
    }
    text.newest = events.iter().map(|e| e.timestamp).max();
    text.ingested_after = events.iter().map(|e| e.ingestion_time).max().unwrap_or(now);
    text.grown_at = text.newest.unwrap_or(now);
    text.asked = now;
    let mut pass = Pass::default();
    missing(pass.page(events.to_vec()), &mut text.counts);
    text.move_horizon(now, late_window);
    text
}

/// Where the last part begins in `text`, which ends in a newline if it isn't empty: at the start of a line.
fn start_of(text: &[u8], last: Last) -> usize {
    let newlines_before =
        |end: usize| text[..end].iter().enumerate().rev().filter(|(_, b)| **b == b'\n').map(|(i, _)| i);
    match last {
        Last::Lines(k) => {
            let nth = usize::try_from(k).unwrap_or(usize::MAX);
            newlines_before(text.len()).nth(nth).map_or(0, |i| i + 1)
        }
        Last::Bytes(k) => {
            let at = text.len().saturating_sub(usize::try_from(k).unwrap_or(usize::MAX));
            newlines_before(at).next().map_or(0, |i| i + 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(300);

    fn event(at: i64, ingested: i64, message: &str) -> LogEvent {
        LogEvent { timestamp: Timestamp(at), ingestion_time: Timestamp(ingested), message: message.into() }
    }

    fn page(events: &[LogEvent]) -> Vec<Counted> {
        Pass::default().page(events.to_vec())
    }

    #[test]
    fn the_start_is_the_start_of_a_line() {
        let text = b"one\ntwo\nthree\n";
        assert_eq!(start_of(text, Last::Lines(0)), text.len());
        assert_eq!(start_of(text, Last::Lines(1)), 8);
        assert_eq!(start_of(text, Last::Lines(2)), 4);
        assert_eq!(start_of(text, Last::Lines(3)), 0);
        assert_eq!(start_of(text, Last::Lines(9)), 0);
        assert_eq!(start_of(text, Last::Bytes(0)), text.len());
        assert_eq!(start_of(text, Last::Bytes(1)), 8);
        assert_eq!(start_of(text, Last::Bytes(6)), 8);
        assert_eq!(start_of(text, Last::Bytes(7)), 4);
        assert_eq!(start_of(text, Last::Bytes(99)), 0);
        assert_eq!(start_of(b"", Last::Lines(3)), 0);
    }

    #[test]
    fn polls_add_each_event_once() {
        let now = Timestamp(1_000_000);
        let first = [event(900_000, 900_001, "a"), event(990_000, 990_001, "b")];
        let mut text = begin(&first, now, WINDOW);
        let poll = [event(990_000, 990_001, "b"), event(990_000, 995_000, "b"), event(991_000, 995_000, "c")];
        let new = text.new_events(page(&poll), now, WINDOW);
        assert_eq!(new, poll[1..]);
        assert!(text.new_events(page(&poll), now, WINDOW).is_empty());
        assert_eq!(text.newest, Some(Timestamp(991_000)));
    }

    #[test]
    fn what_is_older_belongs_to_it_only_if_it_was_taken_in_later() {
        let now = Timestamp(1_000_000);
        let mut text = begin(&[event(900_000, 900_500, "a")], now, WINDOW);
        let old = [
            event(899_000, 899_000, "before"),
            event(899_500, 901_000, "late"),
            event(900_000, 900_400, "same ms, not read"),
        ];
        let new = text.new_events(page(&old), now, WINDOW);
        assert_eq!(new.iter().map(|e| e.message.as_str()).collect::<Vec<_>>(), ["late"]);
        assert!(text.new_events(page(&old), now, WINDOW).is_empty());
        let ancient = [event(1_000, 999_999, "beyond the multiset")];
        assert!(text.new_events(page(&ancient), now, WINDOW).is_empty());
    }

    #[test]
    fn an_empty_stream_takes_everything() {
        let now = Timestamp(1_000_000);
        let mut text = begin(&[], now, WINDOW);
        assert_eq!(text.new_events(page(&[event(999_000, 1_000_100, "first")]), now, WINDOW).len(), 1);
    }

    #[test]
    fn memory_is_let_go_of_behind_the_reader() {
        let mut text = Text { bytes: vec![b'x'; MEMORY + 10], ..Text::default() };
        text.let_go();
        assert_eq!(text.dropped, 0, "nobody read it yet");
        let end = (MEMORY - 5) as u64;
        assert_eq!(text.read_at(end, 5).len(), 5);
        text.let_go();
        assert_eq!(text.dropped, MEMORY as u64 - BEHIND);
        assert_eq!(text.read_at(MEMORY as u64, 100), b"x".repeat(10));
        assert!(text.read_at(0, 10).is_empty());
    }
}
