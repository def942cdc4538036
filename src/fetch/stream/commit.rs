//! The one step in which events enter the store: compare with what is stored, then append.
//!
//! Several reads of one stream run at once (a poll, a check, a download). Each compares under the stream's [`Appender`](super::state::Appender), which is held
//! until the append is durable, so none can miss what another is just appending. The step runs in a task of its own: a caller that is
//! dropped halfway can't release the appender under a running append. Several streams are locked in order of their ids.
//!
//! A stream that the cache can't take events of, for whatever is wrong with its files, is refused alone: the others of the commit are
//! kept, and the caller is told who wasn't.

use crate::clock::Moment;
use crate::fetch::service::fault::Fault;
use crate::fetch::stream::merge::{Counted, is_any_missing, missing, span_of};
use crate::fetch::stream::state::{Stream, Streams};
use crate::fetch::stream::watermark::{Trust, own_edge, settles};
use crate::model::{GroupId, LogEvent, Span, StreamId, Timestamp};
use crate::store::row::StreamRow;
use crate::store::{Append, Counts};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A drained read that ends with this commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seal {
    /// It read from here on; not after the stream's settled edge.
    pub(crate) from: Timestamp,
    /// When it began. What an earlier part of it read must have been settled by then, or have been read again.
    pub(crate) began: Moment,
}

/// One stream's share of a commit.
pub(crate) struct Batch {
    pub(crate) stream: Arc<Stream>,
    pub(crate) page: Vec<Counted>,
    /// Drop the events if the stream isn't complete: its end would stand behind a hole.
    pub(crate) only_complete: bool,
    /// It has now been read to its end.
    pub(crate) complete: bool,
    pub(crate) read_to: Option<Moment>,
    /// See [`crate::store::row::Extent::doubted`], if it changes.
    pub(crate) doubted: Option<bool>,
    pub(crate) seal: Option<Seal>,
    /// Progress even if nothing is appended.
    pub(crate) beat: bool,
    /// A poll read it, from what each tail of the stream's end has on: nothing is between that and the page.
    pub(crate) polled: bool,
}

impl Batch {
    /// Events and nothing else.
    pub(crate) fn events(stream: Arc<Stream>, page: Vec<Counted>, only_complete: bool) -> Batch {
        Batch {
            stream,
            page,
            only_complete,
            complete: false,
            read_to: None,
            doubted: None,
            seal: None,
            beat: false,
            polled: false,
        }
    }
}

/// What became of a commit.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    /// Events appended.
    pub(crate) added: u64,
    /// Streams that took nothing, and why.
    pub(crate) refused: HashMap<StreamId, Fault>,
}

impl Committed {
    /// For one stream, whose refusal is the caller's failure.
    pub(crate) fn of_one(self) -> Result<u64, Fault> {
        match self.refused.into_values().next() {
            Some(fault) => Err(fault),
            None => Ok(self.added),
        }
    }
}

/// Appends what is new of each batch, all in one append. Each stream at most once. An error is of the whole commit.
pub(crate) async fn commit(streams: &Arc<Streams>, batches: Vec<Batch>) -> Result<Committed, Fault> {
    if batches.is_empty() {
        return Ok(Committed::default());
    }
    let committed = streams.shared.apart(step(streams.clone(), batches)).await?;
    for fault in committed.refused.values() {
        streams.failed_by(fault).await;
    }
    Ok(committed)
}

/// The same of one stream.
pub(crate) async fn commit_one(streams: &Arc<Streams>, batch: Batch) -> Result<u64, Fault> {
    commit(streams, vec![batch]).await?.of_one()
}

