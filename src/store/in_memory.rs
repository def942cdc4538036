//! A store on a disk in memory that forgets, for tests of what stands on it.

pub(crate) use super::disk::crash::{CrashDisk, Failing, Unsynced};

use super::catalogue::crash::opener;
use super::{Store, StoreError, writer};
use crate::model::{LogEvent, StreamId};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

impl Store {
    /// Opens the store on `disk`. Its committer is a task of the current runtime, so that paused time waits for it.
    pub(crate) fn open_in_memory(disk: &CrashDisk) -> Result<Arc<Store>, StoreError> {
        let dir = Path::new("/cache");
        let context = Store::open_room(dir, Arc::new(disk.clone()), || Ok(opener(disk, &dir.join("catalogue.redb"))))?;
        let (requests, queue) = mpsc::channel(writer::QUEUE);
        tokio::spawn(writer::run_as_task(Arc::clone(&context), queue));
        Ok(Arc::new(Store {
            context,
            requests: Some(requests),
            committer: None,
            vouched: Mutex::default(),
            rebuilt: None,
        }))
    }

    /// Where a stream's text is, or its index.
    pub(crate) fn file_of(&self, id: StreamId, text: bool) -> PathBuf {
        self.context.paths(id, if text { "text" } else { "index" }).1
    }

    /// Every committed event of a stream, as its index tells them, in the order of the text.
    pub(crate) fn events(&self, id: StreamId) -> Result<Vec<LogEvent>, StoreError> {
        let live = self.context.live(id)?;
        let mut events = Vec::new();
        loop {
            let more = live.events_from(&self.context, events.len() as u64)?;
            if more.is_empty() {
                return Ok(events);
            }
            events.extend(more);
        }
    }
}
