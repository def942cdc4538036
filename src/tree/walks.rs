//! Processes that look at the sizes of many files before any of them is known.
//!
//! A program that trusts sizes waits for each. One that looks at file after file without opening any is walking, and may never read them:
//! it is told the marker. One that was given the files by name (`wc -l *.log`, `zip a.zip *.log`) is not: it looks at all of them first and
//! then reads them, so it goes on waiting. If it opens such a file later, the size that it has in mind is wrong, and the open must fail until the program
//! itself has been told the real one. Not every question for attributes is the program's: the kernel asks before an open too, to check
//! permissions. Where the call can't be seen, a question counts that wasn't the last before an open; an access(2) then counts too. Pure: the driver says which thread asks what, and by which system call, where that can be seen.

use super::caller::SystemCall;
use super::inode::Ino;
use lru::LruCache;
use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;

/// So many unknown files in a row that a process looks at without opening one, and it counts as walking.
const PATIENT_LOOKS: u32 = 8;
/// Processes remembered. (The unwrap is of a constant: the compiler proves it.)
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(512).unwrap();
/// Files remembered a walking process; past that it is told nothing more but waits.
const MOST_TOLD: usize = 100_000;
/// The same of all processes together.
const MOST_TOLD_ALL: usize = 400_000;
/// Threads of one process whose looks are counted; past that all begin anew.
const MOST_THREADS: usize = 256;

/// A process: its number and when it started.
pub(crate) type Key = (u32, u64);

/// What is known of one process.
#[derive(Debug, Default)]
struct Walk {
    /// Looks in a row, a thread: each of several that open one file after another looks at its own first.
    looks: HashMap<u32, u32>,
    /// Files of which it was told the marker, and not the size since.
    told: HashSet<Ino>,
    /// The file that a thread asked about last, if the call couldn't be seen and was answered with the real size: it may belong to an
    /// open, which then comes next.
    asked: HashMap<u32, Ino>,
    /// Its command line names what it looks at.
    names_files: bool,
}

/// All of them, the oldest dropped.
#[derive(Debug)]
pub(crate) struct Walks {
    processes: LruCache<Key, Walk>,
    /// By how many processes a file's marker is taken for its size.
    misled: HashMap<Ino, u32>,
    /// Files that all of them were told the marker of.
    told: usize,
}

impl Walk {
    fn is_out_of_patience(&self, thread: u32) -> bool {
        !self.names_files && self.looks.get(&thread).is_some_and(|looks| *looks >= PATIENT_LOOKS)
    }
}

impl Default for Walks {
    fn default() -> Walks {
        Walks { processes: LruCache::new(REMEMBERED), misled: HashMap::new(), told: 0 }
    }
}

impl Walks {
    pub(crate) fn len(&self) -> usize {
        self.processes.len()
    }

    /// Whether a look of this thread would begin a walk. The driver then asks whether the process was given the file by name.
    pub(crate) fn begins(&self, process: Key, thread: u32) -> bool {
        let walk = self.processes.peek(&process);
        walk.is_some_and(|walk| walk.told.is_empty() && walk.is_out_of_patience(thread))
    }

    /// The process was given the files by name: it will read them, and waits for each.
    pub(crate) fn names_files(&mut self, process: Key) {
        if let Some(walk) = self.processes.get_mut(&process) {
            walk.names_files = true;
        }
    }

    /// A process that trusts sizes looks at a file of unknown size. True: it is walking, and is told the marker at once, which
    /// this remembers. False: it waits for the size.
    pub(crate) fn walks(&mut self, process: Key, thread: u32, ino: Ino) -> bool {
        self.goes_on(process, thread, None);
        let Some(walk) = self.processes.get_mut(&process) else { return false };
        if !walk.is_out_of_patience(thread) || walk.told.len() >= MOST_TOLD || self.told >= MOST_TOLD_ALL {
            return false;
        }
        if walk.told.insert(ino) {
            self.told += 1;
            *self.misled.entry(ino).or_default() += 1;
        }
        true
    }

    /// It has waited for one.
    pub(crate) fn waited(&mut self, process: Key, thread: u32) {
        if !self.processes.contains(&process)
            && self.processes.len() == REMEMBERED.get()
            && let Some((oldest, _)) = self.processes.peek_lru()
        {
            self.forget(*oldest);
        }
        let walk = self.processes.get_or_insert_mut(process, Walk::default);
        if walk.looks.len() >= MOST_THREADS {
            walk.looks.clear();
        }
        *walk.looks.entry(thread).or_default() += 1;
    }

    /// A thread of the process asks for attributes of `ino`. True: the process was told the marker, and not the size since.
    pub(crate) fn is_misled(&mut self, process: Key, thread: u32, ino: Ino) -> bool {
        self.goes_on(process, thread, None);
        self.processes.get(&process).is_some_and(|walk| walk.told.contains(&ino))
    }