async fn step(streams: Arc<Streams>, mut batches: Vec<Batch>) -> Result<Committed, Fault> {
    let unsure = renew_listings(&streams, &batches).await;
    batches.sort_by_key(|b| b.stream.id);
    let mut held = Vec::with_capacity(batches.len());
    for batch in &batches {
        held.push(batch.stream.appender.clone().lock_owned().await);
    }
    let mut committed = Committed::default();
    let mut appends = Vec::new();
    let mut moved: Vec<(Arc<Stream>, bool)> = Vec::new();
    let mut offered: Vec<(Arc<Stream>, Option<Span>)> = Vec::new();
    for batch in batches {
        let (stream, completes, span) = (batch.stream.clone(), batch.complete, span_of(&batch.page));
        // A download goes on from what is stored, whatever else is asked for.
        if batch.only_complete
            && let Some(fault) = stream.gap.refuses(span)
        {
            committed.refused.insert(stream.id, fault);
            continue;
        }
        offered.push((stream.clone(), span));
        if let Some(fault) = unsure.get(&stream.id) {
            committed.refused.insert(stream.id, fault.clone());
            continue;
        }
        match plan(&streams, batch) {
            Ok(Planned { append, moves }) => {
                appends.extend(append);
                if moves {
                    moved.push((stream, completes));
                }
            }
            Err(fault) => drop(committed.refused.insert(stream.id, fault)),
        }
    }
    let ids: Vec<(Option<StreamId>, u64)> = appends.iter().map(|a| (a.stream, a.events.len() as u64)).collect();
    if !appends.is_empty() {
        let ends = streams.shared.store.append_each(appends).await?;
        for ((id, events), end) in ids.into_iter().zip(ends) {
            match (id, end) {
                (_, Ok(_)) => committed.added += events,
                (Some(id), Err(error)) => drop(committed.refused.insert(id, error.into())),
                (None, Err(error)) => return Err(error.into()),
            }
        }
    }
    for (stream, span) in offered {
        match (committed.refused.get(&stream.id), span) {
            (Some(fault), Some(span)) => stream.gap.note(span, newest(&streams, stream.id), fault.clone()),
            _ => stream.gap.is_closed(span),
        }
    }
    drop(held);
    for (stream, complete) in moved.into_iter().filter(|(stream, _)| !committed.refused.contains_key(&stream.id)) {
        stream.progress.send_modify(|p| {
            p.complete |= complete;
            p.commits += 1;
        });
    }
    Ok(committed)
}

/// The greatest timestamp that is stored of a stream.
fn newest(streams: &Streams, id: StreamId) -> Option<Timestamp> {
    streams.shared.store.stream(id).ok().flatten()?.extent.newest
}

/// Before new events are put behind old ones it must be known that the streams are still those that they were (see `generation`). Tells
/// of which streams that can't be kept.
async fn renew_listings(streams: &Streams, batches: &[Batch]) -> HashMap<StreamId, Fault> {
    let mut groups: BTreeMap<GroupId, Vec<StreamId>> = BTreeMap::new();
    for batch in batches.iter().filter(|batch| !batch.page.is_empty()) {
        let (group, id) = (batch.stream.group.id, batch.stream.id);
        if !streams.lister.is_current(group, id) && brings_news(streams, batch) {
            groups.entry(group).or_default().push(id);
        }
    }
    let mut refused = HashMap::new();
    for (group, ids) in groups {
        if let Err(error) = streams.lister.renew(group).await {
            refused.extend(ids.into_iter().map(|id| (id, Fault::Store(error.clone()))));
        }
    }
    refused
}

/// Whether a batch puts something behind what is stored. What can't be looked at fails when it is committed.
fn brings_news(streams: &Streams, batch: &Batch) -> bool {
    let Ok(Some(row)) = streams.shared.store.stream(batch.stream.id) else { return false };
    row.extent.events > 0
        && stored(streams, &row, span_of(&batch.page)).is_ok_and(|counts| is_any_missing(&batch.page, &counts))
}

/// What a batch comes to.
#[derive(Default)]
struct Planned {
    append: Option<Append>,
    /// It is progress, even where nothing is appended.
    moves: bool,
}

