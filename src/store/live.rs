//! The live side of a stream: what readers and the committer share of it while it is held.
//!
//! A stream's text is its file and then its live rows. Only the committer changes that, after a commit, in one step under a short lock;
//! readers take a snapshot under the same lock and read the file outside of it, which is safe because committed bytes never change. When a
//! commit's fate is unknown the state is dropped and loaded again from the catalogue.

use super::catalogue::{Catalogue, Place};
use super::descriptors::Pools;
use super::directory::{Directory, Filed};
use super::disk::{Disk, DiskFile};
use super::index::{Entry, Identity, decode_blocks, encode_blocks};
use super::limits::Limits;
use super::passthrough::opens::Passthroughs;
use super::rendition::Rendition;
use super::trouble::{is_missing, kind_of};
use super::{StoreError, StoreErrorKind};
use crate::model::StreamId;
use crate::sync::lock;
use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;
use tokio::sync::watch;

// The unwrap below is of a constant: the compiler proves it.

/// A stream with no live rows and no more blocks than this takes little: some kilobytes.
const LIGHT_BLOCKS: usize = 64;
/// Renditions kept though they aren't read: a `stat` and an `open` shouldn't render twice.
const RECENT_RENDITIONS: NonZeroUsize = NonZeroUsize::new(8).unwrap();

/// What every part of the store works with.
pub(crate) struct Context {
    pub(crate) dir: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) pools: Pools,
    /// Texts that the kernel reads by itself.
    pub(crate) passthrough_count: AtomicUsize,
    pub(crate) catalogue: Catalogue,
    /// Streams on whose files the disk failed: nothing is appended to them until they are healed, or the store is opened again.
    pub(crate) sick: Mutex<HashSet<StreamId>>,
    /// Streams with committed events that aren't shown, for they could not be written to the file that the kernel reads; and why.
    pub(crate) unshown: Mutex<HashMap<StreamId, StoreError>>,
    pub(crate) limits: Mutex<Limits>,
    /// When eviction last found nothing that it may take.
    pub(crate) nothing_to_evict: Mutex<Option<Instant>>,
    /// Streams whose text was taken away since the store was opened.
    pub(crate) evicted: AtomicU64,
    /// What evictions before a crash left was looked for.
    pub(crate) swept: AtomicBool,
    /// Bytes that were set aside at a start.
    pub(crate) aside: AtomicU64,
    /// Bytes that the cache took when that was last looked at.
    pub(crate) last_used: AtomicU64,
    /// Bytes in renditions.
    pub(crate) rendered: Arc<AtomicU64>,
    /// Numbers rendition files.
    pub(crate) renditions: AtomicU64,
    /// Streams that got live rows of late.
    pub(crate) busy: Mutex<Busy>,
    streams: Mutex<HashMap<StreamId, Weak<Live>>>,
    recent: Mutex<lru::LruCache<StreamId, Arc<Live>>>,
    recent_light: Mutex<lru::LruCache<StreamId, Arc<Live>>>,
    pub(crate) recent_renditions: Mutex<lru::LruCache<PathBuf, Shown>>,
}

/// A rendition, and the live side by which it is found.
pub(crate) type Shown = (Arc<Live>, Arc<Rendition>);

/// Streams that got live rows since the pass before the last one through all live rows.
#[derive(Default)]
pub(crate) struct Busy {
    before: HashSet<StreamId>,
    since: HashSet<StreamId>,
}

impl Busy {
    pub(crate) fn note(&mut self, id: StreamId) {
        self.since.insert(id);
    }

    /// A pass begins.
    pub(crate) fn turn(&mut self) {
        self.before = std::mem::take(&mut self.since);
    }

    pub(crate) fn has(&self, id: StreamId) -> bool {
        self.since.contains(&id) || self.before.contains(&id)
    }
}

impl Context {
    pub(crate) fn new(dir: &Path, disk: Arc<dyn Disk>, catalogue: Catalogue) -> Context {
        let pools = Pools::of_this_process();
        Context {
            dir: dir.to_owned(),
            disk,
            pools,
            passthrough_count: AtomicUsize::new(0),
            catalogue,
            sick: Mutex::default(),
            unshown: Mutex::default(),
            limits: Mutex::default(),
            nothing_to_evict: Mutex::default(),
            evicted: AtomicU64::new(0),
            swept: AtomicBool::new(false),
            aside: AtomicU64::new(0),
            last_used: AtomicU64::new(0),
            rendered: Arc::default(),
            renditions: AtomicU64::new(0),
            busy: Mutex::default(),
            streams: Mutex::default(),
            recent: Mutex::new(lru::LruCache::new(pools.recent)),
            recent_light: Mutex::new(lru::LruCache::new(pools.recent_light)),
            recent_renditions: Mutex::new(lru::LruCache::new(RECENT_RENDITIONS)),
        }
    }

