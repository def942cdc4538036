//! The local copy: text and index files a stream, and the catalogue. Knows bytes and rows, not AWS.
//!
//! A stream's canonical text is append-only and shown only once it is durable: the committer (one thread) syncs files and commits the
//! catalogue before readers hear of a growth, so that no crash takes back what was seen. The catalogue's rows say how much of each file
//! counts; what lies beyond is cut off before the next write.

mod aside;
mod bytes;
mod catalogue;
pub mod claim;
mod descriptors;
mod directory;
mod disk;
mod events;
mod evict;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod heal;
mod index;
mod killpoint;
mod limits;
mod live;
pub mod names;
mod passthrough;
mod reader;
mod rebuild;
mod rendering;
mod rendition;
mod repair;
pub mod row;
mod space;
mod trouble;
mod verify;
mod writer;

#[cfg(test)]
pub(crate) mod in_memory;
#[cfg(test)]
mod tests;

use crate::model::{GroupId, Hours, LogEvent, LogGroup, LogStream, Span, StreamId, Timestamp};
use crate::render::Format;
use crate::sync::lock;
use catalogue::{Catalogue, Opened, Opener};
use disk::{Disk, RealDisk};
use heal::Copies;
pub use limits::{Limits, MinFree};
use live::{Context, Held};
use names::Names;
pub use passthrough::Passthrough;
pub use reader::Reader;
pub use repair::Repair;
use row::{Extent, GroupRow, Named, StreamRow, Vouch};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};
use writer::Request;

/// What kind of trouble the store is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// The cache's disk is full.
    NoSpace,
    /// This process, or the machine, has no descriptor or memory left for the moment. Nothing is wrong with the copy.
    Exhausted,
    /// Bytes on disk are not what was written, or the disk fails.
    Damaged,
    /// The catalogue isn't what was written: it is rebuilt from the files at the next start.
    CatalogueLost,
    /// Text of this stream isn't there (evicted) or isn't what was written; its index knows what belongs there, see [`Repair`].
    TextLost(StreamId),
    /// The index of this stream can't be read: it isn't known any more in which order its events were shown.
    IndexLost(StreamId),
    /// The disk failed on this stream's files: they take nothing more until they are made anew, see [`Store::heal`].
    Sick(StreamId),
    /// Another daemon's, another account's or another version's folder.
    Refused,
    /// No such row.
    Missing,
}

/// A store operation that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// What kind of trouble.
    pub kind: StoreErrorKind,
    /// What happened to which file.
    pub message: String,
}

/// Events to append to one stream, and what becomes true of it with the same commit.
#[derive(Clone, Debug, Default)]
pub struct Append {
    /// The stream; must exist.
    pub stream: Option<StreamId>,
    /// To append in this order; may be empty.
    pub events: Vec<LogEvent>,
    /// It has now been read to its end.
    pub complete: bool,
    /// New settled edge, if it moves.
    pub settled_to: Option<Timestamp>,
    /// The service's clock was known to the read that settled it.
    pub settled_by_service: bool,
    /// Whether it passes over what lies before its oldest event, if that changes.
    pub doubted: Option<bool>,
    /// When the drained read that this ends began.
    pub read_to: Option<Timestamp>,
}

/// Streams that a listing brought: all rows in the listing's order, which of them are new, and (old, new) generations.
#[derive(Clone, Debug, Default)]
pub struct Upserted {
    /// One row for each stream given, in the same order.
    pub rows: Vec<StreamRow>,
    /// Those that were not known before (replacements too).
    pub new: Vec<StreamId>,
    /// (old, new): the stream was deleted and made again; the old row is now `gone`.
    pub replaced: Vec<(StreamId, StreamId)>,
}

/// How many events with a (timestamp, hash of the message) are stored.
pub type Counts = HashMap<(Timestamp, u64), u32>;

/// The key of an event in [`Counts`].
pub fn event_key(event: &LogEvent) -> (Timestamp, u64) {
    (event.timestamp, xxhash_rust::xxh3::xxh3_64(event.message.as_bytes()))
}

/// The store of one account, region and endpoint.
pub struct Store {
    context: Arc<Context>,
    /// The way to the committer; taken away to end it.
    requests: Option<mpsc::Sender<Request>>,
    committer: Option<JoinHandle<()>>,
    /// When the chains of checks were last sent to disk without waiting for a commit.
    vouched: Mutex<Option<std::time::Instant>>,
    rebuilt: Option<String>,
}