/// Compares a batch with what is stored of its stream, whose appender is held.
fn plan(streams: &Streams, batch: Batch) -> Result<Planned, Fault> {
    let (settle_after, late_window) = {
        let settings = streams.shared.settings.borrow();
        (settings.settle_after, settings.late_window)
    };
    let Some(row) = streams.shared.store.stream(batch.stream.id)? else { return Ok(Planned::default()) };
    if row.gone || (batch.only_complete && !row.extent.complete) {
        return Ok(Planned::default());
    }
    // A tail that reads the end alone sees whatever late event any read finds. What comes behind its newest polls alone bring: the
    // page of a download, or of an open just after it, needn't join on to what the tail has, and would stand before the gap's events.
    if row.extent.complete {
        let now = streams.shared.clock.now();
        for tail in batch.stream.live_tails().iter().filter(|s| s.has_room()) {
            let newest = tail.newest();
            let joins = |c: &&Counted| batch.polled || newest.is_some_and(|newest| c.event.timestamp <= newest);
            tail.take(batch.page.iter().filter(joins).cloned().collect(), now, late_window);
        }
    }
    let mut counts = stored(streams, &row, span_of(&batch.page))?;
    let events = missing(batch.page, &mut counts);
    let settled_to = match batch.seal {
        Some(seal) => settled_to(streams, &row, seal, settle_after, &events)?,
        None => None,
    };
    // The service's clock is perhaps known by now, and was not when the read began.
    let clock = &streams.shared.clock;
    let read_to = batch.read_to.map(|at| clock.again(at).earliest).filter(|at| *at != row.extent.read_to);
    let complete = batch.complete && !row.extent.complete;
    let doubted = batch.doubted.filter(|doubted| *doubted != row.extent.doubted);
    let changes = complete || settled_to.is_some() || read_to.is_some() || doubted.is_some();
    // An append of nothing tries once more to show what is committed.
    let appends = !events.is_empty() || changes || streams.shared.store.is_unshown(row.id);
    let moves = batch.beat || !events.is_empty() || complete;
    let settled_by_service = clock.is_known();
    let append = Append {
        stream: Some(row.id),
        events,
        complete: batch.complete,
        settled_to,
        settled_by_service,
        doubted,
        read_to,
    };
    Ok(Planned { append: appends.then_some(append), moves })
}

fn stored(streams: &Streams, row: &StreamRow, span: Option<Span>) -> Result<Counts, Fault> {
    match (span, row.extent.oldest, row.extent.newest) {
        (Some(span), Some(oldest), Some(newest)) if span.start <= newest && oldest < span.end => {
            Ok(streams.shared.store.counts(row.id, span)?)
        }
        _ => Ok(Counts::new()),
    }
}

/// The settled edge after `seal`'s read, if it moves on.
fn settled_to(
    streams: &Streams,
    row: &StreamRow,
    seal: Seal,
    settle_after: std::time::Duration,
    new: &[LogEvent],
) -> Result<Option<Timestamp>, Fault> {
    let began = streams.shared.clock.again(seal.began).earliest;
    let by_age = began - settle_after;
    let trust = Trust::of(&streams.shared.clock);
    let before = own_edge(&row.extent, trust);
    // An edge that can't be relied on is set anew, though it may be no later.
    let moves = |edge: Timestamp| edge > before || !trust.holds_of(&row.extent);
    if !moves(by_age) || by_age <= seal.from {
        return Ok(None);
    }
    let span = Span { start: seal.from, end: by_age };
    let stored = streams.shared.store.oldest_ingested_since(row.id, span, by_age)?;
    let fresh =
        new.iter().filter(|e| span.contains(e.timestamp) && e.ingestion_time >= by_age).map(|e| e.timestamp).min();
    let young = stored.into_iter().chain(fresh).min();
    Ok(Some(settles(began, settle_after, young)).filter(|edge| moves(*edge)))
}
