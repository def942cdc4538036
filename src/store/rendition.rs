//! A stream shown in another format: a file made from text and index, thrown away at will.
//!
//! It is a pure function of the committed events, so it is never synced and is wiped when the store is opened. Those who read it have it
//! made, step by step, until it is level with the stream. From then on the committer extends it before it lets the canonical length move;
//! one that is still being made it leaves to them, and never waits for it longer than a step. One that it can't extend is level no more,
//! so that nobody takes its length for the file's size.

use super::catalogue::Size;
use super::disk::DiskFile;
use super::live::{Context, Live};
use super::{StoreError, evict};
use crate::render::{Format, render};
use crate::sync::lock;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::watch;

/// Rendered bytes after which a step ends.
const STEP: usize = 1 << 20;

/// One stream in one format.
pub(crate) struct Rendition {
    pub(crate) format: Format,
    live: Arc<Live>,
    context: Weak<Context>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    /// Held for one step: there is one appender, and nobody reads behind `len`.
    made: Mutex<Made>,
    /// It shows all that is committed, and the committer keeps it so. Changed under `made`.
    level: AtomicBool,
    pub(crate) len: watch::Sender<u64>,
}

#[derive(Default)]
struct Made {
    events: u64,
    bytes: u64,
    /// Bytes of the stream's text that these events take.
    text: u64,
}

/// The rendition of a stream in `format`. A new one is empty.
pub(crate) fn open(context: &Arc<Context>, live: &Arc<Live>, format: &Format) -> Result<Arc<Rendition>, StoreError> {
    let find = |all: &[Weak<Rendition>]| all.iter().filter_map(Weak::upgrade).find(|r| r.format == *format);
    if let Some(known) = find(&lock(&live.renditions)) {
        return Ok(known);
    }
    let new = Arc::new(Rendition::new(context, live, format)?);
    let mut all = lock(&live.renditions);
    all.retain(|r| r.strong_count() > 0);
    // Somebody may have been quicker: then ours goes again, once the lock is off.
    match find(&all) {
        Some(quicker) => Ok(quicker),
        None => {
            all.push(Arc::downgrade(&new));
            Ok(new)
        }
    }
}

/// Renders a step more; true if the rendition is level with the stream.
pub(crate) fn make(context: &Context, rendition: &Arc<Rendition>) -> Result<bool, StoreError> {
    let is_level = rendition.step(context, true)?;
    if is_level {
        let pushed_out = lock(&context.recent_renditions).push(rendition.path.clone(), Arc::clone(rendition));
        drop(pushed_out);
    }
    Ok(is_level)
}

/// Brings a stream's renditions up to what was just committed.
pub(crate) fn extend_all(context: &Context, live: &Live) {
    let all: Vec<_> = lock(&live.renditions).iter().filter_map(Weak::upgrade).collect();
    for rendition in all {
        loop {
            match rendition.step(context, false) {
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

/// Takes away renditions that nobody reads, the least recently used first, for as long as there is `too_much`.
pub(crate) fn drop_unread(context: &Context, too_much: impl Fn() -> bool) {
    while too_much() {
        let dropped = {
            let mut recent = lock(&context.recent_renditions);
            // They come the most recently used one first.
            let unread = recent.iter().rfind(|(_, r)| Arc::strong_count(r) == 1).map(|(path, _)| path.clone());
            unread.and_then(|path| recent.pop(&path))
        };
        if dropped.is_none() {
            return;
        }
    }
}

impl Rendition {
    fn new(context: &Arc<Context>, live: &Arc<Live>, format: &Format) -> Result<Rendition, StoreError> {
        let number = context.renditions.fetch_add(1, Ordering::Relaxed);
        let path = context.dir.join("renditions").join(format!("{}-{number}", live.id.0));
        let file = context.open(&path, true).map_err(|e| StoreError::io("make", &path, &e))?;
        Ok(Rendition {
            format: format.clone(),
            live: Arc::clone(live),
            context: Arc::downgrade(context),
            path,
            file,
            made: Mutex::default(),
            level: AtomicBool::new(false),
            len: watch::Sender::new(0),
        })
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
    pub(crate) fn is_told(&self, context: &Context) -> Result<(), StoreError> {
        let size = {
            let made = lock(&self.made);
            Size { events: made.events, bytes: made.bytes }
        };
        context.catalogue.set_size(self.live.id, self.format.number(), size)
    }

    /// Renders up to [`STEP`] bytes (or one block) more; true if nothing is left to do. The committer, who isn't `catching_up`, leaves one
    /// that isn't level to those who make it: they look again after what it committed.
    fn step(&self, context: &Context, catching_up: bool) -> Result<bool, StoreError> {
        let mut made = lock(&self.made);
        if !catching_up && !self.is_level() {
            return Ok(true);
        }
        let stepped = self.step_from(context, &mut made);
        let is_level = *stepped.as_ref().unwrap_or(&false);
        let was_level = self.level.load(Ordering::SeqCst);
        // A step of many that the committer takes doesn't end that it keeps it level.
        if is_level || stepped.is_err() {
            self.level.store(is_level, Ordering::SeqCst);
        }
        // Told after the level is set: who is woken looks at both.
        let told = *self.len.borrow() != made.bytes || (is_level && !was_level);
        if told {
            self.len.send_replace(made.bytes);
        }
        stepped
    }

    fn step_from(&self, context: &Context, made: &mut Made) -> Result<bool, StoreError> {
        let (mut out, mut events, mut text) = (Vec::new(), made.events, made.text);
        let state = self.live.snapshot(context)?;
        while out.len() < STEP && events < state.events {
            let more = match self.live.events_from(context, events) {
                Ok(more) if !more.is_empty() => more,
                // The next step begins just there.
                Err(error) if out.is_empty() => return Err(error),
                _ => break,
            };
            events += more.len() as u64;
            for event in &more {
                render(&self.format, &state.identity.group, &state.identity.stream, event, &mut out);
                text += event.message.len() as u64 + u64::from(!event.message.ends_with('\n'));
            }
        }
        if !out.is_empty() {
            evict::refuse(context)?;
            self.file.write_all_at(&out, made.bytes).map_err(|e| StoreError::io("write", &self.path, &e))?;
            context.rendered.fetch_add(out.len() as u64, Ordering::Relaxed);
            *made = Made { events, bytes: made.bytes + out.len() as u64, text };
        }
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
        if let Some(context) = self.context.upgrade() {
            context.rendered.fetch_sub(lock(&self.made).bytes, Ordering::Relaxed);
            // A file that stays is wiped at the next start.
            let _ = context.disk.remove(&self.path);
        }
    }
}
