//! Keeps the notifier and the inotify thread off one inode at the same time.
//!
//! The reply to the inotify thread's `utimensat` carries a size. One computed before a growth and delivered after it would shrink the
//! inode under an mmap reader (SIGBUS). Each waits for the other, but never for ever: the inotify thread's call may wait behind
//! somebody's seek, which may wait for the notifier.

use crate::sync::lock;
use crate::tree::Ino;
use std::collections::HashSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long one waits for the other.
const PATIENCE: Duration = Duration::from_secs(2);

/// The inodes that one of the two threads is at work on.
#[derive(Debug, Default)]
pub(super) struct Gate {
    busy: Mutex<HashSet<Ino>>,
    freed: Condvar,
}

/// Holds an inode until dropped.
pub(super) struct Passage<'a> {
    gate: &'a Gate,
    ino: Option<Ino>,
}

impl Gate {
    /// Enters, after the other has left or patience is over.
    pub(super) fn enter(&self, ino: Ino) -> Passage<'_> {
        let busy = lock(&self.busy);
        let (mut busy, _) = self
            .freed
            .wait_timeout_while(busy, PATIENCE, |busy| busy.contains(&ino))
            .unwrap_or_else(PoisonError::into_inner);
        let entered = busy.insert(ino);
        Passage { gate: self, ino: entered.then_some(ino) }
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        if let Some(ino) = self.ino {
            lock(&self.gate.busy).remove(&ino);
            self.gate.freed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn one_at_a_time() {
        let gate = Arc::new(Gate::default());
        let first = gate.enter(Ino(1));
        drop(gate.enter(Ino(2)));
        let (other, left) = (gate.clone(), Arc::new(AtomicBool::new(false)));
        let seen = left.clone();
        let thread = std::thread::spawn(move || {
            let _second = other.enter(Ino(1));
            assert!(seen.load(Ordering::SeqCst));
        });
        std::thread::sleep(Duration::from_millis(20));
        left.store(true, Ordering::SeqCst);
        drop(first);
        thread.join().unwrap();
    }
}
