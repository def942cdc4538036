//! Who reads a text without asking, and who is about to write it. Plain state.

use crate::sync::lock;
use std::sync::{Arc, Mutex};

/// Called before a text that the kernel reads grows. From then on a reader may see more than the size that it was told: the file that told it
/// must know. Called under the stream's lock, so it never waits.
pub(crate) type Grows = Arc<dyn Fn() + Send + Sync>;

/// Who has a text without asking, and who is about to write it. Never both.
#[derive(Default)]
pub(crate) struct Passthroughs(Mutex<Opens>);

#[derive(Default)]
struct Opens {
    count: u64,
    writing: bool,
    /// Of the last who opened it so: all of them are one file of the tree.
    grows: Option<Grows>,
}

impl Passthroughs {
    /// The kernel reads without asking.
    pub(crate) fn is_any(&self) -> bool {
        lock(&self.0).count > 0
    }

    pub(crate) fn begin(&self, grows: Grows) -> bool {
        let mut opens = lock(&self.0);
        if opens.writing {
            return false;
        }
        opens.count += 1;
        opens.grows = Some(grows);
        true
    }

    /// The file is about to grow by what is committed.
    pub(crate) fn grows(&self) {
        let grows = lock(&self.0).grows.clone();
        if let Some(grows) = grows {
            grows();
        }
    }

    /// Whether it was the last.
    pub(crate) fn end(&self) -> bool {
        let mut opens = lock(&self.0);
        opens.count -= 1;
        if opens.count == 0 {
            opens.grows = None;
        }
        opens.count == 0
    }

    /// Uncommitted bytes may be written to the file until the guard is dropped. `None`: the kernel reads it.
    pub(crate) fn write(self: &Arc<Self>) -> Option<Writing> {
        let mut opens = lock(&self.0);
        opens.writing |= opens.count == 0;
        opens.writing.then(|| Writing(Arc::clone(self)))
    }
}

/// No passthrough begins while it lives. For the committer, which is one.
pub(crate) struct Writing(Arc<Passthroughs>);

impl Drop for Writing {
    fn drop(&mut self) {
        lock(&self.0.0).writing = false;
    }
}
