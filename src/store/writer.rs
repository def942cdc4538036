//! The committer: the one thread that appends.
//!
//! It takes everything that is queued and makes one commit of it. A small append goes as a live row into the catalogue's transaction; once
//! a stream has [`LIVE_MAX`] bytes of them, they and what is new go to its files, which are synced before the transaction sets the
//! committed lengths. So there is one order for every byte: files durable, then lengths durable, then shown. A failure before the
//! transaction leaves bytes beyond the committed lengths, which are cut off at once or before the next write.

use super::catalogue::Change;
use super::disk::DiskFile;
use super::evict;
use super::heal::Copies;
use super::index::{Entry, encode_blocks, encode_mark};
use super::killpoint::{Point, reach};
use super::live::{Context, Live, State, TailRow};
use super::passthrough::opens::Writing;
use super::trouble::is_missing;
use super::{Append, StoreError, StoreErrorKind};
use super::{rendering, space};
use crate::model::{LogEvent, StreamId};
use crate::render::{Format, render};
use crate::sync::lock;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Bytes of a stream in live rows, at which they move into its files.
pub(crate) const LIVE_MAX: u64 = 64 << 10;
/// Bytes of messages after which a commit takes no more requests.
const GROUP_BYTES: usize = 16 << 20;
/// Requests that may wait for the committer; more wait outside.
pub(crate) const QUEUE: usize = 64;
/// How long a checkpoint may take.
const CHECKPOINT_TIME: Duration = Duration::from_secs(2);
/// Streams that one commit of a checkpoint moves.
const CHECKPOINT: usize = 128;
/// Streams that one commit moves while others may wait for theirs.
const QUIET: usize = 16;

/// What became of each append of a batch: where the stream's text ends now, or why it took nothing.
pub(crate) type Ends = Vec<Result<u64, StoreError>>;

/// What the committer is asked for.
pub(crate) enum Request {
    /// Append, and answer with the new lengths.
    Append { batch: Vec<Append>, reply: oneshot::Sender<Result<Ends, StoreError>> },
    /// Put copies in the place of a sick stream's files.
    Exchange { copies: Copies, reply: oneshot::Sender<Result<(), StoreError>> },
    /// Take text away if there is too much.
    MakeRoom { reply: oneshot::Sender<Result<(), StoreError>> },
    /// Move all live rows into files.
    Checkpoint { reply: oneshot::Sender<Result<(), StoreError>> },
    /// Move live rows of some streams after one that got none of late, and tell up to which; `None` at the end.
    MoveQuiet { after: StreamId, reply: oneshot::Sender<Result<Option<StreamId>, StoreError>> },
}

struct Waiting {
    batch: Vec<Append>,
    reply: oneshot::Sender<Result<Ends, StoreError>>,
}

/// Takes requests until there is no sender.
pub(crate) fn run(context: &Arc<Context>, mut requests: mpsc::Receiver<Request>) {
    let mut next = requests.blocking_recv();
    while let Some(request) = next {
        next = serve(context, request, &mut requests).or_else(|| requests.blocking_recv());
    }
}

/// The same as a task, for tests whose time stands still while a thread works: a thread's work doesn't hold it.
#[cfg(test)]
pub(crate) async fn run_as_task(context: Arc<Context>, mut requests: mpsc::Receiver<Request>) {
    let mut next = requests.recv().await;
    while let Some(request) = next {
        next = match serve(&context, request, &mut requests) {
            Some(request) => Some(request),
            None => requests.recv().await,
        };
    }
}

/// Does a request, and those behind it that fit into the same commit; gives back the one that didn't.
fn serve(context: &Arc<Context>, request: Request, requests: &mut mpsc::Receiver<Request>) -> Option<Request> {
    match request {
        Request::Append { batch, reply } => {
            let mut bytes = size(&batch);
            let mut group = vec![Waiting { batch, reply }];
            let mut next = None;
            while bytes < GROUP_BYTES {
                match requests.try_recv() {
                    Ok(Request::Append { batch, reply }) => {
                        bytes += size(&batch);
                        group.push(Waiting { batch, reply });
                    }
                    Ok(other) => {
                        next = Some(other);
                        break;
                    }
                    Err(_) => break,
                }
            }
            if commit_group(context, group)
                && let Err(error) = evict::make_room(context)
            {
                // What can't be taken away now is tried again with the next commit.
                tracing::warn!(%error, "the cache is too large and could not be made smaller");
            }
            next
        }
        Request::Exchange { copies, reply } => {
            let _ = reply.send(copies.exchange(context));
            None
        }
        Request::MakeRoom { reply } => {
            let _ = reply.send(evict::make_room(context));
            None
        }
        Request::Checkpoint { reply } => {
            let _ = reply.send(checkpoint(context));
            None
        }
        Request::MoveQuiet { after, reply } => {
            let _ = reply.send(move_quiet(context, after));
            None
        }
    }
}

