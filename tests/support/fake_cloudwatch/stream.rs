//! One log stream's events: computed ones and stored ones, merged in the service's order.

use super::key::Key;
use super::synth::Synth;
use super::text::Text;

/// An event that was put.
pub(crate) struct Stored {
    /// Its place.
    pub(crate) key: Key,
    /// When reads show it, in ms: `i64::MIN` always, `i64::MAX` only once released.
    pub(crate) visible_at: i64,
    /// The text.
    pub(crate) message: Text,
}

impl Stored {
    /// An event of `message`.
    pub(crate) fn new(key: Key, message: Text, visible_at: i64) -> Stored {
        Stored { key, visible_at, message }
    }

    /// Bytes of its message, as a file shows it.
    pub(crate) fn len(&self) -> usize {
        self.message.shown.len()
    }
}

/// The events of a stream.
#[derive(Default)]
pub(crate) struct Events {
    synth: Option<Synth>,
    stored: Vec<Stored>,
    /// Bytes of all messages.
    pub(crate) bytes: u64,
    /// Newest ingestion time of the stored ones, in ms.
    last_ingestion: Option<i64>,
}

/// One event, wherever it is.
#[derive(Clone, Copy)]
pub(crate) enum Event<'a> {
    /// A computed one.
    Synth(&'a Synth, u64),
    /// A stored one.
    Stored(&'a Stored),
}

impl Event<'_> {
    /// Its place.
    pub(crate) fn key(&self) -> Key {
        match self {
            Event::Synth(synth, i) => synth.key(*i),
            Event::Stored(stored) => stored.key,
        }
    }

    /// Bytes of its message.
    pub(crate) fn len(&self) -> usize {
        match self {
            Event::Synth(synth, _) => synth.line_bytes,
            Event::Stored(stored) => stored.len(),
        }
    }

    /// Whether reads show it at `now`.
    pub(crate) fn visible(&self, now: i64) -> bool {
        match self {
            Event::Synth(..) => true,
            Event::Stored(stored) => stored.visible_at <= now,
        }
    }

    /// Its message, appended.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Event::Synth(synth, i) => synth.write(*i, out),
            Event::Stored(stored) => out.extend_from_slice(stored.message.shown.as_bytes()),
        }
    }

    /// Its message as the inside of a JSON string, appended.
    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Event::Synth(synth, i) => synth.write(*i, out),
            Event::Stored(stored) => out.extend_from_slice(stored.message.json()),
        }
    }

    /// What a file shows of it: the message and a newline if it has none, appended.
    pub(crate) fn write_line(&self, out: &mut Vec<u8>) {
        let start = out.len();
        self.write(out);
        if out[start..].last() != Some(&b'\n') {
            out.push(b'\n');
        }
    }
}

/// A place between two events of a stream: counts of computed and stored events before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    synth: u64,
    stored: usize,
}

impl Events {
    /// How many events.
    pub(crate) fn count(&self) -> u64 {
        self.synth.as_ref().map_or(0, |s| s.count) + self.stored.len() as u64
    }

    /// How many messages end in a newline.
    pub(crate) fn ended_lines(&self) -> u64 {
        self.stored.iter().filter(|event| event.message.shown.ends_with('\n')).count() as u64
    }

    /// Makes computed events the stream's base. Refused (`false`) where it has one already.
    pub(crate) fn set_synth(&mut self, synth: Synth) -> bool {
        if self.synth.is_some() {
            return false;
        }
        self.bytes += synth.count * synth.line_bytes as u64;
        self.synth = Some(synth);
        true
    }

    /// Takes in a put, its events in order.
    pub(crate) fn put(&mut self, batch: Vec<Stored>) {
        for event in batch {
            self.bytes += event.len() as u64;
            self.last_ingestion = self.last_ingestion.max(Some(event.key.ingestion));
            if self.stored.last().is_none_or(|last| last.key < event.key) {
                self.stored.push(event);
            } else {
                let at = self.stored.partition_point(|other| other.key < event.key);
                self.stored.insert(at, event);
            }
        }
    }

    /// Shows what was hidden; tells how many events that are.
    pub(crate) fn release(&mut self, now: i64) -> u64 {
        let hidden = self.stored.iter_mut().filter(|event| event.visible_at > now);
        hidden.map(|event| event.visible_at = i64::MIN).count() as u64
    }

