//! The text of a tail: a stream's newest events and what came after them, in memory. Pure but for its lock.

use crate::fetch::stream::merge::{Counted, Pass, missing};
use crate::fetch::stream::watermark::OVERLAP;
use crate::model::{LogEvent, Timestamp};
use crate::render::{Format, render};
use crate::store::Counts;
use crate::sync::lock;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::watch;

/// Text of a tail that is held in memory, in bytes.
pub(crate) const MEMORY: usize = 64 << 20;
/// Text kept before the furthest read, for readers that step back.
const BEHIND: u64 = 4 << 20;

/// What a tail shows. Offset 0 is the start of a line.
pub(crate) struct TailBuffer {
    /// Exact name, for rendering.
    group: String,
    /// Exact name.
    stream: String,
    text: Mutex<Text>,
    len: watch::Sender<u64>,
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

impl TailBuffer {
    /// The tail of a stream whose newest events are these, read at `now`: what `start` says of their text, and what comes after it.
    pub(crate) fn new(
        group: String,
        stream: String,
        events: &[LogEvent],
        start: impl FnOnce(&[u8]) -> usize,
        now: Timestamp,
        late_window: Duration,
    ) -> TailBuffer {
        let mut text = begin(events, now, late_window);
        for event in events {
            render(&Format::Message, &group, &stream, event, &mut text.bytes);
        }
        let cut = start(&text.bytes);
        text.bytes.drain(..cut);
        let len = watch::Sender::new(text.bytes.len() as u64);
        TailBuffer { group, stream, text: Mutex::new(text), len }
    }

    /// Bytes now; only grows.
    pub(crate) fn len(&self) -> u64 {
        *self.len.borrow()
    }

    /// Tells of each growth of `len`.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.len.subscribe()
    }

    /// Up to `size` bytes at `offset`. Of a tail that went on for more than 64 MiB the beginning is gone: empty.
    pub(crate) fn read_at(&self, offset: u64, size: usize) -> Vec<u8> {
        lock(&self.text).read_at(offset, size)
    }

    /// When it last grew, or the newest event's time.
    pub(crate) fn grown_at(&self) -> Timestamp {
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
                render(&Format::Message, &self.group, &self.stream, &event, &mut text.bytes);
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