/// Stands in the folder while a catalogue is opened, and after a panic: found at a start, it says that the last process may have ended
/// because of it.
const OPENING: &str = "catalogue.opening";

/// How long a chain of checks may be only in memory.
const VOUCH_EVERY: std::time::Duration = std::time::Duration::from_secs(30);

/// Rest between two commits of a pass through quiet live rows.
const BETWEEN_MOVES: std::time::Duration = std::time::Duration::from_millis(20);

impl Store {
    /// A panic is about to be told: if it is the database's and ends this process, the next start verifies the whole catalogue in `dir` and
    /// rebuilds it if it is damaged, however large it is. For a panic hook: it takes no lock.
    pub fn suspect_catalogue(dir: &Path) {
        // What can't be noted now is met again.
        let _ = RealDisk.open(&dir.join(OPENING), true);
    }

    /// Opens the cache folder, making it (0700) if it isn't there, and recovers: cuts files to their committed lengths.
    ///
    /// What another version of this program left is set aside as `*.old-N`. A stream's files are cut when they are first written to, so
    /// that opening takes the same time whatever the store holds.
    pub fn open(dir: &Path) -> Result<Arc<Store>, StoreError> {
        Store::open_proving(dir, catalogue::CHECKED)
    }

    /// As [`Store::open`]; a catalogue of more than `most` bytes isn't verified as a whole.
    fn open_proving(dir: &Path, most: u64) -> Result<Arc<Store>, StoreError> {
        let path = dir.join("catalogue.redb");
        RealDisk.make_dir(dir).map_err(|e| StoreError::io("make", dir, &e))?;
        // A damaged catalogue may end the process: then the next start takes its time and verifies it.
        let opening = dir.join(OPENING);
        let most = if std::fs::symlink_metadata(&opening).is_ok() { u64::MAX } else { most };
        // A full disk opens all the same.
        let _ = RealDisk.open(&opening, true);
        let opened = Store::open_whole(dir, &path, most);
        let _ = RealDisk.remove(&opening);
        opened
    }