fn size(batch: &[Append]) -> usize {
    batch.iter().flat_map(|a| &a.events).map(|e| e.message.len()).sum()
}

/// Commits what can be committed and answers everybody; tells whether files grew. A stream that can't take its part is refused alone.
fn commit_group(context: &Arc<Context>, group: Vec<Waiting>) -> bool {
    let mut works = Works::default();
    let ends: Vec<Ends> =
        group.iter().map(|waiting| waiting.batch.iter().map(|append| works.add(context, append)).collect()).collect();
    works.prepare(context);
    let grown = works.works.iter().any(|work| work.files.is_some());
    let outcome = works.commit(context);
    for (waiting, ends) in group.into_iter().zip(ends) {
        let answer = outcome.clone().map(|refused| {
            let each = waiting.batch.iter().zip(ends);
            each.map(|(append, end)| match append.stream.and_then(|id| refused.get(&id)) {
                Some(error) => Err(error.clone()),
                None => end,
            })
            .collect()
        });
        let _ = waiting.reply.send(answer);
    }
    grown
}

/// Moves live rows into files, some streams a commit, for as long as a stop may take. What is left stays as it was: durable, in
/// the catalogue.
fn checkpoint(context: &Arc<Context>) -> Result<(), StoreError> {
    let until = Instant::now() + CHECKPOINT_TIME;
    let mut after = 0;
    let mut first = Ok(());
    loop {
        let ids = context.catalogue.streams_with_tails(after, CHECKPOINT)?;
        let Some(last) = ids.last().filter(|_| Instant::now() < until) else { break };
        after = last.0;
        // Of a stream whose files fail the rows stay in the catalogue, where nothing is lost.
        first = first.and(move_rows(context, ids)?.or_else(|error| match error.kind {
            StoreErrorKind::Sick(_) => Ok(()),
            _ => Err(error),
        }));
    }
    // What waits for a commit and has met none.
    context.catalogue.commit(&[])?;
    first
}

/// Moves live rows of streams that got none of late: what isn't added to is whole in its files, and takes neither memory nor room in
/// the catalogue.
fn move_quiet(context: &Arc<Context>, after: StreamId) -> Result<Option<StreamId>, StoreError> {
    let ids = context.catalogue.streams_with_tails(after.0, CHECKPOINT)?;
    let Some(last) = ids.last().copied() else { return Ok(None) };
    let mut quiet = {
        let busy = lock(&context.busy);
        ids.into_iter().filter(|id| !busy.has(*id)).collect::<Vec<_>>()
    };
    let upto = if quiet.len() > QUIET { quiet[QUIET - 1] } else { last };
    quiet.truncate(QUIET);
    evict::make_room(context)?;
    if space::lacking(context) > 0 {
        return Ok(None);
    }
    // What can't be moved is met again by the next pass.
    if !quiet.is_empty()
        && let Err(error) = move_rows(context, quiet)?
    {
        tracing::debug!(%error, "live rows stay in the catalogue");
    }
    Ok(Some(upto))
}

/// Moves live rows of some streams in one commit. A stream that can't be moved keeps its rows; the others aren't held back by it, and
/// its error is what the inner result tells.
fn move_rows(context: &Arc<Context>, ids: Vec<StreamId>) -> Result<Result<(), StoreError>, StoreError> {
    let mut works = Works::default();
    let mut first = Ok(());
    for id in ids {
        match works.work(context, id) {
            Ok(work) => work.checkpoint = true,
            Err(error) => first = first.and(Err(error)),
        }
    }
    works.prepare_each(context);
    reach(Point::Checkpoint);
    let refused = works.commit(context)?;
    reach(Point::Checkpointed);
    Ok(refused.into_values().fold(first, |first, error| first.and(Err(error))))
}

/// What one commit does, stream by stream in the order met.
#[derive(Default)]
struct Works {
    works: Vec<Work>,
    /// Where each stream's is.
    at: HashMap<StreamId, usize>,
    /// Streams that can't take their part, and why.
    refused: HashMap<StreamId, StoreError>,
}

