//! Reads ahead of programs that walk through a group, as the [`Plan`] says.
//!
//! By itself a small stream costs three calls and more, nearly all of them to learn that it has ended. FilterLogEvents gives all streams
//! of a group, a megabyte a call, in the order of time, so one read from the head makes every copy grow side by side: each is always
//! a whole beginning, and a read that stops, for whatever reason, leaves what a download goes on from. At its end all are complete.
//! Where there is too much for that, the plan shares the streams out between reads by names and downloads.
//!
//! `grep -r`, `rg` and `cat *` start it by opening several files that were never fetched; it ends soon after they stop. What a program
//! opens meanwhile is downloaded for it at once, beside these reads, which then leave that stream alone: a reader never waits for them.
//! A program that searches what it lists need not open three: one is enough, and while the group's first listing is under way, some
//! pages are read ahead already (see `first_pages`).

use crate::clock::Moment;
use crate::fetch::download::first_copy;
use crate::fetch::listing::progress::Progress;
use crate::fetch::listing::selection::shows_stream;
use crate::fetch::readahead::first_pages::{self, FirstPages, bytes, cursor, is_listed};
use crate::fetch::readahead::plan::{Job, Member, Plan, Room};
use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::stream::access_pattern::Opens;
use crate::fetch::stream::commit::{Batch, Committed, Seal, commit};
use crate::fetch::stream::drain::spawn_commits;
use crate::fetch::stream::group_cursor::{GroupCursor, GroupPage};
use crate::fetch::stream::merge::Counted;
use crate::fetch::stream::state::{Group, Stream, Streams};
use crate::fetch::stream::via::Via;
use crate::model::{LogClass, StreamId, Timestamp};
use crate::source::Call;
use crate::sync::lock;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long after a read ahead the next one may begin …
const PAUSE: Duration = Duration::from_secs(1);
/// … and after one that failed.
const FAILURE_PAUSE: Duration = Duration::from_secs(10);
/// Fewer streams than this aren't worth it.
const LEAST: usize = if cfg!(test) { 2 } else { 4 };
/// Streams of one read ahead, at most; the rest is for the next one.
const MOST: usize = 5_000;
/// Rows of a group that are looked at for them, at most.
const MOST_ROWS: usize = 100_000;
/// Most downloads, and most reads by names, at a time.
const MOST_JOBS: usize = 6;
/// How often it is looked whether a program still walks.
const LOOK: Duration = Duration::from_millis(200);
/// Opens within this time are looked at together: a walk through what is cached opens thousands a second.
const STEPS: Duration = Duration::from_millis(5);

/// A program opens a stream that isn't complete: the third of them begins a read ahead.
pub(crate) fn opened_cold(stream: &Stream) {
    let (access_pattern, shared) = (&stream.group.access_pattern, &stream.streams.shared);
    access_pattern.opened(stream.id);
    if stream.group.class != LogClass::Standard || shared.stopping.is_cancelled() {
        return;
    }
    if access_pattern.opened_cold(stream.id) {
        shared.tasks.spawn(run(stream.streams.clone(), stream.group.clone(), None));
    }
}

/// A program that searches what it lists opens the folder, whose listing stands so.
pub(crate) fn searched(streams: &Arc<Streams>, group: &Arc<Group>, listing: watch::Receiver<Progress>) {
    if group.class != LogClass::Standard || streams.shared.stopping.is_cancelled() {
        return;
    }
    let is_listed = is_listed(&listing.borrow());
    if group.access_pattern.searches(is_listed) {
        streams.shared.tasks.spawn(run(streams.clone(), group.clone(), Some(listing)));
    }
}

async fn run(streams: Arc<Streams>, group: Arc<Group>, listing: Option<watch::Receiver<Progress>>) {
    // Apart: a defect there must not keep the next one away for ever.
    let pause = match streams.shared.apart(read_ahead(streams.clone(), group.clone(), listing)).await {
        Ok(()) | Err(Fault::Stopping) => PAUSE,
        Err(fault) => {
            // No program waits for it, and one that opens a stream meets what is wrong by itself.
            tracing::debug!(error = %fault.about(&group.name), "streams were not read ahead");
            FAILURE_PAUSE
        }
    };
    group.access_pattern.read_ahead_ended(pause);
}

