//! Text written again: a block that was evicted or damaged is filled from events that the service is asked for once more.
//!
//! The index knows each event's place, so they may come in any order; what is there already is kept. A crash leaves blocks that don't
//! prove right, and the next reader has them repaired again; text that was evicted counts as whole, so that what it lacks later is damage,
//! only once all of it is synced.

use super::directory::Block;
use super::disk::DiskFile;
use super::index::Entry;
use super::live::{Context, Held, Live};
use super::verify::{is_whole, spans, text_of};
use super::{Store, StoreError, event_key};
use crate::model::{LogEvent, Span, StreamId, Timestamp};
use crate::sync::lock;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Blocks that are repaired together: what is read again for them is one span of time.
const BLOCKS: usize = 256;
/// Bytes of text that are repaired together, unless one block alone has more.
const BYTES: u64 = 32 << 20;

/// Blocks of one stream's text that wait for their events.
pub struct Repair {
    context: Arc<Context>,
    live: Held,
    /// The text wasn't taken away by eviction: the disk lost or changed it.
    damaged: bool,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    blocks: Vec<IncompleteBlock>,
    /// Where each missing event belongs; identical events have identical text, so one fills all places.
    missing: HashMap<(Timestamp, u64), Vec<MissingEvent>>,
}

/// A block that isn't what was committed.
struct IncompleteBlock {
    block: Block,
    text: Vec<u8>,
    missing: usize,
}

#[derive(Clone, Copy)]
struct MissingEvent {
    /// In `blocks`.
    block: usize,
    /// Place and length in the block's text, its newline included.
    at: usize,
    len: usize,
}

impl Store {
    /// What has to be read again so that the text from `offset` on is whole, as far as one step goes; `None` if there `size` bytes
    /// are what was committed. May take as long as reading 32 MiB.
    pub fn repair(&self, id: StreamId, offset: u64, size: u64) -> Result<Option<Repair>, StoreError> {
        let live = Held::of(self.context.live(id)?);
        let filed = live.with(&self.context, |state| Ok(state.filed()))?;
        let end = offset.saturating_add(size).min(filed.place.text);
        if offset >= end || live.unverified(&self.context, &filed, offset, end, 1)?.is_empty() {
            return Ok(None);
        }
        let (_, path) = self.context.paths(id, "text");
        let (file, damaged) = self.open_again(&live, filed.place.text)?;
        let index = self.context.index_file(id)?;
        let (context, missing) = (Arc::clone(&self.context), HashMap::new());
        let mut repair = Repair { context, live, damaged, file, path, blocks: Vec::new(), missing };
        let mut bytes = 0;
        // Past the bytes that are asked for: who reads a damaged file reads on.
        for block in repair.live.unverified(&self.context, &filed, offset, u64::MAX, 4 * BLOCKS)? {
            bytes += block.head.text_len;
            if repair.blocks.len() >= BLOCKS || (bytes > BYTES && !repair.blocks.is_empty()) {
                break;
            }
            repair.add(block, &index.entries(&block)?)?;
        }
        if repair.blocks.is_empty() {
            repair.is_done()?;
        }
        Ok(Some(repair).filter(|repair| !repair.blocks.is_empty()))
    }

    /// The text file, made again if it isn't there, as long as what was committed: what was lost is zeros, and proves nothing.
    /// Also whether it should have been there.
    fn open_again(&self, live: &Live, committed: u64) -> Result<(Arc<dyn DiskFile>, bool), StoreError> {
        let context = &self.context;
        let (dir, path) = context.paths(live.id, "text");
        context.disk.make_dir(&dir).map_err(|e| StoreError::io("make", &dir, &e).of_stream(live.id))?;
        let was_there = context.catalogue.text_is_there(live.id)?;
        let file = context.open(&path, true).map_err(|e| StoreError::io("open", &path, &e).of_stream(live.id))?;
        if file.len().map_err(|e| StoreError::io("look at", &path, &e).of_stream(live.id))? < committed {
            file.truncate(committed).map_err(|e| StoreError::io("lengthen", &path, &e).of_stream(live.id))?;
            live.text_is_another();
            context.catalogue.text_is_back(live.id)?;
        }
        Ok((file, was_there))
    }
}

/// The disk failed on a file of this stream.
fn failed(id: StreamId, what: &str, path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::io(what, path, error).of_stream(id)
}

