//! Opening, reading and letting go of files.

use super::Tree;
use super::attr::Opened;
use super::caller::Caller;
use super::file::File;
use super::handles::{Buffered, Direct, Handle, TailContent, TailHandle, Transfer};
use super::inode::{Ino, Node, Show};
use super::kernel::Notice;
use super::lookup::read_only;
use super::reader::Behaviour;
use super::tail_args::TailRequest;
use crate::error::{Error, ErrorKind};
use crate::fetch::Wanted;
use crate::model::StreamId;
use crate::sync::lock;
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// From this many empty answers in a row at one place on, `less` is held ...
const EMPTY_ANSWERS: u32 = 3;
/// ... so long, or until there is data: it would ask 540 times a second.
const HOLD: Duration = Duration::from_millis(500);

impl Tree {
    /// Opens a file. A program that trusts sizes waits until the size is known and the kernel has it; one that streams is let in at once.
    pub async fn open(&self, ino: Ino, writing: bool, caller: &Caller<'_>) -> Result<Opened, Error> {
        let misled = matches!(self.node(ino)?, Node::Stream(..))
            && self.processes.anybody_walks()
            && self.processes.opens(caller.process(), caller.thread(), ino);
        if writing {
            return Err(read_only(&self.describe(ino)));
        }
        if misled {
            // So that its next look at the size comes here.
            self.kernel()?.forget_attributes(ino);
            return Err(Error::new(
                ErrorKind::StaleSize,
                self.describe(ino),
                "this program looked at the sizes of many files before any was known, and may copy by them",
            ));
        }
        match self.node(ino)? {
            Node::Stream(id, show) => match self.open_stream(ino, id, show, caller).await {
                Err(error) if error.kind() == ErrorKind::IndexLost => {
                    self.fetch.renew(id).await;
                    Err(error)
                }
                opened => opened,
            },
            Node::ControlFile(at) => {
                let handle = self.handles.add(Handle::Control(self.control_text(at)));
                Ok(Opened { handle, direct: true, unseekable: false, text: None })
            }
            Node::Root | Node::Control | Node::Group(..) => {
                Err(Error::new(ErrorKind::IsDirectory, self.describe(ino), "it is a folder"))
            }
        }
    }

    async fn open_stream(&self, ino: Ino, id: StreamId, show: Show, caller: &Caller<'_>) -> Result<Opened, Error> {
        let file = self.file(id, show)?;
        file.verify_index().await?;
        // Nothing about the caller matters once the size is known.
        let complete = file.stream().progress().borrow().complete;
        if !file.announced().1 && (!complete || !file.reader().is_level()) {
            let behaviour = caller.behaviour();
            match behaviour {
                Behaviour::Streams | Behaviour::StreamsUnseekable => {
                    if complete {
                        // It is being made of what there is; what is new belongs to that.
                        file.bring_up_to_date().await?;
                    }
                    return Ok(self.open_direct(file, behaviour == Behaviour::StreamsUnseekable));
                }
                Behaviour::MayBeTail => {
                    if let Some(request) = caller.tail()
                        && show == Show::Log
                        && self.settings.format == crate::render::Format::Message
                        && self.processes.tails(caller.process(), file.label(), ino)
                        && !self
                            .place(ino)
                            .is_some_and(|(parent, name)| self.processes.missed(caller.process(), parent, name))
                    {
                        return Ok(self.open_tail(file, request, caller));
                    }
                }
                Behaviour::Lists | Behaviour::LooksAgain | Behaviour::Trusts => {}
            }
        }
        file.make_ready(Wanted::Content).await?;
        let follow = file.stream().follow();
        let open = file.open_settled(self.passes_through.load(Ordering::Relaxed));
        let text = open.text.clone();
        let handle = self.handles.add(Handle::Buffered(Buffered { file, _open: open, _follow: follow }));
        Ok(Opened { handle, direct: false, unseekable: false, text })
    }

    fn open_direct(&self, file: Arc<File>, unseekable: bool) -> Opened {
        let failures = file.failures();
        let transfer = Mutex::new(Transfer { failures, _interest: file.stream().download() });
        let follow = file.stream().follow();
        let open = file.mode().open(None);
        let direct = Direct { file, unseekable, ends: Mutex::new((0, 0)), transfer, _open: open, _follow: follow };
        Opened { handle: self.handles.add(Handle::Direct(direct)), direct: true, unseekable, text: None }
    }

