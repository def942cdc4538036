//! One stream read page by page until the service says that there is no more.
//!
//! The end is fixed when the read starts, or a busy stream would never end. Only a token returned as it was sent means the end: a page
//! may be empty anywhere. Each page is committed while the next one is fetched; at most these two are in memory.

use crate::clock::Moment;
use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::stream::commit::{Batch, Committed, commit};
use crate::fetch::stream::cursor::{Cursor, Taken};
use crate::fetch::stream::hourly_counts::HourlyCounts;
use crate::fetch::stream::merge::Pass;
use crate::fetch::stream::state::{Stream, Streams};
use crate::fetch::stream::via::Via;
use crate::fetch::stream::watermark::AHEAD;
use crate::model::Timestamp;
use crate::sync::lock;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

/// A read to do.
pub(crate) struct Read<'a> {
    pub(crate) stream: &'a Arc<Stream>,
    pub(crate) priority: Priority,
    /// Inclusive; a whole millisecond. `None` is the stream's head.
    pub(crate) start: Option<Timestamp>,
    /// Exclusive.
    pub(crate) end: Timestamp,
    /// Goes with the first commit.
    pub(crate) read_to: Option<Moment>,
    /// See [`Batch::only_complete`].
    pub(crate) only_complete: bool,
    /// Empty pages in a row, at most, before it is stuck; not less than the cursor says.
    pub(crate) barren: u32,
    /// Counts the calls made.
    pub(crate) calls: Option<&'a AtomicU64>,
    /// Counts what the service shows.
    pub(crate) hours: Option<&'a Mutex<HourlyCounts>>,
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// At its end, after so many events (new or not).
    All(u64),
    /// It isn't wanted any more.
    LeftEarly,
    /// Nothing but empty pages came behind this moment (`None`: from the start on), though more are to follow.
    Stuck(Option<Timestamp>),
}

/// Reads and commits; stops after a page if `wanted` says so.
pub(crate) async fn drain(mut read: Read<'_>, wanted: &(dyn Fn() -> bool + Sync)) -> Result<Drained, Fault> {
    let streams = &read.stream.streams;
    let mut cursor = Cursor::new(Via::Get, read.start, read.end);
    let mut pass = Pass::default();
    let mut events = 0u64;
    let mut pending: Option<JoinHandle<Result<Committed, Fault>>> = None;
    loop {
        let page = cursor.next(read.stream, read.priority, read.calls).await;
        done(pending.take()).await?;
        let mut page = page?;
        if page.restarted {
            pass = Pass::default();
        }
        if let Some(hours) = read.hours {
            let mut hours = lock(hours);
            if page.restarted {
                hours.restart();
            }
            hours.page(&page.events);
        }
        events += page.events.len() as u64;
        let taken = std::mem::take(&mut page.events);
        if !taken.is_empty() {
            let mut batch = Batch::events(read.stream.clone(), pass.page(taken), read.only_complete);
            batch.read_to = read.read_to.take();
            batch.beat = true;
            pending = Some(spawn_commits(streams, vec![batch]));
        }
        page.stuck &= cursor.empties() >= read.barren;
        if page.ended || page.stuck || !wanted() {
            done(pending.take()).await?;
            return Ok(match page {
                Taken { ended: true, .. } => Drained::All(events),
                Taken { stuck: true, .. } => Drained::Stuck(cursor.newest()),
                _ => Drained::LeftEarly,
            });
        }
    }
}

/// Commits in a task of its own.
pub(crate) fn spawn_commits(streams: &Arc<Streams>, batches: Vec<Batch>) -> JoinHandle<Result<Committed, Fault>> {
    let streams = streams.clone();
    streams.shared.tasks.clone().spawn(async move { commit(&streams, batches).await })
}

/// Waits for a commit of one stream under way.
pub(crate) async fn done<J>(commit: Option<J>) -> Result<(), Fault>
where
    J: Future<Output = Result<Result<Committed, Fault>, tokio::task::JoinError>>,
{
    match commit {
        Some(commit) => commit.await.unwrap_or(Err(Fault::Died))?.of_one().map(drop),
        None => Ok(()),
    }
}

/// One page of what is stamped ahead of `from`, the end of a drained read.
pub(crate) async fn ahead(
    stream: &Arc<Stream>,
    priority: Priority,
    from: Timestamp,
    now: Timestamp,
) -> Result<Batch, Fault> {
    let end = now + AHEAD + std::time::Duration::from_millis(1);
    let page = Cursor::new(Via::Get, Some(from), end).next(stream, priority, None).await?;
    Ok(Batch::events(stream.clone(), Pass::default().page(page.events), false))
}
