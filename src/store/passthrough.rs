//! A stream's text file that the kernel reads by itself, without asking (FUSE passthrough).
//!
//! Such a reader sees whatever the file holds, at once and past every length that it is told. So from the moment that a text is open so
//! its file holds committed bytes and nothing else, and all of them:
//!
//! * It is opened so only if each block of it is verified, the committer is not about to write, and beyond its committed length it holds nothing, or
//!   text of live rows; what it lacks of them is written to it first.
//! * While it is open so, new text is committed as a live row first, however long it is. After that commit, and before readers are told
//!   of the new length, the same bytes are written at the end of the file, where a later move of the row to the file writes them again.
//!   Where that fails readers are told nothing, and the stream's append is refused though it is committed: it is tried again with the next
//!   one, or once the stream's files are made anew, until all who read so have let go.
//! * Before anything is written so, the tree's file that opened it is told: the size that the kernel knows is about to be too small
//!   (see [`Grows`]).
//! * Nothing that was written so is cut off while the text is open so.
//!
//! Files whose text is wanted aren't evicted, and blocks that were verified aren't repaired. Another program that cuts or changes the file is
//! seen, as on any file.

use super::StoreError;
use super::disk::DiskFile;
use super::live::{Context, Held, Live, State};
use crate::sync::lock;
use opens::Grows;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(crate) mod opens;

/// The text file of a stream: all that is committed and nothing else, until it is dropped.
pub struct Passthrough {
    context: Arc<Context>,
    live: Held,
    /// Set once it was looked at and found whole.
    file: Option<Arc<dyn DiskFile>>,
}

impl Passthrough {
    /// Opens a stream's text so, if its file is the whole of it.
    pub(crate) fn of(context: &Arc<Context>, live: &Held, grows: Grows) -> Result<Option<Passthrough>, StoreError> {
        // Each takes a descriptor for as long as it is open.
        if context.passthrough_count.load(Ordering::Relaxed) >= context.pools.passthrough {
            return Ok(None);
        }
        if lock(&live.passthrough_file).is_some() || !live.passthroughs.begin(grows) {
            return Ok(None);
        }
        // From here on dropping it gives it back.
        let mut passthrough = Passthrough { context: Arc::clone(context), live: live.clone(), file: None };
        // After the count: a row that is committed now either is met here or meets the count and is written to the file.
        let found = live.with(context, |state| {
            let file = live.text(context, state)?;
            let is_whole = file.descriptor().is_some() && state.is_beginning(&*file) && live.mirror(context, state);
            Ok(is_whole.then(|| (file, state.filed())))
        })?;
        let Some((file, filed)) = found else { return Ok(None) };
        if !live.unverified(context, &filed, 0, filed.place.text, 1)?.is_empty() {
            return Ok(None);
        }
        context.passthrough_count.fetch_add(1, Ordering::Relaxed);
        passthrough.file = Some(file);
        Ok(Some(passthrough))
    }

    /// The file.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref()?.descriptor()
    }

    /// Bytes that a reader may see now. `None` where that can't be told.
    pub(crate) fn len(&self) -> Option<u64> {
        self.file.as_ref()?.len().ok()
    }
}

impl Drop for Passthrough {
    fn drop(&mut self) {
        if self.file.is_some() {
            self.context.passthrough_count.fetch_sub(1, Ordering::Relaxed);
        }
        if self.live.passthroughs.end() {
            *lock(&self.live.passthrough_file) = None;
            lock(&self.context.unshown).remove(&self.live.id);
            // Readers who ask were kept waiting where a row could not be written to the file.
            let shown = self.live.with(&self.context, |state| Ok(state.text_len));
            if let Ok(len) = shown {
                self.live.show(len);
            }
        }
    }
}

impl State {
    /// Whether a file that holds what it must holds beyond that only live rows' text, or its beginning.
    fn is_beginning(&self, file: &dyn DiskFile) -> bool {
        let Ok(len) = file.len() else { return false };
        if len < self.place.text || len > self.text_len {
            return false;
        }
        let size = (len - self.place.text) as usize;
        let (mut there, mut rows) = (vec![0; size], vec![0; size]);
        self.copy_tail(self.place.text, &mut rows);
        file.read_exact_at(&mut there, self.place.text).is_ok() && there == rows
    }
}

impl Live {
    /// Writes live rows to the file that the kernel reads. False: that failed, and no reader may be told of them yet; `unshown` says why.
    pub(crate) fn mirror(&self, context: &Context, state: &mut State) -> bool {
        let written = self.write_rows(context, state).map_err(|error| error.of_stream(self.id));
        let mut unshown = lock(&context.unshown);
        match written {
            Ok(()) => drop(unshown.remove(&self.id)),
            Err(error) => drop(unshown.insert(self.id, error)),
        }
        !unshown.contains_key(&self.id)
    }

    fn write_rows(&self, context: &Context, state: &mut State) -> Result<(), StoreError> {
        if !self.passthroughs.is_any() || state.tail.is_empty() {
            return Ok(());
        }
        let open = lock(&self.passthrough_file).clone();
        let file = open.map_or_else(|| self.text(context, state), Ok)?;
        let (_, path) = context.paths(self.id, "text");
        let failed = |e: std::io::Error| StoreError::io("write", &path, &e);
        let from = file.len().map_err(failed)?;
        // A file that is too short isn't ours any more: its reader meets that.
        if from < state.place.text || from >= state.text_len {
            return Ok(());
        }
        let mut bytes = vec![0; (state.text_len - from) as usize];
        state.copy_tail(from, &mut bytes);
        self.passthroughs.grows();
        file.write_all_at(&bytes, from).map_err(failed)
    }

    /// Another file is about to take the text's place: the kernel goes on with this one for as long as it has it open.
    pub(crate) fn keep_for_the_kernel(&self, context: &Context) -> Result<(), StoreError> {
        if self.passthroughs.is_any() {
            let file = self.with(context, |state| self.text(context, state))?;
            lock(&self.passthrough_file).get_or_insert(file);
        }
        Ok(())
    }

    /// Tells readers of a length, if it is news.
    pub(crate) fn show(&self, len: u64) {
        self.len.send_if_modified(|shown| std::mem::replace(shown, len.max(*shown)) < len);
    }
}
