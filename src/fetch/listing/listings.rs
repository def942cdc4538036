//! Listings of groups and streams: what is shown comes from the catalogue, and runs (see `walk`) keep that current.
//!
//! A folder is asked for nothing until it is touched, and then at most once in its time to live. Rows are handed out by their place
//! in the order of discovery, so a later row is always behind the cursor that a reader holds: a reader takes what is there, and
//! only at the end of it follows the run's progress: to its end if the folder was never listed (then an error is an error), or for
//! [`REFRESH_WAIT`](crate::fetch::listing::progress::REFRESH_WAIT) if it was (then the rows known are the listing). Runs belong to the daemon, not to
//! the reader that began them. No lock is held over the catalogue or an await.

use crate::error::{Error, ErrorKind};
use crate::fetch::listing::progress::{Folder, Progress, Verdict};
use crate::fetch::listing::selection::{shows_group, shows_stream};
use crate::fetch::listing::single_flight::{Remembered, SingleFlight};
use crate::fetch::service::fault::store_error;
use crate::fetch::service::priority::Priority;
use crate::fetch::settings::FetchSettings;
use crate::fetch::shared::Shared;
use crate::model::{GroupId, StreamId, Timestamp};
use crate::report::Report;
use crate::store::row::{GroupRow, StreamRow};
use crate::store::{Store, StoreError};
use crate::sync::lock;
use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Least rows read from the catalogue at a time where the selection may hide many of them.
const CHUNK: usize = 256;
/// A suspend of less than that is none.
const SUSPENDED: Duration = Duration::from_secs(1);
/// Names that are remembered as absent. (The `expect` is evaluated by the compiler.)
const ABSENT: NonZeroUsize = NonZeroUsize::new(4096).expect("it isn't zero");
/// Shortest interval between refreshes of a watched folder, whatever the time to live.
const LEAST_TTL: Duration = Duration::from_millis(100);

/// The root as a subject of errors.
pub(crate) const ROOT: &str = "the log groups";

/// What a lookup found, for all who asked.
pub(crate) type Found<T> = Result<Option<T>, Error>;

/// The listings of one mount.
pub(crate) struct Listings {
    pub(crate) shared: Arc<Shared>,
    pub(crate) report: Arc<Report>,
    pub(crate) root: Arc<Folder>,
    folders: Mutex<HashMap<GroupId, Arc<Folder>>>,
    watches: Mutex<HashMap<GroupId, Watched>>,
    /// Groups whose unknown streams are being looked up, with the names yet to be asked for.
    pub(crate) learning: Mutex<HashMap<GroupId, HashSet<String>>>,
    pub(crate) group_flights: SingleFlight<String, Found<GroupRow>>,
    pub(crate) stream_flights: SingleFlight<(GroupId, String), Found<StreamRow>>,
    /// Newest pages being read to learn whether streams were made again.
    pub(crate) renewals: SingleFlight<GroupId, Result<(), StoreError>>,
    pub(crate) peek_flights: SingleFlight<GroupId, Result<bool, Error>>,
    /// Groups never listed whose newest page was read for a lookup, until it may be read again.
    pub(crate) peeked: Remembered<GroupId>,
    /// Slugs of whose pieces the service was asked for groups, until they may be asked for again.
    pub(crate) pieces: Remembered<String>,
    /// Names that a lookup didn't find; `None` is the root.
    pub(crate) absent: Remembered<(Option<GroupId>, String)>,
    /// For how long the machine had been suspended when this was last looked at.
    suspended: Mutex<Duration>,
    /// The account that the answers come from, or why the cache isn't that one's; not set before the first answer.
    pub(crate) account: OnceLock<Result<String, String>>,
    /// Groups whose newest page was read, until it counts as old.
    pub(crate) newest_pages: Remembered<GroupId>,
    /// Groups whose newest page found no room in the cache, until it may be asked for again.
    pub(crate) unkept: Remembered<GroupId>,
    /// Streams that the service has told of by their exact names, until that counts as old.
    pub(crate) confirmed: Remembered<StreamId>,
    /// Slugs of which `.cwlogs/errors` says how far their groups were looked through.
    pub(crate) told: Remembered<(GroupId, String)>,
    /// Exact names seen in answers that an exact lookup didn't find.
    pub(crate) unlisted: Remembered<(GroupId, String)>,
}

