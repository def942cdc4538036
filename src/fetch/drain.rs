//! One stream read page by page until the service says that there is no more.
//!
//! The end is fixed when the read starts, or a busy stream would never end. Only a token returned as it was sent means the end: a page
//! may be empty anywhere. Each page is committed while the next one is fetched; at most these two are in memory.

use super::commit::{Batch, commit};
use super::fault::Fault;
use super::merge::Pass;
use super::pages::{Cursor, Via};
use super::service::Weight;
use super::stream::{Stream, Streams, lock};
use super::tally::Tally;
use super::vouch::AHEAD;
use crate::model::Timestamp;
use crate::source::GetEvents;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

/// A read to do.
pub(crate) struct Read<'a> {
    pub(crate) stream: &'a Arc<Stream>,
    pub(crate) weight: Weight,
    /// Inclusive; a whole millisecond. `None` is the stream's head.
    pub(crate) start: Option<Timestamp>,
    /// Exclusive.
    pub(crate) end: Timestamp,
    /// Goes with the first commit.
    pub(crate) read_to: Option<Timestamp>,
    /// See [`Batch::only_complete`].
    pub(crate) only_complete: bool,
    /// Counts the calls made.
    pub(crate) calls: Option<&'a AtomicU64>,
    /// Counts what the service shows.
    pub(crate) tally: Option<&'a Mutex<Tally>>,
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// At its end, after so many events (new or not).
    All(u64),
    /// Nobody wants it any more.
    LeftEarly,
}

/// Reads and commits; stops after a page if `wanted` says so.
pub(crate) async fn drain(mut read: Read<'_>, wanted: &(dyn Fn() -> bool + Sync)) -> Result<Drained, Fault> {
    let home = &read.stream.home;
    let mut cursor = Cursor::new(Via::Get, read.start, read.end);
    let mut pass = Pass::default();
    let mut events = 0u64;
    let mut pending: Option<JoinHandle<Result<u64, Fault>>> = None;
    loop {
        let page = cursor.next(read.stream, read.weight, read.calls).await;
        if let Some(commit) = pending.take() {
            commit.await.unwrap_or(Err(Fault::Died))?;
        }
        let page = page?;
        if page.restarted {
            pass = Pass::default();
        }
        if let Some(tally) = read.tally {
            let mut tally = lock(tally);
            if page.restarted {
                tally.restart();
            }
            tally.page(&page.events);
        }
        events += page.events.len() as u64;
        if !page.events.is_empty() {
            let mut batch = Batch::events(read.stream.clone(), pass.page(page.events), read.only_complete);
            batch.read_to = read.read_to.take();
            batch.beat = true;
            pending = Some(spawn_commits(home, vec![batch]));
        }
        if page.ended || !wanted() {
            if let Some(commit) = pending.take() {
                commit.await.unwrap_or(Err(Fault::Died))?;
            }
            return Ok(if page.ended { Drained::All(events) } else { Drained::LeftEarly });
        }
    }
}

/// Commits in a task of its own.
pub(super) fn spawn_commits(home: &Arc<Streams>, batches: Vec<Batch>) -> JoinHandle<Result<u64, Fault>> {
    let home = home.clone();
    home.shared.tasks.clone().spawn(async move { commit(&home, batches).await })
}

/// One page of what is stamped ahead of `from`, the end of a drained read.
pub(crate) async fn ahead(
    stream: &Arc<Stream>,
    weight: Weight,
    from: Timestamp,
    now: Timestamp,
) -> Result<Batch, Fault> {
    let end = now + AHEAD + std::time::Duration::from_millis(1);
    let request = GetEvents { start: Some(from), end: Some(end), ..stream.request() };
    let page = stream.home.get(weight, request).await?;
    Ok(Batch::events(stream.clone(), Pass::default().page(page.events), false))
}
