//! Many small streams of a group at once, ahead of a program that opens one after the other.
//!
//! By itself a small stream costs three calls and more, nearly all of them to learn that it has ended. FilterLogEvents gives all streams
//! of a group, a megabyte a call, in the order of time, so one read from the head makes every copy grow side by side: each is always
//! a whole beginning, and a sweep that stops, for whatever reason, leaves what a download goes on from. At its end all are complete.
//!
//! `grep -r`, `rg` and `cat *` start it by opening several files that were never fetched; it ends soon after they stop. What a program
//! opens meanwhile is downloaded for it at once, beside the sweep, which then leaves that stream alone: a reader never waits for it.
//! A program that searches what it lists need not open three: one is enough, and while the group's first listing is under way, some
//! pages are read ahead already (see `first_pages`).
//! Where a few large streams make up most of a group, the small ones are swept by their names, a hundred a call, and the large ones
//! left to downloads.

use crate::clock::Moment;
use crate::fetch::listing::progress::Progress;
use crate::fetch::listing::selection::shows_stream;
use crate::fetch::readahead::first_pages::{self, FirstPages};
use crate::fetch::readahead::judge::{JUDGED, LARGE, bytes, cursor, is_listed, is_lopsided};
use crate::fetch::readahead::large::{self, Large};
use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::stream::commit::{Batch, Committed, Seal, commit};
use crate::fetch::stream::drain::spawn_commits;
use crate::fetch::stream::group_cursor::{GroupCursor, GroupPage};
use crate::fetch::stream::merge::Counted;
use crate::fetch::stream::page::NAMES;
use crate::fetch::stream::state::{Group, Stream, Streams};
use crate::model::{LogClass, StreamId, Timestamp};
use crate::sync::lock;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long after a sweep the next one may begin …
const PAUSE: Duration = Duration::from_secs(1);
/// … and after one that failed.
const FAILURE_PAUSE: Duration = Duration::from_secs(10);
/// Fewer streams than this aren't worth a sweep.
const LEAST: usize = if cfg!(test) { 2 } else { 4 };
/// Streams of one sweep, at most; the rest is for the next one.
const MOST: usize = 5_000;
/// Rows of a group that are looked at for them, at most.
const MOST_ROWS: usize = 100_000;
/// Pages of the whole group that are read at most, beside those that reading by names would cost.
const WHOLE: usize = 8;
/// Pages of one call by names, before the largest of them are left out.
const CHUNK_PAGES: usize = 6;
/// Streams swept by their names ahead of what was opened, at most.
const AHEAD_STREAMS: usize = 1_000;
/// How often a sweep that is that far ahead looks whether it may go on.
const REST: Duration = Duration::from_millis(200);

/// A program opens a stream that isn't complete: the third of them begins a sweep.
pub(crate) fn opened_cold(stream: &Stream) {
    let (access_pattern, shared) = (&stream.group.access_pattern, &stream.streams.shared);
    access_pattern.opened(stream.id, &stream.name);
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
    // Apart: a defect there must not keep the next sweep away for ever.
    let pause = match streams.shared.apart(sweep(streams.clone(), group.clone(), listing)).await {
        Ok(()) | Err(Fault::Stopping) => PAUSE,
        Err(fault) => {
            // No program waits for it, and one that opens a stream meets what is wrong by itself.
            tracing::debug!(error = %fault.about(&group.name), "streams were not read ahead");
            FAILURE_PAUSE
        }
    };
    group.access_pattern.sweep_ended(pause);
}

/// One stream of a sweep.
struct Member {
    id: StreamId,
    /// The listing tells of events.
    told: bool,
    /// Nothing of it is stored yet.
    new: bool,
    /// Bytes of messages seen, by this sweep or before it.
    bytes: u64,
    /// Another read has it, or had: what comes here may stand behind a hole.
    left: bool,
    /// Swept to its end.
    swept: bool,
}

struct Sweep {
    streams: Arc<Streams>,
    group: Arc<Group>,
    /// By exact name.
    members: BTreeMap<String, Member>,
    began: Moment,
    began_at: Instant,
}

/// How a read ended.
enum End {
    Drained,
    /// No program walks any more.
    Unwanted,
    /// There is too much of it, up to this moment.
    Large(Option<Timestamp>),
}

