//! A stream as it is read: its text, or a rendition of it.

use super::StoreError;
use super::live::{Context, Held};
use super::passthrough::{self, Passthrough};
use super::rendering;
use super::rendition::Rendition;
use std::sync::Arc;
use tokio::sync::watch;

/// Reads one stream in one format; while it lives the stream's text isn't evicted.
pub struct Reader {
    pub(super) context: Arc<Context>,
    pub(super) live: Held,
    pub(super) rendition: Option<Arc<Rendition>>,
}

impl Reader {
    /// Bytes of the stream's index, if they weren't verified since the stream was last wanted.
    pub fn unverified_index(&self) -> Result<Option<u64>, StoreError> {
        self.live.unverified_index(&self.context)
    }

    /// Reads the whole index and fails unless it is what was written: better at an open, which can begin anew, than at a read, which
    /// can't.
    pub fn verify_index(&self) -> Result<(), StoreError> {
        self.live.verify_index(&self.context)
    }

    /// Readable bytes now: committed, only ever growing.
    pub fn len(&self) -> u64 {
        *self.watched().borrow()
    }

    /// Nothing can be read yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells of each growth of `len`.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.watched().subscribe()
    }

    /// It reads the stored text, rather than another format.
    pub fn is_text(&self) -> bool {
        self.rendition.is_none()
    }

    /// Whether `len` is all that is committed: of text always, of another format once it was made. One that was is kept so by each commit,
    /// unless that fails.
    pub fn is_level(&self) -> bool {
        self.rendition.as_ref().is_none_or(|rendition| rendition.is_level())
    }

    /// Makes about a megabyte more of a format other than the text's; true if that is all. For a thread that may work: it takes as long as
    /// reading and writing that much. Refused where it would take room that has to stay free.
    pub fn make(&self) -> Result<bool, StoreError> {
        self.rendition
            .as_ref()
            .map_or(Ok(true), |rendition| rendering::make(&self.context, self.live.live(), rendition))
    }

    /// Bytes of the stream's text that are shown in a format other than its own.
    pub fn made_of(&self) -> u64 {
        self.rendition.as_ref().map_or(0, |rendition| rendition.text())
    }

    /// The length of a complete stream was told as the file's size: remembers it over restarts, see [`Store::told_size`](super::Store::told_size).
    pub fn is_told(&self) -> Result<(), StoreError> {
        self.rendition.as_ref().map_or(Ok(()), |rendition| rendition.is_told(&self.context.catalogue))
    }

    /// Up to `size` bytes at `offset`; shorter only at `len`. A pread or two: may run on any thread.
    pub fn read_at(&self, offset: u64, size: usize) -> Result<Vec<u8>, StoreError> {
        match &self.rendition {
            Some(rendition) => rendition.read_at(offset, size),
            None => self.live.read_at(&self.context, offset, size),
        }
    }

    /// The text file, for a reader that doesn't ask; `None` if it isn't the whole text, or the format isn't the text's. `grows` is called
    /// before it grows.
    pub(crate) fn pass_through(&self, grows: passthrough::opens::Grows) -> Result<Option<Passthrough>, StoreError> {
        if self.rendition.is_some() { Ok(None) } else { Passthrough::of(&self.context, &self.live, grows) }
    }

    fn watched(&self) -> &watch::Sender<u64> {
        self.rendition.as_ref().map_or(&self.live.len, |rendition| &rendition.len)
    }
}
