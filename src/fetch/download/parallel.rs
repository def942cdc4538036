//! One long read by several requests at a time, committed in order.
//!
//! A reader that waits at the head gets its pages as they come, while the windows behind it (see `windows`) are read beside it, by both
//! event calls: their quotas are separate. There are so many readers as use the quotas up, and no more: each window costs a part of a
//! page. What is read ahead gives way to everybody who waits; it is held in memory, so many pages in all; and where FilterLogEvents is
//! refused, GetLogEvents does it alone. While no reader waits for the stream itself, one reader does it, and gives way too.

use crate::clock::Moment;
use crate::fetch::download::windows::{Id, Windows};
use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::stream::commit::{Batch, Committed};
use crate::fetch::stream::cursor::{Cursor, Taken};
use crate::fetch::stream::drain::{Drained, done, spawn_commits};
use crate::fetch::stream::page::is_over;
use crate::fetch::stream::state::Stream;
use crate::fetch::stream::via::Via;
use crate::fetch::stream::watermark::AHEAD;
use crate::model::Timestamp;
use crate::source::{Call, SourceErrorKind};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;

/// Pages of one commit.
const COMMIT: usize = 4;
/// Most readers by each call.
const MOST_READERS: usize = 12;
/// How long a head waits for a request that was made while it was read ahead: that one gives way to everybody.
const HEAD_PATIENCE: Duration = Duration::from_secs(2);

/// What is to be read.
pub(crate) struct Long<'a> {
    pub(crate) stream: &'a Arc<Stream>,
    /// Inclusive; a whole millisecond. `None` is the stream's head.
    pub(crate) start: Option<Timestamp>,
    /// When it begins. It ends with what is stamped up to then, and a page or two of what is stamped ahead.
    pub(crate) now: Timestamp,
    /// The newest event that the listing tells of.
    pub(crate) newest_told: Option<Timestamp>,
    /// Goes with the first commit.
    pub(crate) read_to: Option<Moment>,
    /// By which call its head is read first.
    pub(crate) via: Via,
    /// Whether it is left where nothing but empty pages comes; else it goes on for as long as a reader waits.
    pub(crate) may_be_stuck: bool,
}

/// A request on its way.
type Flight = (Id, Cursor, Result<Taken, Fault>);

struct Reading<'a> {
    stream: &'a Arc<Stream>,
    now: Timestamp,
    /// Exclusive.
    end: Timestamp,
    /// Pages that reached past `now`.
    pages_ahead: u32,
    windows: Windows,
    /// Readers that wait for their next request.
    idle: BTreeMap<Id, Cursor>,
    /// Readers whose last request failed, until another one is answered.
    stalled: BTreeMap<Id, Cursor>,
    /// By which call each window is read.
    vias: BTreeMap<Id, Via>,
    may_filter: bool,
    pages: usize,
    /// The head has given nothing but empty pages behind this moment.
    stuck: Option<Option<Timestamp>>,
    /// One for each page ahead of the head, read or on its way.
    ahead: Vec<OwnedSemaphorePermit>,
    room: Arc<Semaphore>,
}

/// Reads and commits; stops after a page if `wanted` says so.
pub(crate) async fn read(mut long: Long<'_>, wanted: &(dyn Fn() -> bool + Sync)) -> Result<Drained, Fault> {
    let streams = &long.stream.streams;
    let millisecond = Duration::from_millis(1);
    let end = long.now + AHEAD + millisecond;
    let mut reading = Reading {
        stream: long.stream,
        now: long.now,
        end,
        pages_ahead: 0,
        windows: Windows::new(long.start, end, long.now + millisecond, long.newest_told),
        idle: BTreeMap::from([(0, Cursor::new(long.via, long.start, end))]),
        stalled: BTreeMap::new(),
        vias: BTreeMap::from([(0, long.via)]),
        may_filter: true,
        pages: 0,
        stuck: None,
        ahead: Vec::new(),
        room: streams.ahead.clone(),
    };
    let mut flights = FuturesUnordered::new();
    let (heads, head) = watch::channel(None);
    let mut awaited = long.stream.awaited.subscribe();
    let mut pending: Option<JoinHandle<Result<Committed, Fault>>> = None;
    let mut events = 0;
    loop {
        if pending.is_none() {
            let next = reading.windows.pop(COMMIT);
            if !next.is_empty() {
                events += next.len() as u64;
                let mut batch = Batch::events(long.stream.clone(), next, false);
                batch.read_to = long.read_to.take();
                batch.beat = true;
                pending = Some(spawn_commits(streams, vec![batch]));
            }
        }
        let is_over = reading.windows.is_over();
        if pending.is_none() && is_over {
            return Ok(Drained::All(events));
        }
        if reading.pages > 0 && !wanted() {
            done(pending).await?;
            return Ok(Drained::LeftEarly);
        }
        if let Some(at) = reading.stuck.filter(|_| long.may_be_stuck) {
            done(pending).await?;
            return Ok(Drained::Stuck(at));
        }
        for (id, mut cursor, priority) in reading.launch(flights.len()) {
            let (stream, head) = (long.stream, head.clone());
            flights.push(async move {
                let page = match priority {
                    Priority::Background => ask_ahead(&mut cursor, stream, id, head).await,
                    _ => cursor.next(stream, priority, None).await,
                };
                (id, cursor, page)
            });
        }
        let now_head = reading.windows.head().filter(|_| *awaited.borrow_and_update());
        heads.send_if_modified(|head| std::mem::replace(head, now_head) != now_head);
        tokio::select! {
            biased;
            committed = async { done(pending.as_mut()).await }, if pending.is_some() => {
                pending = None;
                committed?;
            }
            // The sender lives in the stream.
            _ = awaited.changed() => {}
            Some(flight) = flights.next() => {
                if let Err(fault) = reading.land(flight) {
                    done(pending).await?;
                    return Err(fault);
                }
            }
        }
    }
}

