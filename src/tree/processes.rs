//! What processes were told, where it matters later: a process that walks cold files by their sizes, and a tail that opens a
//! file again. Both tables are bounded; the oldest processes are dropped.

use super::inode::{Ino, lock};
use super::reader::Process;
use lru::LruCache;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many unknown files in a row that a process looks at without opening one, and it counts as walking.
const PATIENT_LOOKS: u32 = 8;
/// Processes remembered. (The unwrap is of a constant: the compiler proves it.)
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(512).unwrap();
/// Files remembered a walking process; past that it is told nothing more but waits.
const MOST_TOLD: usize = 100_000;
/// Threads of one process whose looks are counted; past that all begin anew.
const MOST_THREADS: usize = 256;

type Key = (u32, u64);

#[derive(Debug, Default)]
struct Walk {
    /// Looks in a row, a thread: each of several that open one file after another looks at its own first.
    looks: HashMap<u32, u32>,
    told: HashSet<Ino>,
}

/// The tables.
#[derive(Debug)]
pub(crate) struct Processes {
    walks: Mutex<LruCache<Key, Walk>>,
    /// How many walks there are: with none, an open needn't ask who opens.
    walking: AtomicUsize,
    tails: Mutex<LruCache<(Key, String), Ino>>,
    missed: Mutex<LruCache<(Key, Ino, OsString), ()>>,
}

impl Default for Processes {
    fn default() -> Self {
        Processes {
            walks: Mutex::new(LruCache::new(REMEMBERED)),
            walking: AtomicUsize::new(0),
            tails: Mutex::new(LruCache::new(REMEMBERED)),
            missed: Mutex::new(LruCache::new(REMEMBERED)),
        }
    }
}

fn key(process: &Process) -> Key {
    (process.id, process.started)
}

impl Processes {
    /// A process that trusts sizes looks at a file of unknown size. True: it is walking, and is told the marker at once, which
    /// this remembers. False: it waits for the size.
    pub(crate) fn walks(&self, process: &Process, thread: u32, ino: Ino) -> bool {
        let mut walks = lock(&self.walks);
        let Some(walk) = walks.get_mut(&key(process)) else { return false };
        let looks = walk.looks.get(&thread).copied().unwrap_or(0);
        if looks < PATIENT_LOOKS || walk.told.len() >= MOST_TOLD {
            return false;
        }
        walk.told.insert(ino);
        true
    }

    /// It has waited for one.
    pub(crate) fn waited(&self, process: &Process, thread: u32) {
        if process.id != 0 {
            let mut walks = lock(&self.walks);
            let walk = walks.get_or_insert_mut(key(process), Walk::default);
            if walk.looks.len() >= MOST_THREADS {
                walk.looks.clear();
            }
            *walk.looks.entry(thread).or_default() += 1;
            self.walking.store(walks.len(), Ordering::Release);
        }
    }

    /// Somebody walks: who opens and who is told a size matters.
    pub(crate) fn anybody_walks(&self) -> bool {
        self.walking.load(Ordering::Acquire) > 0
    }

    /// The process is told the real size of `ino`: the marker no longer misleads it.
    pub(crate) fn learns(&self, process: &Process, ino: Ino) {
        if let Some(walk) = lock(&self.walks).get_mut(&key(process)) {
            walk.told.remove(&ino);
        }
    }

    /// A thread of the process opens `ino`, which ends that thread's row of looks. True: it was told that file's marker, so the size that it has in
    /// mind is wrong.
    pub(crate) fn opens(&self, process: &Process, thread: u32, ino: Ino) -> bool {
        let mut walks = lock(&self.walks);
        let Some(walk) = walks.get_mut(&key(process)) else { return false };
        walk.looks.remove(&thread);
        let misled = walk.told.contains(&ino);
        if walk.told.is_empty() && walk.looks.is_empty() {
            walks.pop(&key(process));
            self.walking.store(walks.len(), Ordering::Release);
        }
        misled
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
    fn the_ninth_look_in_a_row_is_a_walk() {
        let processes = Processes::default();
        let process = Process { id: 7, started: 1, ..Process::default() };
        for ino in 0..8 {
            assert!(!processes.walks(&process, 1, Ino(ino)));
            processes.waited(&process, 1);
        }
        assert!(processes.walks(&process, 1, Ino(8)));
        assert!(!processes.opens(&process, 1, Ino(0)), "it waited for that one");
        assert!(processes.opens(&process, 1, Ino(8)), "and was told a marker of this one");
    }

    #[test]
    fn threads_that_open_what_they_look_at_walk_nowhere() {
        let processes = Processes::default();
        let process = Process { id: 7, started: 1, ..Process::default() };
        for round in 0..3 {
            for thread in 0..50 {
                assert!(!processes.walks(&process, thread, Ino(round)));
                processes.waited(&process, thread);
            }
            for thread in 0..50 {
                assert!(!processes.opens(&process, thread, Ino(round)));
            }
            assert!(!processes.anybody_walks());
        }
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
    fn an_open_between_ends_the_walk() {
        let processes = Processes::default();
        let process = Process { id: 7, started: 1, ..Process::default() };
        for ino in 0..20 {
            assert!(!processes.walks(&process, 1, Ino(ino)));
            processes.waited(&process, 1);
            assert!(processes.anybody_walks());
            processes.opens(&process, 1, Ino(ino));
            assert!(!processes.anybody_walks());
        }
    }

    #[test]
    fn another_process_with_the_same_number_is_another() {
        let processes = Processes::default();
        let (first, second) =
            (Process { id: 7, started: 1, ..Process::default() }, Process { id: 7, started: 2, ..Process::default() });
        for _ in 0..8 {
            processes.waited(&first, 1);
        }
        assert!(processes.walks(&first, 1, Ino(1)));
        assert!(!processes.opens(&second, 1, Ino(1)));
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
