//! Which of several threads takes notices: one that waits too long with what it took loses its place to another.
//!
//! Nothing here costs a wake-up a notice: the thread that stands by looks a few times a second while notices come, and sleeps otherwise.

use crate::sync::lock;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the leader may be at work with one notice.
const PATIENCE: Duration = Duration::from_millis(50);
/// After so long without work the one that stands by sleeps until there is some.
const IDLE: Duration = Duration::from_secs(1);
/// Threads at most that wait with a notice each, beside the leader.
const WAITING: usize = 64;

/// The leader's place.
#[derive(Debug, Default)]
pub(super) struct Lead {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Counts the leaders.
    term: u64,
    /// Since when the leader has been at work.
    at_work: Option<Instant>,
    /// When it last was.
    worked: Option<Instant>,
    /// Earlier leaders that wait still.
    waiting: usize,
    sleeps: bool,
    over: bool,
}

impl Lead {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The leader begins with something that may take long.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        state.at_work = Some(Instant::now());
        if std::mem::take(&mut state.sleeps) {
            self.changed.notify_one();
        }
    }

    /// The thread of this term is through with it; whether it leads still.
    pub(super) fn end(&self, term: u64) -> bool {
        let mut state = self.state();
        if state.term != term {
            state.waiting -= 1;
            return false;
        }
        state.worked = state.at_work.take();
        true
    }

    /// There is nothing more to lead.
    pub(super) fn end_all(&self) {
        self.state().over = true;
        self.changed.notify_all();
    }

    /// Waits until the leader has been at work for too long; the new leader's term. `None` when there is nothing more to lead.
    pub(super) fn wait_to_take_over(&self) -> Option<u64> {
        let mut state = self.state();
        loop {
            if state.over {
                return None;
            }
            let wait = match (state.at_work, state.worked) {
                (Some(since), _) if since.elapsed() >= PATIENCE && state.waiting < WAITING => {
                    state.term += 1;
                    state.waiting += 1;
                    state.at_work = None;
                    return Some(state.term);
                }
                (None, worked) if worked.is_none_or(|worked| worked.elapsed() >= IDLE) => None,
                _ => Some(PATIENCE),
            };
            state.sleeps = wait.is_none();
            state = match wait {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(wait) => self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn one_that_waits_loses_its_place_and_ends_when_it_is_through() {
        let lead = Arc::new(Lead::default());
        let stands_by = lead.clone();
        let standing = std::thread::spawn(move || {
            let terms = std::iter::from_fn(|| stands_by.wait_to_take_over());
            terms.collect::<Vec<_>>()
        });
        for term in 0..3 {
            lead.begin();
            assert!(lead.end(term), "it was quick");
            lead.begin();
            while lead.state().term == term {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(!lead.end(term), "another leads");
        }
        lead.end_all();
        assert_eq!(standing.join().unwrap(), [1, 2, 3]);
        assert_eq!(lead.state().waiting, 0);
    }
}