    /// The place before `bound` (behind it, if `after`).
    pub(crate) fn seek(&self, bound: Key, after: bool) -> Spot {
        Spot {
            synth: self.synth.as_ref().map_or(0, |synth| synth.seek(bound, after)),
            stored: self.stored.partition_point(|event| event.key < bound || after && event.key == bound),
        }
    }

    /// The place behind everything.
    pub(crate) fn end(&self) -> Spot {
        Spot { synth: self.synth.as_ref().map_or(0, |synth| synth.count), stored: self.stored.len() }
    }

    /// The event behind `spot`, and the place behind that event.
    pub(crate) fn next(&self, spot: Spot) -> Option<(Event<'_>, Spot)> {
        let synth = self.synth.as_ref().filter(|synth| spot.synth < synth.count);
        let stored = self.stored.get(spot.stored);
        match (synth, stored) {
            (Some(synth), stored) if stored.is_none_or(|stored| synth.key(spot.synth) < stored.key) => {
                Some((Event::Synth(synth, spot.synth), Spot { synth: spot.synth + 1, ..spot }))
            }
            (_, Some(stored)) => Some((Event::Stored(stored), Spot { stored: spot.stored + 1, ..spot })),
            _ => None,
        }
    }

    /// The event before `spot`, and the place before that event.
    pub(crate) fn previous(&self, spot: Spot) -> Option<(Event<'_>, Spot)> {
        let synth = self.synth.as_ref().filter(|_| spot.synth > 0);
        let stored = spot.stored.checked_sub(1).and_then(|at| self.stored.get(at));
        match (synth, stored) {
            (Some(synth), stored) if stored.is_none_or(|stored| synth.key(spot.synth - 1) > stored.key) => {
                Some((Event::Synth(synth, spot.synth - 1), Spot { synth: spot.synth - 1, ..spot }))
            }
            (_, Some(stored)) => Some((Event::Stored(stored), Spot { stored: spot.stored - 1, ..spot })),
            _ => None,
        }
    }

    /// The first event stamped `at` or later, in ms.
    pub(crate) fn first_from(&self, at: i64) -> Option<i64> {
        Some(self.next(self.seek(Key::at(at), false))?.0.key().timestamp)
    }

    /// (oldest event, newest event, newest ingestion) in ms, hidden ones included; `None` without events.
    pub(crate) fn times(&self) -> Option<(i64, i64, i64)> {
        let first = self.next(self.seek(Key::MIN, false))?.0.key();
        let last = self.previous(self.end())?.0.key();
        let synth = self.synth.as_ref().filter(|s| s.count > 0).map(|s| s.key(s.count - 1).ingestion);
        Some((first.timestamp, last.timestamp, synth.max(self.last_ingestion).unwrap_or(last.ingestion)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_merge_in_both_directions() {
        let mut events = Events::default();
        let synth = Synth {
            count: 10,
            line_bytes: 40,
            first: 1000,
            end: 2000,
            ingestion: None,
            seed: 1,
            burst: None,
            batch: 1,
        };
        assert!(events.set_synth(synth.clone()) && !events.set_synth(synth));
        let at = |timestamp, place| {
            Stored::new(
                Key { timestamp, ingestion: 9000, batch: 2, place },
                format!("put {timestamp}").into(),
                i64::MIN,
            )
        };
        events.put(vec![at(500, 0), at(1000, 1), at(1550, 2), at(3000, 3)]);
        events.put(vec![at(1300, 4)]);
        let mut forward = Vec::new();
        let mut spot = events.seek(Key::MIN, false);
        while let Some((event, next)) = events.next(spot) {
            assert_eq!((events.seek(event.key(), false), events.seek(event.key(), true)), (spot, next));
            forward.push(event.key());
            spot = next;
        }
        assert_eq!((forward.len(), spot), (15, events.end()));
        assert!(forward.is_sorted());
        let mut backward = Vec::new();
        while let Some((event, previous)) = events.previous(spot) {
            backward.push(event.key());
            spot = previous;
        }
        backward.reverse();
        assert_eq!(forward, backward);
        assert_eq!(events.times(), Some((500, 3000, 9000)));
    }
}
