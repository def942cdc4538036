//! What is shown from the copy because bringing it up to date failed, and is told: once in the log for each cause, in `status`, and as
//! an attribute of the file.
//!
//! Old bytes are better than none, but a reader must be able to learn that they are old. An entry stays until its stream or listing was
//! brought up to date again. The table is bounded: where the whole account can't be reached, some names tell as much as all.

use crate::error::{Error, ErrorKind};
use crate::model::{GroupId, StreamId, Timestamp};
use crate::sync::lock;
use std::collections::HashMap;
use std::sync::Mutex;

/// Entries that are kept; what fails beyond that is counted only.
const MOST: usize = 4096;

/// What isn't up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Copied {
    /// A stream's file.
    Stream(StreamId),
    /// A group's listing; `None` is that of the groups.
    Listing(Option<GroupId>),
}

/// Since when something is shown from the copy, and why.
#[derive(Clone, Debug)]
pub struct Stale {
    /// When it was first shown so.
    pub since: Timestamp,
    /// Why it could not be brought up to date; its subject is the stream or the group.
    pub error: Error,
}

/// What found out whether something is up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    /// A poll, whose page may hold less than there is.
    Poll,
    /// A read of all that may be new.
    Read,
}

/// What the log is told once: a kind of failure, and its words.
type Cause = (ErrorKind, String);

/// Causes that are kept of one entry; it hardly meets more before it is up to date again.
const CAUSES: usize = 8;

#[derive(Debug)]
struct Entry {
    stale: Stale,
    by: By,
    /// All that it met. Two that take turns, as an outage's first call and those that aren't made after it, are told once each.
    causes: Vec<Cause>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Copied, Entry>,
    /// How many entries each cause has, by what the log was told of it.
    causes: HashMap<Cause, usize>,
}

/// All that is shown from the copy.
#[derive(Debug, Default)]
pub(crate) struct StaleCopies(Mutex<State>);

impl StaleCopies {
    /// `what` is shown from the copy at `now`, because of `error`.
    pub(crate) fn note(&self, what: Copied, by: By, now: Timestamp, error: &Error) {
        let cause = (error.kind(), error.cause().to_owned());
        let is_news = {
            let mut state = self.lock();
            if !state.entries.contains_key(&what) && state.entries.len() >= MOST {
                return;
            }
            let stale = Stale { since: now, error: error.clone() };
            let entry = state.entries.entry(what).or_insert(Entry { stale, by, causes: Vec::new() });
            entry.by = entry.by.max(by);
            entry.stale.error = error.clone();
            if entry.causes.contains(&cause) || entry.causes.len() >= CAUSES {
                return;
            }
            entry.causes.push(cause.clone());
            let count = state.causes.entry(cause).or_default();
            *count += 1;
            *count == 1
        };
        if is_news {
            tracing::warn!("shown from the copy, which may be old: {error}");
        }
    }

    /// `what` is up to date. A poll can't say so where a read has found that it isn't.
    pub(crate) fn clear(&self, what: Copied, by: By) {
        let mut state = self.lock();
        if state.entries.get(&what).is_some_and(|entry| entry.by <= by)
            && let Some(entry) = state.entries.remove(&what)
        {
            entry.causes.iter().for_each(|cause| state.leave(cause));
        }
    }

    /// Since when `what` is shown from the copy, and why.
    pub(crate) fn get(&self, what: Copied) -> Option<Stale> {
        self.lock().entries.get(&what).map(|entry| entry.stale.clone())
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Stale> {
        self.lock().entries.values().map(|entry| entry.stale.clone()).collect()
    }

    /// The table is whole after every critical section.
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.0)
    }
}

impl State {
    fn leave(&mut self, cause: &Cause) {
        if let Some(count) = self.causes.get_mut(cause) {
            *count -= 1;
            if *count == 0 {
                self.causes.remove(cause);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(subject: &str) -> Error {
        Error::new(ErrorKind::Denied, subject, "logs:FilterLogEvents is not allowed")
    }

    #[test]
    fn it_is_told_until_it_is_up_to_date_again() {
        let stale = StaleCopies::default();
        let one = Copied::Stream(StreamId(17));
        stale.note(one, By::Read, Timestamp(5), &denied("g/a"));
        stale.note(one, By::Read, Timestamp(9), &denied("g/a"));
        let told = stale.get(one).unwrap();
        assert_eq!((told.since, told.error.subject()), (Timestamp(5), "g/a"), "since it was first so");
        stale.note(one, By::Read, Timestamp(11), &Error::new(ErrorKind::TimedOut, "g/a", "no network"));
        assert_eq!(
            (stale.get(one).unwrap().since, stale.get(one).unwrap().error.cause()),
            (Timestamp(5), "no network")
        );
        stale.clear(one, By::Read);
        assert!(stale.get(one).is_none() && stale.all().is_empty());
        assert!(stale.lock().causes.is_empty(), "the next one is told to the log again");
    }

    #[test]
    fn causes_that_take_turns_are_counted_once_each() {
        let stale = StaleCopies::default();
        let one = Copied::Stream(StreamId(17));
        let causes = ["no answer", "not tried again"].map(|cause| Error::new(ErrorKind::TimedOut, "g/a", cause));
        for error in causes.iter().cycle().take(6) {
            stale.note(one, By::Read, Timestamp(5), error);
        }
        assert_eq!(stale.get(one).unwrap().error.cause(), "not tried again", "the latest is shown");
        assert_eq!(stale.lock().causes.values().copied().collect::<Vec<_>>(), [1, 1], "none was left and told again");
        stale.clear(one, By::Read);
        assert!(stale.lock().causes.is_empty());
    }

    #[test]
    fn it_is_bounded() {
        let stale = StaleCopies::default();
        for id in 0..MOST as u64 + 10 {
            stale.note(Copied::Stream(StreamId(id)), By::Read, Timestamp(1), &denied("g/a"));
        }
        assert_eq!(stale.all().len(), MOST);
        stale.clear(Copied::Listing(None), By::Read);
        assert_eq!(stale.lock().causes.values().sum::<usize>(), MOST);
    }
}
