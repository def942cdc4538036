//! The threads that own the notifier. They alone tell the kernel of sizes and stale names: a notification may wait for a page that
//! a read in flight holds, so it must never come from a thread that answers reads.
//!
//! One thread at a time takes notices. Where the one that it carries out waits for a read, which may itself wait for the network, another
//! thread takes over (see [`Lead`]): one file never delays another. A file's next notice comes once its last one is over, so each has at
//! most one such thread.

use super::gate::Gate;
use super::inotify::{InotifyEvent, Names};
use super::lead::Lead;
use crate::sync::lock;
use crate::tree::{Ino, Kernel, Notice, Pages, Tree};
use fuser::{INodeNo, Notifier};
use std::ffi::OsString;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The tree's way to both threads.
pub(super) struct Messenger {
    notifier: Notifier,
    notices: Sender<Notice>,
    names: Arc<Names>,
}

impl Messenger {
    pub(super) fn new(notifier: Notifier, notices: Sender<Notice>, names: Arc<Names>) -> Messenger {
        Messenger { notifier, notices, names }
    }
}

impl Kernel for Messenger {
    fn notice(&self, notice: Notice) {
        if matches!(notice, Notice::NewName { .. }) && !self.names.add() {
            tracing::debug!("too many new names at once: watchers don't hear of one");
            return;
        }
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

/// What the threads share.
pub(super) struct Notices {
    pub(super) tree: Arc<Tree>,
    pub(super) notifier: Notifier,
    pub(super) gate: Arc<Gate>,
    pub(super) events: Sender<InotifyEvent>,
    lead: Lead,
    /// The leader's.
    queue: Mutex<Queue>,
}

struct Queue {
    notices: Receiver<Notice>,
    /// Names to be dropped once nothing is asked in their folders.
    stale: Vec<(Ino, OsString)>,
}

impl Notices {
    pub(super) fn new(
        tree: Arc<Tree>,
        notifier: Notifier,
        gate: Arc<Gate>,
        notices: Receiver<Notice>,
        events: Sender<InotifyEvent>,
    ) -> Arc<Notices> {
        let queue = Mutex::new(Queue { notices, stale: Vec::new() });
        Arc::new(Notices { tree, notifier, gate, events, lead: Lead::default(), queue })
    }

    /// Carries notices out until the mount is gone, or another thread has taken over.
    pub(super) fn run(&self, term: u64) {
        while let Some(notice) = self.next() {
            match notice {
                Notice::Content { file, done } => {
                    let ino = file.inode();
                    self.lead.begin();
                    let grew = {
                        let _passage = self.gate.enter(ino);
                        file.tell(&KernelPages(&self.notifier))
                    };
                    let leads = self.lead.end(term);
                    drop(done);
                    if grew {
                        let _ = self.events.send(InotifyEvent::Grown(ino));
                    }
                    if !leads {
                        return;
                    }
                }
                Notice::Inotify(ino) => drop(self.events.send(InotifyEvent::Grown(ino))),
                Notice::NewName { parent, name } => drop(self.events.send(InotifyEvent::Made(parent, name))),
                Notice::StaleName { parent, name } => self.queue().stale.push((parent, name)),
            }
        }
        self.lead.end_all();
    }

    /// Takes over, again and again, where a notice waits for long; until the mount is gone.
    pub(super) fn stand_by(self: &Arc<Self>) {
        while let Some(term) = self.lead.wait_to_take_over() {
            let notices = Arc::clone(self);
            if let Err(error) = super::spawn("notifier", move || notices.run(term)) {
                tracing::warn!(%error, "growth of files may be shown late");
                self.run(term);
            }
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// The next notice; `None` if the mount is gone.
    fn next(&self) -> Option<Notice> {
        let mut queue = self.queue();
        loop {
            // In a folder with an unanswered lookup this would freeze the folder until the answer.
            queue.stale.retain(|(parent, name)| {
                if !self.tree.is_quiet(*parent) {
                    return true;
                }
                if let Err(error) = self.notifier.inval_entry(INodeNo(parent.0), name) {
                    tracing::debug!(parent = parent.0, %error, "name not dropped");
                }
                false
            });
            let next = if queue.stale.is_empty() {
                queue.notices.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                queue.notices.recv_timeout(RETRY)
            };
            match next {
                Ok(notice) => return Some(notice),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }
}
