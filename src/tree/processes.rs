//! What processes were told, where it matters later: a process that walks cold files by their sizes (see `walks`), and a tail that
//! opens a file again. The tables are bounded; the oldest processes are dropped.

use super::caller::SystemCall;
use super::inode::Ino;
use super::reader::Process;
use super::walks::{Key, Walks};
use crate::sync::lock;
use lru::LruCache;
use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Tails remembered. (The unwrap is of a constant: the compiler proves it.)
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(512).unwrap();
/// How often it is looked which of the processes that were told a marker have ended.
const LOOK: Duration = Duration::from_secs(5);

/// The tables.
#[derive(Debug)]
pub(crate) struct Processes {
    walks: Mutex<Walks>,
    /// How many walks there are: with none, an open needn't ask who opens.
    walking: AtomicUsize,
    looked: Mutex<Option<Instant>>,
    tails: Mutex<LruCache<(Key, String), Ino>>,
    missed: Mutex<LruCache<(Key, Ino, OsString), ()>>,
}

impl Default for Processes {
    fn default() -> Self {
        Processes {
            walks: Mutex::default(),
            walking: AtomicUsize::new(0),
            looked: Mutex::default(),
            tails: Mutex::new(LruCache::new(REMEMBERED)),
            missed: Mutex::new(LruCache::new(REMEMBERED)),
        }
    }
}

fn key(process: &Process) -> Key {
    (process.id, process.started)
}

impl Processes {
    /// See [`Walks::walks`].
    pub(crate) fn walks(&self, process: &Process, thread: u32, ino: Ino) -> bool {
        lock(&self.walks).walks(key(process), thread, ino)
    }

    /// See [`Walks::begins`].
    pub(crate) fn begins_to_walk(&self, process: &Process, thread: u32) -> bool {
        self.anybody_walks() && lock(&self.walks).begins(key(process), thread)
    }

    /// See [`Walks::names_files`].
    pub(crate) fn names_files(&self, process: &Process) {
        lock(&self.walks).names_files(key(process));
    }

    /// See [`Walks::waited`].
    pub(crate) fn waited(&self, process: &Process, thread: u32) {
        if process.id != 0 {
            self.change(|walks| walks.waited(key(process), thread));
        }
    }

    /// Some process walks: who opens and who is told a size matters.
    pub(crate) fn anybody_walks(&self) -> bool {
        self.walking.load(Ordering::Acquire) > 0
    }

    /// See [`Walks::is_misled`].
    pub(crate) fn is_misled(&self, process: &Process, thread: u32, ino: Ino) -> bool {
        lock(&self.walks).is_misled(key(process), thread, ino)
    }

    /// See [`Walks::learns`].
    pub(crate) fn learns(&self, process: &Process, thread: u32, ino: Ino, call: SystemCall) {
        lock(&self.walks).learns(key(process), thread, ino, call);
    }

    /// See [`Walks::opens`].
    pub(crate) fn opens(&self, process: &Process, thread: u32, ino: Ino) -> bool {
        self.change(|walks| walks.opens(key(process), thread, ino))
    }

    /// See [`Walks::misleads`].
    pub(crate) fn misleads(&self, ino: Ino) -> bool {
        self.anybody_walks() && lock(&self.walks).misleads(ino)
    }

    /// Forgets what processes that have ended were told, if it is time to look; `lives` tells of one by its number and start.
    pub(crate) fn forget_ended(&self, lives: impl Fn(u32, u64) -> bool) {
        {
            let mut looked = lock(&self.looked);
            if looked.is_some_and(|at| at.elapsed() < LOOK) {
                return;
            }
            *looked = Some(Instant::now());
        }
        let misled = lock(&self.walks).misled();
        for process in misled.into_iter().filter(|(id, started)| !lives(*id, *started)) {
            self.change(|walks| walks.forget(process));
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Walks) -> T) -> T {
        let mut walks = lock(&self.walks);
        let done = change(&mut walks);
        self.walking.store(walks.len(), Ordering::Release);
        done
    }

    /// A tail opens the end of `label`. False: under this name it had another file before, and a new file is shown whole.
    pub(crate) fn tails(&self, process: &Process, label: &str, ino: Ino) -> bool {
        let mut tails = lock(&self.tails);
        *tails.get_or_insert((key(process), label.to_string()), || ino) == ino
    }

    /// A tail looks for a name that isn't there.
    pub(crate) fn misses(&self, process: &Process, parent: Ino, name: &OsStr) {
        lock(&self.missed).put((key(process), parent, name.to_os_string()), ());
    }

    /// Whether it did: GNU tail then seeks to the start of what it finds there, and gives up where it can't.
    pub(crate) fn missed(&self, process: &Process, parent: Ino, name: OsString) -> bool {
        lock(&self.missed).get(&(key(process), parent, name)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_ended_process_was_told_is_forgotten() {
        let processes = Processes::default();
        let process = Process { id: 7, started: 1, ..Process::default() };
        (0..9).for_each(|_| processes.waited(&process, 1));
        assert!(processes.walks(&process, 1, Ino(1)) && processes.misleads(Ino(1)));
        processes.forget_ended(|id, started| (id, started) == (7, 1));
        assert!(processes.misleads(Ino(1)));
        *lock(&processes.looked) = None;
        processes.forget_ended(|_, _| false);
        assert!(!processes.misleads(Ino(1)) && !processes.anybody_walks());
    }

    #[test]
    fn a_tail_is_known_by_what_it_missed() {
        let processes = Processes::default();
        let process = Process { id: 7, started: 1, ..Process::default() };
        let missed = |process: &Process, name: &str| processes.missed(process, Ino(1), name.into());
        assert!(!missed(&process, "s.log"));
        processes.misses(&process, Ino(1), OsStr::new("s.log"));
        assert!(missed(&process, "s.log"));
        assert!(!missed(&process, "t.log"));
        assert!(!missed(&Process { id: 7, started: 2, ..Process::default() }, "s.log"));
    }

    #[test]
    fn a_new_file_under_a_tailed_name_is_shown_whole() {
        let processes = Processes::default();
        let process = Process { id: 7, started: 1, ..Process::default() };
        assert!(processes.tails(&process, "g/s", Ino(1)));
        assert!(processes.tails(&process, "g/s", Ino(1)));
        assert!(!processes.tails(&process, "g/s", Ino(2)));
    }
}
