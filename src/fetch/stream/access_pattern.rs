//! Who walks through a group, opening one stream after the other, and where he is.
//!
//! `cat *` and the like show by opening several streams that were never fetched; a program that searches what it lists, by opening the
//! folder. A walk goes in the listing's order (`grep -r`, `find`) or in that of the names (a shell's `*`): its last step tells which.
//! One sweep at a time reads ahead of all who walk.

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

/// The walk through one group.
pub(crate) struct AccessPattern {
    state: Mutex<State>,
    /// What was opened last.
    place: watch::Sender<Option<Place>>,
}

impl Default for AccessPattern {
    fn default() -> AccessPattern {
        AccessPattern { state: Mutex::default(), place: watch::Sender::new(None) }
    }
}

#[derive(Default)]
struct State {
    /// Streams opened cold of late.
    cold: VecDeque<(StreamId, Instant)>,
    last: Option<Instant>,
    opens: usize,
    /// When a program that searches what it lists last opened the folder.
    searched: Option<Instant>,
    /// A sweep runs.
    swept: bool,
    /// It is far enough ahead for now.
    rests: bool,
    not_before: Option<Instant>,
}

impl State {
    /// A stream is opened that isn't complete; tells whether a sweep should begin.
    fn opened_cold(&mut self, id: StreamId, now: Instant) -> bool {
        self.cold.retain(|(other, at)| *other != id && now.duration_since(*at) < WITHIN);
        self.cold.push_back((id, now));
        if self.cold.len() > OPENS {
            self.cold.pop_front();
        }
        (self.is_searched(now) || self.cold.len() >= OPENS) && self.begins(now)
    }

    /// A program that searches what it lists opens the folder; tells whether a sweep should begin.
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
        if begins {
            self.opens = 0;
        }
        begins
    }
}

impl AccessPattern {
    /// A program opens a stream.
    pub(crate) fn opened(&self, id: StreamId, name: &str) {
        let now = Instant::now();
        let is_search = {
            let mut state = lock(&self.state);
            state.last = Some(now);
            state.opens += 1;
            state.is_searched(now)
        };
        self.place.send_modify(|place| *place = Some(Place::step(place.as_ref(), id, name, is_search)));
    }

    /// The stream isn't complete: whether a sweep should begin, which then counts as running.
    pub(crate) fn opened_cold(&self, id: StreamId) -> bool {
        lock(&self.state).opened_cold(id, Instant::now())
    }

    /// A program that searches what it lists opens the folder: whether a sweep should begin, which then counts as running.
    pub(crate) fn searches(&self, is_listed: bool) -> bool {
        lock(&self.state).searched(is_listed, Instant::now())
    }

    /// Whether a program still walks.
    pub(crate) fn is_there(&self) -> bool {
        lock(&self.state).last.is_some_and(|at| at.elapsed() < LINGER)
    }

    /// Where he is; steps may be passed over.
    pub(crate) fn places(&self) -> watch::Receiver<Option<Place>> {
        self.place.subscribe()
    }

    /// Streams opened since the sweep began.
    pub(crate) fn opens(&self) -> usize {
        lock(&self.state).opens
    }

    /// Whether a sweep of the group is under way: it has FilterLogEvents to itself.
    pub(crate) fn is_swept(&self) -> bool {
        let state = lock(&self.state);
        state.swept && !state.rests
    }

    /// The sweep rests, being far enough ahead, or goes on.
    pub(crate) fn rest(&self, rests: bool) {
        lock(&self.state).rests = rests;
    }

    /// The sweep has ended; the next one may begin after `pause`.
    pub(crate) fn sweep_ended(&self, pause: Duration) {
        let mut state = lock(&self.state);
        state.swept = false;
        state.rests = false;
        state.not_before = Some(Instant::now() + pause);
    }
}

/// Where a walk is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) id: StreamId,
    /// Exact name.
    pub(crate) name: String,
    /// `None` as long as one step alone is known.
    pub(crate) order: Option<Order>,
}

/// How it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Listing,
    Names,
}

impl Place {
    /// After `before` a stream is opened. A program that searches takes what it lists as it comes (`is_search`).
    pub(crate) fn step(before: Option<&Place>, id: StreamId, name: &str, is_search: bool) -> Place {
        let order = match before {
            _ if is_search => Some(Order::Listing),
            None => None,
            Some(before) if before.id == id => before.order,
            Some(before) if before.id < id => Some(Order::Listing),
            Some(_) => Some(Order::Names),
        };
        Place { id, name: name.to_owned(), order }
    }

    /// Whether the walk comes to a stream yet.
    pub(crate) fn lies_before(&self, id: StreamId, name: &str) -> bool {
        match self.order {
            Some(Order::Listing) | None => self.id < id,
            Some(Order::Names) => self.name.as_str() < name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_streams_opened_within_some_seconds_begin_a_sweep() {
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
    fn the_last_step_tells_where_a_walk_goes() {
        let step = |before: &Place, id, is_search| Place::step(Some(before), StreamId(id), "b", is_search);
        let first = Place::step(None, StreamId(5), "a", false);
        assert_eq!(first.order, None);
        assert_eq!(step(&first, 6, false).order, Some(Order::Listing));
        assert_eq!(step(&first, 4, false).order, Some(Order::Names));
        assert_eq!(step(&first, 4, true).order, Some(Order::Listing), "a search takes what it lists as it comes");
        assert_eq!(step(&step(&first, 4, false), 4, false).order, Some(Order::Names), "again the same");
        assert!(step(&first, 4, false).lies_before(StreamId(1), "c") && !first.lies_before(StreamId(1), "c"));
    }
}
