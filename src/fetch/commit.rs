//! The one step in which events enter the store: compare with what is stored, then append.
//!
//! Several reads of one stream run at once (a poll, a check, a download). Each compares under the stream's [`Appender`], which is held
//! until the append is durable, so none can miss what another is just appending. The step runs in a task of its own: a caller that is
//! dropped halfway can't release the appender under a running append. Several streams are locked in order of their ids.

use super::fault::Fault;
use super::merge::{Counted, missing, span_of};
use super::stream::{Stream, Streams};
use super::vouch::settles;
use crate::model::{LogEvent, Span, Timestamp};
use crate::store::row::StreamRow;
use crate::store::{Append, Counts};
use std::sync::Arc;

/// Held while events of one stream are compared and appended.
pub(crate) type Appender = Arc<tokio::sync::Mutex<()>>;

/// A drained read that ends with this commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seal {
    /// It read from here on; not after the stream's settled edge.
    pub(crate) from: Timestamp,
    /// When it began. What an earlier part of it read must have been settled by then, or have been read again.
    pub(crate) began: Timestamp,
}

/// One stream's share of a commit.
pub(crate) struct Batch {
    pub(crate) stream: Arc<Stream>,
    pub(crate) page: Vec<Counted>,
    /// Drop the events if the stream isn't complete: its end would stand behind a hole.
    pub(crate) only_complete: bool,
    /// It has now been read to its end.
    pub(crate) complete: bool,
    pub(crate) read_to: Option<Timestamp>,
    pub(crate) seal: Option<Seal>,
    /// Progress even if nothing is appended.
    pub(crate) beat: bool,
}

impl Batch {
    /// Events and nothing else.
    pub(crate) fn events(stream: Arc<Stream>, page: Vec<Counted>, only_complete: bool) -> Batch {
        Batch { stream, page, only_complete, complete: false, read_to: None, seal: None, beat: false }
    }
}

/// Appends what is new of each batch, all in one append. Each stream at most once. Returns the number of events appended.
pub(crate) async fn commit(home: &Arc<Streams>, batches: Vec<Batch>) -> Result<u64, Fault> {
    if batches.is_empty() {
        return Ok(0);
    }
    let task = home.shared.tasks.spawn(step(home.clone(), batches));
    let outcome = task.await.unwrap_or(Err(Fault::Died));
    if let Err(Fault::Store(error)) = &outcome {
        home.renew_if_lost(error).await;
    }
    outcome
}

async fn step(home: Arc<Streams>, mut batches: Vec<Batch>) -> Result<u64, Fault> {
    batches.sort_by_key(|b| b.stream.id);
    let mut held = Vec::with_capacity(batches.len());
    for batch in &batches {
        held.push(batch.stream.appender.clone().lock_owned().await);
    }
    let (settle_after, late_window) = {
        let settings = home.shared.settings.borrow();
        (settings.settle_after, settings.late_window)
    };
    let now = home.shared.clock.now();
    let mut appends = Vec::new();
    let mut moved: Vec<(Arc<Stream>, bool)> = Vec::new();
    for batch in batches {
        let Some(row) = home.shared.store.stream(batch.stream.id)? else { continue };
        if row.gone || (batch.only_complete && !row.extent.complete) {
            continue;
        }
        // A tail that reads the end alone sees whatever any read finds; but a download's page needn't join on to what the tail
        // has, and would put later events before those of the gap: until it is complete, polls alone bring them.
        if row.extent.complete {
            for suffix in batch.stream.live_suffixes().iter().filter(|s| s.has_room()) {
                suffix.take(batch.page.clone(), now, late_window);
            }
        }
        let mut counts = stored(&home, &row, span_of(&batch.page))?;
        let events = missing(batch.page, &mut counts);
        let settled_to = match batch.seal {
            Some(seal) => settled_to(&home, &row, seal, settle_after, &events)?,
            None => None,
        };
        let read_to = batch.read_to.filter(|at| *at != row.extent.read_to);
        let complete = batch.complete && !row.extent.complete;
        if !events.is_empty() || complete || settled_to.is_some() || read_to.is_some() {
            if !events.is_empty() || complete || batch.beat {
                moved.push((batch.stream, batch.complete));
            }
            appends.push(Append { stream: Some(row.id), events, complete: batch.complete, settled_to, read_to });
        } else if batch.beat {
            moved.push((batch.stream, batch.complete));
        }
    }
    let added = appends.iter().map(|a| a.events.len() as u64).sum();
    if !appends.is_empty() {
        home.shared.store.append(appends).await?;
    }
    drop(held);
    for (stream, complete) in moved {
        stream.progress.send_modify(|p| {
            p.complete |= complete;
            p.commits += 1;
        });
    }
    Ok(added)
}

fn stored(home: &Streams, row: &StreamRow, span: Option<Span>) -> Result<Counts, Fault> {
    match (span, row.extent.oldest, row.extent.newest) {
        (Some(span), Some(oldest), Some(newest)) if span.start <= newest && oldest < span.end => {
            Ok(home.shared.store.counts(row.id, span)?)
        }
        _ => Ok(Counts::new()),
    }
}

/// The settled edge after `seal`'s read, if it moves on.
fn settled_to(
    home: &Streams,
    row: &StreamRow,
    seal: Seal,
    settle_after: std::time::Duration,
    new: &[LogEvent],
) -> Result<Option<Timestamp>, Fault> {
    let by_age = seal.began - settle_after;
    if by_age <= row.extent.settled_to || by_age <= seal.from {
        return Ok(None);
    }
    let span = Span { start: seal.from, end: by_age };
    let stored = home.shared.store.oldest_ingested_since(row.id, span, by_age)?;
    let fresh =
        new.iter().filter(|e| span.contains(e.timestamp) && e.ingestion_time >= by_age).map(|e| e.timestamp).min();
    let young = stored.into_iter().chain(fresh).min();
    Ok(Some(settles(seal.began, settle_after, young)).filter(|edge| *edge > row.extent.settled_to))
}
