//! One open file: what may be read of it, what its attributes say, and when the kernel learns of a change.
//!
//! Three lengths matter. *Readable* is what the store has committed; reads serve it at once. *Announced* is the size that
//! attributes tell: the marker while the length is unknown, then a length that trails the readable one until the kernel's
//! page cache has been told (a size raised by attributes alone shows NUL bytes to a reader that holds the old last page).
//! *Told* is what [`Inodes`] remembers of the last announcement while the file isn't open.

use super::growth_notifier::{Grows, GrowthNotifier};
use super::inode::{Ino, Inodes};
use super::kernel::{Content, Kernel, Pages};
use super::making::Making;
use super::passthrough::{LEAST, Mode, Open};
use crate::error::{Error, ErrorKind};
use crate::fetch::{Stream, Wanted};
use crate::model::{Timestamp, printable};
use crate::patience::Deadline;
use crate::store::{Reader, Store, StoreError, StoreErrorKind};
use crate::sync::lock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

/// Size of a stream that wasn't measured: not 0, which tar, busybox cp and sendfile take for an empty file.
pub(crate) const MARKER: u64 = 1;

/// How long a wait may go without progress of this stream.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long after a read that got no answer others get the same error without asking again. The kernel asks for a page that could not be
/// read once more for each process that waits for it, one after the other: each would wait [`PATIENCE`] again, out of reach of the others.
const NO_ANSWER: Duration = Duration::from_secs(2);

/// How long a question for attributes waits for the kernel to be told of growth.
const TELLING: Duration = Duration::from_millis(100);

/// Bytes of an index that are read without leaving the thread that asks.
const AT_ONCE: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// Bytes a notification may carry: the kernel takes at most 128 KiB a store.
const CHUNK: u64 = 64 * 1024;

/// Where the file stands with the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// The size that attributes tell.
    announced: u64,
    /// Time of the newest event in so many bytes, once they were announced with it.
    time: Option<Timestamp>,
    /// `announced` is the file's size.
    known: bool,
    /// Readers that stream may be given the end of file.
    ends: bool,
    /// The kernel has the size itself: who trusts it may go on.
    settled: bool,
    /// Attributes tell of growth that the kernel's own size doesn't have yet.
    telling: bool,
}

/// What every open file works with.
pub(crate) struct Context {
    pub(crate) store: Arc<Store>,
    pub(crate) inodes: Arc<Inodes>,
    pub(crate) kernel: Arc<dyn Kernel>,
    pub(crate) runtime: tokio::runtime::Handle,
}

/// An open file. Lives as long as a handle, a waiter or a notice needs it.
pub struct File {
    ino: Ino,
    label: String,
    stream: Arc<Stream>,
    reader: Reader,
    state: watch::Sender<State>,
    inodes: Arc<Inodes>,
    kernel: Arc<dyn Kernel>,
    tails: AtomicU32,
    mode: Arc<Mode>,
    making: Making,
    /// When a read last got no answer.
    unanswered: Mutex<Option<(Instant, Error)>>,
    /// Until it is started.
    notifier: Mutex<Option<GrowthNotifier>>,
    _notifiers: DropGuard,
}

impl File {
    /// The file of `ino`; once its notifier is started, its growth since now is told to the kernel.
    pub(crate) fn open(ino: Ino, label: String, stream: Arc<Stream>, reader: Reader, context: Context) -> Arc<File> {
        let Context { store, inodes, kernel, runtime } = context;
        let complete = stream.progress().borrow().complete;
        let told = inodes.told_size(ino);
        let state = match told {
            Some(size) => State { announced: size, time: None, known: true, ends: true, settled: true, telling: false },
            None => State { announced: MARKER, time: None, known: false, ends: false, settled: false, telling: false },
        };
        // A commit is in the catalogue, and so in attributes, a moment before the stream's own progress tells of it.
        let is_complete = || complete || stream.row().is_ok_and(|row| row.extent.complete);
        debug_assert!(told.is_none() || is_complete(), "a size was told before it was known");
        let (notifier, _notifiers) =
            GrowthNotifier::new(Arc::clone(&kernel), reader.subscribe(), stream.progress(), runtime);
        Arc::new(File {
            ino,
            label,
            stream,
            reader,
            state: watch::Sender::new(state),
            inodes,
            kernel,
            tails: AtomicU32::new(0),
            mode: Arc::default(),
            making: Making::new(store),
            unanswered: Mutex::default(),
            notifier: Mutex::new(Some(notifier)),
            _notifiers,
        })
    }

