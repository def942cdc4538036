//! Who asks again and again for the attributes of a few files: programs that look before they open, and never would if the size stood
//! still. Who asks for many files is listing, and wants no growth of any.
//!
//! Pure: the driver says which thread asks for which file, and when. A thread is all that is known without a cost. So of one that asks for
//! many files nothing counts, and what counted before that was seen is taken back; of a process's threads together the driver asks once,
//! when a file is asked for often enough. A file's askers need not be one process: a shell starts another one each time. All is bounded,
//! the oldest forgotten.

use super::inode::Ino;
use lru::LruCache;
use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

/// A thread, or a process, that asks for more files than this within [`WINDOW`] is listing.
pub(crate) const FEW: usize = 32;
/// So many times in a row is often.
const OFTEN: u32 = 3;
/// Asks closer than this are one: the kernel keeps an answer for five seconds.
const LEAST: Duration = Duration::from_secs(4);
/// Asks further apart than this aren't in a row.
const MOST: Duration = Duration::from_secs(12);
/// Over how long files are counted a thread: as long as it takes to be often.
const WINDOW: Duration = Duration::from_secs(15);
/// Threads remembered. (The unwraps are of constants: the compiler proves them.)
const THREADS: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// Files remembered.
const FILES: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// What is remembered.
#[derive(Debug)]
pub(crate) struct Asks {
    threads: LruCache<u32, Thread>,
    files: LruCache<Ino, Row>,
}

#[derive(Debug, Default)]
struct Thread {
    /// Files that it asked for, and when last; at most [`FEW`].
    files: Vec<(Ino, Instant)>,
    /// It asks for many files, and counts for nothing until then.
    lists_until: Option<Instant>,
    /// Asks since that was found out, or was found to go on.
    asks: usize,
}

/// Asks in a row for one file.
#[derive(Clone, Copy, Debug)]
struct Row {
    last: Instant,
    count: u32,
    /// Whose ask was the last that counted, and what stood here before.
    by: u32,
    before: Option<(Instant, u32)>,
}

impl Default for Asks {
    fn default() -> Asks {
        Asks { threads: LruCache::new(THREADS), files: LruCache::new(FILES) }
    }
}

impl Asks {
    /// A thread asks for the attributes of `ino` alone. True: that file is asked for often, by those who ask for few.
    pub(crate) fn ask(&mut self, thread: u32, ino: Ino, now: Instant) -> bool {
        if self.lists(thread, ino, now) {
            return false;
        }
        let new = Row { last: now, count: 1, by: thread, before: None };
        let row = self.files.get_or_insert_mut(ino, || new);
        let apart = now.saturating_duration_since(row.last);
        if apart > MOST {
            *row = new;
        } else if apart >= LEAST {
            *row = Row { last: now, count: row.count + 1, by: thread, before: Some((row.last, row.count)) };
        }
        row.count >= OFTEN
    }

    /// Whether a process that asks for few files has asked for this one of late.
    pub(crate) fn is_asked_for(&self, ino: Ino, now: Instant) -> bool {
        self.files.peek(&ino).is_some_and(|row| now.saturating_duration_since(row.last) <= MOST)
    }

    /// The threads of one process. True: together they ask for many files, and count for nothing for a while.
    pub(crate) fn list(&mut self, threads: &[u32], now: Instant) -> bool {
        let asked = threads.iter().filter_map(|thread| self.threads.peek(thread));
        let lists = asked.clone().any(|thread| thread.lists_until.is_some_and(|until| now < until));
        let files: HashSet<Ino> = asked.flat_map(|thread| thread.recent(now)).collect();
        if lists || files.len() > FEW {
            threads.iter().for_each(|thread| self.is_listing(*thread, now));
            return true;
        }
        false
    }

    /// Notes the ask; whether its thread asks for many files.
    fn lists(&mut self, id: u32, ino: Ino, now: Instant) -> bool {
        let thread = self.threads.get_or_insert_mut(id, Thread::default);
        match thread.lists_until {
            Some(until) if now < until => {
                thread.asks += 1;
                if thread.asks > FEW {
                    thread.asks = 0;
                    thread.lists_until = Some(now + WINDOW);
                }
                return true;
            }
            Some(_) => *thread = Thread::default(),
            None => {}
        }
        if let Some((_, at)) = thread.files.iter_mut().find(|(known, _)| *known == ino) {
            *at = now;
            return false;
        }
        if thread.files.len() >= FEW {
            thread.files.retain(|(_, at)| now.saturating_duration_since(*at) <= WINDOW);
        }
        if thread.files.len() < FEW {
            thread.files.push((ino, now));
            return false;
        }
        self.is_listing(id, now);
        true
    }

