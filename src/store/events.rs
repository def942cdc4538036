//! What is known of a stream's events: by the blocks of its index, and by its live rows.

use super::directory::{Block, Filed, IndexFile};
use super::index::{BlockHead, Entry};
use super::live::{Context, Live};
use super::{Counts, StoreError};
use crate::model::{Hours, LogEvent, Span, StreamId, Timestamp};
use crate::sync::lock;

impl Context {
    /// The index file of a stream.
    pub(crate) fn index_file(&self, id: StreamId) -> Result<IndexFile, StoreError> {
        let (_, path) = self.paths(id, "index");
        let opened = self.open(&path, false);
        IndexFile::of(id, path, opened)
    }
}

impl Live {
    /// Every block that is committed.
    pub(crate) fn blocks(&self, context: &Context, filed: &Filed) -> Result<Vec<Block>, StoreError> {
        let mut directory = lock(&self.directory);
        directory.bring_up_to(filed, || context.index_file(self.id))?;
        Ok(directory.committed(filed.place.events).to_vec())
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
            let index = context.index_file(self.id)?;
            let blocks: Vec<Block> = {
                let mut directory = lock(&self.directory);
                directory.extend(&index, &state.filed())?;
                directory.committed(state.place.events).iter().filter(|b| wanted(&b.head)).copied().collect()
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
            let index = context.index_file(self.id)?;
            let block = {
                let mut directory = lock(&self.directory);
                directory.extend(&index, &state.filed())?;
                directory.block_of(first)
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
