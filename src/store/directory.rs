//! Which blocks a stream's index file has: built by reading block headers once, extended as blocks are added.
//!
//! With it the events of a time span, or from the n-th on, are found without decoding the rest. Blocks are decoded, and their checksums
//! verified, each time they are needed.

use super::StoreError;
use super::catalogue::Place;
use super::disk::DiskFile;
use super::index::{BLOCK_HEADER, BlockHead, Entry, FILE_HEADER_MAX, Identity};
use super::trouble::is_missing;
use crate::model::StreamId;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// The blocks known so far.
#[derive(Default)]
pub(crate) struct Directory {
    blocks: Vec<Block>,
    /// Index bytes, events and text bytes that they cover, the file's header included.
    index: u64,
    events: u64,
    text: u64,
}

#[derive(Clone, Copy)]
pub(crate) struct Block {
    pub(crate) head: BlockHead,
    /// Its place in the index.
    pub(crate) number: usize,
    /// Offset of the payload in the index file.
    payload: u64,
    pub(crate) first_event: u64,
    /// Offset of the first event's text.
    pub(crate) text: u64,
    /// Its text was found to be what was committed, since the store was opened or the text was last taken away.
    verified: bool,
}

/// What of a stream is in its files, and whose they are.
pub(crate) struct Filed {
    pub(crate) place: Place,
    pub(crate) identity: Arc<Identity>,
}

/// The index file of one stream, open for as long as one question takes.
pub(crate) struct IndexFile {
    id: StreamId,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
}

impl IndexFile {
    /// Of what opening `path` gave.
    pub(crate) fn of(
        id: StreamId,
        path: PathBuf,
        opened: io::Result<Arc<dyn DiskFile>>,
    ) -> Result<IndexFile, StoreError> {
        match opened {
            Ok(file) => Ok(IndexFile { id, file, path }),
            Err(e) if is_missing(&e) => Err(StoreError::index_lost(id, &path, "it isn't there")),
            Err(e) => Err(StoreError::io("open", &path, &e).of_stream(id)),
        }
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; len];
        match self.file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(bytes),
            Err(e) if is_missing(&e) => Err(self.lost("it is shorter than what was committed")),
            Err(e) => Err(StoreError::io("read", &self.path, &e).of_stream(self.id)),
        }
    }

    pub(crate) fn entries(&self, block: &Block) -> Result<Vec<Entry>, StoreError> {
        let payload = self.read(block.payload, block.head.payload_len as usize)?;
        block.head.entries(&payload).ok_or_else(|| self.lost("a block's checksum is wrong"))
    }

    fn lost(&self, what: &str) -> StoreError {
        StoreError::index_lost(self.id, &self.path, what)
    }
}

impl Directory {
    /// Blocks known.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Takes in the blocks up to what `state` says is committed.
    pub(crate) fn extend(&mut self, index: &IndexFile, filed: &Filed) -> Result<(), StoreError> {
        if self.index == 0 {
            let head = index.read(0, FILE_HEADER_MAX.min(filed.place.index as usize))?;
            let (identity, len) = Identity::decode(&head).ok_or_else(|| index.lost("its header is unreadable"))?;
            if !identity.agrees(&filed.identity) {
                return Err(index.lost("it belongs to another stream"));
            }
            self.index = len as u64;
        }
        while self.index < filed.place.index {
            let head = BlockHead::decode(&index.read(self.index, BLOCK_HEADER)?)
                .ok_or_else(|| index.lost("a block's header is unreadable"))?;
            let payload = self.index + BLOCK_HEADER as u64;
            self.index = payload + u64::from(head.payload_len);
            if head.is_mark() {
                continue;
            }
            self.blocks.push(Block {
                head,
                number: self.blocks.len(),
                payload,
                first_event: self.events,
                text: self.text,
                verified: false,
            });
            self.events += u64::from(head.events);
            self.text += head.text_len;
        }
        if (self.index, self.events, self.text) == (filed.place.index, filed.place.events, filed.place.text)
            || self.index > filed.place.index
        {
            Ok(())
        } else {
            *self = Directory::default();
            Err(index.lost("it doesn't fit the committed lengths"))
        }
    }

    /// Takes in the blocks that are committed, unless it has them.
    pub(crate) fn bring_up_to(
        &mut self,
        filed: &Filed,
        open: impl FnOnce() -> Result<IndexFile, StoreError>,
    ) -> Result<(), StoreError> {
        if self.index < filed.place.index { self.extend(&open()?, filed) } else { Ok(()) }
    }

    /// The blocks before event number `events`: those that are committed.
    pub(crate) fn committed(&self, events: u64) -> &[Block] {
        &self.blocks[..self.blocks.partition_point(|block| block.first_event < events)]
    }

    /// The block that has event number `event`, which is committed.
    pub(crate) fn block_of(&self, event: u64) -> Block {
        let after = self.blocks.partition_point(|block| block.first_event <= event);
        // The first block begins with event 0, so there is one at or before any event.
        self.blocks[after.saturating_sub(1)]
    }

    /// Blocks with text in `from..to` that aren't verified yet, at most `max`.
    pub(crate) fn unverified(&self, from: u64, to: u64, max: usize) -> Vec<Block> {
        let first = self.blocks.partition_point(|b| b.text + b.head.text_len <= from);
        let met = self.blocks[first..].iter().take_while(|b| b.text < to);
        met.filter(|b| !b.verified).take(max).copied().collect()
    }

    /// The text of block `number` is what was committed.
    pub(crate) fn is_verified(&mut self, number: usize) {
        if let Some(block) = self.blocks.get_mut(number) {
            block.verified = true;
        }
    }

    /// The text was taken away.
    pub(crate) fn nothing_is_verified(&mut self) {
        self.blocks.iter_mut().for_each(|block| block.verified = false);
    }
}