    /// A thread turns out to list: what it asked for doesn't count.
    fn is_listing(&mut self, id: u32, now: Instant) {
        let thread = self.threads.get_or_insert_mut(id, Thread::default);
        thread.lists_until = Some(now + WINDOW);
        thread.asks = 0;
        for (ino, _) in std::mem::take(&mut thread.files) {
            let Some(row) = self.files.peek_mut(&ino).filter(|row| row.by == id) else { continue };
            match row.before.take() {
                Some((last, count)) => (row.last, row.count) = (last, count),
                None => drop(self.files.pop(&ino)),
            }
        }
    }
}

impl Thread {
    /// Files that it asked for lately.
    fn recent(&self, now: Instant) -> impl Iterator<Item = Ino> {
        self.files.iter().filter(move |(_, at)| now.saturating_duration_since(*at) <= WINDOW).map(|(ino, _)| *ino)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(start: Instant, tenths: u64) -> Instant {
        start + Duration::from_millis(100 * tenths)
    }

    #[test]
    fn the_third_look_in_a_row_is_often() {
        let (mut asks, start) = (Asks::default(), Instant::now());
        let looks: Vec<bool> = [0, 50, 51, 101, 160, 270].map(|tenths| asks.ask(1, Ino(7), at(start, tenths))).into();
        assert_eq!(looks, [false, false, false, true, true, true]);
        assert!(asks.is_asked_for(Ino(7), at(start, 300)));
        assert!(!asks.ask(1, Ino(7), at(start, 400)), "a pause begins anew");
        assert!(!asks.is_asked_for(Ino(8), at(start, 300)));
    }

    #[test]
    fn a_shell_that_starts_a_program_for_each_look_counts_too() {
        let (mut asks, start) = (Asks::default(), Instant::now());
        let looks: Vec<bool> =
            (0..4).map(|look| asks.ask(100 + look, Ino(7), at(start, 50 * u64::from(look)))).collect();
        assert_eq!(looks, [false, false, true, true]);
    }

    #[test]
    fn of_threads_of_one_process_the_files_are_added_up() {
        let (mut asks, start) = (Asks::default(), Instant::now());
        for look in 0..3 {
            for file in 0..40 {
                asks.ask((file % 4) as u32, Ino(file), at(start, 50 * look));
            }
        }
        let now = at(start, 100);
        assert!(!asks.list(&[0], now) && !asks.list(&[0, 1, 2], now));
        assert!(asks.list(&[0, 1, 2, 3], now), "40 files");
        assert!(!asks.ask(1, Ino(1), at(start, 150)));
    }

    #[test]
    fn a_listing_between_takes_nothing_from_one_who_looks() {
        let (mut asks, start) = (Asks::default(), Instant::now());
        let mut often = Vec::new();
        for look in 0..5 {
            often.push(asks.ask(1, Ino(7), at(start, 60 * look)));
            // It asks for that file first, then for the rest.
            for file in 7..107 {
                assert!(!asks.ask(200 + look as u32, Ino(file), at(start, 60 * look + 45)) || file == 7);
            }
        }
        assert_eq!(often, [false, false, true, true, true]);
    }

    proptest! {
        /// Askers for many files, whoever they are and however often they come.
        #[test]
        fn listings_are_never_often(
            rounds in prop::collection::vec((0u32..20, 33u64..200, 0u64..1000, 1u64..150), 1..60),
        ) {
            let (mut asks, start) = (Asks::default(), Instant::now());
            let mut tenths = 0;
            for (thread, files, first, pause) in rounds {
                tenths += pause;
                for file in first..first + files {
                    prop_assert!(!asks.ask(thread, Ino(file), at(start, tenths)));
                }
            }
        }

        /// Whatever comes, the memory is bounded.
        #[test]
        fn what_is_remembered_is_bounded(
            looks in prop::collection::vec((0u32..2_000, 0u64..5_000, 0u64..60), 1..3_000),
        ) {
            let (mut asks, start) = (Asks::default(), Instant::now());
            let mut tenths = 0;
            for (thread, file, pause) in looks {
                tenths += pause;
                asks.ask(thread, Ino(file), at(start, tenths));
                prop_assert!(asks.threads.len() <= THREADS.get() && asks.files.len() <= FILES.get());
                prop_assert!(asks.threads.peek(&thread).is_some_and(|t| t.files.len() <= FEW));
            }
        }

        /// One who looks at few files, with pauses as long as the kernel keeps an answer, is found at the third look at each.
        #[test]
        fn one_who_looks_at_few_files_is_found(files in 1u64..=32, pauses in prop::collection::vec(50u64..110, 3..20)) {
            let (mut asks, start) = (Asks::default(), Instant::now());
            let mut tenths = 0;
            for (look, pause) in pauses.into_iter().enumerate() {
                for file in 0..files {
                    prop_assert_eq!(asks.ask(1, Ino(file), at(start, tenths)), look >= 2);
                }
                tenths += pause;
            }
        }
    }
}