    /// A tail of an unknown file: its end alone, fetched in the background; reads wait for it.
    fn open_tail(&self, file: Arc<File>, request: TailRequest, caller: &Caller<'_>) -> Opened {
        let process = caller.process().id;
        let held = self.handles.tails(process, file.stream());
        let earlier = held.iter().find_map(|handle| match &**handle {
            Handle::Tail(tail) => Some((tail.content.clone(), tail.ended.load(Ordering::SeqCst))),
            _ => None,
        });
        let (content, ended) = match earlier {
            // It opens by name again what it has read to the end: release is asynchronous, and it must not start over.
            Some((content, ended)) => (content, ended && request.reopens),
            None => (self.fetch_tail(file.clone(), request), false),
        };
        file.add_tail();
        let ended = AtomicBool::new(ended);
        let open = file.mode().open(None);
        let handle = self.handles.add(Handle::Tail(TailHandle { file, process, content, ended, _open: open }));
        Opened { handle, direct: true, unseekable: true, text: None }
    }

    fn fetch_tail(&self, file: Arc<File>, request: TailRequest) -> Arc<TailContent> {
        let (send, result) = watch::channel(None);
        let stop = CancellationToken::new();
        let content = Arc::new(TailContent { result, _fetching: stop.clone().drop_guard() });
        let kernel = self.kernel.get().cloned();
        self.runtime.spawn(async move {
            let last = tokio::select! {
                () = stop.cancelled() => return,
                last = file.with_patience(file.stream().last(request.last)) => last,
            };
            let tail = last.as_ref().ok().cloned();
            send.send_replace(Some(last));
            let (Some(tail), Some(kernel), ino) = (tail, kernel, file.inode()) else { return };
            drop(file);
            let mut grown = tail.subscribe();
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    r = grown.changed() => if r.is_err() { return },
                }
                kernel.notice(Notice::Inotify(ino));
            }
        });
        content
    }

    /// Up to `size` bytes at `offset`; empty means end of file.
    pub async fn read(&self, handle: u64, offset: u64, size: u32) -> Result<Bytes, Error> {
        let size = size as usize;
        let Some(handle) = self.handles.get(handle) else {
            return Err(Error::new(ErrorKind::BadHandle, "", "no such file handle"));
        };
        match &*handle {
            Handle::Buffered(buffered) => buffered.file.read(offset, size).await.map(Bytes::from),
            Handle::Direct(direct) => read_direct(direct, offset, size).await,
            Handle::Tail(tail) => read_tail(tail, offset, size).await,
            Handle::Control(text) => {
                let from = (offset as usize).min(text.len());
                Ok(text.slice(from..(from + size).min(text.len())))
            }
            Handle::Dir(_) => Err(Error::new(ErrorKind::IsDirectory, "", "it is a folder's handle")),
        }
    }

    /// A handle is let go of.
    pub fn release(&self, handle: u64) {
        self.handles.remove(handle);
    }
}

async fn read_direct(direct: &Direct, offset: u64, size: usize) -> Result<Bytes, Error> {
    let file = &direct.file;
    let bytes = if file.has(offset) {
        file.read(offset, size).await?
    } else {
        let seen = lock(&direct.transfer).failures;
        let arrived = file.read_streaming(offset, size, seen).await;
        if arrived.is_err() {
            // This reader has met the failure; its next read tries again.
            let transfer = Transfer { failures: file.failures(), _interest: file.stream().download() };
            let ended = std::mem::replace(&mut *lock(&direct.transfer), transfer);
            drop(ended);
        }
        arrived?
    };
    if !bytes.is_empty() || !direct.unseekable {
        return Ok(bytes.into());
    }
    let empty = {
        let mut ends = lock(&direct.ends);
        *ends = if ends.0 == offset { (offset, ends.1 + 1) } else { (offset, 1) };
        ends.1
    };
    if empty <= EMPTY_ANSWERS {
        return Ok(Bytes::new());
    }
    file.wait_for_growth(offset, HOLD).await;
    file.read(offset, size).await.map(Bytes::from)
}

async fn read_tail(handle: &TailHandle, offset: u64, size: usize) -> Result<Bytes, Error> {
    let mut result = handle.content.result.clone();
    let found = match result.wait_for(Option::is_some).await {
        Ok(found) => found.clone(),
        Err(_) => None,
    };
    let tail = match found {
        Some(Ok(tail)) => tail,
        Some(Err(error)) => return Err(error),
        None => return Err(Error::new(ErrorKind::Stopping, handle.file.label(), "the mount is stopping")),
    };
    let bytes = tail.read_at(offset, size);
    if bytes.is_empty() {
        handle.ended.store(true, Ordering::SeqCst);
    }
    Ok(bytes.into())
}
