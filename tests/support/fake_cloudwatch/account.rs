//! The account: groups, their streams, and the listing's own idea of them, which may lag behind the events.
//!
//! Locks are short and nest in one direction only: groups, then a group's streams, then one stream's events.

use super::locks::{Locked, RwLocked};
use super::stream::{Events, Stored};
use super::synth::Synth;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

/// Everything that is kept.
#[derive(Default)]
pub(crate) struct Account {
    /// Groups by name.
    pub(crate) groups: RwLock<BTreeMap<String, Arc<Group>>>,
    /// When a group (empty stream name) or stream was deleted, in ms.
    pub(crate) deleted: Mutex<HashMap<(String, String), i64>>,
    batches: AtomicU64,
}

/// A log group.
pub(crate) struct Group {
    /// Its name.
    pub(crate) name: String,
    /// When it was made, in ms.
    pub(crate) created: i64,
    /// `STANDARD`, `INFREQUENT_ACCESS` or `DELIVERY`.
    pub(crate) class: String,
    /// Days of retention; 0 is for ever.
    pub(crate) retention: AtomicU32,
    /// Bytes of all messages ever taken in.
    pub(crate) bytes: AtomicU64,
    /// Its streams.
    pub(crate) streams: RwLock<Streams>,
}

/// A log stream.
pub(crate) struct Stream {
    /// Its name.
    pub(crate) name: String,
    /// Its name as JSON writes it, quotes included.
    pub(crate) json_name: String,
    /// When it was made, in ms.
    pub(crate) created: i64,
    /// What the listing tells.
    pub(crate) listed: Mutex<Option<Listed>>,
    /// Its events.
    pub(crate) events: RwLock<Events>,
}

/// What the listing tells of a stream's events, in ms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed {
    /// Oldest event.
    pub(crate) first: i64,
    /// Newest event.
    pub(crate) last: i64,
    /// Newest ingestion.
    pub(crate) ingestion: i64,
}

/// A group's streams, by name and by the newest event that the listing knows (0 without).
#[derive(Default)]
pub(crate) struct Streams {
    /// By name.
    pub(crate) by_name: BTreeMap<String, Arc<Stream>>,
    /// By newest event, then name.
    pub(crate) by_time: BTreeSet<(i64, String)>,
    pending: Vec<(i64, Arc<Stream>, Listed)>,
}

impl Streams {
    fn list(&mut self, stream: &Arc<Stream>, listed: Listed) {
        // A stream deleted, or made again, before its times were due keeps out of the listing.
        if !self.by_name.get(&stream.name).is_some_and(|here| Arc::ptr_eq(here, stream)) {
            return;
        }
        let mut slot = stream.listed.locked();
        let before = slot.map_or(0, |l| l.last);
        if before != listed.last {
            self.by_time.remove(&(before, stream.name.clone()));
            self.by_time.insert((listed.last, stream.name.clone()));
        }
        *slot = Some(listed);
    }

    /// Makes the times known that are due at `now`.
    pub(crate) fn settle(&mut self, now: i64) {
        if self.pending.iter().any(|(due, ..)| *due <= now) {
            let pending = std::mem::take(&mut self.pending);
            for (due, stream, listed) in pending {
                if due <= now {
                    self.list(&stream, listed);
                } else {
                    self.pending.push((due, stream, listed));
                }
            }
        }
    }

    fn add(&mut self, name: &str, now: i64) -> Option<Arc<Stream>> {
        if self.by_name.contains_key(name) {
            return None;
        }
        let stream = Arc::new(Stream {
            name: name.into(),
            json_name: serde_json::to_string(name).expect("a string is always JSON"),
            created: now,
            listed: Mutex::new(None),
            events: RwLock::new(Events::default()),
        });
        self.by_name.insert(name.into(), stream.clone());
        self.by_time.insert((0, name.into()));
        Some(stream)
    }
}

impl Group {
    /// A stream by its exact name.
    pub(crate) fn stream(&self, name: &str) -> Option<Arc<Stream>> {
        self.streams.reading().by_name.get(name).cloned()
    }

    /// Makes a stream; `None` where there is one already.
    pub(crate) fn create_stream(&self, name: &str, now: i64) -> Option<Arc<Stream>> {
        self.streams.writing().add(name, now)
    }