/// What becomes of one stream.
struct Work {
    live: Arc<Live>,
    before: State,
    text: Vec<u8>,
    entries: Vec<Entry>,
    checkpoint: bool,
    change: Change,
    files: Option<Files>,
    /// The kernel reads the text file without asking: only what is committed already may be written to it.
    passes_through: bool,
    _writing: Option<Writing>,
}

/// A stream's files, cut to their committed lengths and ready to grow.
struct Files {
    text: Opened,
    index: Opened,
}

struct Opened {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    committed: u64,
    /// What lies beyond was never shown.
    kept: u64,
}

impl Works {
    fn work(&mut self, context: &Arc<Context>, id: StreamId) -> Result<&mut Work, StoreError> {
        let at = match self.at.get(&id) {
            Some(at) => *at,
            None => {
                if lock(&context.sick).contains(&id) {
                    let text = format!("the disk failed on the files of stream {}; they are made anew", id.0);
                    return Err(StoreError::new(StoreErrorKind::Sick(id), text));
                }
                self.works.push(Work::new(context, id)?);
                self.at.insert(id, self.works.len() - 1);
                self.works.len() - 1
            }
        };
        Ok(&mut self.works[at])
    }

    /// Adds an append and tells where the text ends after it.
    fn add(&mut self, context: &Arc<Context>, append: &Append) -> Result<u64, StoreError> {
        let id = append
            .stream
            .ok_or_else(|| StoreError::new(StoreErrorKind::Missing, "an append that names no log stream"))?;
        let work = self.work(context, id)?;
        work.expect(&append.events);
        append.events.iter().for_each(|event| work.push(event));
        let change = &mut work.change;
        change.complete |= append.complete;
        if append.settled_to.is_some() {
            (change.settled_to, change.settled_by_service) = (append.settled_to, append.settled_by_service);
        }
        change.doubted = append.doubted.or(change.doubted);
        change.read_to = append.read_to.or(change.read_to);
        Ok(work.before.text_len + work.text.len() as u64)
    }

    /// Opens the files that will be written, where there is room for more.
    fn prepare(&mut self, context: &Context) {
        if let Err(error) = self.has_room(context) {
            self.retain(|work| if work.to_files() { Err(error.clone()) } else { Ok(()) });
        }
        self.prepare_each(context);
    }

    fn prepare_each(&mut self, context: &Context) {
        self.retain(|work| work.prepare(context));
    }

    /// Does `act` for each stream; one for which it fails is refused, and leaves nothing behind.
    fn retain(&mut self, mut act: impl FnMut(&mut Work) -> Result<(), StoreError>) {
        let Works { works, refused, .. } = self;
        works.retain_mut(|work| {
            let Err(error) = act(work) else { return true };
            work.undo();
            refused.insert(work.live.id, error.of_stream(work.live.id));
            false
        });
        self.at = self.works.iter().enumerate().map(|(at, work)| (work.live.id, at)).collect();
    }

    /// Fails where files would take room that has to stay free.
    fn has_room(&self, context: &Context) -> Result<(), StoreError> {
        if !self.works.iter().any(Work::to_files) || space::lacking(context) == 0 {
            return Ok(());
        }
        // What can't be taken away leaves perhaps room enough all the same.
        if let Err(error) = evict::make_room(context) {
            tracing::warn!(%error, "the cache is too large and could not be made smaller");
        }
        space::refuse(context)
    }

    /// Commits, and tells which streams were refused. An error means that nothing was committed.
    fn commit(mut self, context: &Arc<Context>) -> Result<HashMap<StreamId, StoreError>, StoreError> {
        self.retain(Work::write);
        self.retain(Work::sync);
        let (mut works, mut refused) = (self.works, self.refused);
        let rows: Vec<Option<TailRow>> = works.iter_mut().map(Work::plan).collect();
        let changes: Vec<Change> = works.iter_mut().map(|work| std::mem::take(&mut work.change)).collect();
        reach(Point::BeforeCatalogue);
        if let Err(error) = context.catalogue.commit(&changes) {
            // Kept or not: only the catalogue can tell, when it is asked again.
            works.iter().for_each(|work| work.live.forget());
            return Err(error);
        }
        reach(Point::BeforeShown);
        for ((work, change), row) in works.iter().zip(&changes).zip(rows) {
            let shown = work.live.with(context, |state| {
                state.place = change.place;
                state.text_len = change.text_len;
                state.events = change.events;
                state.complete |= change.complete;
                if !change.moved.is_empty() {
                    state.tail.clear();
                }
                if row.is_some() {
                    lock(&context.busy).note(work.live.id);
                }
                state.tail.extend(row.map(Arc::new));
                Ok(work.live.mirror(context, state))
            });
            match shown {
                Ok(is_in_the_file) => {
                    rendering::extend_all(context, &work.live);
                    if is_in_the_file {
                        work.live.show(change.text_len);
                    } else if let Some(error) = lock(&context.unshown).get(&work.live.id) {
                        refused.insert(work.live.id, error.clone());
                    }
                }
                // It is committed, and shown once its state can be loaded; the others have nothing to do with that.
                Err(error) => {
                    work.live.forget();
                    tracing::warn!(stream = work.live.id.0, %error, "committed events can't be shown yet");
                }
            }
        }
        for (id, error) in &refused {
            if matches!(error.kind, StoreErrorKind::Sick(_)) && lock(&context.sick).insert(*id) {
                tracing::warn!(stream = id.0, %error, "the files of this stream take nothing more until they are made anew");
            }
        }
        Ok(refused)
    }
}

