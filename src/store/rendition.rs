//! A stream shown in another format: a file made from text and index, thrown away at will.
//!
//! It is a pure function of the committed events, so it is never synced and is wiped when the store is opened. The committer extends those
//! that are level with the stream before it lets the canonical length move; one that is still being made from what was there before
//! catches up by itself, step by step, and never holds the committer up for longer than a step.

use super::disk::DiskFile;
use super::live::{Live, Room, lock};
use super::{StoreError, live};
use crate::render::{Format, render};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::watch;

/// Rendered bytes after which a step ends.
const STEP: usize = 1 << 20;

/// One stream in one format.
pub(crate) struct Rendition {
    pub(crate) format: Format,
    live: Arc<Live>,
    room: Weak<Room>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    /// Held for one step: there is one appender, and nobody reads behind `len`.
    made: Mutex<Made>,
    pub(crate) len: watch::Sender<u64>,
}

struct Made {
    events: u64,
    bytes: u64,
    /// It was level with the stream once: the committer keeps it so.
    level: bool,
}

/// The rendition of a stream in `format`, level with what is committed.
pub(crate) fn open(room: &Arc<Room>, live: &Arc<Live>, format: &Format) -> Result<Arc<Rendition>, StoreError> {
    let known = lock(&live.renditions).iter().filter_map(Weak::upgrade).find(|r| r.format == *format);
    let rendition = match known {
        Some(known) => known,
        None => {
            let made = Arc::new(Rendition::make(room, live, format)?);
            let mut all = lock(&live.renditions);
            all.retain(|r| r.strong_count() > 0);
            // Somebody may have been quicker: then ours goes again, once the lock is off.
            match all.iter().filter_map(Weak::upgrade).find(|r| r.format == *format) {
                Some(quicker) => quicker,
                None => {
                    all.push(Arc::downgrade(&made));
                    made
                }
            }
        }
    };
    while !rendition.step(room, true)? {}
    let pushed_out = live::lock(&room.recent_renditions).push(rendition.path.clone(), Arc::clone(&rendition));
    drop(pushed_out);
    Ok(rendition)
}

/// Brings a stream's renditions up to what was just committed. One that fails shows less until its next reader or commit.
pub(crate) fn extend_all(room: &Room, live: &Live) {
    let all: Vec<_> = lock(&live.renditions).iter().filter_map(Weak::upgrade).collect();
    for rendition in all {
        loop {
            match rendition.step(room, false) {
                Ok(false) => {}
                Ok(true) => break,
                Err(error) => {
                    tracing::warn!(path = %rendition.path.display(), %error, "a rendition could not be extended");
                    break;
                }
            }
        }
    }
}

impl Rendition {
    fn make(room: &Arc<Room>, live: &Arc<Live>, format: &Format) -> Result<Rendition, StoreError> {
        let number = room.renditions.fetch_add(1, Ordering::Relaxed);
        let path = room.dir.join("renditions").join(format!("{}-{number}", live.id.0));
        let file = room.disk.open(&path, true).map_err(|e| StoreError::io("make", &path, &e))?;
        Ok(Rendition {
            format: format.clone(),
            live: Arc::clone(live),
            room: Arc::downgrade(room),
            path,
            file,
            made: Mutex::new(Made { events: 0, bytes: 0, level: false }),
            len: watch::Sender::new(0),
        })
    }

    /// Renders up to [`STEP`] bytes (or one block) more; true if nothing is left to do. The committer, who isn't `catching_up`, leaves one
    /// that isn't level to those who make it: they look again after what it committed.
    fn step(&self, room: &Room, catching_up: bool) -> Result<bool, StoreError> {
        let mut made = lock(&self.made);
        if !catching_up && !made.level {
            return Ok(true);
        }
        let (mut out, mut events) = (Vec::new(), made.events);
        let state = self.live.snapshot(room)?;
        while out.len() < STEP && events < state.events {
            let more = self.live.events_from(room, events)?;
            if more.is_empty() {
                break;
            }
            events += more.len() as u64;
            for event in &more {
                render(&self.format, &state.identity.group, &state.identity.stream, event, &mut out);
            }
        }
        if !out.is_empty() {
            self.file.write_all_at(&out, made.bytes).map_err(|e| StoreError::io("write", &self.path, &e))?;
            made.bytes += out.len() as u64;
            made.events = events;
            room.rendered.fetch_add(out.len() as u64, Ordering::Relaxed);
            self.len.send_replace(made.bytes);
        }
        made.level |= made.events >= state.events;
        Ok(made.events >= state.events)
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
        if let Some(room) = self.room.upgrade() {
            room.rendered.fetch_sub(lock(&self.made).bytes, Ordering::Relaxed);
            // A file that stays is wiped at the next start.
            let _ = room.disk.remove(&self.path);
        }
    }
}