impl Repair {
    fn add(&mut self, block: Block, entries: &[Entry]) -> Result<(), StoreError> {
        let text = text_of(&block, &*self.file).map_err(|e| self.failed("read", &e))?;
        let mut incomplete = IncompleteBlock { block, text, missing: 0 };
        for (entry, at) in spans(entries) {
            if !is_whole(entry, &incomplete.text[at..]) {
                let place = MissingEvent { block: self.blocks.len(), at, len: entry.text_len() as usize };
                self.missing.entry((entry.timestamp, entry.hash)).or_default().push(place);
                incomplete.missing += 1;
            }
        }
        if incomplete.missing == 0 {
            lock(&self.live.directory).is_verified(block.number);
        } else {
            self.blocks.push(incomplete);
        }
        Ok(())
    }

    fn failed(&self, what: &str, error: &std::io::Error) -> StoreError {
        failed(self.live.id, what, &self.path, error)
    }

    /// Whether the disk lost or changed the text, rather than eviction.
    pub fn is_damage(&self) -> bool {
        self.damaged
    }

    /// When the missing events are stamped; `None` if none is missing any more.
    pub fn span(&self) -> Option<Span> {
        let times = || self.missing.keys().map(|(timestamp, _)| *timestamp);
        let (least, greatest) = (times().min()?, times().max()?);
        Some(Span { start: least, end: Timestamp(greatest.0.saturating_add(1)) })
    }

    /// Events that are missing still.
    pub fn missing(&self) -> usize {
        self.blocks.iter().map(|incomplete| incomplete.missing).sum()
    }

    /// Puts events where they belong; those that belong nowhere are passed over.
    pub fn take(&mut self, events: &[LogEvent]) -> Result<(), StoreError> {
        if self.missing.is_empty() {
            return Ok(());
        }
        for event in events {
            for place in self.missing.remove(&event_key(event)).unwrap_or_default() {
                let incomplete = &mut self.blocks[place.block];
                let own = &mut incomplete.text[place.at..place.at + place.len];
                let (message, newline) = own.split_at_mut(event.message.len().min(place.len));
                message.copy_from_slice(&event.message.as_bytes()[..message.len()]);
                newline.fill(b'\n');
                incomplete.missing -= 1;
                if incomplete.missing == 0 {
                    let written = self.file.write_all_at(&incomplete.text, incomplete.block.text);
                    written.map_err(|e| failed(self.live.id, "write", &self.path, &e))?;
                    lock(&self.live.directory).is_verified(incomplete.block.number);
                    incomplete.text = Vec::new();
                }
            }
        }
        if self.missing.is_empty() { self.is_done() } else { Ok(()) }
    }

    /// Nothing is missing here any more. If that goes for all of a text that was taken away, it is as good as never taken.
    fn is_done(&self) -> Result<(), StoreError> {
        let filed = self.live.with(&self.context, |state| Ok(state.filed()))?;
        if self.damaged || !self.live.unverified(&self.context, &filed, 0, u64::MAX, 1)?.is_empty() {
            return Ok(());
        }
        let (dir, _) = self.context.paths(self.live.id, "text");
        self.file.sync().map_err(|e| self.failed("sync", &e))?;
        self.context.disk.sync_dir(&dir).map_err(|e| failed(self.live.id, "sync", &dir, &e))?;
        self.context.catalogue.text_is_whole(self.live.id)
    }

    /// Keeps what was found for blocks that stay incomplete, for the next attempt.
    pub fn keep(&self) -> Result<(), StoreError> {
        for incomplete in self.blocks.iter().filter(|incomplete| incomplete.missing > 0) {
            self.file.write_all_at(&incomplete.text, incomplete.block.text).map_err(|e| self.failed("write", &e))?;
        }
        Ok(())
    }

    /// Bytes of the blocks that this repairs.
    pub fn bytes(&self) -> u64 {
        self.blocks.iter().map(|incomplete| incomplete.block.head.text_len).sum()
    }

    /// Where the first block that isn't whole begins and ends in the text.
    pub fn first_incomplete(&self) -> Option<(u64, u64)> {
        let incomplete = self.blocks.iter().find(|incomplete| incomplete.missing > 0)?;
        Some((incomplete.block.text, incomplete.block.text + incomplete.block.head.text_len))
    }
}