    /// Opens a file of the cache. Where the process has no descriptor left, the texts that are kept open for later are closed first.
    pub(crate) fn open(&self, path: &Path, create: bool) -> std::io::Result<Arc<dyn DiskFile>> {
        match self.disk.open(path, create) {
            Err(error) if kind_of(&error) == StoreErrorKind::Exhausted => {
                tracing::debug!(path = %path.display(), %error, "closing what is kept open for later");
                self.close_texts();
                self.disk.open(path, create)
            }
            opened => opened,
        }
    }

    /// The folder of a stream's files, and the path of one of them.
    pub(crate) fn paths(&self, id: StreamId, extension: &str) -> (PathBuf, PathBuf) {
        let dir = self.dir.join("streams").join(format!("{:02x}", id.0 & 0xff));
        let path = dir.join(format!("{}.{extension}", id.0));
        (dir, path)
    }

    /// Bytes that the cache takes on disk.
    pub(crate) fn used_bytes(&self) -> u64 {
        let catalogue = std::fs::metadata(self.dir.join("catalogue.redb")).map_or(0, |m| m.len());
        let (aside, rendered) = (self.aside.load(Ordering::Relaxed), self.rendered.load(Ordering::Relaxed));
        let used = self.catalogue.file_bytes().unwrap_or(0) + rendered + aside + catalogue;
        self.last_used.store(used, Ordering::Relaxed);
        used
    }

    /// The live side of a stream if it is held.
    pub(crate) fn live_now(&self, id: StreamId) -> Option<Arc<Live>> {
        lock(&self.streams).get(&id).and_then(Weak::upgrade)
    }

    /// The live side of a stream, loaded or not.
    fn any_live(&self, id: StreamId) -> Arc<Live> {
        let mut streams = lock(&self.streams);
        if let Some(live) = streams.get(&id).and_then(Weak::upgrade) {
            return live;
        }
        if streams.len() == streams.capacity() {
            streams.retain(|_, live| live.strong_count() > 0);
        }
        let live = Arc::new(Live::new(id));
        streams.insert(id, Arc::downgrade(&live));
        live
    }

    /// Closes the text files that aren't being read at this moment; the next read of one opens it again.
    pub(crate) fn close_texts(&self) {
        let all: Vec<_> = lock(&self.streams).values().filter_map(Weak::upgrade).collect();
        for live in all {
            // One that is locked is in use; the caller may be the one who holds it.
            if let Ok(mut state) = live.state.try_lock()
                && let Some(state) = &mut *state
            {
                state.text = None;
            }
        }
    }

    /// Takes a stream's text file away, unless a reader has it; tells whether it did.
    pub(crate) fn remove_text(&self, id: StreamId) -> Result<bool, StoreError> {
        let live = self.any_live(id);
        // Held to the end: who comes to read meanwhile finds the file as it is afterwards.
        let mut state = lock(&live.state);
        if live.readers.load(Ordering::SeqCst) > 0 {
            return Ok(false);
        }
        let (_, path) = self.paths(id, "text");
        self.disk.remove(&path).map_err(|e| StoreError::io("remove", &path, &e))?;
        if let Some(state) = &mut *state {
            state.text = None;
        }
        lock(&live.directory).nothing_is_verified();
        Ok(true)
    }

    /// The live side of a stream, the same for everybody who holds it at the same time.
    pub(crate) fn live(&self, id: StreamId) -> Result<Arc<Live>, StoreError> {
        let live = self.any_live(id);
        let has_rows = live.with(self, |state| Ok(!state.tail.is_empty()))?;
        // A caller that brings the directory up to date reads the disk: that isn't waited for here.
        let is_light = !has_rows && live.directory.try_lock().is_ok_and(|known| known.len() <= LIGHT_BLOCKS);
        let (here, elsewhere) =
            if is_light { (&self.recent_light, &self.recent) } else { (&self.recent, &self.recent_light) };
        let left = lock(elsewhere).pop(&id);
        let pushed_out = lock(here).push(id, Arc::clone(&live));
        drop(left);
        if let Some((other, live)) = pushed_out
            && other != id
            && !is_light
        {
            self.keep_proofs(live);
        }
        Ok(live)
    }

    /// A stream that isn't among the recent ones any more: without its live rows it takes little, and its text needn't be verified again.
    fn keep_proofs(&self, live: Arc<Live>) {
        if live.directory.try_lock().is_ok_and(|known| known.len() > LIGHT_BLOCKS) {
            return;
        }
        {
            // What comes to hold it needs this lock; a commit that is under way holds it already, and changes its state.
            let _streams = lock(&self.streams);
            if Arc::strong_count(&live) > 1 {
                return;
            }
            live.forget();
        }
        let pushed_out = lock(&self.recent_light).push(live.id, live);
        drop(pushed_out);
    }
}