    /// What a thread of a misled process asked for by `call` is answered with the real size.
    pub(crate) fn learns(&mut self, process: Key, thread: u32, ino: Ino, call: SystemCall) {
        match call {
            SystemCall::Stat => self.knows(process, ino),
            SystemCall::Open => {}
            SystemCall::Unknown => {
                if let Some(walk) = self.processes.get_mut(&process) {
                    if walk.asked.len() >= MOST_THREADS {
                        walk.asked.clear();
                    }
                    walk.asked.insert(thread, ino);
                }
            }
        }
    }

    /// A thread of the process opens `ino`, which ends that thread's row of looks. True: the size that the program has in mind is wrong.
    pub(crate) fn opens(&mut self, process: Key, thread: u32, ino: Ino) -> bool {
        self.goes_on(process, thread, Some(ino));
        let Some(walk) = self.processes.get_mut(&process) else { return false };
        walk.looks.remove(&thread);
        let misled = walk.told.contains(&ino);
        if walk.told.is_empty() && walk.looks.is_empty() {
            self.processes.pop(&process);
        }
        misled
    }

    /// Whether some process takes the marker of `ino` for its size. The kernel must then keep none, or that process's own question would
    /// not come here.
    pub(crate) fn misleads(&self, ino: Ino) -> bool {
        self.misled.contains_key(&ino)
    }

    /// Those that were told a marker and not the size since.
    pub(crate) fn misled(&self) -> Vec<Key> {
        self.processes.iter().filter(|(_, walk)| !walk.told.is_empty()).map(|(key, _)| *key).collect()
    }

    /// The process has ended.
    pub(crate) fn forget(&mut self, process: Key) {
        for ino in self.processes.pop(&process).map(|walk| walk.told).unwrap_or_default() {
            self.misleads_one_less(ino);
        }
    }

    /// A thread asks for something: what it asked for before was no part of an open, unless this is that open.
    fn goes_on(&mut self, process: Key, thread: u32, opens: Option<Ino>) {
        let before = self.processes.get_mut(&process).and_then(|walk| walk.asked.remove(&thread));
        if let Some(before) = before.filter(|before| opens != Some(*before)) {
            self.knows(process, before);
        }
    }

    /// The program has been told the real size.
    fn knows(&mut self, process: Key, ino: Ino) {
        if self.processes.get_mut(&process).is_some_and(|walk| walk.told.remove(&ino)) {
            self.misleads_one_less(ino);
        }
    }