/// A group that a program watches.
struct Watched {
    alive: Weak<DropGuard>,
    since: Timestamp,
}

/// Keeps a group's newest listing page fresh while it lives.
pub struct GroupWatch {
    _alive: Arc<DropGuard>,
}

impl Listings {
    /// Nothing is asked of the service yet.
    pub(crate) fn new(shared: Arc<Shared>, report: Arc<Report>) -> Arc<Listings> {
        // A catalogue that can't be read says so at the first listing.
        let known = shared.store.groups_after(0, 1).is_ok_and(|rows| !rows.is_empty());
        Arc::new(Listings {
            shared,
            report,
            root: Arc::new(Folder::new(known)),
            folders: Mutex::default(),
            watches: Mutex::default(),
            learning: Mutex::default(),
            group_flights: SingleFlight::new(),
            stream_flights: SingleFlight::new(),
            renewals: SingleFlight::new(),
            peek_flights: SingleFlight::new(),
            peeked: Remembered::new(ABSENT),
            pieces: Remembered::new(ABSENT),
            absent: Remembered::new(ABSENT),
            newest_pages: Remembered::new(ABSENT),
            unkept: Remembered::new(ABSENT),
            confirmed: Remembered::new(ABSENT),
            unlisted: Remembered::new(ABSENT),
            told: Remembered::new(ABSENT),
            suspended: Mutex::default(),
            account: OnceLock::new(),
        })
    }

    /// The settings in force have changed (`Shared::settings` holds the new ones): what was listed under another selection
    /// is listed again when it is next touched.
    pub(crate) fn reconfigured(&self) {
        self.root.reset(false);
        self.absent.clear();
        self.peeked.clear();
        self.pieces.clear();
        let folders: Vec<_> = lock(&self.folders).iter().map(|(id, folder)| (*id, Arc::clone(folder))).collect();
        for (id, folder) in folders {
            let known = self.shared.store.group(id).ok().flatten().is_some_and(|row| self.is_known(&row));
            folder.reset(known);
        }
    }

    /// Times to live are measured by a clock that stands still while the machine is suspended: after that nothing counts as new.
    pub(crate) fn note_suspended(&self) {
        let suspended = self.shared.clock.machine().suspended();
        let before = std::mem::replace(&mut *lock(&self.suspended), suspended);
        if suspended <= before + SUSPENDED {
            return;
        }
        for names in [&self.newest_pages, &self.peeked] {
            names.clear();
        }
        self.confirmed.clear();
        self.absent.clear();
        self.pieces.clear();
        self.unlisted.clear();
        self.root.expire();
        let folders: Vec<_> = lock(&self.folders).values().cloned().collect();
        folders.iter().for_each(|folder| folder.expire());
    }

    /// A folder is being opened (`None`: the root): brings its listing up to date in the background if its time to live is
    /// over. Must be called within the runtime.
    pub(crate) fn touch_listing(self: &Arc<Self>, group: Option<GroupId>) {
        self.note_suspended();
        match group {
            None => self.touch_root(),
            Some(id) => {
                // What is wrong with the group or the catalogue is told to the program that lists it.
                if let Ok((row, folder)) = self.folder(id) {
                    self.touch_group(row, &folder);
                }
            }
        }
    }

    /// How the listing of a group stands.
    pub(crate) fn progress_of(&self, group: GroupId) -> Option<watch::Receiver<Progress>> {
        self.folder(group).ok().map(|(_, folder)| folder.subscribe())
    }

