//! Whether programs walk through a group, opening one stream after the other, and what they opened of late.
//!
//! `cat *` and the like show by opening several streams that were never fetched; a program that searches what it lists, by opening the
//! folder. One read ahead at a time serves all that walk.

use crate::model::StreamId;
use crate::sync::lock;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// So many streams of a group opened cold (the model's groups have few) …
const OPENS: usize = if cfg!(test) { 2 } else { 3 };
/// … within this time are a walk through it.
const WITHIN: Duration = Duration::from_secs(5);
/// For so long one is enough after a program that searches what it lists has opened the folder.
const SEARCHED: Duration = Duration::from_secs(10);
/// No program walks any more so long after the last open.
const LINGER: Duration = Duration::from_secs(3);

/// Opens that are remembered.
const LATEST: usize = 64;

/// The walks through one group.
pub(crate) struct AccessPattern {
    state: Mutex<State>,
    /// Counts the opens.
    opens: watch::Sender<u64>,
}

impl Default for AccessPattern {
    fn default() -> AccessPattern {
        AccessPattern { state: Mutex::default(), opens: watch::Sender::new(0) }
    }
}

/// How far opens were looked at.
pub(crate) struct Opens {
    seen: u64,
    pub(crate) changed: watch::Receiver<u64>,
}

#[derive(Default)]
struct State {
    /// Streams opened cold of late.
    cold: VecDeque<(StreamId, Instant)>,
    last: Option<Instant>,
    /// The last streams opened, of so many in all.
    latest: VecDeque<StreamId>,
    opens: u64,
    /// When a program that searches what it lists last opened the folder.
    searched: Option<Instant>,
    /// A read ahead runs.
    swept: bool,
    /// It reads no streams at once for now.
    rests: bool,
    not_before: Option<Instant>,
}

impl State {
    /// A stream is opened that isn't complete; tells whether a read ahead should begin.
    fn opened_cold(&mut self, id: StreamId, now: Instant) -> bool {
        self.cold.retain(|(other, at)| *other != id && now.duration_since(*at) < WITHIN);
        self.cold.push_back((id, now));
        if self.cold.len() > OPENS {
            self.cold.pop_front();
        }
        (self.is_searched(now) || self.cold.len() >= OPENS) && self.begins(now)
    }

    /// A program that searches what it lists opens the folder; tells whether a read ahead should begin.
    fn searched(&mut self, is_listed: bool, now: Instant) -> bool {
        self.searched = Some(now);
        let begins = !is_listed && self.begins(now);
        if begins {
            self.last = Some(now);
        }
        begins
    }

    fn is_searched(&self, now: Instant) -> bool {
        self.searched.is_some_and(|at| now.duration_since(at) < SEARCHED)
    }

    fn begins(&mut self, now: Instant) -> bool {
        let begins = !self.swept && self.not_before.is_none_or(|not_before| now >= not_before);
        self.swept |= begins;
        begins
    }
}

impl AccessPattern {
    /// A program opens a stream.
    pub(crate) fn opened(&self, id: StreamId) {
        let opens = {
            let mut state = lock(&self.state);
            state.last = Some(Instant::now());
            if state.latest.len() == LATEST {
                state.latest.pop_front();
            }
            state.latest.push_back(id);
            state.opens += 1;
            state.opens
        };
        self.opens.send_modify(|told| *told = (*told).max(opens));
    }

    /// The stream isn't complete: whether a read ahead should begin, which then counts as running.
    pub(crate) fn opened_cold(&self, id: StreamId) -> bool {
        lock(&self.state).opened_cold(id, Instant::now())
    }

    /// A program that searches what it lists opens the folder: whether a read ahead should begin, which then counts as running.
    pub(crate) fn searches(&self, is_listed: bool) -> bool {
        lock(&self.state).searched(is_listed, Instant::now())
    }

    /// Whether a program still walks.
    pub(crate) fn is_there(&self) -> bool {
        lock(&self.state).last.is_some_and(|at| at.elapsed() < LINGER)
    }

    /// Whether one of them searches what it lists.
    pub(crate) fn is_searched(&self) -> bool {
        lock(&self.state).is_searched(Instant::now())
    }

    /// What is opened from the latest opens on.
    pub(crate) fn opens(&self) -> Opens {
        let state = lock(&self.state);
        Opens { seen: state.opens.saturating_sub(state.latest.len() as u64), changed: self.opens.subscribe() }
    }

    /// What was opened since this was last asked, or the latest of that.
    pub(crate) fn opened_since(&self, opens: &mut Opens) -> Vec<StreamId> {
        opens.changed.mark_unchanged();
        let state = lock(&self.state);
        let news = (state.opens - opens.seen).min(state.latest.len() as u64) as usize;
        opens.seen = state.opens;
        state.latest.iter().skip(state.latest.len() - news).copied().collect()
    }

    /// Whether several streams of the group are read at once: that has FilterLogEvents to itself.
    pub(crate) fn is_swept(&self) -> bool {
        let state = lock(&self.state);
        state.swept && !state.rests
    }

    /// Nothing is read at once for now, or something is.
    pub(crate) fn rest(&self, rests: bool) {
        lock(&self.state).rests = rests;
    }

    /// The read ahead has ended; the next one may begin after `pause`.
    pub(crate) fn read_ahead_ended(&self, pause: Duration) {
        let mut state = lock(&self.state);
        state.swept = false;
        state.rests = false;
        state.not_before = Some(Instant::now() + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_streams_opened_within_some_seconds_begin_a_read_ahead() {
        let start = Instant::now();
        let mut state = State::default();
        let second = Duration::from_secs(1);
        assert!(!state.opened_cold(StreamId(1), start));
        assert!(!state.opened_cold(StreamId(1), start), "again the same");
        assert!(state.opened_cold(StreamId(2), start + second));
        assert!(!state.opened_cold(StreamId(3), start + second), "one at a time");
        state.swept = false;
        state.not_before = Some(start + second * 20);
        assert!(!state.opened_cold(StreamId(4), start + second * 2));
        assert!(!state.opened_cold(StreamId(5), start + second * 30), "the others were long ago");
    }

    #[test]
    fn a_search_begins_one_at_its_first_open_or_before_the_folder_is_listed() {
        let start = Instant::now();
        let mut state = State::default();
        assert!(!state.searched(true, start), "it may have all that it needs");
        assert!(state.opened_cold(StreamId(1), start));
        let mut state = State::default();
        assert!(state.searched(false, start));
        assert!(!state.searched(false, start) && !state.opened_cold(StreamId(1), start), "one at a time");
        state.swept = false;
        assert!(!state.opened_cold(StreamId(1), start + SEARCHED));
    }

    #[test]
    fn opens_are_told_once_and_the_latest_of_many() {
        let pattern = AccessPattern::default();
        let mut opens = pattern.opens();
        (0..3).for_each(|id| pattern.opened(StreamId(id)));
        assert_eq!(pattern.opened_since(&mut opens), [0, 1, 2].map(StreamId));
        assert_eq!(pattern.opened_since(&mut opens), []);
        (0..100).for_each(|id| pattern.opened(StreamId(id)));
        let latest = pattern.opened_since(&mut opens);
        assert_eq!((latest.len(), latest[0], latest[LATEST - 1]), (LATEST, StreamId(36), StreamId(99)));
    }
}