/// A read ahead of the programs that walk through a group.
struct ReadAhead {
    streams: Arc<Streams>,
    group: Arc<Group>,
    plan: Mutex<Plan>,
    began: Moment,
    began_at: Instant,
}

/// How a read of several streams ended.
enum End {
    Drained,
    /// No program walks any more.
    Unwanted,
    /// Nothing but empty pages comes.
    Barren,
    /// It wasn't worth going on with.
    Much,
}

async fn read_ahead(
    streams: Arc<Streams>,
    group: Arc<Group>,
    listing: Option<watch::Receiver<Progress>>,
) -> Result<(), Fault> {
    let (began, began_at) = (streams.shared.clock.moment(), streams.begin());
    let is_search = listing.is_some();
    let first = match listing {
        Some(listing) => first_pages::read(&streams, &group, began.latest, listing).await?,
        None => None,
    };
    let mut plan = Plan::new(load(&streams, &group, began.now).await?);
    if plan.len() < LEAST {
        return Ok(());
    }
    if is_search || group.access_pattern.is_searched() {
        plan.search();
    }
    let is_worth_all = plan.is_worth_all(0);
    let read_ahead = ReadAhead { streams, group, plan: Mutex::new(plan), began, began_at };
    if is_worth_all {
        match read_ahead.all(first).await? {
            End::Drained => return read_ahead.complete(None).await,
            End::Unwanted | End::Barren => return Ok(()),
            End::Much => {}
        }
    }
    read_ahead.parts().await
}

/// The streams of a group that were not read to the end.
async fn load(streams: &Arc<Streams>, group: &Group, now: Timestamp) -> Result<Vec<Member>, Fault> {
    let id = group.id;
    let selection = streams.shared.settings.borrow().selection.clone();
    let incomplete = streams.shared.stored(move |store| {
        let (mut found, mut after, mut seen) = (Vec::new(), 0, 0);
        while found.len() < MOST && seen < MOST_ROWS {
            let rows = store.streams_after(id, after, MOST)?;
            let Some(last) = rows.last() else { break };
            after = last.seq;
            seen += rows.len();
            found.extend(rows.into_iter().filter(|row| !row.extent.complete));
        }
        found.truncate(MOST);
        Ok(found)
    });
    let rows = incomplete.await?;
    // What a stream got before it was listed, and that was after this read began, may lie behind it.
    let shown = rows.into_iter().filter(|row| row.stream.created <= now && shows_stream(&selection, &row.stream, now));
    let member = |row: crate::store::row::StreamRow| {
        let (first, last) = (row.stream.first_event, row.stream.last_event);
        let stored = (row.extent.read_to != Timestamp::EPOCH)
            .then(|| (row.extent.text_len, row.extent.newest.unwrap_or(Timestamp::EPOCH)));
        Member { id: row.id, name: row.stream.name, span: first.or(last).zip(last.or(first)), stored }
    };
    Ok(shown.map(member).collect())
}

impl ReadAhead {
    /// The whole group, after its first pages, if there are any.
    async fn all(&self, first: Option<FirstPages>) -> Result<End, Fault> {
        let (cursor, first) = match first {
            Some(FirstPages { cursor, page, pages, rooms }) => {
                // They are committed now.
                drop(rooms);
                (cursor, Some((page, pages)))
            }
            None => (cursor(&self.group, Vec::new(), None, self.began.latest), None),
        };
        self.read(cursor, None, first, Plan::is_worth_all).await
    }