    /// Up to `max` groups after `seq`; waits for more while the listing is under way; empty means the end.
    pub(crate) async fn groups_after(self: &Arc<Self>, seq: u64, max: usize) -> Result<Vec<GroupRow>, Error> {
        if seq == 0 {
            self.touch_root();
        }
        let mut cursor = seq;
        let mut progress = self.root.subscribe();
        let _waiting = self.root.wait();
        loop {
            let seen = progress.borrow_and_update().clone();
            loop {
                let settings = self.settings();
                let selection = &settings.selection;
                let hides = !selection.group_prefixes.is_empty() || !selection.group_patterns.is_empty();
                let rows = self.read(ROOT, |store| store.groups_after(cursor, chunk(max, hides)))?;
                let Some(last) = rows.last() else { break };
                cursor = last.seq;
                let mut shown: Vec<_> =
                    rows.into_iter().filter(|row| shows_group(selection, &row.group.name)).collect();
                if !shown.is_empty() {
                    shown.truncate(max);
                    return Ok(shown);
                }
                tokio::task::yield_now().await;
            }
            if !follow(&seen, &mut progress, || self.touch_root()).await? {
                return Ok(Vec::new());
            }
        }
    }

    /// Up to `max` streams after `seq`, as [`groups_after`](Listings::groups_after).
    pub(crate) async fn streams_after(
        self: &Arc<Self>,
        group: GroupId,
        seq: u64,
        max: usize,
    ) -> Result<Vec<StreamRow>, Error> {
        let (row, folder) = self.folder(group)?;
        if seq == 0 {
            self.touch_group(row.clone(), &folder);
        }
        let mut cursor = seq;
        let mut progress = folder.subscribe();
        let _waiting = folder.wait();
        loop {
            let seen = progress.borrow_and_update().clone();
            loop {
                let (shown, last) = self.streams_shown(&row, cursor, max)?;
                if !shown.is_empty() {
                    return Ok(shown);
                }
                let Some(last) = last else { break };
                cursor = last;
                tokio::task::yield_now().await;
            }
            if !follow(&seen, &mut progress, || self.touch_group(row.clone(), &folder)).await? {
                return Ok(Vec::new());
            }
        }
    }

    /// A program watches the folder (inotify, open directory): its newest page is read again each listing time to live until the
    /// guard is dropped. Must be called within the runtime.
    pub(crate) fn watch_group(self: &Arc<Self>, group: GroupId) -> GroupWatch {
        let mut watches = lock(&self.watches);
        if let Some(alive) = watches.get(&group).and_then(|watched| watched.alive.upgrade()) {
            return GroupWatch { _alive: alive };
        }
        let unwatched = CancellationToken::new();
        let alive = Arc::new(unwatched.clone().drop_guard());
        watches.insert(group, Watched { alive: Arc::downgrade(&alive), since: self.now() });
        drop(watches);
        let listings = Arc::clone(self);
        self.shared.tasks.spawn(async move {
            tokio::select! {
                () = unwatched.cancelled() => {}
                () = listings.shared.stopping.cancelled() => {}
                () = listings.keep_fresh(group) => {}
            }
            let mut watches = lock(&listings.watches);
            if watches.get(&group).is_some_and(|watched| watched.alive.strong_count() == 0) {
                watches.remove(&group);
            }
        });
        GroupWatch { _alive: alive }
    }

    async fn keep_fresh(self: &Arc<Self>, group: GroupId) {
        loop {
            let ttl = self.settings().listing_ttl.max(LEAST_TTL);
            tokio::time::sleep(ttl).await;
            // A group that is gone has nothing to keep fresh.
            let Ok((row, folder)) = self.folder(group) else { return };
            if !folder.progress().known {
                // A program that watches wants what is new; a whole walk is for one that looks at the folder. A failure is met again soon.
                self.peek(&row, Priority::Following).await.ok();
                continue;
            }
            // Half, since the last refresh ended a little after it was begun.
            if let Some(run) = folder.begin(|progress| progress.is_due(ttl / 2, Instant::now())) {
                self.list_group(run, row, Priority::Following);
            }
        }
    }

    /// Since when a program watches the folder.
    pub(crate) fn watched_since(&self, group: GroupId) -> Option<Timestamp> {
        lock(&self.watches).get(&group).filter(|watched| watched.alive.strong_count() > 0).map(|watched| watched.since)
    }

    pub(crate) fn touch_root(self: &Arc<Self>) {
        let ttl = self.settings().listing_ttl;
        if let Some(run) = self.root.begin(|progress| progress.is_due(ttl, Instant::now())) {
            self.list_root(run);
        }
    }

