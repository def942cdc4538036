//! A stream's files made anew, after the disk failed on them.
//!
//! A sync that failed may have lost bytes that later reads still find in memory, and no later sync tells of them again (the kernel counts
//! them as written: fsync(2)). So nothing more is appended to such files. What was committed is copied into fresh ones, each block
//! verified by its checksum on the way: the index first, without which the order of events is lost, then the text, in which a block that
//! can't be read or isn't right stays a hole that is fetched again (see `repair`). Names are exchanged only when the copies are durable,
//! so a crash in between leaves the old files.

use super::catalogue::Place;
use super::directory::Filed;
use super::disk::DiskFile;
use super::live::{Context, Held, Live};
use super::verify::{is_whole, spans, text_of};
use super::{StoreError, StoreErrorKind};
use crate::model::StreamId;
use crate::sync::lock;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of an index that are copied at a time.
const PIECE: usize = 1 << 20;

/// Copies of a sick stream's files, durable and ready to take their places.
pub(crate) struct Copies {
    live: Held,
    place: Place,
    /// Nothing was ever committed to its files: they are made anew by the next write.
    files: Option<[Fresh; 2]>,
    /// No block of the text is missing in the copy.
    is_whole: bool,
}

impl Copies {
    /// Copies what was committed, which takes as long as that is big. The stream takes no appends meanwhile.
    pub(crate) fn make(context: &Arc<Context>, id: StreamId) -> Result<Copies, StoreError> {
        // Held: the text isn't evicted meanwhile.
        let live = Held::of(context.live(id)?);
        let filed = live.with(context, |state| Ok(state.filed()))?;
        let mut copies = Copies { live, place: filed.place, files: None, is_whole: true };
        if filed.place.index > 0 {
            copies.fill(context, &filed).map_err(|error| error.of_stream(id))?;
        }
        Ok(copies)
    }

    fn fill(&mut self, context: &Context, filed: &Filed) -> Result<(), StoreError> {
        // Reads every block that is committed, and so verifies what is about to be copied.
        self.live.verify_index(context)?;
        let index = Fresh::make(context, self.live.id, "index")?;
        copy_index(context, self.live.id, filed.place.index, &index)?;
        let text = Fresh::make(context, self.live.id, "text")?;
        self.is_whole = copy_text(context, &self.live, filed, &text)?;
        for fresh in [&text, &index] {
            fresh.file.sync().map_err(|e| StoreError::io("sync", &fresh.path, &e))?;
        }
        self.files = Some([text, index]);
        Ok(())
    }

    /// Puts them in their places and lets the stream take appends again. For the committer: nothing is appended or evicted meanwhile.
    pub(crate) fn exchange(self, context: &Arc<Context>) -> Result<(), StoreError> {
        let id = self.live.id;
        if self.live.with(context, |state| Ok(state.place))? != self.place {
            return Err(StoreError::new(StoreErrorKind::Sick(id), format!("stream {} grew while it was copied", id.0)));
        }
        self.put(context).map_err(|error| error.of_stream(id))?;
        // The kernel may go on with the old file, on which the disk may still fail.
        let live = &self.live;
        match live.with(context, |state| Ok(live.mirror(context, state).then_some(state.text_len)))? {
            Some(len) => live.show(len),
            None => return Err(lock(&context.unshown).get(&id).cloned().unwrap_or_else(|| unshown(id))),
        }
        lock(&context.sick).remove(&id);
        Ok(())
    }

    fn put(&self, context: &Context) -> Result<(), StoreError> {
        let live = &self.live;
        let Some(files) = &self.files else {
            live.keep_for_the_kernel(context)?;
            live.text_is_another();
            return ["text", "index"].iter().try_for_each(|extension| {
                let (_, path) = context.paths(live.id, extension);
                context.disk.remove(&path).map_err(|e| StoreError::io("remove", &path, &e))
            });
        };
        // The catalogue first, as with an eviction: what it counts as there must be there.
        if !self.is_whole {
            context.catalogue.text_is_taken(&[live.id])?;
        }
        live.keep_for_the_kernel(context)?;
        for fresh in files {
            context.disk.rename(&fresh.path, &fresh.place).map_err(|e| StoreError::io("rename", &fresh.path, &e))?;
        }
        let (dir, _) = context.paths(live.id, "text");
        context.disk.sync_dir(&dir).map_err(|e| StoreError::io("sync", &dir, &e))?;
        live.text_is_another();
        if self.is_whole { Ok(()) } else { context.catalogue.text_is_back(live.id) }
    }
}

fn unshown(id: StreamId) -> StoreError {
    StoreError::new(StoreErrorKind::Sick(id), format!("stream {} can't be shown yet", id.0))
}

/// A file that will take an old one's place.
struct Fresh {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    place: PathBuf,
}

impl Fresh {
    fn make(context: &Context, id: StreamId, extension: &str) -> Result<Fresh, StoreError> {
        let (_, place) = context.paths(id, extension);
        let path = place.with_added_extension("new");
        // One that was cut off before is no beginning.
        context.disk.remove(&path).map_err(|e| StoreError::io("remove", &path, &e))?;
        let file = context.open(&path, true).map_err(|e| StoreError::io("make", &path, &e))?;
        Ok(Fresh { file, path, place })
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<(), StoreError> {
        self.file.write_all_at(bytes, at).map_err(|e| StoreError::io("write", &self.path, &e))
    }
}

fn copy_index(context: &Context, id: StreamId, committed: u64, fresh: &Fresh) -> Result<(), StoreError> {
    let (_, path) = context.paths(id, "index");
    let failed = |e: std::io::Error| StoreError::io("read", &path, &e);
    let file = context.open(&path, false).map_err(failed)?;
    let mut at = 0;
    while at < committed {
        let mut piece = vec![0; PIECE.min((committed - at) as usize)];
        file.read_exact_at(&mut piece, at).map_err(failed)?;
        fresh.write(&piece, at)?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// Copies what is right of the text; tells whether that is all.
fn copy_text(context: &Context, live: &Live, filed: &Filed, fresh: &Fresh) -> Result<bool, StoreError> {
    let mut whole = true;
    // Evicted, or one that can't even be opened: all of it is fetched again.
    let old = context.open(&fresh.place, false).ok();
    let index = context.index_file(live.id)?;
    for block in live.blocks(context, filed)? {
        let text = old.as_deref().and_then(|old| text_of(&block, old).ok());
        let entries = index.entries(&block)?;
        let right = text.filter(|text| spans(&entries).all(|(entry, at)| is_whole(entry, &text[at..])));
        match right {
            Some(text) => fresh.write(&text, block.text)?,
            None => whole = false,
        }
    }
    // As long as what was committed, whatever is missing: holes prove nothing.
    fresh.file.truncate(filed.place.text).map_err(|e| StoreError::io("lengthen", &fresh.path, &e))?;
    Ok(whole)
}
