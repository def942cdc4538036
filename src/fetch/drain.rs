//! One stream read page by page until the service says that there is no more.
//!
//! The end is fixed when the read starts, or a busy stream would never end. Only a token returned as it was sent means the end: a page
//! may be empty anywhere. Each page is committed while the next one is fetched; at most these two are in memory.

use super::commit::{Batch, commit};
use super::fault::Fault;
use super::merge::Pass;
use super::service::Weight;
use super::stream::{Stream, Streams, lock};
use super::tally::Tally;
use super::vouch::AHEAD;
use crate::model::Timestamp;
use crate::source::GetEvents;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

/// How often a read starts again from its position because of an old token, without a page in between.
const TOKEN_TRIES: u32 = 3;

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
    let mut pass = Pass::default();
    let mut token: Option<String> = None;
    let mut events = 0u64;
    let mut newest: Option<Timestamp> = read.start;
    let mut tries = 0;
    let mut pending: Option<JoinHandle<Result<u64, Fault>>> = None;
    loop {
        let request =
            GetEvents { start: read.start, end: Some(read.end), token: token.clone(), ..read.stream.request() };
        if let Some(calls) = read.calls {
            calls.fetch_add(1, Ordering::Relaxed);
        }
        let page = home.get(read.weight, request).await;
        if let Some(commit) = pending.take() {
            commit.await.unwrap_or(Err(Fault::Died))?;
        }
        let page = match page {
            Err(e) if e.is_invalid_token() && token.is_some() && tries < TOKEN_TRIES => {
                tries += 1;
                token = None;
                pass = Pass::default();
                if let Some(tally) = read.tally {
                    lock(tally).restart();
                }
                // The read goes on from the whole millisecond of what it saw last.
                read.start = newest;
                continue;
            }
            other => other?,
        };
        tries = 0;
        events += page.events.len() as u64;
        if let Some(tally) = read.tally {
            lock(tally).page(&page.events);
        }
        newest = page.events.iter().map(|e| e.timestamp).chain(newest).max();
        if !page.events.is_empty() {
            let mut batch = Batch::events(read.stream.clone(), pass.page(page.events), read.only_complete);
            batch.read_to = read.read_to.take();
            batch.beat = true;
            pending = Some(spawn_commit(home, batch));
        }
        let ended = token.as_deref() == Some(page.forward.as_str());
        if ended || !wanted() {
            if let Some(commit) = pending.take() {
                commit.await.unwrap_or(Err(Fault::Died))?;
            }
            return Ok(if ended { Drained::All(events) } else { Drained::LeftEarly });
        }
        token = Some(page.forward);
    }
}

fn spawn_commit(home: &Arc<Streams>, batch: Batch) -> JoinHandle<Result<u64, Fault>> {
    let home = home.clone();
    home.shared.tasks.clone().spawn(async move { commit(&home, vec![batch]).await })
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