    /// Reads these streams, or all, on by `cursor`, after the first pages, if there are any, for as long as it is worth it after so many.
    async fn read(
        &self,
        mut cursor: GroupCursor,
        names: Option<&[String]>,
        mut first: Option<(GroupPage, usize)>,
        is_worth: impl Fn(&Plan, usize) -> bool,
    ) -> Result<End, Fault> {
        let mut pending: Option<JoinHandle<Result<Committed, Fault>>> = None;
        let mut pages = 0;
        loop {
            let page = match first.take() {
                Some((page, first_pages)) => {
                    pages += first_pages - 1;
                    Ok(page)
                }
                None => cursor.next(&self.streams, Priority::Background).await,
            };
            self.committed(pending.take()).await?;
            let page = page?;
            pages += usize::from(page.events > 0);
            let (is_over, is_barren) = (page.is_over, page.is_barren);
            let batches = self.batches(page.by_stream)?;
            lock(&self.plan).reached(names, cursor.newest());
            pending = Some(spawn_commits(&self.streams, batches));
            let end = if is_over {
                End::Drained
            } else if is_barren {
                End::Barren
            } else if !self.group.access_pattern.is_there() {
                End::Unwanted
            } else if is_worth(&lock(&self.plan), pages) {
                continue;
            } else {
                End::Much
            };
            self.committed(pending.take()).await?;
            return Ok(end);
        }
    }

    /// Waits for a commit under way. A stream that took nothing of it is left alone: what comes next would stand behind a hole.
    async fn committed(&self, pending: Option<JoinHandle<Result<Committed, Fault>>>) -> Result<(), Fault> {
        let Some(pending) = pending else { return Ok(()) };
        let Committed { refused, .. } = pending.await.unwrap_or(Err(Fault::Died))?;
        let mut plan = lock(&self.plan);
        refused.into_keys().for_each(|id| plan.leave(id));
        Ok(())
    }

    /// What each stream gets of a page.
    fn batches(&self, by_stream: HashMap<String, Vec<Counted>>) -> Result<Vec<Batch>, Fault> {
        let mut batches = Vec::with_capacity(by_stream.len());
        let (mut page, mut count) = (0, 0);
        for (name, events) in by_stream {
            let bytes = bytes(&events);
            (page, count) = (page + bytes, count + events.len());
            let Some((id, is_new)) = lock(&self.plan).brings(&name, bytes) else { continue };
            let stream = self.streams.stream(id)?;
            if is_read(&stream) {
                lock(&self.plan).leave(id);
                continue;
            }
            let mut batch = Batch::events(stream, events, false);
            // An older part keeps its earlier moment: this read may not have come to its end yet.
            batch.read_to = is_new.then_some(self.began);
            batches.push(batch);
        }
        lock(&self.plan).page_holds(page, count);
        Ok(batches)
    }

    /// Everything of these streams, or of all, was read: what is known of them is whole.
    async fn complete(&self, names: Option<&[String]>) -> Result<(), Fault> {
        let mut batches = Vec::new();
        let ended = lock(&self.plan).ended(names);
        for (id, is_told) in ended {
            let stream = self.streams.stream(id)?;
            // An empty answer that the listing contradicts is asked again before it is believed.
            let is_doubtful = is_told && stream.row()?.extent.newest.is_none();
            if is_doubtful || is_read(&stream) {
                lock(&self.plan).leave(id);
                continue;
            }
            let mut last = Batch::events(stream, Vec::new(), false);
            last.complete = true;
            last.read_to = Some(self.began);
            last.seal = Some(Seal { from: Timestamp::EPOCH, began: self.began });
            last.beat = true;
            batches.push(last);
        }
        let ids: Vec<StreamId> = batches.iter().map(|batch| batch.stream.id).collect();
        let refused = commit(&self.streams, batches).await?.refused;
        let kept = ids.into_iter().filter(|id| !refused.contains_key(id));
        lock(&self.group.checks.state).note_reads(kept, self.began_at);
        Ok(())
    }