impl Work {
    fn new(context: &Arc<Context>, id: StreamId) -> Result<Work, StoreError> {
        let live = context.live(id)?;
        let before = live.snapshot(context)?;
        let change = Change {
            id: id.0,
            place: before.place,
            text_len: before.text_len,
            events: before.events,
            ..Change::default()
        };
        Ok(Work {
            live,
            before,
            text: Vec::new(),
            entries: Vec::new(),
            checkpoint: false,
            change,
            files: None,
            passes_through: false,
            _writing: None,
        })
    }

    /// Makes room at once: a page's text would else be copied each time that it doubles.
    fn expect(&mut self, events: &[LogEvent]) {
        self.text.reserve(events.iter().map(|event| event.message.len() + 1).sum());
        self.entries.reserve(events.len());
    }

    fn push(&mut self, event: &LogEvent) {
        render(&Format::Message, "", "", event, &mut self.text);
        self.entries.push(Entry::of(event));
        let change = &mut self.change;
        change.oldest = Some(change.oldest.map_or(event.timestamp, |t| t.min(event.timestamp)));
        change.newest = change.newest.max(Some(event.timestamp));
        change.newest_ingestion = change.newest_ingestion.max(Some(event.ingestion_time));
    }

    fn to_files(&self) -> bool {
        let new = self.text.len() as u64;
        (self.checkpoint && !self.before.tail.is_empty())
            || (new > 0 && self.before.tail_bytes() + new >= LIVE_MAX)
            || (self.change.complete && self.marks() && self.before.place.index > 0)
    }

    /// The stream has been read to its end, which its index doesn't say yet. It says so with the commit that completes the stream, or else
    /// when its files are next written: a commit of live rows isn't worth a sync for that.
    fn marks(&self) -> bool {
        (self.before.complete || self.change.complete) && !self.before.place.marked
    }

    /// Opens the files if they will be written, makes them if they aren't there, and cuts off what was never committed.
    fn prepare(&mut self, context: &Context) -> Result<(), StoreError> {
        if !self.to_files() {
            return Ok(());
        }
        self._writing = self.live.passthroughs.write();
        self.passes_through = self._writing.is_none();
        if self.passes_through && self.before.tail.is_empty() {
            return Ok(());
        }
        let place = self.before.place;
        let (dir, text) = context.paths(self.live.id, "text");
        let (_, index) = context.paths(self.live.id, "index");
        let new = place.index == 0;
        if new {
            context.disk.make_dir(&dir).map_err(|e| StoreError::io("make", &dir, &e))?;
        }
        let index = self.open_index(context, index, place.index, new)?;
        let files = Files { text: self.open_text(context, &dir, text, place.text)?, index };
        if new {
            let above = context.dir.join("streams");
            for dir in [dir.as_path(), above.as_path()] {
                context.disk.sync_dir(dir).map_err(|e| StoreError::io("sync", dir, &e))?;
            }
        }
        self.files = Some(files);
        Ok(())
    }

    /// The text file, cut. Where text was evicted or lost it is lengthened: those bytes prove nothing, and a reader of them has them
    /// fetched again.
    fn open_text(&self, context: &Context, dir: &Path, path: PathBuf, committed: u64) -> Result<Opened, StoreError> {
        let file = context.open(&path, true).map_err(|e| StoreError::io("open", &path, &e))?;
        let len = file.len().map_err(|e| StoreError::io("look at", &path, &e))?;
        if len < committed {
            file.truncate(committed).map_err(|e| StoreError::io("lengthen", &path, &e))?;
            context.disk.sync_dir(dir).map_err(|e| StoreError::io("sync", dir, &e))?;
            self.live.text_is_another();
        }
        // While the kernel reads a file by itself, its live rows must not be removed: it may have shown them already.
        let kept = if self.passes_through { self.before.text_len } else { committed };
        cut(file, path, len, committed, kept)
    }

