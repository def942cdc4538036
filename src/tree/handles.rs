//! Open handles: each knows how its reads are answered.

use super::file::File;
use super::inode::Node;
use super::passthrough::Open;
use crate::error::Error;
use crate::fetch::{Follow, GroupWatch, Interest, Stream, Tail};
use crate::sync::lock;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// A handle on a file or folder.
pub(crate) enum Handle {
    /// The size was known at open: the kernel's page cache in between.
    Buffered(Buffered),
    /// A streaming reader of a file that was unknown at open.
    Direct(Direct),
    /// The end of a stream alone, for a tail.
    Tail(TailHandle),
    /// A file in `.cwlogs/`, as it was at open.
    Control(Bytes),
    /// A folder.
    Dir(DirHandle),
}

/// An open folder.
pub(crate) struct DirHandle {
    pub(crate) node: Node,
    /// Rows read from the catalogue for one reply: as many as the last reply had room for, and some.
    pub(crate) batch: AtomicUsize,
    /// Keeps the newest page fresh while a program has the folder open.
    pub(crate) _watch: Option<GroupWatch>,
}

pub(crate) struct Buffered {
    pub(crate) file: Arc<File>,
    pub(crate) _open: Open,
    pub(crate) _follow: Follow,
}

pub(crate) struct Direct {
    pub(crate) file: Arc<File>,
    /// `less`: asks hundreds of times a second at the end of file.
    pub(crate) unseekable: bool,
    /// (offset, how many empty answers in a row there).
    pub(crate) ends: Mutex<(u64, u32)>,
    pub(crate) transfer: Mutex<Transfer>,
    pub(crate) _open: Open,
    pub(crate) _follow: Follow,
}

/// The download that a streaming reader keeps going, and the failures of it that the reader has met.
pub(crate) struct Transfer {
    pub(crate) failures: u64,
    pub(crate) _interest: Interest,
}

/// What a tail's open started; shared by the handles of one process on one file, so that all have the same start.
pub(crate) struct TailContent {
    pub(crate) result: watch::Receiver<Option<Result<Arc<Tail>, Error>>>,
    pub(crate) _fetching: tokio_util::sync::DropGuard,
}

pub(crate) struct TailHandle {
    pub(crate) file: Arc<File>,
    /// Thread group that opened it.
    pub(crate) process: u32,
    pub(crate) content: Arc<TailContent>,
    /// It has been given its first end of file.
    pub(crate) ended: AtomicBool,
    pub(crate) _open: Open,
}

impl TailHandle {
    /// The content, once it is there.
    pub(crate) fn tail(&self) -> Option<Arc<Tail>> {
        self.content.result.borrow().as_ref().and_then(|r| r.as_ref().ok()).cloned()
    }
}

impl Drop for TailHandle {
    fn drop(&mut self) {
        self.file.remove_tail();
    }
}

/// All open handles.
#[derive(Default)]
pub(crate) struct Handles {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Handle>>>,
}

impl Handles {
    pub(crate) fn add(&self, handle: Handle) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        lock(&self.open).insert(number, Arc::new(handle));
        number
    }

    pub(crate) fn get(&self, number: u64) -> Option<Arc<Handle>> {
        lock(&self.open).get(&number).cloned()
    }

    /// Forgets a handle; its guards are dropped outside the lock.
    pub(crate) fn remove(&self, number: u64) {
        let handle = lock(&self.open).remove(&number);
        drop(handle);
    }

    /// The tails' handles of a process on a stream's file.
    pub(crate) fn tails(&self, process: u32, stream: &Arc<Stream>) -> Vec<Arc<Handle>> {
        let of = |handle: &Arc<Handle>| matches!(&**handle, Handle::Tail(s) if s.process == process && Arc::ptr_eq(s.file.stream(), stream));
        lock(&self.open).values().filter(|h| of(h)).cloned().collect()
    }
}