    fn open_whole(dir: &Path, path: &Path, most: u64) -> Result<Arc<Store>, StoreError> {
        let rebuilt = rebuild::if_needed(dir, most)?;
        let renditions = dir.join("renditions");
        match std::fs::remove_dir_all(&renditions) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::io("empty", &renditions, &e));
            }
            _ => {}
        }
        Store::open_with(dir, Arc::new(RealDisk), rebuilt, || catalogue::file_opener(path))
    }

    fn open_with(
        dir: &Path,
        disk: Arc<dyn Disk>,
        rebuilt: Option<String>,
        opener: impl Fn() -> Result<Opener, StoreError>,
    ) -> Result<Arc<Store>, StoreError> {
        let context = Store::open_room(dir, disk, opener)?;
        let (requests, queue) = mpsc::channel(writer::QUEUE);
        let committer = std::thread::Builder::new()
            .name("committer".into())
            .spawn({
                let context = Arc::clone(&context);
                move || writer::run(&context, queue)
            })
            .map_err(|e| StoreError::io("start the committer of", dir, &e))?;
        Ok(Arc::new(Store {
            context,
            requests: Some(requests),
            committer: Some(committer),
            vouched: Mutex::default(),
            rebuilt,
        }))
    }

    fn open_room(
        dir: &Path,
        disk: Arc<dyn Disk>,
        opener: impl Fn() -> Result<Opener, StoreError>,
    ) -> Result<Arc<Context>, StoreError> {
        let lost = || -> catalogue::Lost {
            let (dir, noted) = (dir.to_owned(), std::sync::Once::new());
            Box::new(move |why| noted.call_once(|| rebuild::note(&dir, why)))
        };
        let catalogue = match Catalogue::open(opener()?, lost())? {
            Opened::Ready(catalogue) => catalogue,
            Opened::Foreign(what) => {
                tracing::warn!(dir = %dir.display(), %what, "the cache is of another version and is set aside");
                // The catalogue goes last: until then the next start finds the other version and tries again.
                aside::set_aside(dir, &["streams", "catalogue.redb"], "old")?;
                match Catalogue::open(opener()?, lost())? {
                    Opened::Ready(catalogue) => catalogue,
                    Opened::Foreign(what) => return Err(StoreError::new(StoreErrorKind::Refused, what)),
                }
            }
        };
        for name in ["streams", "renditions"] {
            let path = dir.join(name);
            disk.make_dir(&path).map_err(|e| StoreError::io("make", &path, &e))?;
        }
        disk.sync_dir(dir).map_err(|e| StoreError::io("sync", dir, &e))?;
        let context = Context::new(dir, disk, catalogue);
        // What can't be counted is there all the same; eviction then takes a little less.
        context.aside.store(aside::bytes(dir).unwrap_or(0), Ordering::Relaxed);
        context.used_bytes();
        Ok(Arc::new(context))
    }

    /// Why the catalogue was rebuilt from the files when the store was opened, if it was.
    pub fn rebuilt(&self) -> Option<&str> {
        self.rebuilt.as_deref()
    }

    /// The account that this cache belongs to; remembers `account` the first time, refuses another one later.
    pub fn claim_account(&self, account: &str) -> Result<(), StoreError> {
        let owner = self.context.catalogue.claim(account)?;
        if owner == account {
            return Ok(());
        }
        let dir = self.context.dir.display();
        Err(StoreError::new(StoreErrorKind::Refused, format!("{dir} holds the logs of account {owner}, not {account}")))
    }

    /// A number that is another one once something has changed that a listing of this group (`None`: of the groups) shows: names, sizes,
    /// times. Counted since the store was opened.
    pub fn listing_version(&self, group: Option<GroupId>) -> u64 {
        self.context.catalogue.listing_version(group)
    }

    /// Writes what a listing of groups brought (one commit, or none if all is known). Rows in the order given.
    pub fn upsert_groups(&self, groups: &[LogGroup]) -> Result<Vec<GroupRow>, StoreError> {
        self.context.catalogue.upsert_groups(groups)
    }

    /// A group's row, gone ones too.
    pub fn group(&self, id: GroupId) -> Result<Option<GroupRow>, StoreError> {
        self.context.catalogue.group(id)
    }

    /// The group of this exact name.
    pub fn group_by_name(&self, name: &str) -> Result<Option<GroupRow>, StoreError> {
        self.context.catalogue.group_by_name(name)
    }

    /// What `name` means at the root, where listings name things so.
    pub fn group_named(&self, name: &str, listed: Names) -> Result<Named<GroupRow>, StoreError> {
        self.context.catalogue.group_named(name, listed)
    }

    /// Up to `max` groups after `seq`, in order of seq.
    pub fn groups_after(&self, seq: u64, max: usize) -> Result<Vec<GroupRow>, StoreError> {
        self.context.catalogue.groups_after(seq, max)
    }

    /// Marks a group as gone from the service: found no longer by name or listing.
    pub fn forget_group(&self, id: GroupId) -> Result<(), StoreError> {
        self.context.catalogue.forget_group(id)
    }

    /// Remembers that a group's streams were listed to the end.
    pub fn set_walked(&self, id: GroupId, at: Timestamp) -> Result<(), StoreError> {
        self.context.catalogue.set_walked(id, at)
    }

    /// Remembers a group's chain of checks. May be lost in a crash, never wrong. Written with the next commit, or every 30 s.
    pub fn set_vouch(&self, id: GroupId, vouch: Vouch) -> Result<(), StoreError> {
        self.context.catalogue.set_vouch(id, vouch);
        let due = {
            let mut last = lock(&self.vouched);
            let due = last.is_none_or(|at| at.elapsed() >= VOUCH_EVERY);
            if due {
                *last = Some(std::time::Instant::now());
            }
            due
        };
        if due && let Some(requests) = &self.requests {
            // A full queue means that a commit is about to write it anyway.
            let (reply, _) = oneshot::channel();
            let _ = requests.try_send(Request::Append { batch: Vec::new(), reply });
        }
        Ok(())
    }

    /// Writes what a listing of a group's streams brought (one commit, or none if all is known).
    ///
    /// Of two creation times the later one is another generation of the stream; the earlier one is a listing that lags, and changes
    /// nothing. A stream that was gone and is listed with the creation time that it had is the same again, and `new`.
    pub fn upsert_streams(&self, group: GroupId, streams: &[LogStream]) -> Result<Upserted, StoreError> {
        self.context.catalogue.upsert_streams(group, streams)
    }

    /// A stream's row, gone ones too.
    pub fn stream(&self, id: StreamId) -> Result<Option<StreamRow>, StoreError> {
        Ok(self.context.catalogue.stream(id)?.map(|record| record.row))
    }

    /// The present generation of the stream of this exact name.
    pub fn stream_by_name(&self, group: GroupId, name: &str) -> Result<Option<StreamRow>, StoreError> {
        self.context.catalogue.stream_by_name(group, name)
    }

    /// What `name`, without its ending, means in a group's folder, where listings name things so.
    pub fn stream_named(&self, group: GroupId, name: &str, listed: Names) -> Result<Named<StreamRow>, StoreError> {
        self.context.catalogue.stream_named(group, name, listed)
    }

    /// Up to `max` streams of a group after `seq`, in order of seq; gone ones left out.
    pub fn streams_after(&self, group: GroupId, seq: u64, max: usize) -> Result<Vec<StreamRow>, StoreError> {
        self.context.catalogue.streams_after(group, seq, max)
    }

    /// The streams of a group that are complete and whose extents `is_wanted` takes: (id, exact name, extent). Found without walking the
    /// group's other rows; a group may have a hundred thousand of them, so what isn't wanted takes no memory.
    pub fn complete_streams(
        &self,
        group: GroupId,
        is_wanted: impl Fn(&Extent) -> bool,
    ) -> Result<Vec<(StreamId, String, Extent)>, StoreError> {
        self.context.catalogue.complete_streams(group, is_wanted)
    }

    /// Marks a stream as gone from the service: found no longer by name or listing; its text stays for open handles.
    pub fn forget_stream(&self, id: StreamId) -> Result<(), StoreError> {
        self.context.catalogue.forget_stream(id)
    }

    /// Appends and commits: durable when it returns; readers see it after that. Concurrent calls share one commit.
    ///
    /// Tells in the order given the new committed length of the text, or why this stream took nothing, or can't show yet what it took (see
    /// [`Store::is_unshown`]): a stream whose files fail, or that has no room, holds none of the others back. The outer error is the catalogue's: then nothing of the batch was committed.
    pub async fn append_each(&self, batch: Vec<Append>) -> Result<Vec<Result<u64, StoreError>>, StoreError> {
        self.ask(|reply| Request::Append { batch, reply }).await
    }

    /// As [`Store::append_each`], for callers to whom one refusal is the failure of all.
    pub async fn append(&self, batch: Vec<Append>) -> Result<Vec<u64>, StoreError> {
        self.append_each(batch).await?.into_iter().collect()
    }

    /// Makes the files of a stream anew, beside the old ones and then in their place: for one on whose files the disk failed. The order
    /// of events, inode, length and offsets stay; text that can't be read any more is fetched again when it is next read, see [`Repair`],
    /// of which there must be none of this stream meanwhile.
    pub async fn heal(&self, id: StreamId) -> Result<(), StoreError> {
        let context = Arc::clone(&self.context);
        let died =
            |_| StoreError::new(StoreErrorKind::Sick(id), "copying its files broke off by a defect of this program");
        let copies = tokio::task::spawn_blocking(move || Copies::make(&context, id)).await.map_err(died)??;
        self.ask(|reply| Request::Exchange { copies, reply }).await
    }

    /// Streams on whose files the disk failed, and which weren't healed yet.
    pub fn sick(&self) -> Vec<StreamId> {
        lock(&self.context.sick).iter().copied().collect()
    }

    /// Reading found that the disk fails on this stream's files.
    pub fn is_sick(&self, id: StreamId) {
        lock(&self.context.sick).insert(id);
    }

    /// Whether committed events of this stream aren't shown yet: they could not be written to the file that the kernel reads. Any append to
    /// the stream tries it again, an empty one too.
    pub fn is_unshown(&self, id: StreamId) -> bool {
        lock(&self.context.unshown).contains_key(&id)
    }

    /// How many events of each kind are stored with a timestamp inside `span`.
    pub fn counts(&self, id: StreamId, span: Span) -> Result<Counts, StoreError> {
        self.context.live(id)?.counts(&self.context, span)
    }

    /// How many events are stored of each hour inside `span`. Reads the index of that span from disk.
    pub fn hours(&self, id: StreamId, span: Span) -> Result<Hours, StoreError> {
        self.context.live(id)?.hours(&self.context, span)
    }

    /// Least timestamp inside `span` of an event taken in at or after `ingested`; `None` if there is none. For the settled edge.
    pub fn oldest_ingested_since(
        &self,
        id: StreamId,
        span: Span,
        ingested: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        self.context.live(id)?.oldest_ingested_since(&self.context, span, ingested)
    }

    /// A reader of the stream's text in a format. Cheap; shared state per (stream, format) while any reader lives.
    ///
    /// What it shows in a format other than [`Format::Message`] has to be made first, see [`Reader::make`].
    pub fn reader(&self, id: StreamId, format: &Format) -> Result<Reader, StoreError> {
        let live = self.context.live(id)?;
        let rendition = match format {
            Format::Message => None,
            _ => Some(rendering::open(&self.context, &live, format)?),
        };
        self.context.catalogue.touch(id);
        Ok(Reader { context: Arc::clone(&self.context), live: Held::of(live), rendition })
    }

    /// The size of a complete stream in a format other than [`Format::Message`], as it was told last, in an earlier run too. It may have
    /// grown since.
    pub fn told_size(&self, row: &StreamRow, format: &Format) -> Result<Option<u64>, StoreError> {
        let told = self.context.catalogue.size(row.id, format.number())?;
        Ok(told.filter(|told| row.extent.complete && told.events <= row.extent.events).map(|told| told.bytes))
    }

    /// Writes sizes that were told since the last commit, if there are any. A crash before that forgets them.
    pub async fn write_sizes(&self) -> Result<(), StoreError> {
        if !self.context.catalogue.has_pending_sizes() {
            return Ok(());
        }
        self.append(Vec::new()).await.map(drop)
    }

    /// Bytes that the cache takes on disk.
    pub fn used_bytes(&self) -> u64 {
        self.context.used_bytes()
    }

    /// The same as it was last looked at, at most some commits ago; the disk isn't asked.
    pub fn last_used_bytes(&self) -> u64 {
        self.context.last_used.load(Ordering::Relaxed)
    }

    /// Sets how large the cache may grow. If it is larger already, [`Store::make_room`] or the next commit takes text away.
    pub fn set_limits(&self, limits: Limits) {
        *lock(&self.context.limits) = limits;
        *lock(&self.context.nothing_to_evict) = None;
    }

    /// How large the cache may grow.
    pub fn limits(&self) -> Limits {
        *lock(&self.context.limits)
    }

    /// Streams whose text was taken away since the store was opened.
    pub fn evicted(&self) -> u64 {
        self.context.evicted.load(Ordering::Relaxed)
    }

    /// The cache is larger than it may be, or its disk too full.
    pub fn is_too_large(&self) -> bool {
        space::is_too_much(&self.context)
    }

    /// Takes renditions and text away if there is too much now.
    pub async fn make_room(&self) -> Result<(), StoreError> {
        self.ask(|reply| Request::MakeRoom { reply }).await
    }

    /// Ends a stream whose index is lost: it is gone, and found no longer; its name gets a new row with nothing in it. `None` if the
    /// stream was gone already.
    pub fn renew_stream(&self, id: StreamId) -> Result<Option<StreamId>, StoreError> {
        let renewed = self.context.catalogue.renew_stream(id)?;
        if renewed.is_some() {
            for extension in ["text", "index"] {
                let (_, path) = self.context.paths(id, extension);
                self.context.disk.remove(&path).map_err(|e| StoreError::io("remove", &path, &e))?;
            }
            if let Some(live) = self.context.live_now(id) {
                live.text_is_another();
            }
        }
        Ok(renewed)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.context.dir
    }

    /// Moves live rows into files and syncs, for a few seconds at most; for a clean stop.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.ask(|reply| Request::Checkpoint { reply }).await
    }

    /// Moves live rows of streams that got none since the pass before the last one into files: a few at a time, others' commits in
    /// between.
    pub async fn move_quiet_rows(&self) -> Result<(), StoreError> {
        lock(&self.context.busy).turn();
        let mut after = StreamId(0);
        while let Some(upto) = self.ask(|reply| Request::MoveQuiet { after, reply }).await? {
            after = upto;
            tokio::time::sleep(BETWEEN_MOVES).await;
        }
        Ok(())
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let stopped = || StoreError::new(StoreErrorKind::Damaged, "the store has stopped committing");
        let requests = self.requests.as_ref().ok_or_else(stopped)?;
        requests.send(request(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Store {
    /// Waits for what is queued to be committed.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(committer) = self.committer.take() {
            // A panic of the committer was reported when it happened.
            let _ = committer.join();
        }
    }
}
