//! Eviction: the text of whole streams is taken away when the cache outgrows its budget or its disk runs full.
//!
//! Rows and indexes stay: the order in which events were shown is known to nobody else. The text comes back from the service when it is
//! read again (see [`super::Mend`]), so what the service may not have any more goes last. A stream that somebody reads stays.

use super::StoreError;
use super::catalogue::Use;
use super::live::{Room, lock};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Part of the budget that eviction makes room for beyond what it must, so that it runs seldom.
const SPARE: u64 = 10;
/// How long eviction rests when there was nothing to take.
const REST: Duration = Duration::from_secs(5);
/// Streams taken away with one commit.
const TOGETHER: usize = 256;

/// How large the cache may grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Bytes of the cache, indexes and catalogue included.
    pub size: u64,
    /// What stays free on its disk.
    pub min_free: MinFree,
}

/// Room that stays free on the cache's disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MinFree {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of the disk.
    Percent(f64),
}

impl Default for Limits {
    /// None.
    fn default() -> Limits {
        Limits { size: u64::MAX, min_free: MinFree::Bytes(0) }
    }
}

impl MinFree {
    /// In bytes, on a disk of `total`.
    pub fn of(self, total: u64) -> u64 {
        match self {
            MinFree::Bytes(bytes) => bytes,
            // Nobody minds a rounded byte; a share above all of it is all of it.
            MinFree::Percent(share) => (total as f64 * share / 100.0) as u64,
        }
    }
}

/// Bytes that are missing on the disk to what must stay free.
pub(crate) fn lacking(room: &Room) -> u64 {
    let limits = *lock(&room.limits);
    // A disk that doesn't tell is used until it is full.
    room.disk.space(&room.dir).map_or(0, |(free, total)| limits.min_free.of(total).saturating_sub(free))
}

/// Takes text away if there is too much. For the committer: nobody appends meanwhile.
pub(crate) fn make_room(room: &Room) -> Result<(), StoreError> {
    let budget = lock(&room.limits).size;
    let (used, lacking) = (room.used_bytes(), lacking(room));
    if used <= budget && lacking == 0 {
        return Ok(());
    }
    if lock(&room.nothing_to_evict).is_some_and(|at| at.elapsed() < REST) {
        return Ok(());
    }
    let spare = if used > budget { budget / SPARE } else { 0 };
    let mut wanted = used.saturating_sub(budget).max(lacking) + spare;
    let mut taken = Vec::new();
    for one in room.catalogue.uses()? {
        if wanted == 0 {
            break;
        }
        if take(room, &one)? {
            wanted = wanted.saturating_sub(one.text);
            taken.push(one.id);
        }
    }
    if taken.is_empty() {
        *lock(&room.nothing_to_evict) = Some(Instant::now());
        return Ok(());
    }
    for ids in taken.chunks(TOGETHER) {
        room.catalogue.text_is_taken(ids)?;
    }
    room.evicted.fetch_add(taken.len() as u64, Ordering::Relaxed);
    tracing::info!(streams = taken.len(), "text taken out of the cache; it is fetched again when it is read");
    Ok(())
}

fn take(room: &Room, one: &Use) -> Result<bool, StoreError> {
    let live = room.live_now(one.id);
    if live.as_ref().is_some_and(|live| live.readers.load(Ordering::SeqCst) > 0) {
        return Ok(false);
    }
    let (_, path) = room.paths(one.id, "text");
    room.disk.remove(&path).map_err(|e| StoreError::io("remove", &path, &e))?;
    if let Some(live) = live {
        live.text_is_another();
    }
    Ok(true)
}