    fn open_index(&self, context: &Context, path: PathBuf, committed: u64, new: bool) -> Result<Opened, StoreError> {
        let short = |what| StoreError::index_lost(self.live.id, &path, what);
        let file = context.open(&path, new).map_err(|e| match is_missing(&e) {
            true => short("it isn't there"),
            false => StoreError::io("open", &path, &e),
        })?;
        let len = file.len().map_err(|e| StoreError::io("look at", &path, &e))?;
        if len < committed {
            return Err(short("it is shorter than what was committed"));
        }
        cut(file, path, len, committed, committed)
    }

    /// Writes live rows and new events into the files, not yet synced.
    fn write(&mut self) -> Result<(), StoreError> {
        let Some(files) = &self.files else { return Ok(()) };
        let mut entries: Vec<Entry> = self.before.tail.iter().flat_map(|row| &row.entries).copied().collect();
        let mut text: Vec<u8> = self.before.tail.iter().flat_map(|row| &row.text).copied().collect();
        if !self.passes_through {
            entries.extend_from_slice(&self.entries);
        }
        let new = if self.passes_through {
            &text
        } else if text.is_empty() {
            &self.text
        } else {
            text.extend_from_slice(&self.text);
            &text
        };
        let mut index = if files.index.committed == 0 { self.before.identity.encode() } else { Vec::new() };
        encode_blocks(&entries, &mut index);
        if self.marks() {
            encode_mark(&mut index);
            self.change.place.marked = true;
        }
        if self.passes_through {
            // Rows that could not be written to the file before are seen from now on.
            self.live.passthroughs.grows();
        }
        files.text.append(new)?;
        reach(Point::TextWritten);
        files.index.append(&index)?;
        reach(Point::IndexWritten);
        let (text, index) = (new.len() as u64, index.len() as u64);
        let change = &mut self.change;
        change.place.text += text;
        change.place.index += index;
        change.place.events += entries.len() as u64;
        change.index_grown = index;
        change.moved = self.before.place.tail_first..self.before.place.tail_next;
        change.place.tail_first = self.before.place.tail_next;
        Ok(())
    }

    /// Makes what was written durable: text, then index.
    fn sync(&mut self) -> Result<(), StoreError> {
        let Some(files) = &self.files else { return Ok(()) };
        for (opened, point) in [(&files.text, Point::TextSynced), (&files.index, Point::IndexSynced)] {
            opened.file.sync().map_err(|e| StoreError::io("sync", &opened.path, &e))?;
            reach(point);
        }
        Ok(())
    }

    /// Completes the change; gives the live row that it makes.
    fn plan(&mut self) -> Option<TailRow> {
        let (entries, text) = (std::mem::take(&mut self.entries), std::mem::take(&mut self.text));
        self.change.text_len += text.len() as u64;
        self.change.events += entries.len() as u64;
        if (self.files.is_some() && !self.passes_through) || entries.is_empty() {
            return None;
        }
        let number = self.change.place.tail_next;
        self.change.tail = Some((number, TailRow::encode(&entries, &text)));
        self.change.place.tail_next += 1;
        Some(TailRow { start: self.before.text_len, entries, text })
    }

    /// Takes back what was written; what can't be taken back now is cut off before the next write. A file that is shorter than what is
    /// kept, for a live row could not be written to it, isn't lengthened: the kernel, which reads it by itself, would show NUL bytes.
    fn undo(&self) {
        if let Some(files) = &self.files {
            for opened in [&files.text, &files.index] {
                if opened.file.len().is_ok_and(|len| len > opened.kept) {
                    let _ = opened.file.truncate(opened.kept);
                }
            }
        }
    }
}

impl Opened {
    fn append(&self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all_at(bytes, self.committed).map_err(|e| StoreError::io("write", &self.path, &e))
    }
}

fn cut(file: Arc<dyn DiskFile>, path: PathBuf, len: u64, committed: u64, kept: u64) -> Result<Opened, StoreError> {
    if len > kept {
        file.truncate(kept).map_err(|e| StoreError::io("cut", &path, &e))?;
    }
    Ok(Opened { file, path, committed, kept })
}
