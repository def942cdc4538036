//! Eviction: the text of whole streams is taken away when the cache outgrows its budget or its disk runs full; before that, renditions
//! that no program reads.
//!
//! Rows and indexes stay: the order in which events were shown is known here alone. The text comes back from the service when it is
//! read again (see [`super::Repair`]), so what the service may not have any more goes last. A stream that is read stays.
//!
//! The catalogue is told first: a crash in between leaves a file that nobody counts, which the next eviction takes, while a file that is
//! counted and gone would look like damage.

use super::live::Context;
use super::{StoreError, StoreErrorKind, aside, rendition};
use crate::model::StreamId;
use crate::sync::lock;
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
pub(crate) fn lacking(context: &Context) -> u64 {
    let limits = *lock(&context.limits);
    // A disk that doesn't tell is used until it is full.
    context.disk.space(&context.dir).map_or(0, |(free, total)| limits.min_free.of(total).saturating_sub(free))
}

/// Refuses what would take room that has to stay free.
pub(crate) fn refuse(context: &Context) -> Result<(), StoreError> {
    match lacking(context) {
        0 => Ok(()),
        lacking => {
            let text = format!("{} has {lacking} bytes less free than --min-free keeps", context.dir.display());
            Err(StoreError::new(StoreErrorKind::NoSpace, text))
        }
    }
}

/// The cache is larger than it may be, or its disk too full.
pub(crate) fn is_too_much(context: &Context) -> bool {
    context.used_bytes() > lock(&context.limits).size || lacking(context) > 0
}

/// Takes text away if there is too much. For the committer: nobody appends meanwhile.
pub(crate) fn make_room(context: &Context) -> Result<(), StoreError> {
    // They are made again without a call.
    rendition::drop_unread(context, || is_too_much(context));
    if !is_too_much(context) {
        return Ok(());
    }
    let set_aside = context.aside.swap(0, Ordering::Relaxed);
    if set_aside > 0 {
        match aside::remove(&context.dir) {
            Ok(()) => {
                tracing::info!(bytes = set_aside, "what was set aside at an earlier start is removed to make room")
            }
            Err(error) => {
                tracing::warn!(dir = %context.dir.display(), %error, "what was set aside can't be removed; remove *.damaged-N and *.old-N by hand")
            }
        }
    }
    let budget = lock(&context.limits).size;
    if !context.swept.swap(true, Ordering::Relaxed) {
        for id in context.catalogue.taken_lately()? {
            // One that can't be removed is no reason to leave the others.
            if let Err(error) = context.remove_text(id) {
                tracing::warn!(stream = id.0, %error, "text that an earlier start gave up takes room");
            }
        }
    }
    let (used, lacking) = (context.used_bytes(), lacking(context));
    if lock(&context.nothing_to_evict).is_some_and(|at| at.elapsed() < REST) {
        return Ok(());
    }
    let spare = if used > budget { budget / SPARE } else { 0 };
    let mut wanted = used.saturating_sub(budget).max(lacking) + spare;
    let mut chosen = Vec::new();
    for one in context.catalogue.uses()? {
        if wanted == 0 {
            break;
        }
        let read = context.live_now(one.id).is_some_and(|live| live.readers.load(Ordering::SeqCst) > 0);
        if !read {
            wanted = wanted.saturating_sub(one.text);
            chosen.push(one.id);
        }
    }
    if chosen.is_empty() {
        *lock(&context.nothing_to_evict) = Some(Instant::now());
        return Ok(());
    }
    let mut streams = 0;
    for ids in chosen.chunks(TOGETHER) {
        streams += take(context, ids)?;
    }
    context.evicted.fetch_add(streams, Ordering::Relaxed);
    tracing::info!(streams, "text taken out of the cache; it is fetched again when it is read");
    Ok(())
}

/// Takes the text of these streams away, but for those that somebody began to read; tells how many went.
fn take(context: &Context, ids: &[StreamId]) -> Result<u64, StoreError> {
    context.catalogue.text_is_taken(ids)?;
    let (mut taken, mut outcome) = (0, Ok(()));
    for id in ids {
        match context.remove_text(*id) {
            Ok(true) => taken += 1,
            stays => {
                outcome = outcome.and(stays.map(drop));
                context.catalogue.text_is_back(*id)?;
            }
        }
    }
    outcome.map(|()| taken)
}
