//! Whether the text on disk is what was committed: each block is compared with its index once, before the first byte of it is shown.
//!
//! So a flipped bit, a truncated or an evicted file is found by its first reader, and never shown. What was verified is
//! remembered while the stream's live side is: the text of a verified block is never written again.

use super::StoreError;
use super::directory::{Block, Filed};
use super::disk::DiskFile;
use super::index::Entry;
use super::live::{Context, Live};
use super::trouble::is_missing;
use crate::sync::lock;
use std::sync::atomic::Ordering;
use xxhash_rust::xxh3::xxh3_64;

impl Live {
    /// Index bytes that weren't verified since this stream was last wanted; `None` if there is nothing to verify.
    pub(crate) fn unverified_index(&self, context: &Context) -> Result<Option<u64>, StoreError> {
        if self.index_is_verified.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let filed = self.with(context, |state| Ok(state.filed()))?;
        Ok(Some(filed.place.index).filter(|bytes| *bytes > 0))
    }

    /// Fails unless the whole index is what was written. What is added from then on is this process's own.
    pub(crate) fn verify_index(&self, context: &Context) -> Result<(), StoreError> {
        let filed = self.with(context, |state| Ok(state.filed()))?;
        let blocks = self.blocks(context, &filed)?;
        let index = context.index_file(self.id)?;
        blocks.iter().try_for_each(|block| index.entries(block).map(drop))?;
        self.index_is_verified.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Fails unless all committed text that the file has in `from..to` is what was committed.
    pub(crate) fn verify(
        &self,
        context: &Context,
        filed: &Filed,
        file: &dyn DiskFile,
        from: u64,
        to: u64,
    ) -> Result<(), StoreError> {
        let unverified = self.unverified(context, filed, from, to, usize::MAX)?;
        if unverified.is_empty() {
            return Ok(());
        }
        let index = context.index_file(self.id)?;
        let (_, path) = context.paths(self.id, "text");
        for block in unverified {
            let entries = index.entries(&block)?;
            let text = text_of(&block, file).map_err(|e| StoreError::io("read", &path, &e).of_stream(self.id))?;
            if !spans(&entries).all(|(entry, at)| is_whole(entry, &text[at..])) {
                return Err(StoreError::text_lost(self.id, &path, "its text isn't what was written"));
            }
            lock(&self.directory).is_verified(block.number);
        }
        Ok(())
    }

    /// Blocks of the file with text in `from..to` that aren't verified, at most `max`.
    pub(crate) fn unverified(
        &self,
        context: &Context,
        filed: &Filed,
        from: u64,
        to: u64,
        max: usize,
    ) -> Result<Vec<Block>, StoreError> {
        let mut directory = lock(&self.directory);
        directory.bring_up_to(filed, || context.index_file(self.id))?;
        Ok(directory.unverified(from, to.min(filed.place.text), max))
    }
}

/// A block's text as it is on disk; zeros where the file ends too early.
pub(crate) fn text_of(block: &Block, file: &dyn DiskFile) -> std::io::Result<Vec<u8>> {
    let mut text = vec![0; block.head.text_len as usize];
    match file.read_exact_at(&mut text, block.text) {
        Err(e) if is_missing(&e) => {
            text.fill(0);
            let there = file.len()?.saturating_sub(block.text).min(block.head.text_len) as usize;
            file.read_exact_at(&mut text[..there], block.text)?;
            Ok(text)
        }
        read => read.map(|()| text),
    }
}

/// Each event with the place of its text in its block's.
pub(crate) fn spans(entries: &[Entry]) -> impl Iterator<Item = (&Entry, usize)> {
    entries.iter().scan(0, |at, entry| {
        let start = *at;
        *at += entry.text_len() as usize;
        Some((entry, start))
    })
}

/// Whether `text` begins with the event's text.
pub(crate) fn is_whole(entry: &Entry, text: &[u8]) -> bool {
    let Some(own) = text.get(..entry.text_len() as usize) else { return false };
    let (message, newline) = own.split_at(entry.message_len as usize);
    xxh3_64(message) == entry.hash && (entry.own_newline || newline == b"\n")
}
