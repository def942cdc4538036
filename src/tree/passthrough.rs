//! Files whose text the kernel reads by itself, without asking (FUSE passthrough).
//!
//! The kernel wants all opens of one inode to be alike: one that reads by itself beside one that goes through the page cache, or the
//! reverse, fails with EIO. So the mode is the file's. It is chosen at the first open and kept to the last release, as the tree counts
//! them: an open counts from before its answer to after its release, so the kernel never has one more than this knows of.

use crate::store::Passthrough;
use crate::sync::lock;
use std::any::Any;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

/// A shorter text isn't worth it: the page cache has it after one read, and to pass it through costs two system calls and a getattr at each
/// open. A second `grep -rc` over texts of 1 MiB took 1.24 times as long that way; over texts of 3 MiB it takes 1.15 times as long as on the
/// local disk.
pub(crate) const LEAST: u64 = 2 << 20;

/// How the opens of one file are answered.
#[derive(Default)]
pub(crate) struct Mode(Mutex<Opens>);

#[derive(Default)]
struct Opens {
    count: u64,
    text: Option<Arc<Text>>,
}

/// One open; ends when dropped.
pub(crate) struct Open {
    mode: Arc<Mode>,
    pub(crate) text: Option<Arc<Text>>,
}

impl Mode {
    /// It isn't open: the next open chooses.
    pub(crate) fn is_free(&self) -> bool {
        lock(&self.0).count == 0
    }

    /// Bytes that a reader whom the kernel serves by itself may see now; `None` if there is none. They are there before we tell of
    /// them, and a follower that sees a size below what it has read begins anew.
    pub(crate) fn shown(&self) -> Option<u64> {
        let text = lock(&self.0).text.clone()?;
        text.text.len()
    }

    /// One more open. `text` is taken if it is the first; otherwise the first one's choice holds.
    pub(crate) fn open(self: &Arc<Self>, text: Option<Passthrough>) -> Open {
        let mut offered = text.map(|text| Arc::new(Text { text, known: Mutex::default() }));
        let text = {
            let mut opens = lock(&self.0);
            if opens.count == 0 {
                opens.text = offered.take();
            }
            opens.count += 1;
            opens.text.clone()
        };
        // One that came too late is given back outside the lock.
        drop(offered);
        Open { mode: self.clone(), text }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.text = None;
        let over = {
            let mut opens = lock(&self.mode.0);
            opens.count -= 1;
            if opens.count == 0 { opens.text.take() } else { None }
        };
        drop(over);
    }
}

/// A text that the kernel reads by itself, and what the kernel knows it by.
pub struct Text {
    text: Passthrough,
    /// `None`: not asked yet; `Some(None)`: it refused.
    known: Mutex<Option<Option<Arc<dyn Any + Send + Sync>>>>,
}

impl Text {
    /// What the kernel knows the text by, made by `make` at the first call. `None` if it refused then: all opens of the file are
    /// ordinary ones.
    pub fn known_to_the_kernel<T: Any + Send + Sync>(
        &self,
        make: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Option<Arc<T>> {
        let mut known = lock(&self.known);
        let known = known.get_or_insert_with(|| match make(self.text.descriptor()?) {
            Ok(made) => Some(Arc::new(made) as Arc<dyn Any + Send + Sync>),
            Err(error) => {
                tracing::debug!(%error, "the kernel doesn't read this file by itself");
                None
            }
        });
        known.clone()?.downcast().ok()
    }
}
