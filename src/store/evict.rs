//! Eviction: the text of whole streams is taken away when the cache outgrows its budget or its disk runs full; before that, renditions
//! that no program reads.
//!
//! Rows and indexes stay: the order in which events were shown is known here alone. The text comes back from the service when it is
//! read again (see [`super::Repair`]), so what the service may not have any more goes last. A stream that is read stays.
//!
//! The catalogue is told first: a crash in between leaves a file that isn't counted, which the next eviction takes, while a file that is
//! counted and gone would look like damage.

use super::live::Context;
use super::space::{is_too_much, lacking};
use super::{StoreError, aside, rendering};
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

/// Takes text away if there is too much. For the committer: nothing is appended meanwhile.
pub(crate) fn make_room(context: &Context) -> Result<(), StoreError> {
    // They are made again without a call.
    rendering::drop_unread(context, || is_too_much(context));
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

/// Takes the text of these streams away, but for those that a reader began to read; tells how many went.
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