async fn sweep(
    streams: Arc<Streams>,
    group: Arc<Group>,
    listing: Option<watch::Receiver<Progress>>,
) -> Result<(), Fault> {
    let (began, began_at) = (streams.shared.clock.moment(), streams.begin());
    let first = match listing {
        Some(listing) => first_pages::read(&streams, &group, began.latest, listing).await?,
        None => None,
    };
    let members = load(&streams, &group, began.now).await?;
    if members.len() < LEAST {
        return Ok(());
    }
    let by_names = 3 * members.len().div_ceil(NAMES);
    let mut sweep = Sweep { streams, group, members, began, began_at };
    if sweep.members.values().any(|member| member.bytes > LARGE) {
        // The first pages of all are of no use here.
        drop(first);
        return sweep.by_names(None).await;
    }
    let (cursor, first) = match first {
        Some(FirstPages { cursor, page, pages, rooms }) => {
            // They are committed now.
            drop(rooms);
            (cursor, Some((page, pages)))
        }
        None => (cursor(&sweep.group, Vec::new(), None, began.latest), None),
    };
    match sweep.read(cursor, true, WHOLE + by_names, first).await? {
        End::Drained => sweep.complete(|_| true).await,
        End::Unwanted => Ok(()),
        End::Large(from) => sweep.by_names(from).await,
    }
}

/// The streams of a group that were not read to the end.
async fn load(streams: &Arc<Streams>, group: &Group, now: Timestamp) -> Result<BTreeMap<String, Member>, Fault> {
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
        let told = row.stream.first_event.or(row.stream.last_event).is_some();
        let new = row.extent.read_to == Timestamp::EPOCH;
        let bytes = row.extent.text_len;
        (row.stream.name, Member { id: row.id, told, new, bytes, left: false, swept: false })
    };
    Ok(shown.map(member).collect())
}

