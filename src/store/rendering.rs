//! Makes renditions, and keeps those level with their streams that are.

use super::live::{Context, Live};
use super::rendition::{Made, Rendition};
use super::{StoreError, space};
use crate::render::{Format, render};
use crate::sync::lock;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// Rendered bytes after which a step ends.
const STEP: usize = 1 << 20;

/// The rendition of a stream in `format`. A new one is empty.
pub(crate) fn open(context: &Context, live: &Arc<Live>, format: &Format) -> Result<Arc<Rendition>, StoreError> {
    let find = |all: &[Weak<Rendition>]| all.iter().filter_map(Weak::upgrade).find(|r| r.format == *format);
    if let Some(known) = find(&lock(&live.renditions)) {
        return Ok(known);
    }
    let number = context.renditions.fetch_add(1, Ordering::Relaxed);
    let path = context.dir.join("renditions").join(format!("{}-{number}", live.id.0));
    let file = context.open(&path, true).map_err(|e| StoreError::io("make", &path, &e))?;
    let (disk, rendered) = (Arc::clone(&context.disk), Arc::clone(&context.rendered));
    let new = Arc::new(Rendition::new(live.id, format, (path, file), disk, rendered));
    let mut all = lock(&live.renditions);
    all.retain(|r| r.strong_count() > 0);
    // Another reader may have been quicker: then ours goes again, once the lock is off.
    match find(&all) {
        Some(quicker) => Ok(quicker),
        None => {
            all.push(Arc::downgrade(&new));
            Ok(new)
        }
    }
}

/// Renders a step more; true if the rendition is level with the stream.
pub(crate) fn make(context: &Context, live: &Arc<Live>, rendition: &Arc<Rendition>) -> Result<bool, StoreError> {
    let is_level = rendition.step(context, live, true)?;
    if is_level {
        let pushed_out =
            lock(&context.recent_renditions).push(rendition.path.clone(), (Arc::clone(live), Arc::clone(rendition)));
        drop(pushed_out);
    }
    Ok(is_level)
}

/// Brings a stream's renditions up to what was just committed.
pub(crate) fn extend_all(context: &Context, live: &Live) {
    let all: Vec<_> = lock(&live.renditions).iter().filter_map(Weak::upgrade).collect();
    for rendition in all {
        loop {
            match rendition.step(context, live, false) {
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

/// Takes away renditions without a reader, the least recently used first, for as long as there is `too_much`.
pub(crate) fn drop_unread(context: &Context, too_much: impl Fn() -> bool) {
    while too_much() {
        let dropped = {
            let mut recent = lock(&context.recent_renditions);
            // They come the most recently used one first.
            let unread = recent.iter().rfind(|(_, (_, r))| Arc::strong_count(r) == 1).map(|(path, _)| path.clone());
            unread.and_then(|path| recent.pop(&path))
        };
        if dropped.is_none() {
            return;
        }
    }
}

impl Rendition {
    /// Renders up to [`STEP`] bytes (or one block) more; true if nothing is left to do. The committer, who isn't `catching_up`, leaves one
    /// that isn't level to those who make it: they look again after what it committed.
    fn step(&self, context: &Context, live: &Live, catching_up: bool) -> Result<bool, StoreError> {
        let mut made = lock(&self.made);
        if !catching_up && !self.is_level() {
            return Ok(true);
        }
        let stepped = self.step_from(context, live, &mut made);
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

    fn step_from(&self, context: &Context, live: &Live, made: &mut Made) -> Result<bool, StoreError> {
        let (mut out, mut events, mut text) = (Vec::new(), made.events, made.text);
        let state = live.snapshot(context)?;
        while out.len() < STEP && events < state.events {
            let more = match live.events_from(context, events) {
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
            space::refuse(context)?;
            self.file.write_all_at(&out, made.bytes).map_err(|e| StoreError::io("write", &self.path, &e))?;
            self.rendered.fetch_add(out.len() as u64, Ordering::Relaxed);
            *made = Made { events, bytes: made.bytes + out.len() as u64, text };
        }
        Ok(made.events >= state.events)
    }
}