    /// Adds events to a stream; the listing hears of them at `due` (ms), at once if that is past.
    pub(crate) fn put(&self, stream: &Arc<Stream>, batch: Vec<Stored>, now: i64, due: i64) {
        self.bytes.fetch_add(batch.iter().map(|e| e.len() as u64).sum(), Ordering::Relaxed);
        let times = {
            let mut events = stream.events.writing();
            events.put(batch);
            events.times()
        };
        self.tell(stream, times, now, due);
    }

    /// Makes computed events the base of a stream; refused (`false`) where it has some.
    pub(crate) fn set_synth(&self, stream: &Arc<Stream>, synth: Synth) -> bool {
        self.bytes.fetch_add(synth.count * synth.line_bytes as u64, Ordering::Relaxed);
        let times = {
            let mut events = stream.events.writing();
            if !events.set_synth(synth) {
                return false;
            }
            events.times()
        };
        self.tell(stream, times, 0, 0);
        true
    }

    fn tell(&self, stream: &Arc<Stream>, times: Option<(i64, i64, i64)>, now: i64, due: i64) {
        let Some((first, last, ingestion)) = times else { return };
        let listed = Listed { first, last, ingestion };
        let mut streams = self.streams.writing();
        if due <= now {
            streams.list(stream, listed);
        } else {
            streams.pending.push((due, stream.clone(), listed));
        }
    }
}

impl Account {
    /// A number for a put, greater than every one before.
    pub(crate) fn next_batch(&self) -> u64 {
        self.batches.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A group by name.
    pub(crate) fn group(&self, name: &str) -> Option<Arc<Group>> {
        self.groups.reading().get(name).cloned()
    }

    /// Makes a group; `None` where there is one already.
    pub(crate) fn create_group(&self, name: &str, class: &str, now: i64) -> Option<Arc<Group>> {
        let mut groups = self.groups.writing();
        if groups.contains_key(name) {
            return None;
        }
        let group = Arc::new(Group {
            name: name.into(),
            created: now,
            class: class.into(),
            retention: AtomicU32::new(0),
            bytes: AtomicU64::new(0),
            streams: RwLock::default(),
        });
        groups.insert(name.into(), group.clone());
        Some(group)
    }

    /// Deletes a group; `false` where there is none.
    pub(crate) fn delete_group(&self, name: &str, now: i64) -> bool {
        let Some(group) = self.groups.writing().remove(name) else { return false };
        let mut deleted = self.deleted.locked();
        deleted.insert((name.into(), String::new()), now);
        for stream in group.streams.reading().by_name.keys() {
            deleted.insert((name.into(), stream.clone()), now);
        }
        true
    }

    /// Deletes a stream; `false` where there is none.
    pub(crate) fn delete_stream(&self, group: &Group, name: &str, now: i64) -> bool {
        {
            let mut streams = group.streams.writing();
            let Some(stream) = streams.by_name.remove(name) else { return false };
            let last = stream.listed.locked().map_or(0, |l| l.last);
            streams.by_time.remove(&(last, name.into()));
        }
        self.deleted.locked().insert((group.name.clone(), name.into()), now);
        true
    }

    /// Whether a stream (or group, with an empty `stream`) was deleted less than `window` ms ago.
    pub(crate) fn lately_deleted(&self, group: &str, stream: &str, window: u64, now: i64) -> bool {
        let deleted = self.deleted.locked();
        deleted.get(&(group.into(), stream.into())).is_some_and(|at| now - at < window as i64)
    }

    /// Shows what is hidden, of one group or stream or of all; tells how many events.
    pub(crate) fn release(&self, group: Option<&str>, stream: Option<&str>, now: i64) -> u64 {
        let mut released = 0;
        for each in self.groups.reading().values().filter(|g| group.is_none_or(|name| name == g.name)) {
            for each in each.streams.reading().by_name.values().filter(|s| stream.is_none_or(|n| n == s.name)) {
                released += each.events.writing().release(now);
            }
        }
        released
    }

    /// (events accepted, bytes of a file that shows them) of a stream.
    pub(crate) fn size(&self, group: &str, stream: &str) -> Option<(u64, u64)> {
        let stream = self.group(group)?.stream(stream)?;
        let events = stream.events.reading();
        // Messages that end in a newline get none more; computed ones never do.
        let bytes = events.bytes + events.count() - events.ended_lines();
        Some((events.count(), bytes))
    }
}