impl Sweep {
    /// Reads on by `cursor`, of the whole group if `whole`, after the first pages, if there are any.
    async fn read(
        &mut self,
        mut cursor: GroupCursor,
        whole: bool,
        most_pages: usize,
        mut first: Option<(GroupPage, usize)>,
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
            pending = Some(spawn_commits(&self.streams, batches));
            let end = if is_over {
                End::Drained
            } else if is_barren || !self.group.access_pattern.is_there() {
                End::Unwanted
            } else if pages >= most_pages || (whole && pages >= JUDGED && self.is_lopsided()) {
                End::Large(cursor.newest())
            } else {
                continue;
            };
            self.committed(pending.take()).await?;
            return Ok(end);
        }
    }

    /// Waits for a commit under way. A stream that took nothing of it is left alone: what comes next would stand behind a hole.
    async fn committed(&mut self, pending: Option<JoinHandle<Result<Committed, Fault>>>) -> Result<(), Fault> {
        let Some(pending) = pending else { return Ok(()) };
        let Committed { refused, .. } = pending.await.unwrap_or(Err(Fault::Died))?;
        if !refused.is_empty() {
            let of = self.members.values_mut().filter(|member| refused.contains_key(&member.id));
            of.for_each(|member| member.left = true);
        }
        Ok(())
    }

    /// Most of what was read belongs to large streams.
    fn is_lopsided(&self) -> bool {
        is_lopsided(self.members.values().map(|member| member.bytes))
    }

    /// What each stream gets of a page.
    fn batches(&mut self, by_stream: HashMap<String, Vec<Counted>>) -> Result<Vec<Batch>, Fault> {
        let mut batches = Vec::with_capacity(by_stream.len());
        for (name, events) in by_stream {
            let Some(member) = self.members.get_mut(&name) else { continue };
            member.bytes += bytes(&events);
            let stream = self.streams.stream(member.id)?;
            member.left |= is_read(&stream);
            if !member.left {
                let mut batch = Batch::events(stream, events, false);
                // An older part keeps its earlier moment: this read may not have come to its end yet.
                batch.read_to = std::mem::take(&mut member.new).then_some(self.began);
                batches.push(batch);
            }
        }
        Ok(batches)
    }

    /// Everything of the members chosen was read: what is known of them is whole.
    async fn complete(&mut self, chosen: impl Fn(&str) -> bool) -> Result<(), Fault> {
        let mut batches = Vec::new();
        for (name, member) in &mut self.members {
            if member.left || member.swept || !chosen(name) {
                continue;
            }
            let stream = self.streams.stream(member.id)?;
            // An empty answer that the listing contradicts is asked again before it is believed.
            let doubtful = member.told && stream.row()?.extent.newest.is_none();
            member.left |= doubtful || is_read(&stream);
            if member.left {
                continue;
            }
            member.swept = true;
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

    /// The small streams by their names, from where the read of all stopped, and beside them the large ones.
    async fn by_names(&mut self, from: Option<Timestamp>) -> Result<(), Fault> {
        let large = Arc::<Large>::default();
        for (name, member) in self.members.iter().filter(|(_, m)| !m.left && m.bytes > LARGE) {
            large.add(member.id, name);
        }
        let ahead = large::read_ahead(self.streams.clone(), self.group.clone(), large.clone());
        let ahead = self.streams.shared.tasks.spawn(ahead);
        let outcome = self.small(from, &large).await;
        self.group.access_pattern.rest(true);
        large.is_all();
        // A defect there leaves the streams to the programs that open them.
        drop(ahead.await);
        outcome
    }

    /// The small streams, a hundred a read.
    async fn small(&mut self, from: Option<Timestamp>, large: &Large) -> Result<(), Fault> {
        let mut swept = 0;
        loop {
            let small = self.members.iter().filter(|(_, m)| !m.left && !m.swept && m.bytes <= LARGE);
            let names: Vec<String> = small.map(|(name, _)| name.clone()).take(NAMES).collect();
            if names.is_empty() || !self.rest(swept).await {
                return Ok(());
            }
            // A stream that was there a moment ago may be gone: then the whole call is refused.
            let cursor = cursor(&self.group, names.clone(), from, self.began.latest);
            match self.read(cursor, false, CHUNK_PAGES, None).await {
                Ok(End::Drained) => {
                    self.complete(|name| names.iter().any(|other| other == name)).await?;
                    swept += names.len();
                }
                Ok(End::Unwanted) => return Ok(()),
                Ok(End::Large(_)) => self.leave_largest(&names, large),
                Err(fault) if fault.is_not_found() => return Ok(()),
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Waits until `swept` streams are not too far ahead of the program that walks; false if none does any more.
    async fn rest(&self, swept: usize) -> bool {
        loop {
            let far = swept > self.group.access_pattern.opens() + AHEAD_STREAMS;
            self.group.access_pattern.rest(far);
            if !far || !self.group.access_pattern.is_there() {
                return !far;
            }
            tokio::select! {
                () = self.streams.shared.stopping.cancelled() => return false,
                () = tokio::time::sleep(REST) => {}
            }
        }
    }

    /// Leaves the largest of some streams to downloads.
    fn leave_largest(&mut self, names: &[String], large: &Large) {
        let sizes = names.iter().filter_map(|name| Some((name, self.members.get(name)?.bytes))).collect();
        for name in largest(sizes) {
            if let Some(member) = self.members.get_mut(name).filter(|member| !member.left) {
                member.left = true;
                large.add(member.id, name);
            }
        }
    }
}

/// Those that are larger than most, and at least one of them.
fn largest<T>(mut sizes: Vec<(T, u64)>) -> Vec<T> {
    let mean = sizes.iter().map(|(_, bytes)| bytes).sum::<u64>() / (sizes.len().max(1) as u64);
    sizes.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    // Of streams that are alike half are left.
    let larger = match sizes.partition_point(|(_, bytes)| *bytes > mean) {
        0 => sizes.len().div_ceil(2),
        larger => larger,
    };
    sizes.into_iter().take(larger).map(|(one, _)| one).collect()
}

/// Another read has the stream, or has read it to the end.
fn is_read(stream: &Stream) -> bool {
    stream.progress.borrow().complete || lock(&stream.downloads).is_running()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_few_large_streams_among_small_ones_only_those_are_left() {
        let sizes = |bytes: &[u64]| bytes.iter().copied().enumerate().collect::<Vec<_>>();
        assert_eq!(largest(sizes(&[10, 900, 10, 10, 800, 10])), [1, 4]);
        assert_eq!(largest(sizes(&[10, 10, 10, 10])).len(), 2);
        assert_eq!(largest(sizes(&[0])).len(), 1, "or the next read would be of the same");
        assert_eq!(largest(sizes(&[])), [0; 0]);
    }
}