    /// Its inode.
    pub(crate) fn inode(&self) -> Ino {
        self.ino
    }

    /// `group/stream`, for sentences.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// What its bytes are read from.
    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// How far it is made, if it isn't the stored text.
    pub(crate) fn making(&self) -> &Making {
        &self.making
    }

    /// How its opens are answered.
    pub(crate) fn mode(&self) -> &Arc<Mode> {
        &self.mode
    }

    /// One more open, of a file whose size the kernel has; it may read the text by itself where that `passes_through` and the text is whole.
    pub(crate) fn open_settled(&self, passes_through: bool) -> Open {
        let wanted = passes_through && self.mode.is_free() && self.reader.len() >= LEAST;
        // The reader may see more than the kernel knows from then on: it asks for the size.
        let (kernel, ino) = (Arc::clone(&self.kernel), self.ino);
        let text = wanted.then(|| self.reader.pass_through(Arc::new(move || kernel.forget_attributes(ino)))).and_then(
            |text| {
                text.unwrap_or_else(|error| {
                // A reader meets it and has it repaired.
                tracing::debug!(file = %printable(&self.label), %error, "the kernel doesn't read its text by itself");
                None
            })
            },
        );
        self.mode.open(text)
    }

    /// The size that attributes tell, and whether it is one.
    pub(crate) fn announced(&self) -> (u64, bool) {
        let state = *self.state.borrow();
        (state.announced, state.known)
    }

    /// The size that attributes tell, if it is one, and the time of the newest event in so many bytes, if that was told with it.
    pub(crate) fn announced_with_time(&self) -> Option<(u64, Option<Timestamp>)> {
        let state = *self.state.borrow();
        state.known.then_some((state.announced, state.time))
    }

    /// Waits a moment while the kernel is being told of growth. Of two answers with sizes that cross there the kernel takes one, the
    /// older perhaps, and gives each asker its own: one was told a size at which `sendfile` found the end too early. What is asked
    /// for before the kernel has the new size itself is answered after.
    ///
    /// `fuse_change_attributes`: <https://elixir.bootlin.com/linux/v6.12/source/fs/fuse/inode.c>.
    pub(crate) async fn told(&self) {
        if !self.state.borrow().telling {
            return;
        }
        let mut state = self.state.subscribe();
        // That may wait for a page whose reader waits for us. The size itself was raised first.
        let _ = tokio::time::timeout(TELLING, state.wait_for(|s| !s.telling)).await;
    }

    /// Serves an open now, if the kernel has the file's size as it is committed now and no call is needed.
    fn serves_now(&self, wanted: Wanted) -> bool {
        let state = *self.state.borrow();
        state.settled
            && self.reader.is_level()
            && state.announced >= self.reader.len()
            && self.stream.serves_now(wanted)
    }

    /// Waits until everything that the service showed at the call is committed and the kernel knows the size.
    pub(crate) async fn make_ready(self: &Arc<Self>, wanted: Wanted) -> Result<(), Error> {
        if self.serves_now(wanted) {
            return Ok(());
        }
        self.with_patience(self.stream.bring_up_to_date(wanted)).await?;
        self.with_patience(self.made(u64::MAX)).await?;
        let length = self.reader.len();
        let is_told = move |s: &State| s.settled && s.announced >= length;
        if is_told(&self.state.borrow()) {
            return Ok(());
        }
        self.start_notifier();
        let mut state = self.state.subscribe();
        let told = self.with_patience(async {
            let _ = state.wait_for(is_told).await;
            Ok(())
        });
        told.await
    }

    /// Makes sure that the order of events is known before a handle is given.
    pub(crate) async fn verify_index(self: &Arc<Self>) -> Result<(), Error> {
        let verified = match self.reader.unverified_index() {
            Ok(None) => return Ok(()),
            Ok(Some(bytes)) if bytes <= AT_ONCE => self.reader.verify_index(),
            Ok(Some(_)) => {
                let file = Arc::clone(self);
                let proof = tokio::task::spawn_blocking(move || file.reader.verify_index());
                // It reads and compares, and can't panic but by a defect.
                proof.await.unwrap_or(Ok(()))
            }
            Err(error) => Err(error),
        };
        match verified {
            Err(error) if matches!(error.kind, StoreErrorKind::Sick(_)) => Err(self.stream.lost(error).await),
            verified => verified.map_err(|error| self.damaged(&error)),
        }
    }

