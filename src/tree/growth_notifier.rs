//! Has the kernel told of each change of an open file, one notice at a time.
//!
//! A task a file does it, and beginning one wakes another thread. Most opens are over within a millisecond (`grep -r`, `cat *`), so a
//! file whose size the kernel has waits for its task a moment, together with others, and most never get one.

use super::kernel::{Content, Kernel, Notice};
use crate::fetch::Progress;
use crate::sync::lock;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a file waits for its task, unless a caller waits for what the task does.
const LATER: Duration = Duration::from_millis(5);

/// A file whose growth is told.
pub(crate) trait Grows: Content + 'static {
    /// Whether the kernel must be told of something.
    fn is_due(&self) -> bool;
    /// Something has changed: does what must be done before it can be told.
    fn goes_on(self: &Arc<Self>);
    /// Begins the task, unless it has begun.
    fn start_notifier(self: &Arc<Self>);
}

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
    pub(crate) fn start(self, file: Weak<impl Grows>) {
        let runtime = self.runtime.clone();
        runtime.spawn(self.run(file));
    }

    async fn run(mut self, file: Weak<impl Grows>) {
        loop {
            self.lengths.mark_unchanged();
            self.progress.mark_unchanged();
            let Some(file) = file.upgrade() else { return };
            file.goes_on();
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
pub(crate) struct DelayedStarts<F> {
    waiting: Mutex<Vec<Weak<F>>>,
}

// Not derived: that would ask the same of the files.
impl<F> Default for DelayedStarts<F> {
    fn default() -> Self {
        DelayedStarts { waiting: Mutex::default() }
    }
}

impl<F: Grows> DelayedStarts<F> {
    /// Begins the file's task a moment later, if it is still open then.
    pub(crate) fn add(self: &Arc<Self>, file: &Arc<F>, runtime: &Handle) {
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