    /// Some streams at a time and others by themselves, as the plan says, until that is all or no program walks any more.
    async fn parts(&self) -> Result<(), Fault> {
        let access_pattern = &self.group.access_pattern;
        let (mut reads, mut downloads) = (FuturesUnordered::new(), FuturesUnordered::new());
        // Downloads by each call.
        let (mut gets, mut filters) = (0, 0);
        let mut outcome = Ok(());
        let mut opens = access_pattern.opens();
        while access_pattern.is_there() && !self.streams.shared.stopping.is_cancelled() {
            self.walk(&mut opens);
            while let Some(job) = self.next(gets, filters, outcome.is_ok().then_some(reads.len())) {
                match job {
                    Job::Names { names, from, pages } => reads.push(self.by_names(names, from, pages)),
                    Job::Download(id, via) => {
                        *(if via == Via::Get { &mut gets } else { &mut filters }) += 1;
                        downloads.push(self.download(id, via));
                    }
                }
            }
            access_pattern.rest(reads.is_empty());
            if reads.is_empty() && downloads.is_empty() && lock(&self.plan).is_over() {
                break;
            }
            tokio::select! {
                Some(read) = reads.next() => outcome = outcome.and(read),
                Some(via) = downloads.next() => *(if via == Via::Get { &mut gets } else { &mut filters }) -= 1,
                () = async {
                    // The sender lives in the group.
                    drop(opens.changed.changed().await);
                    tokio::time::sleep(STEPS).await;
                } => {}
                () = tokio::time::sleep(LOOK) => {}
                () = self.streams.shared.stopping.cancelled() => {}
            }
        }
        drop(downloads);
        // These end by themselves, with what they have read committed.
        while let Some(read) = reads.next().await {
            outcome = outcome.and(read);
        }
        outcome
    }

    /// Tells the plan what programs have opened since the last look.
    fn walk(&self, opens: &mut Opens) {
        for id in self.group.access_pattern.opened_since(opens) {
            // One that can't be looked at is met by the program that opened it.
            let is_read = self.streams.stream(id).is_ok_and(|stream| is_read(&stream));
            let mut plan = lock(&self.plan);
            plan.opened(id);
            if is_read {
                plan.leave(id);
            }
        }
    }

    /// The next job beside so many downloads by each call and so many reads by names; `None` of these: there may be none any more.
    fn next(&self, gets: usize, filters: usize, reads: Option<usize>) -> Option<Job> {
        let service = &self.streams.shared.service;
        let most = |call| match self.streams.refusals.get(call, &self.group.name) {
            Some(_) => 0,
            None => service.parallelism(call).unwrap_or(1).clamp(1, MOST_JOBS),
        };
        let (get, filter) = (most(Call::GetLogEvents), most(Call::FilterLogEvents));
        let rate = |call, most: usize| if most > 0 { service.rate(call) } else { 0.0 };
        let room = Room {
            get: get.saturating_sub(gets),
            names: reads.map_or(0, |reads| filter.saturating_sub(reads)),
            filter: if reads == Some(0) { filter.saturating_sub(filters) } else { 0 },
            get_rate: rate(Call::GetLogEvents, get),
            filter_rate: rate(Call::FilterLogEvents, filter),
        };
        lock(&self.plan).next(&room)
    }

    /// Reads some streams in one, for so many pages at most.
    async fn by_names(&self, names: Vec<String>, from: Option<Timestamp>, most: usize) -> Result<(), Fault> {
        let cursor = cursor(&self.group, names.clone(), from, self.began.latest);
        match self.read(cursor, Some(&names), None, |_, pages| pages < most).await {
            Ok(End::Drained) => self.complete(Some(&names)).await,
            Ok(End::Unwanted) => Ok(()),
            Ok(End::Much) => {
                lock(&self.plan).stopped(&names);
                Ok(())
            }
            Ok(End::Barren) => {
                lock(&self.plan).leave_all(&names);
                Ok(())
            }
            // A stream that was there a moment ago may be gone: then the whole call is refused.
            Err(fault) if fault.is_not_found() => {
                lock(&self.plan).leave_all(&names);
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }

    /// Downloads one if it still is to be; gives back by which call.
    async fn download(&self, id: StreamId, via: Via) -> Via {
        // What is wrong with it is met by the program that opens it.
        if let Ok(stream) = self.streams.stream(id) {
            first_copy::ahead_of_readers(&stream, via).await;
        }
        via
    }
}

/// Another read has the stream, or has read it to the end.
fn is_read(stream: &Stream) -> bool {
    stream.progress.borrow().complete || lock(&stream.downloads).is_running()
}