    /// Waits until everything that the service showed at the call is committed.
    pub(crate) async fn bring_up_to_date(&self) -> Result<(), Error> {
        self.with_patience(self.stream.bring_up_to_date(Wanted::Content)).await
    }

    /// Runs `work` until it ends or the stream makes no progress for [`PATIENCE`].
    pub(crate) async fn with_patience<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::pin!(work);
        let mut progress = self.stream.progress();
        let mut lengths = self.reader.subscribe();
        let mut patience = Deadline::after(PATIENCE);
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result,
                moved = progress.changed() => match moved {
                    Ok(()) => patience.renew(PATIENCE),
                    Err(_) => return Err(Error::new(ErrorKind::Stopping, &self.label, "the mount is stopping")),
                },
                // The sender lives in the file.
                _ = lengths.changed() => patience.renew(PATIENCE),
                () = patience.passed() => {
                    return Err(Error::new(
                        ErrorKind::TimedOut,
                        &self.label,
                        format!("no progress for {} s", PATIENCE.as_secs()),
                    ));
                }
            }
        }
    }

    /// The same, but fails at once where a read got no answer a moment ago.
    async fn unless_unanswered(&self, work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
        let known = lock(&self.unanswered).clone();
        if let Some((at, error)) = known
            && at.elapsed() < NO_ANSWER
        {
            return Err(error);
        }
        let done = self.with_patience(work).await;
        let unanswered =
            done.as_ref().err().filter(|e| matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::Unavailable));
        *lock(&self.unanswered) = unanswered.map(|error| (Instant::now(), error.clone()));
        done
    }

    /// Bytes up to the size that attributes tell, and those beyond that are there now; what was evicted or damaged is fetched again, and what
    /// isn't made is made first.
    pub(crate) async fn read(self: &Arc<Self>, offset: u64, size: usize) -> Result<Vec<u8>, Error> {
        let (announced, is_size) = self.announced();
        let wanted = offset.saturating_add(size as u64).min(announced);
        if is_size && self.reader.len() < wanted {
            self.unless_unanswered(self.made(wanted)).await?;
        }
        match self.reader.read_at(offset, size) {
            Err(error) if matches!(error.kind, StoreErrorKind::TextLost(_)) => {
                self.unless_unanswered(self.stream.repair(offset, size as u64)).await?;
                self.read_now(offset, size)
            }
            Err(error) if matches!(error.kind, StoreErrorKind::IndexLost(_) | StoreErrorKind::Sick(_)) => {
                Err(self.stream.lost(error).await)
            }
            other => other.map_err(|e| self.damaged(&e)),
        }
    }

    /// Bytes that are there now.
    fn read_now(&self, offset: u64, size: usize) -> Result<Vec<u8>, Error> {
        self.reader.read_at(offset, size).map_err(|e| self.damaged(&e))
    }

    /// Number of the newest failure of a transfer.
    pub(crate) fn failures(&self) -> u64 {
        self.stream.progress().borrow().failure.as_ref().map_or(0, |(number, _)| *number)
    }

    /// Bytes at `offset`, waiting at the frontier of a stream that is arriving; empty only at the end of file. Fails with the
    /// first failure after number `seen`.
    pub(crate) async fn read_streaming(
        self: &Arc<Self>,
        offset: u64,
        size: usize,
        seen: u64,
    ) -> Result<Vec<u8>, Error> {
        self.start_making();
        let making_fails = self.making_fails();
        tokio::pin!(making_fails);
        let mut lengths = self.reader.subscribe();
        let mut state = self.state.subscribe();
        let mut progress = self.stream.progress();
        let arrival = async {
            loop {
                let ends = state.borrow_and_update().ends;
                if *lengths.borrow_and_update() > offset || ends {
                    return Ok(());
                }
                if let Some((number, error)) = &progress.borrow_and_update().failure
                    && *number > seen
                {
                    return Err(error.clone());
                }
                tokio::select! {
                    r = lengths.changed() => self.alive(r)?,
                    r = state.changed() => self.alive(r)?,
                    r = progress.changed() => self.alive(r)?,
                    error = &mut making_fails => return Err(error),
                }
            }
        };
        self.with_patience(arrival).await?;
        self.read(offset, size).await
    }

    /// Whether a streaming read at `offset` could be answered at once.
    pub(crate) fn has(&self, offset: u64) -> bool {
        self.reader.len() > offset || self.state.borrow().ends
    }

    /// Waits until there is a byte at `offset`, at most `time`.
    pub(crate) async fn wait_for_growth(&self, offset: u64, time: Duration) {
        let mut lengths = self.reader.subscribe();
        let _ = tokio::time::timeout(time, lengths.wait_for(|length| *length > offset)).await;
    }

    /// A tail holds the end alone: until it lets go, attributes are asked for each time.
    pub(crate) fn add_tail(&self) {
        self.tails.fetch_add(1, Ordering::SeqCst);
    }

    /// One such tail less.
    pub(crate) fn remove_tail(&self) {
        self.tails.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn has_tails(&self) -> bool {
        self.tails.load(Ordering::SeqCst) > 0
    }

    /// How long the file is, and its newest event's time; both of one moment, as far as that can be told.
    fn length_and_time(&self) -> (u64, Option<Timestamp>) {
        // In this order: what is shown later isn't in the row.
        let row = self.stream.row();
        let length = self.reader.len();
        match row {
            Ok(row) if !self.reader.is_text() => (length, row.extent.newest),
            // What was committed since is told next.
            Ok(row) if row.extent.text_len <= length => (row.extent.text_len, row.extent.newest),
            // A commit isn't shown yet.
            Ok(_) | Err(_) => (length, self.state.borrow().time),
        }
    }

    fn announce(&self, length: u64, time: Option<Timestamp>) {
        if let Err(error) = self.reader.is_told() {
            tracing::debug!(file = %printable(&self.label), %error, "its size may be unknown after a restart");
        }
        self.inodes.told(self.ino, length);
        self.state.send_modify(|s| {
            s.announced = length;
            s.time = time;
            s.known = true;
        });
    }

    fn store(&self, pages: &dyn Pages, from: u64, to: u64) {
        let mut at = from;
        while at < to {
            let size = CHUNK.min(to - at);
            match self.reader.read_at(at, size as usize) {
                Ok(bytes) if !bytes.is_empty() => {
                    pages.store(self.ino, at, &bytes);
                    at += bytes.len() as u64;
                }
                // The kernel then reads for itself, and meets the same error.
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// All of the stream is here, and of another format all of it is made.
    fn is_whole(&self) -> bool {
        self.stream.progress().borrow().complete && self.reader.is_level()
    }

    fn alive<T, E>(&self, result: Result<T, E>) -> Result<(), Error> {
        result.map(drop).map_err(|_| Error::new(ErrorKind::Stopping, &self.label, "the mount is stopping"))
    }

    pub(crate) fn damaged(&self, error: &StoreError) -> Error {
        crate::fetch::store_error(&self.label, error)
    }
}

impl Content for File {
    fn inode(&self) -> Ino {
        self.ino
    }

    fn tell(&self, pages: &dyn Pages) -> bool {
        let state = *self.state.borrow();
        let (length, time) = self.length_and_time();
        if !state.known {
            if !self.is_whole() {
                return false;
            }
            // Reads serve all data already; from here attributes say the size, and only after that streams may end.
            self.announce(length, time);
            self.state.send_modify(|s| s.ends = true);
            // A splice on an unfinished direct handle leaves zero-padded pages behind.
            pages.invalidate(self.ino, 0);
            if length > 0 {
                self.store(pages, (length - 1) & !(PAGE - 1), length);
            }
            self.state.send_modify(|s| s.settled = true);
            return false;
        }
        if length <= state.announced {
            return false;
        }
        let from = state.announced & !(PAGE - 1);
        pages.invalidate(self.ino, from);
        self.state.send_modify(|s| s.telling = true);
        self.announce(length, time);
        // From the old end: storing just the last page leaves zeros when growth crosses a page.
        self.store(pages, from, length);
        self.state.send_modify(|s| {
            s.settled = true;
            s.telling = false;
        });
        true
    }
}

impl Grows for File {
    fn is_due(&self) -> bool {
        let state = *self.state.borrow();
        if state.known { self.reader.len() > state.announced } else { self.is_whole() }
    }

    // What a commit couldn't be added to is made further.
    fn goes_on(self: &Arc<Self>) {
        self.start_making();
    }

    fn start_notifier(self: &Arc<Self>) {
        let notifier = lock(&self.notifier).take();
        if let Some(notifier) = notifier {
            notifier.start(Arc::downgrade(self));
        }
    }
}