    pub(crate) fn touch_group(self: &Arc<Self>, row: GroupRow, folder: &Arc<Folder>) {
        let ttl = self.settings().listing_ttl;
        match folder.begin(|progress| progress.is_due(ttl, Instant::now())) {
            Some(run) => self.list_group(run, row, Priority::Background),
            None => folder.go_on(),
        }
    }

    /// A group's row and its listing.
    pub(crate) fn folder(&self, id: GroupId) -> Result<(GroupRow, Arc<Folder>), Error> {
        let Some(row) = self.read(ROOT, |store| store.group(id))? else {
            return Err(Error::new(ErrorKind::NotFound, ROOT, "the log group was deleted"));
        };
        if let Some(folder) = lock(&self.folders).get(&id) {
            return Ok((row, Arc::clone(folder)));
        }
        let known = self.is_known(&row);
        let folder = Arc::clone(lock(&self.folders).entry(id).or_insert_with(|| Arc::new(Folder::new(known))));
        Ok((row, folder))
    }

    /// Whether the catalogue holds all that the selection shows of the group.
    fn is_known(&self, row: &GroupRow) -> bool {
        let settings = self.settings();
        let streams = &settings.selection.streams;
        let stored = |name: &String| matches!(self.shared.store.stream_by_name(row.id, name), Ok(Some(_)));
        if streams.is_empty() { row.walked_at.is_some() } else { streams.iter().all(stored) }
    }

    /// Up to `max` shown streams after `seq`, and the place up to which the catalogue was looked through; `None` at its end.
    fn streams_shown(&self, row: &GroupRow, seq: u64, max: usize) -> Result<(Vec<StreamRow>, Option<u64>), Error> {
        let settings = self.settings();
        let selection = &settings.selection;
        let name = &row.group.name;
        let (mut rows, last) = if selection.streams.is_empty() {
            let rows =
                self.read(name, |store| store.streams_after(row.id, seq, chunk(max, selection.since.is_some())))?;
            let last = rows.last().map(|row| row.seq);
            (rows, last)
        } else {
            let mut rows = Vec::new();
            for stream in &selection.streams {
                rows.extend(self.read(name, |store| store.stream_by_name(row.id, stream))?);
            }
            rows.retain(|row| row.seq > seq);
            rows.sort_by_key(|row| row.seq);
            rows.dedup_by_key(|row| row.seq);
            (rows, None)
        };
        let now = self.now();
        rows.retain(|row| shows_stream(selection, &row.stream, now));
        rows.truncate(max);
        Ok((rows, last))
    }

    pub(crate) fn settings(&self) -> Arc<FetchSettings> {
        Arc::clone(&self.shared.settings.borrow())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Reads the catalogue, there and then.
    pub(crate) fn read<T>(
        &self,
        subject: &str,
        read: impl FnOnce(&Store) -> Result<T, StoreError>,
    ) -> Result<T, Error> {
        self.refuse_strangers()?;
        read(&self.shared.store).map_err(|error| store_error(subject, error))
    }

    /// An error if the cache is known to be another account's.
    pub(crate) fn refuse_strangers(&self) -> Result<(), Error> {
        match self.account.get() {
            Some(Err(why)) => {
                Err(Error::new(ErrorKind::Denied, ROOT, format!("{why}; give --cache-dir another folder")))
            }
            Some(Ok(_)) | None => Ok(()),
        }
    }
}

/// How many rows to read for `max` to show.
fn chunk(max: usize, hides: bool) -> usize {
    if hides { max.max(CHUNK) } else { max }
}

/// After all rows of a listing: `true` to look again, `false` at its end.
async fn follow(
    seen: &Progress,
    progress: &mut watch::Receiver<Progress>,
    start: impl FnOnce(),
) -> Result<bool, Error> {
    // The sender lives in the folder, which the caller holds: `changed` can't fail.
    match seen.verdict(Instant::now()) {
        Verdict::End => return Ok(false),
        Verdict::Failed(error) => return Err(error),
        Verdict::Start => start(),
        Verdict::Wait(None) => drop(progress.changed().await),
        Verdict::Wait(Some(until)) => drop(timeout_at(until, progress.changed()).await),
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
