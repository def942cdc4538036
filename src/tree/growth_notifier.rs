//! Has the kernel told of each change of an open file, one notice at a time.
//!
//! A task a file does it, and beginning one wakes another thread. Most opens are over within a millisecond (`grep -r`, `cat *`), so a
//! file whose size the kernel has waits for its task a moment, together with others, and most never get one.

use super::file::File;
use super::kernel::{Kernel, Notice};
use crate::fetch::Progress;
use crate::sync::lock;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a file waits for its task, unless somebody waits for what the task does.
const LATER: Duration = Duration::from_millis(5);

/// What the task of one file works with, from the file's opening on.
pub(crate) struct GrowthNotifier {
    kernel: Arc<dyn Kernel>,
    lengths: watch::Receiver<u64>,
    progress: watch::Receiver<Progress>,
    ended: CancellationToken,
    runtime: Handle,
}

impl GrowthNotifier {
    /// The task ends when the guard is dropped.
    pub(crate) fn new(
        kernel: Arc<dyn Kernel>,
        lengths: watch::Receiver<u64>,
        progress: watch::Receiver<Progress>,
        runtime: Handle,
    ) -> (GrowthNotifier, DropGuard) {
        let ended = CancellationToken::new();
        (GrowthNotifier { kernel, lengths, progress, ended: ended.clone(), runtime }, ended.drop_guard())
    }

    /// Begins the task.
    pub(crate) fn start(self, file: Weak<File>) {
        let runtime = self.runtime.clone();
        runtime.spawn(self.run(file));
    }

    async fn run(mut self, file: Weak<File>) {
        loop {
            self.lengths.mark_unchanged();
            self.progress.mark_unchanged();
            let Some(file) = file.upgrade() else { return };
            // What a commit couldn't be added to is made further.
            file.start_making();
            if file.is_due() {
                let (done, over) = oneshot::channel();
                self.kernel.notice(Notice::Content { file, done });
                let _ = over.await;
                continue;
            }
            drop(file);
            tokio::select! {
                () = self.ended.cancelled() => return,
                r = self.lengths.changed() => if r.is_err() { return },
                r = self.progress.changed() => if r.is_err() { return },
            }
        }
    }
}

/// Files that wait for their tasks.
#[derive(Default)]
pub(crate) struct DelayedStarts {
    waiting: Mutex<Vec<Weak<File>>>,
}

impl DelayedStarts {
    /// Begins the file's task a moment later, if it is still open then.
    pub(crate) fn add(self: &Arc<Self>, file: &Arc<File>, runtime: &Handle) {
        let mut waiting = lock(&self.waiting);
        let is_first = waiting.is_empty();
        waiting.push(Arc::downgrade(file));
        drop(waiting);
        if is_first {
            let delayed_starts = Arc::clone(self);
            runtime.spawn(async move {
                tokio::time::sleep(LATER).await;
                let files = std::mem::take(&mut *lock(&delayed_starts.waiting));
                files.iter().filter_map(Weak::upgrade).for_each(|file| file.start_notifier());
            });
        }
    }
}