/// One stream's live side.
pub(crate) struct Live {
    pub(crate) id: StreamId,
    state: Mutex<Option<State>>,
    /// Which blocks the index file has; locked while it is brought up to date, which only reads.
    pub(crate) directory: Mutex<Directory>,
    /// The index was read once, and every checksum was right.
    pub(crate) index_is_verified: AtomicBool,
    /// Who reads the text file without asking.
    pub(crate) passthroughs: Arc<Passthroughs>,
    /// The file that they read, where another one has taken its place since.
    pub(crate) passthrough_file: Mutex<Option<Arc<dyn DiskFile>>>,
    /// Who may read the text at any moment.
    pub(crate) readers: AtomicU64,
    /// Readable bytes; moves after the state.
    pub(crate) len: watch::Sender<u64>,
    pub(crate) renditions: Mutex<Vec<Weak<Rendition>>>,
}

/// A stream that is read: while it lives the text isn't evicted.
pub(crate) struct Held(Arc<Live>);

impl Held {
    pub(crate) fn of(live: Arc<Live>) -> Held {
        {
            // Not in the middle of an eviction.
            let _state = lock(&live.state);
            live.readers.fetch_add(1, Ordering::SeqCst);
        }
        Held(live)
    }
}

impl Held {
    /// What is held.
    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.0
    }
}

impl Clone for Held {
    fn clone(&self) -> Held {
        Held::of(Arc::clone(&self.0))
    }
}

impl Deref for Held {
    type Target = Live;

    fn deref(&self) -> &Live {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What is committed of a stream.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) place: Place,
    /// Text and events, live rows included.
    pub(crate) text_len: u64,
    pub(crate) events: u64,
    /// It was read to its end once.
    pub(crate) complete: bool,
    pub(crate) tail: Vec<Arc<TailRow>>,
    pub(crate) identity: Arc<Identity>,
    /// The text file, once it was read.
    text: Option<Arc<dyn DiskFile>>,
}

/// Events that are not in the files yet.
pub(crate) struct TailRow {
    /// Offset of its first byte in the stream's text.
    pub(crate) start: u64,
    pub(crate) entries: Vec<Entry>,
    pub(crate) text: Vec<u8>,
}

impl TailRow {
    /// The row as the catalogue keeps it.
    pub(crate) fn encode(entries: &[Entry], text: &[u8]) -> Vec<u8> {
        let mut blocks = Vec::new();
        encode_blocks(entries, &mut blocks);
        let mut out = Vec::with_capacity(blocks.len() + text.len() + 8);
        out.extend_from_slice(&(blocks.len() as u32).to_le_bytes());
        out.extend_from_slice(&blocks);
        out.extend_from_slice(text);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8], start: u64) -> Option<TailRow> {
        let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        let (len, rest) = body.split_first_chunk::<4>()?;
        if crc != crc32fast::hash(body).to_le_bytes() {
            return None;
        }
        let (blocks, text) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        let entries = decode_blocks(blocks)?;
        (entries.iter().map(Entry::text_len).sum::<u64>() == text.len() as u64).then(|| TailRow {
            start,
            entries,
            text: text.to_vec(),
        })
    }
}

impl Live {
    fn new(id: StreamId) -> Live {
        Live {
            id,
            state: Mutex::new(None),
            directory: Mutex::default(),
            index_is_verified: AtomicBool::new(false),
            passthroughs: Arc::default(),
            passthrough_file: Mutex::default(),
            readers: AtomicU64::new(0),
            len: watch::Sender::new(0),
            renditions: Mutex::default(),
        }
    }

    /// Acts on the state, loading it first if need be.
    pub(crate) fn with<T>(
        &self,
        context: &Context,
        act: impl FnOnce(&mut State) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut slot = lock(&self.state);
        let state = match &mut *slot {
            Some(state) => state,
            empty => {
                let mut state = self.load(context)?;
                if self.mirror(context, &mut state) {
                    self.show(state.text_len);
                }
                empty.insert(state)
            }
        };
        act(state)
    }

    /// The state as it is now.
    pub(crate) fn snapshot(&self, context: &Context) -> Result<State, StoreError> {
        self.with(context, |state| Ok(state.clone()))
    }

    /// Forgets the state: it may not be what the catalogue says.
    pub(crate) fn forget(&self) {
        *lock(&self.state) = None;
    }

    fn load(&self, context: &Context) -> Result<State, StoreError> {
        self.load_rows(context).inspect_err(|error| {
            if error.kind == StoreErrorKind::CatalogueLost {
                context.catalogue.is_lost(&error.message);
            }
        })
    }

