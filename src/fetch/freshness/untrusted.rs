//! Streams whose settled edges can't be relied on are read once more, from their newest events on.
//!
//! Such edges were set by the clock of this machine alone: by an earlier version, or where no answer told the service's time. If that clock
//! was ahead, what they call settled was perhaps never read. Once the service's clock is known every such stream is read again, behind
//! all other work, and gets an edge that holds. Until then an open reads from the newest event on by itself (see `watermark`), so nothing
//! waits for this.

use crate::fetch::freshness::check::{Members, load, sweep};
use crate::fetch::freshness::one_stream::read_from;
use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::stream::commit::{Batch, Seal, commit};
use crate::fetch::stream::page::NAMES;
use crate::fetch::stream::state::{Group, Streams};
use crate::fetch::stream::watermark::{Trust, own_edge};
use crate::model::{LogClass, StreamId, Timestamp};
use crate::store::row::Extent;
use std::sync::Arc;
use std::time::Duration;

/// Pages of events that one such read takes at most, before its streams are read one by one.
const PAGES: usize = 50;
/// Groups looked at together.
const GROUPS: usize = 64;
/// How long after a failure the rest is tried again …
const PAUSE: Duration = Duration::from_secs(60);
/// … and at most, each time twice as long.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Reads again what has to be, once the service's clock is known. Ends when all is done or the mount stops.
pub(crate) async fn run(streams: Arc<Streams>) {
    let stopping = streams.shared.stopping.clone();
    tokio::select! {
        () = stopping.cancelled() => {}
        () = until_done(&streams) => {}
    }
}

async fn until_done(streams: &Arc<Streams>) {
    streams.shared.clock.known().await;
    let mut pause = PAUSE;
    loop {
        match all(streams).await {
            Ok(0) => return,
            Ok(left) => tracing::debug!(left, "streams are yet to be read again"),
            Err(Fault::Stopping) => return,
            Err(fault) => tracing::debug!(error = %fault.about("the log groups"), "streams could not be read again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One pass over all groups; how many streams are left.
async fn all(streams: &Arc<Streams>) -> Result<usize, Fault> {
    let groups = aged_groups(streams).await?;
    let total: usize = groups.iter().map(|(_, count)| count).sum();
    streams.aged.set(total);
    if total == 0 {
        return Ok(0);
    }
    tracing::info!(streams = total, "streams whose settled edges an unknown clock set are read once more");
    let mut left = 0;
    for (group, _) in groups {
        left += one_group(streams, &group).await?;
    }
    streams.aged.set(left);
    Ok(left)
}

/// Groups with such streams, and how many each has.
async fn aged_groups(streams: &Arc<Streams>) -> Result<Vec<(Arc<Group>, usize)>, Fault> {
    let mut found = Vec::new();
    let mut after = 0;
    loop {
        let rows = streams.shared.store.groups_after(after, GROUPS)?;
        let Some(last) = rows.last() else { return Ok(found) };
        after = last.seq;
        for row in rows.into_iter().filter(|row| row.group.class == LogClass::Standard) {
            let group = streams.group(row.id)?;
            let count = aged(streams, &group).await?.len();
            if count > 0 {
                found.push((group, count));
            }
        }
    }
}

/// Those of a group's streams, with the moment from which each is read again.
async fn aged(streams: &Arc<Streams>, group: &Group) -> Result<Vec<(StreamId, String, Extent, Timestamp)>, Fault> {
    let trust = Trust::of(&streams.shared.clock);
    // Nearly always none: each start looks at all groups.
    let members = load(streams, group, move |extent| !trust.holds_of(extent)).await?;
    let mut aged: Vec<_> =
        members.all().map(|(id, name, extent)| (id, name.to_owned(), *extent, own_edge(extent, trust))).collect();
    aged.sort_by_key(|(.., from)| *from);
    Ok(aged)
}

/// Reads a group's again, a hundred a call; how many could not be.
async fn one_group(streams: &Arc<Streams>, group: &Arc<Group>) -> Result<usize, Fault> {
    let mut failed = 0;
    for chunk in aged(streams, group).await?.chunks(NAMES) {
        let now = streams.shared.clock.moment();
        let members = Members::of(chunk.iter().map(|(id, name, extent, _)| (*id, name.clone(), *extent)).collect());
        let names: Vec<String> = chunk.iter().map(|(_, name, ..)| name.clone()).collect();
        let from = chunk.first().map_or(Timestamp::EPOCH, |(.., from)| *from);
        match sweep(streams, group, &members, &names, from, now, Priority::Background, PAGES).await {
            Ok(swept) if swept.drained => {
                let mut seals = Vec::with_capacity(chunk.len());
                for (id, .., from) in chunk.iter().filter(|(id, ..)| !swept.refused.contains_key(id)) {
                    let mut batch = Batch::events(streams.stream(*id)?, Vec::new(), true);
                    batch.seal = Some(Seal { from: *from, began: now });
                    seals.push(batch);
                }
                failed += swept.refused.len() + commit(streams, seals).await?.refused.len();
            }
            // One of them may be gone, or there is too much: each by itself.
            Ok(_) => failed += each(streams, chunk).await?,
            Err(fault) if fault.is_not_found() || fault.is_refusal() => failed += each(streams, chunk).await?,
            Err(fault) => return Err(fault),
        }
        streams.aged.done(chunk.len());
    }
    Ok(failed)
}

async fn each(streams: &Arc<Streams>, chunk: &[(StreamId, String, Extent, Timestamp)]) -> Result<usize, Fault> {
    let waits = Arc::new(());
    let mut failed = 0;
    for (id, .., from) in chunk {
        match read_from(streams.stream(*id)?, Priority::Background, *from, Arc::downgrade(&waits)).await {
            // What the service doesn't have any more is all there already.
            Ok(()) | Err(Fault::Known(_)) => {}
            Err(fault) if fault.is_of_one_stream() => failed += 1,
            Err(fault) => return Err(fault),
        }
    }
    Ok(failed)
}