    fn misleads_one_less(&mut self, ino: Ino) {
        self.told -= 1;
        if let Some(count) = self.misled.get_mut(&ino) {
            *count -= 1;
            if *count == 0 {
                self.misled.remove(&ino);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONE: Key = (7, 1);

    /// A process that is walking.
    fn walking(process: Key, thread: u32) -> Walks {
        let mut walks = Walks::default();
        for ino in 100..108 {
            assert!(!walks.walks(process, thread, Ino(ino)));
            walks.waited(process, thread);
        }
        walks
    }

    #[test]
    fn the_ninth_look_in_a_row_is_a_walk() {
        let mut walks = walking(ONE, 1);
        assert!(walks.walks(ONE, 1, Ino(8)));
        assert!(!walks.opens(ONE, 1, Ino(100)), "it waited for that one");
        assert!(walks.opens(ONE, 1, Ino(8)), "and was told a marker of this one");
    }

    #[test]
    fn a_process_that_was_given_its_files_by_name_walks_nowhere() {
        let mut walks = walking(ONE, 1);
        assert!(walks.begins(ONE, 1) && !walks.begins(ONE, 2), "each thread has a row of its own");
        walks.names_files(ONE);
        for ino in 8..100 {
            assert!(!walks.begins(ONE, 1) && !walks.walks(ONE, 1, Ino(ino)));
            walks.waited(ONE, 1);
        }
        assert!((8..100).all(|ino| !walks.opens(ONE, 1, Ino(ino))));
    }

    #[test]
    fn a_walk_that_has_begun_goes_on() {
        let mut walks = walking(ONE, 1);
        assert!(walks.walks(ONE, 1, Ino(8)));
        assert!(!walks.begins(ONE, 1), "its command line is read once");
    }

    #[test]
    fn threads_that_open_what_they_look_at_walk_nowhere() {
        let mut walks = Walks::default();
        for round in 0..3 {
            for thread in 0..50 {
                assert!(!walks.walks(ONE, thread, Ino(round)));
                walks.waited(ONE, thread);
            }
            for thread in 0..50 {
                assert!(!walks.opens(ONE, thread, Ino(round)));
            }
            assert_eq!(walks.len(), 0);
        }
    }

    #[test]
    fn an_open_between_ends_the_walk() {
        let mut walks = Walks::default();
        for ino in 0..20 {
            assert!(!walks.walks(ONE, 1, Ino(ino)));
            walks.waited(ONE, 1);
            assert_eq!(walks.len(), 1);
            walks.opens(ONE, 1, Ino(ino));
            assert_eq!(walks.len(), 0);
        }
    }

    #[test]
    fn another_process_with_the_same_number_is_another() {
        let mut walks = walking(ONE, 1);
        assert!(walks.walks(ONE, 1, Ino(1)));
        assert!(!walks.opens((7, 2), 1, Ino(1)));
    }

    #[test]
    fn a_stat_teaches_and_an_open_does_not() {
        let mut walks = walking(ONE, 1);
        assert!(walks.walks(ONE, 1, Ino(8)) && walks.misleads(Ino(8)));
        assert!(walks.is_misled(ONE, 1, Ino(8)));
        walks.learns(ONE, 1, Ino(8), SystemCall::Open);
        assert!(walks.opens(ONE, 1, Ino(8)), "the kernel asked");
        assert!(walks.is_misled(ONE, 2, Ino(8)));
        walks.learns(ONE, 2, Ino(8), SystemCall::Stat);
        assert!(!walks.is_misled(ONE, 1, Ino(8)) && !walks.misleads(Ino(8)));
        assert!(!walks.opens(ONE, 1, Ino(8)), "the program asked");
    }

    #[test]
    fn the_files_of_a_process_that_has_ended_mislead_nobody() {
        let mut walks = walking(ONE, 1);
        assert!(walks.walks(ONE, 1, Ino(8)));
        assert_eq!(walks.misled(), [ONE]);
        walks.forget(ONE);
        assert!(!walks.misleads(Ino(8)) && walks.len() == 0 && walks.misled.is_empty());
    }

    #[test]
    fn only_so_many_processes_are_remembered() {
        let mut walks = walking(ONE, 1);
        assert!(walks.walks(ONE, 1, Ino(8)));
        for process in 0..600 {
            walks.waited((1_000 + process, 1), 1);
        }
        assert_eq!(walks.len(), REMEMBERED.get());
        assert!(walks.misled.is_empty(), "the oldest goes, and all that was known of it");
    }

    #[derive(Clone, Copy, Debug)]
    enum Op {
        /// Of a file that becomes known a moment later, or is known already.
        Stat,
        Open,
    }

    proptest! {
        /// A thread's calls as they come here where no call can be seen: each stat asks once, each open asks and then opens.
        #[test]
        fn no_open_succeeds_by_the_marker(
            ops in prop::collection::vec(
                (0u32..3, 0u64..3, prop_oneof![Just(Op::Stat), Just(Op::Open)], any::<bool>(), any::<bool>()),
                1..60,
            ),
        ) {
            let mut walks = Walks::default();
            for (process, thread) in [(ONE, 0), (ONE, 1), (ONE, 2)] {
                (0..9).for_each(|_| walks.waited(process, thread));
            }
            // What the program knows of each file, and whether the file's size is known.
            let mut thinks = [None::<bool>; 3];
            let mut known = [false; 3];
            // Opens of which the kernel has asked, not yet sent.
            let mut under_way: [Option<u64>; 3] = [None; 3];
            for (thread, file, op, becomes_known, goes_on) in ops {
                let ino = Ino(file);
                known[file as usize] |= becomes_known;
                if let Some(file) = under_way[thread as usize].take() {
                    let refused = walks.opens(ONE, thread, Ino(file));
                    prop_assert!(refused || thinks[file as usize] != Some(false), "a size in mind that is wrong");
                }
                let mut ask = |walks: &mut Walks| {
                    let misled = walks.is_misled(ONE, thread, ino);
                    if known[file as usize] {
                        if misled {
                            walks.learns(ONE, thread, ino, SystemCall::Unknown);
                        }
                        return Some(true);
                    }
                    if walks.walks(ONE, thread, ino) {
                        return Some(false);
                    }
                    known[file as usize] = true;
                    walks.waited(ONE, thread);
                    Some(true)
                };
                match op {
                    Op::Stat => thinks[file as usize] = ask(&mut walks),
                    Op::Open => {
                        ask(&mut walks);
                        under_way[thread as usize] = Some(file);
                        if goes_on {
                            let refused = walks.opens(ONE, thread, ino);
                            prop_assert!(refused || thinks[file as usize] != Some(false), "a size in mind that is wrong");
                            under_way[thread as usize] = None;
                        }
                    }
                }
            }
            prop_assert_eq!(
                walks.misled.values().sum::<u32>() as usize,
                walks.processes.iter().map(|(_, walk)| walk.told.len()).sum::<usize>()
            );
        }
    }
}
