//! A stream shown in another format: a file made from text and index, thrown away at will.
//!
//! It is a pure function of the committed events, so it is never synced and is wiped when the store is opened. Those who read it have it
//! made, step by step, until it is level with the stream. From then on the committer extends it before it lets the canonical length move;
//! one that is still being made it leaves to them, and never waits for it longer than a step. One that it can't extend is level no more,
//! so that its length isn't taken for the file's size.

use super::StoreError;
use super::catalogue::{Catalogue, Size};
use super::disk::{Disk, DiskFile};
use crate::model::StreamId;
use crate::render::Format;
use crate::sync::lock;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// One stream in one format.
pub(crate) struct Rendition {
    pub(crate) format: Format,
    stream: StreamId,
    disk: Arc<dyn Disk>,
    /// Bytes in all renditions.
    pub(crate) rendered: Arc<AtomicU64>,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Held for one step: there is one appender, and no reader reads behind `len`.
    pub(crate) made: Mutex<Made>,
    /// It shows all that is committed, and the committer keeps it so. Changed under `made`.
    pub(crate) level: AtomicBool,
    pub(crate) len: watch::Sender<u64>,
}

#[derive(Default)]
pub(crate) struct Made {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    /// Bytes of the stream's text that these events take.
    pub(crate) text: u64,
}

impl Rendition {
    /// An empty one, in a new file.
    pub(crate) fn new(
        stream: StreamId,
        format: &Format,
        (path, file): (PathBuf, Arc<dyn DiskFile>),
        disk: Arc<dyn Disk>,
        rendered: Arc<AtomicU64>,
    ) -> Rendition {
        Rendition {
            format: format.clone(),
            stream,
            disk,
            rendered,
            path,
            file,
            made: Mutex::default(),
            level: AtomicBool::new(false),
            len: watch::Sender::new(0),
        }
    }

    /// It shows all that is committed.
    pub(crate) fn is_level(&self) -> bool {
        self.level.load(Ordering::SeqCst)
    }

    /// How much of the stream's text it shows, in bytes of that text.
    pub(crate) fn text(&self) -> u64 {
        lock(&self.made).text
    }

    /// Its length was told as the file's size, and must be told again after a restart.
    pub(crate) fn is_told(&self, catalogue: &Catalogue) -> Result<(), StoreError> {
        let size = {
            let made = lock(&self.made);
            Size { events: made.events, bytes: made.bytes }
        };
        catalogue.set_size(self.stream, self.format.number(), size)
    }

    /// Up to `size` bytes at `offset`.
    pub(crate) fn read_at(&self, offset: u64, size: usize) -> Result<Vec<u8>, StoreError> {
        let end = offset.saturating_add(size as u64).min(*self.len.borrow());
        let mut out = vec![0; end.saturating_sub(offset) as usize];
        self.file.read_exact_at(&mut out, offset).map_err(|e| StoreError::io("read", &self.path, &e))?;
        Ok(out)
    }
}

impl Drop for Rendition {
    fn drop(&mut self) {
        self.rendered.fetch_sub(lock(&self.made).bytes, Ordering::Relaxed);
        // A file that stays is wiped at the next start.
        let _ = self.disk.remove(&self.path);
    }
}
