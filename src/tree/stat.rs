//! Attributes: who may be told a size at once, and who must wait for it.

use super::Tree;
use super::attr::{Attributes, LONG, SHORT};
use super::caller::{Caller, SystemCall};
use super::file::MARKER;
use super::handles::Handle;
use super::inode::{Ino, Node, Show};
use super::looked_at::may_grow_soon;
use super::reader::Behaviour;
use crate::error::Error;
use crate::fetch::Wanted;
use crate::model::{StreamId, Timestamp};
use crate::store::row::StreamRow;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Tree {
    /// Attributes of an inode; `handle` where the kernel asks by one (seeks to the end do, stat and fstat never).
    pub async fn getattr(&self, ino: Ino, handle: Option<u64>, caller: &Caller<'_>) -> Result<Attributes, Error> {
        match self.node(ino)? {
            Node::Stream(id, show) => self.stat_stream(ino, id, show, handle, caller).await,
            Node::ControlFile(at) => Ok(self.control_handle_attributes(at, handle)),
            node => self.folder_attributes(node),
        }
    }

    async fn stat_stream(
        &self,
        ino: Ino,
        id: StreamId,
        show: Show,
        handle: Option<u64>,
        caller: &Caller<'_>,
    ) -> Result<Attributes, Error> {
        let row = self.stream_row(id)?;
        let live = self.live_file(ino);
        if live.as_ref().is_some_and(|file| file.has_tails())
            && let Some(attributes) = self.tail_attributes(&row, show, handle, caller)
        {
            // The size is this process's alone: it must not reach the inode, where mmap readers would meet it.
            self.kernel()?.forget_attributes(ino);
            return Ok(attributes);
        }
        if let Some(file) = &live {
            file.told().await;
        }
        let known = self.known(&row, show);
        if known.is_some() {
            self.teach(ino, handle, caller);
        }
        let attributes = self.attributes_with(&row, show, known);
        if known.is_some() {
            return Ok(if handle.is_none() { self.asked_alone(attributes, caller) } else { attributes });
        }
        if handle.is_none() {
            match caller.behaviour() {
                Behaviour::Streams | Behaviour::StreamsUnseekable | Behaviour::Lists | Behaviour::LooksAgain => {
                    return Ok(attributes);
                }
                Behaviour::MayBeTail if caller.tail().is_some() => return Ok(attributes),
                // Asked by the kernel alone: the open that follows waits, and an access doesn't ask for the size.
                Behaviour::Trusts if caller.system_call() == SystemCall::Open => return Ok(attributes),
                Behaviour::MayBeTail | Behaviour::Trusts => {
                    if self.processes.begins_to_walk(caller.process(), caller.thread()) && self.is_named_by(caller, ino)
                    {
                        self.processes.names_files(caller.process());
                    }
                    if self.processes.walks(caller.process(), caller.thread(), ino) {
                        return Ok(attributes);
                    }
                }
            }
        }
        let file = self.file(id, show)?;
        file.make_ready(Wanted::Size).await?;
        self.processes.waited(caller.process(), caller.thread());
        self.teach(ino, handle, caller);
        let row = self.stream_row(id)?;
        Ok(self.asked_alone(self.stream_attributes(&row, show), caller))
    }

    /// Whether the program was given this file by the name that the kernel knows it by.
    fn is_named_by(&self, caller: &Caller<'_>, ino: Ino) -> bool {
        self.place(ino).is_some_and(|(_, name)| caller.names(&name))
    }

    /// `caller` is answered with a known size: if it was told the marker before, that may teach it better.
    fn teach(&self, ino: Ino, handle: Option<u64>, caller: &Caller<'_>) {
        if !self.processes.misleads(ino) {
            return;
        }
        self.processes.forget_ended(|id, started| caller.lives(id, started));
        let thread = caller.thread();
        if handle.is_none() && self.processes.is_misled(caller.process(), thread, ino) {
            self.processes.learns(caller.process(), thread, ino, caller.system_call());
        }
    }

    /// A stream's file as any program may be told it now: the size if it is known, else the marker, to be asked for again.
    pub(crate) fn stream_attributes(&self, row: &StreamRow, show: Show) -> Attributes {
        self.attributes_with(row, show, self.known(row, show))
    }

    fn attributes_with(&self, row: &StreamRow, show: Show, known: Option<(u64, Timestamp)>) -> Attributes {
        let ino = Node::Stream(row.id, show).ino();
        if let Some((size, _)) = known {
            self.inodes.told(ino, size);
        }
        let live = self.live_file(ino);
        let shown = live.as_ref().and_then(|file| file.mode().shown());
        // A tail that holds the end alone sees another size, a process that has the marker in mind must ask here, and what the kernel
        // reads by itself grows before it is told.
        let has_tails = live.is_some_and(|file| file.has_tails());
        let own_sizes = has_tails || shown.is_some() || self.processes.misleads(ino);
        let ttl = match known {
            None => Duration::ZERO,
            Some(_) if own_sizes => Duration::ZERO,
            // Else a look after a read or a notice would be answered by the kernel, and not be seen.
            Some(_) if may_grow_soon(row) || self.is_asked_for(ino) => SHORT,
            Some(_) => LONG,
        };
        let (size, modified) = match known {
            Some((size, modified)) => (size.max(shown.unwrap_or(0)), modified),
            None => (MARKER, modified(row)),
        };
        Attributes {
            ino,
            size,
            directory: false,
            mode: self.settings.file_mode,
            modified,
            created: row.stream.created,
            ttl,
        }
    }

    /// Size and time of a stream's file, once it has a size. Of an open file they are what the kernel has been told; a format that isn't the
    /// stored one has a size once it was made, in an earlier run perhaps.
    fn known(&self, row: &StreamRow, show: Show) -> Option<(u64, Timestamp)> {
        let ino = Node::Stream(row.id, show).ino();
        if let Some(file) = self.live_file(ino) {
            let (size, time) = file.announced_with_time()?;
            return Some((size, time.unwrap_or_else(|| modified(row))));
        }
        let size = if self.format(show) == crate::render::Format::Message {
            row.extent.complete.then_some(row.extent.text_len)
        } else {
            // What can't be read is measured again.
            let kept = self.store.told_size(row, &self.format(show)).ok().flatten();
            self.inodes.told_size(ino).max(kept)
        };
        Some((size?, modified(row)))
    }

    /// What a tail that holds the end alone is told: the marker until each of its handles gave its first end of file, then the
    /// length of that end. `None`: the caller holds none.
    fn tail_attributes(
        &self,
        row: &StreamRow,
        show: Show,
        handle: Option<u64>,
        caller: &Caller<'_>,
    ) -> Option<Attributes> {
        let ino = Node::Stream(row.id, show).ino();
        let file = self.live_file(ino)?;
        let held = match handle.and_then(|h| self.handles.get(h)) {
            Some(own) if matches!(&*own, Handle::Tail(_)) => vec![own],
            Some(_) => return None,
            None => self.handles.tails(caller.process().id, file.stream()),
        };
        let mut size = None;
        let mut time = modified(row);
        for handle in &held {
            let Handle::Tail(tail) = &**handle else { continue };
            let content = tail.tail().filter(|_| tail.ended.load(Ordering::SeqCst));
            size = Some(match (size, &content) {
                (Some(MARKER), _) | (_, None) => MARKER,
                (_, Some(content)) => content.len(),
            });
            if let Some(content) = content {
                time = time.max(content.grown_at());
            }
        }
        Some(Attributes {
            ino,
            size: size?,
            directory: false,
            mode: self.settings.file_mode,
            modified: time,
            created: row.stream.created,
            ttl: Duration::ZERO,
        })
    }
}

/// The newest event's time. Of a complete stream it is the newest that is in the file, so that a listing moves no time while the size stays;
/// of another one also what the listing tells, which may lag by an hour.
fn modified(row: &StreamRow) -> Timestamp {
    let listed = row.stream.last_event.filter(|_| !row.extent.complete);
    row.extent.newest.max(listed).unwrap_or(row.stream.created)
}
