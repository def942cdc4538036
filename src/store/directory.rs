//! Which blocks a stream's index file has: built by reading block headers once, extended as blocks are added.
//!
//! With it the events of a time span, or from the n-th on, are found without decoding the rest. Blocks are decoded, and their checksums
//! verified, each time they are needed.

use super::disk::DiskFile;
use super::index::{BLOCK_HEADER, BlockHead, Entry, FILE_HEADER_MAX, Identity};
use super::live::{Context, Filed, Live};
use super::trouble::is_missing;
use super::{Counts, StoreError};
use crate::model::{Hours, LogEvent, Span, StreamId, Timestamp};
use crate::sync::lock;
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
    first_event: u64,
    /// Offset of the first event's text.
    pub(crate) text: u64,
    /// Its text was found to be what was committed, since the store was opened or the text was last taken away.
    verified: bool,
}

/// The index file of one stream, open for as long as one question takes.
pub(crate) struct IndexFile {
    id: StreamId,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
}

impl IndexFile {
    pub(crate) fn open(context: &Context, id: StreamId) -> Result<IndexFile, StoreError> {
        let (_, path) = context.paths(id, "index");
        match context.open(&path, false) {
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
    fn extend(&mut self, index: &IndexFile, filed: &Filed) -> Result<(), StoreError> {
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
    pub(crate) fn bring_up_to(&mut self, context: &Context, id: StreamId, filed: &Filed) -> Result<(), StoreError> {
        if self.index < filed.place.index { self.extend(&IndexFile::open(context, id)?, filed) } else { Ok(()) }
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

impl Live {
    /// Every block that is committed.
    pub(crate) fn blocks(&self, context: &Context, filed: &Filed) -> Result<Vec<Block>, StoreError> {
        let mut directory = lock(&self.directory);
        directory.bring_up_to(context, self.id, filed)?;
        Ok(directory.blocks.iter().take_while(|block| block.first_event < filed.place.events).copied().collect())
    }

    /// Shows `see` the entries of every block that `wanted` chooses, then those of the live rows.
    fn scan(
        &self,
        context: &Context,
        wanted: impl Fn(&BlockHead) -> bool,
        mut see: impl FnMut(&Entry),
    ) -> Result<(), StoreError> {
        let state = self.snapshot(context)?;
        if state.place.events > 0 {
            let index = IndexFile::open(context, self.id)?;
            let blocks: Vec<Block> = {
                let mut directory = lock(&self.directory);
                directory.extend(&index, &state.filed())?;
                let committed = directory.blocks.partition_point(|b| b.first_event < state.place.events);
                directory.blocks[..committed].iter().filter(|b| wanted(&b.head)).copied().collect()
            };
            for block in &blocks {
                index.entries(block)?.iter().for_each(&mut see);
            }
        }
        state.tail.iter().flat_map(|row| &row.entries).for_each(see);
        Ok(())
    }

    /// Shows `see` the entries stamped inside `span`.
    fn scan_span(&self, context: &Context, span: Span, mut see: impl FnMut(&Entry)) -> Result<(), StoreError> {
        let inside = |entry: &Entry| {
            if span.contains(entry.timestamp) {
                see(entry)
            }
        };
        self.scan(context, |head| head.meets(span), inside)
    }

    /// How many events of each kind are stamped inside `span`.
    pub(crate) fn counts(&self, context: &Context, span: Span) -> Result<Counts, StoreError> {
        let mut counts = Counts::new();
        self.scan_span(context, span, |entry| *counts.entry((entry.timestamp, entry.hash)).or_default() += 1)?;
        Ok(counts)
    }

    /// How many events are stamped in each hour inside `span`.
    pub(crate) fn hours(&self, context: &Context, span: Span) -> Result<Hours, StoreError> {
        let mut hours = Hours::new();
        self.scan_span(context, span, |entry| *hours.entry(entry.timestamp.hour()).or_default() += 1)?;
        Ok(hours)
    }

    /// Least timestamp inside `span` of an event taken in at or after `ingested`.
    pub(crate) fn oldest_ingested_since(
        &self,
        context: &Context,
        span: Span,
        ingested: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let mut oldest: Option<Timestamp> = None;
        self.scan(
            context,
            |head| head.meets(span) && head.greatest_ingestion >= ingested,
            |entry| {
                if span.contains(entry.timestamp) && entry.ingestion_time >= ingested {
                    oldest = Some(oldest.map_or(entry.timestamp, |least| least.min(entry.timestamp)));
                }
            },
        )?;
        Ok(oldest)
    }

    /// Some of the events from number `first` on, in the order of the text; none at the end. At most a block or the live rows.
    pub(crate) fn events_from(&self, context: &Context, first: u64) -> Result<Vec<LogEvent>, StoreError> {
        let state = self.snapshot(context)?;
        let (entries, skip, start, len) = if first < state.place.events {
            let index = IndexFile::open(context, self.id)?;
            let block = {
                let mut directory = lock(&self.directory);
                directory.extend(&index, &state.filed())?;
                let after = directory.blocks.partition_point(|b| b.first_event <= first);
                // The first block begins with event 0, so there is one at or before any event.
                directory.blocks[after.saturating_sub(1)]
            };
            (index.entries(&block)?, first - block.first_event, block.text, block.head.text_len)
        } else {
            let entries: Vec<Entry> = state.tail.iter().flat_map(|row| &row.entries).copied().collect();
            (entries, first - state.place.events, state.place.text, state.tail_bytes())
        };
        let (_, path) = context.paths(self.id, "text");
        let text = self.read(context, start, len as usize)?;
        let mut at = 0;
        let mut events = Vec::with_capacity(entries.len().saturating_sub(skip as usize));
        for (number, entry) in entries.iter().enumerate() {
            let own = text.get(at..at + entry.text_len() as usize);
            at += entry.text_len() as usize;
            if number as u64 >= skip {
                let event = own.and_then(|own| entry.event(own));
                events.push(event.ok_or_else(|| StoreError::damaged(&path, "it isn't what its index says"))?);
            }
        }
        Ok(events)
    }
}