/// The next page of what is read ahead. Once its window is the head, a reader waits for it: then the request is made anew if it fails
/// or isn't answered soon, and gives way no more.
pub(crate) async fn ask_ahead(
    cursor: &mut Cursor,
    stream: &Arc<Stream>,
    id: Id,
    mut head: watch::Receiver<Option<Id>>,
) -> Result<Taken, Fault> {
    let is_awaited = head.clone();
    let patience = async {
        // The sender lives as long as the read.
        drop(head.wait_for(|head| *head == Some(id)).await);
        tokio::time::sleep(HEAD_PATIENCE).await;
    };
    tokio::select! {
        page = cursor.next(stream, Priority::Background, None) => match page {
            Err(fault) if is_passing(&fault) && *is_awaited.borrow() == Some(id) => {}
            page => return page,
        },
        () = patience => {}
    }
    cursor.next(stream, Priority::Waiting, None).await
}

impl Reading<'_> {
    /// How many readers by each call use the quotas up. A read begins with one and gets one more with each page: what wants only
    /// the head of a stream is gone by then.
    fn readers(&self) -> (usize, usize) {
        if !self.is_awaited() {
            return (1, 0);
        }
        let service = &self.stream.streams.shared.service;
        let readers = |call| service.parallelism(call).unwrap_or(1).clamp(1, MOST_READERS);
        if !self.stream.may(Via::Get) {
            return (0, readers(Call::FilterLogEvents).min(1 + self.pages));
        }
        let get = readers(Call::GetLogEvents);
        let is_left = !self.may_filter || !self.stream.may(Via::Filter) || self.stream.group.access_pattern.is_swept();
        let filter = if is_left { 0 } else { readers(Call::FilterLogEvents) };
        (get.min(1 + self.pages), filter.min((1 + self.pages).saturating_sub(get)))
    }

    fn is_awaited(&self) -> bool {
        *self.stream.awaited.borrow()
    }

    /// The requests to send now, beside so many that are on their way.
    fn launch(&mut self, in_flight: usize) -> Vec<(Id, Cursor, Priority)> {
        let (get, filter) = self.readers();
        // The head needs no room and no leave: without it nothing gets on.
        let may_begin =
            |windows: &Windows, room: &Semaphore| windows.reading() < get + filter && room.available_permits() > 0;
        while (self.windows.head_waits() || may_begin(&self.windows, &self.room))
            && let Some((id, from)) = self.windows.begin(get + filter)
        {
            let filters = self.vias.values().filter(|via| **via == Via::Filter).count();
            let via = if filters < filter { Via::Filter } else { Via::Get };
            self.vias.insert(id, via);
            self.idle.insert(id, Cursor::new(via, from, self.end));
        }
        let head = self.windows.head();
        if let Some((id, cursor)) = head.and_then(|head| self.stalled.remove_entry(&head)) {
            self.idle.insert(id, cursor);
        }
        self.ahead.truncate(self.windows.held() + in_flight);
        let mut requests = Vec::new();
        for (id, cursor) in std::mem::take(&mut self.idle) {
            if Some(id) == head {
                let priority = if self.is_awaited() { Priority::Waiting } else { Priority::Background };
                requests.push((id, cursor, priority));
                continue;
            }
            match self.room.clone().try_acquire_owned() {
                Ok(permit) => {
                    self.ahead.push(permit);
                    requests.push((id, cursor, Priority::Background));
                }
                Err(_) => drop(self.idle.insert(id, cursor)),
            }
        }
        requests
    }

    /// Takes an answer.
    fn land(&mut self, (id, cursor, page): Flight) -> Result<(), Fault> {
        match page {
            Ok(mut page) => {
                self.pages += 1;
                if self.windows.head() == Some(id) {
                    self.stuck = page.stuck.then(|| cursor.newest());
                }
                page.ended |= is_over(page.events.iter(), self.now, &mut self.pages_ahead);
                let (get, filter) = self.readers();
                self.windows.take(id, page, get + filter);
                if self.windows.is_read(id) {
                    self.vias.insert(id, cursor.via());
                    self.idle.insert(id, cursor);
                } else {
                    self.vias.remove(&id);
                }
                self.idle.append(&mut self.stalled);
                Ok(())
            }
            // A call that the group refuses is left by the cursor itself; this one is about the tokens of FilterLogEvents alone.
            Err(fault) if cursor.via() == Via::Filter && fault.is_invalid_token() => {
                tracing::debug!(stream = %crate::model::printable(&self.stream.subject), "read by GetLogEvents alone");
                self.may_filter = false;
                self.vias.insert(id, Via::Get);
                self.idle.insert(id, cursor.by(Via::Get));
                Ok(())
            }
            // While the head gets on, no reader waits for this one.
            Err(fault) if self.windows.head() != Some(id) && is_passing(&fault) => {
                self.stalled.insert(id, cursor);
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }
}

/// The same request may be answered later.
fn is_passing(fault: &Fault) -> bool {
    use SourceErrorKind::{Network, Throttled, Timeout, Unavailable};
    matches!(fault, Fault::Source(e) if matches!(e.kind, Throttled | Unavailable | Network | Timeout))
}