    fn load_rows(&self, context: &Context) -> Result<State, StoreError> {
        let Some((record, rows)) = context.catalogue.stream_and_tail(self.id)? else {
            return Err(StoreError::new(
                StoreErrorKind::Missing,
                format!("no log stream has the number {}", self.id.0),
            ));
        };
        let group = context.catalogue.group(record.row.group)?;
        let (group, group_created) = group.map(|g| (g.group.name, g.group.created)).unwrap_or_default();
        let mut tail = Vec::with_capacity(rows.len());
        let (mut start, mut events) = (record.place.text, record.place.events);
        for bytes in rows {
            let row = TailRow::decode(&bytes, start).ok_or_else(|| self.tail_damaged())?;
            start += row.text.len() as u64;
            events += row.entries.len() as u64;
            tail.push(Arc::new(row));
        }
        let extent = record.row.extent;
        if start != extent.text_len || events != extent.events {
            return Err(self.tail_damaged());
        }
        Ok(State {
            place: record.place,
            text_len: extent.text_len,
            events: extent.events,
            complete: extent.complete,
            tail,
            identity: Arc::new(Identity {
                id: self.id.0,
                group,
                group_created,
                stream: record.row.stream.name,
                stream_created: record.row.stream.created,
            }),
            text: None,
        })
    }

    fn tail_damaged(&self) -> StoreError {
        StoreError::new(
            StoreErrorKind::CatalogueLost,
            format!("the catalogue: live rows of stream {} are damaged", self.id.0),
        )
    }

    /// Up to `size` bytes at `offset`; shorter only at the readable length.
    pub(crate) fn read_at(&self, context: &Context, offset: u64, size: usize) -> Result<Vec<u8>, StoreError> {
        let end = offset.saturating_add(size as u64).min(*self.len.borrow());
        self.read(context, offset, end.saturating_sub(offset) as usize)
    }

    /// `size` bytes at `offset`, all of them committed though perhaps not shown yet.
    pub(crate) fn read(&self, context: &Context, offset: u64, size: usize) -> Result<Vec<u8>, StoreError> {
        if size == 0 {
            return Ok(Vec::new());
        }
        let end = offset + size as u64;
        let mut out = vec![0; size];
        let in_file = self.with(context, |state| {
            let split = state.place.text.clamp(offset, end);
            state.copy_tail(split, &mut out[(split - offset) as usize..]);
            if split > offset { Ok(Some((self.text(context, state)?, split, state.filed()))) } else { Ok(None) }
        })?;
        if let Some((file, split, filed)) = in_file {
            self.verify(context, &filed, &*file, offset, split)?;
            let (_, path) = context.paths(self.id, "text");
            file.read_exact_at(&mut out[..(split - offset) as usize], offset).map_err(|e| match is_missing(&e) {
                true => StoreError::text_lost(self.id, &path, "it is shorter than what was committed"),
                false => StoreError::io("read", &path, &e).of_stream(self.id),
            })?;
        }
        Ok(out)
    }

    /// The text file, opened at the first need.
    pub(crate) fn text(&self, context: &Context, state: &mut State) -> Result<Arc<dyn DiskFile>, StoreError> {
        if let Some(file) = &state.text {
            return Ok(Arc::clone(file));
        }
        let (_, path) = context.paths(self.id, "text");
        let file = context.open(&path, false).map_err(|e| match is_missing(&e) {
            true => StoreError::text_lost(self.id, &path, "it isn't there"),
            false => StoreError::io("open", &path, &e).of_stream(self.id),
        })?;
        state.text = Some(Arc::clone(&file));
        Ok(file)
    }

    /// The text file was taken away, or put there again: what was known of its bytes counts no more.
    pub(crate) fn text_is_another(&self) {
        if let Some(state) = &mut *lock(&self.state) {
            state.text = None;
        }
        lock(&self.directory).nothing_is_verified();
    }
}

impl State {
    pub(crate) fn filed(&self) -> Filed {
        Filed { place: self.place, identity: Arc::clone(&self.identity) }
    }

    /// Fills `out` with live text from `offset` on; both ends are committed.
    pub(crate) fn copy_tail(&self, offset: u64, out: &mut [u8]) {
        let mut done = 0;
        let first = self.tail.partition_point(|row| row.start + row.text.len() as u64 <= offset);
        for row in &self.tail[first..] {
            let from = (offset + done as u64).saturating_sub(row.start) as usize;
            let take = (row.text.len() - from).min(out.len() - done);
            out[done..done + take].copy_from_slice(&row.text[from..from + take]);
            done += take;
            if done == out.len() {
                break;
            }
        }
    }

    /// Text bytes in live rows.
    pub(crate) fn tail_bytes(&self) -> u64 {
        self.text_len - self.place.text
    }
}
