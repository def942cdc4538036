//! The thread that owns the notifier. It alone tells the kernel of sizes and stale names: a notification may wait for a page that
//! a read in flight holds, so it must never come from a thread that answers reads.

use super::gate::Gate;
use super::poke::Poke;
use crate::tree::{Ino, Kernel, Notice, Pages, Tree};
use fuser::{INodeNo, Notifier};
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// The tree's way to both threads.
pub(super) struct Messenger {
    notifier: Notifier,
    notices: Sender<Notice>,
}

impl Messenger {
    pub(super) fn new(notifier: Notifier, notices: Sender<Notice>) -> Messenger {
        Messenger { notifier, notices }
    }
}

impl Kernel for Messenger {
    fn notice(&self, notice: Notice) {
        // The thread is gone only when the mount is.
        let _ = self.notices.send(notice);
    }

    fn forget_attributes(&self, ino: Ino) {
        // A negative offset means attributes alone, which waits for no page.
        if let Err(error) = self.notifier.inval_inode(INodeNo(ino.0), -1, 0) {
            tracing::debug!(ino = ino.0, %error, "attributes not forgotten");
        }
    }
}

struct KernelPages<'a>(&'a Notifier);

impl Pages for KernelPages<'_> {
    fn invalidate(&self, ino: Ino, offset: u64) {
        if let Err(error) = self.0.inval_inode(INodeNo(ino.0), offset as i64, 0) {
            tracing::debug!(ino = ino.0, %error, "pages not dropped");
        }
    }

    fn store(&self, ino: Ino, offset: u64, bytes: &[u8]) {
        if let Err(error) = self.0.store(INodeNo(ino.0), offset, bytes) {
            tracing::debug!(ino = ino.0, %error, "pages not stored");
        }
    }
}

/// How often names that couldn't be dropped are tried again.
const RETRY: Duration = Duration::from_millis(10);

/// Carries notices out until the mount is gone.
pub(super) fn run(
    tree: &Tree,
    notifier: &Notifier,
    gate: &Arc<Gate>,
    notices: &Receiver<Notice>,
    pokes: &Sender<Poke>,
) {
    let mut stale: Vec<(Ino, OsString)> = Vec::new();
    loop {
        let next = if stale.is_empty() {
            notices.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            notices.recv_timeout(RETRY)
        };
        match next {
            Ok(Notice::Content { file, done }) => {
                let ino = file.inode();
                let grew = {
                    let _passage = gate.enter(ino);
                    file.tell(&KernelPages(notifier))
                };
                drop(done);
                if grew {
                    let _ = pokes.send(Poke::Grown(ino));
                }
            }
            Ok(Notice::Poke(ino)) => drop(pokes.send(Poke::Grown(ino))),
            Ok(Notice::NewName { parent, name }) => drop(pokes.send(Poke::Made(parent, name))),
            Ok(Notice::StaleName { parent, name }) => stale.push((parent, name)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // In a folder with an unanswered lookup this would freeze the folder until the answer.
        stale.retain(|(parent, name)| {
            if !tree.is_quiet(*parent) {
                return true;
            }
            if let Err(error) = notifier.inval_entry(INodeNo(parent.0), name) {
                tracing::debug!(parent = parent.0, %error, "name not dropped");
            }
            false
        });
    }
}
