//! What the tree asks of the kernel without having been asked. The mount answers it; the tree only says what is due.

use super::inode::Ino;
use std::ffi::OsString;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Something the kernel must be told, by a thread of its own (never by a request's).
pub enum Notice {
    /// The file's size has become known, or it has grown: carry out [`Content::tell`]. `done` is dropped when it is over.
    Content {
        /// Which file.
        file: Arc<dyn Content>,
        /// Wakes who waits for it.
        done: oneshot::Sender<()>,
    },
    /// Followers that wait for inotify must hear of a growth of this inode.
    Inotify(Ino),
    /// A new name in a folder that a program watches.
    NewName {
        /// The folder.
        parent: Ino,
        /// The file's name.
        name: OsString,
    },
    /// A name now means another file, or none.
    StaleName {
        /// The folder.
        parent: Ino,
        /// The file's name.
        name: OsString,
    },
}

/// A file of whose content the kernel must be told.
pub trait Content: Send + Sync {
    /// Its inode number.
    fn inode(&self) -> Ino;
    /// Tells the kernel what it doesn't know yet, in the one order that shows no zero byte and no stale size to any reader, and no doubled
    /// output. For the notifier's thread: `pages` may wait. Returns whether the file grew.
    fn tell(&self, pages: &dyn Pages) -> bool;
}

/// The kernel's side.
pub trait Kernel: Send + Sync {
    /// Queues a notice; never waits.
    fn notice(&self, notice: Notice);
    /// Makes the kernel distrust what it knows of an inode's attributes, before the reply under way; never waits.
    fn forget_attributes(&self, ino: Ino);
}

/// The calls that [`Content::tell`] makes, in its order. Each may wait for a page that a read in flight holds.
pub trait Pages {
    /// Drops the cached pages from `offset` on (0: to the end).
    fn invalidate(&self, ino: Ino, offset: u64);
    /// Puts bytes into the page cache, which also raises the kernel's own size.
    fn store(&self, ino: Ino, offset: u64, bytes: &[u8]);
}
