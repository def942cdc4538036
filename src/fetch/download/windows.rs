//! One long read as windows of time that are read side by side. Pure.
//!
//! The windows lie in the order of time and leave no gap; the first is the head, whose pages may be committed as they come. A window
//! ends with the first event at or behind its end, which costs a part of a page, not by draining, which would cost two calls. How many
//! events a time holds is known only where pages were read, so windows are made as they are needed: what isn't read yet waits, and is
//! cut by the density of the page before it. A window that turns out longer than it was meant to be gives its rest back; one that turns
//! out shorter takes what waits behind it.
//!
//! Each window counts its own events: it begins and ends at whole milliseconds, which is all that a [`Pass`] asks for.

use crate::fetch::stream::cursor::Taken;
use crate::fetch::stream::merge::{Counted, Pass};
use crate::model::{LogEvent, Timestamp};
use std::collections::VecDeque;

/// Fewest pages that a window is made for.
const LEAST: f64 = 2.0;
/// Most pages that a window is made for: what is behind the head waits in memory.
const MOST: f64 = 16.0;
/// A window gives its rest back if that is so many times what it was made for.
const TOO_LONG: f64 = 2.0;

/// The number of a window.
pub(crate) type Id = u64;

/// The windows of one read.
#[derive(Debug)]
pub(crate) struct Windows {
    windows: VecDeque<Window>,
    next: Id,
    /// Behind it nothing is expected, as far as is known.
    horizon: Timestamp,
    /// What is stamped later than this is too little to be read side by side.
    present: Timestamp,
    /// Bytes of the largest page so far.
    page: f64,
}

#[derive(Debug)]
struct Window {
    id: Id,
    /// Inclusive; a whole millisecond. `None`: the stream's head.
    from: Option<Timestamp>,
    /// Exclusive.
    to: Timestamp,
    state: State,
    /// Pages taken.
    taken: u32,
    /// For so many pages it was made.
    meant: f64,
    /// Newest event.
    newest: Option<Timestamp>,
    /// Bytes a millisecond in the last page that had any.
    density: Option<f64>,
    pass: Pass,
    /// Counted and not yet committed, page by page.
    ready: VecDeque<Vec<Counted>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It isn't read yet.
    Waits,
    Read,
    Done,
}

impl Window {
    fn new(id: Id, from: Option<Timestamp>, to: Timestamp) -> Window {
        Window {
            id,
            from,
            to,
            state: State::Waits,
            taken: 0,
            meant: MOST,
            newest: from,
            density: None,
            pass: Pass::default(),
            ready: VecDeque::new(),
        }
    }

    /// Bytes expected from `from` to its end, at `density`.
    fn rest(&self, from: Timestamp, density: f64, horizon: Timestamp, present: Timestamp) -> f64 {
        // What lies behind the horizon is known to exist only where something was found.
        let to = self.to.min(if from < horizon { horizon } else { present });
        (to.0 - from.0).max(0) as f64 * density
    }
}

impl Windows {
    /// From `start` (`None`: the head) to `end`, at `present`; the newest event known lies at `horizon`.
    pub(crate) fn new(
        start: Option<Timestamp>,
        end: Timestamp,
        present: Timestamp,
        horizon: Option<Timestamp>,
    ) -> Windows {
        let mut head = Window::new(0, start, end);
        head.state = State::Read;
        let horizon = horizon.map_or(present, |at| end.min(Timestamp(at.0.saturating_add(1))));
        Windows { windows: VecDeque::from([head]), next: 1, horizon, present, page: 0.0 }
    }

    /// The window whose pages come next.
    pub(crate) fn head(&self) -> Option<Id> {
        self.windows.front().map(|window| window.id)
    }

    /// Whether no reader has the window whose pages come next.
    pub(crate) fn head_waits(&self) -> bool {
        self.windows.front().is_some_and(|window| window.state == State::Waits)
    }

    /// Windows that are being read.
    pub(crate) fn reading(&self) -> usize {
        self.windows.iter().filter(|window| window.state == State::Read).count()
    }

    /// Whether it still has to be read.
    pub(crate) fn is_read(&self, id: Id) -> bool {
        self.windows.iter().any(|window| window.id == id && window.state == State::Read)
    }

    /// Takes a page of a window.
    pub(crate) fn take(&mut self, id: Id, page: Taken, side_by_side: usize) {
        let Some(at) = self.windows.iter().position(|window| window.id == id) else { return };
        let Taken { events, ended, restarted, .. } = page;
        let bytes: usize = events.iter().map(|event| event.size()).sum();
        self.page = self.page.max(bytes as f64);
        let (first, last) = (events.first().map(|e| e.timestamp), events.last().map(|e| e.timestamp));
        if let Some(last) = last {
            self.reach(at, last);
        }
        if ended {
            self.reach(at, Timestamp(i64::MAX));
        }
        let window = &mut self.windows[at];
        if restarted {
            window.pass = Pass::default();
        }
        window.taken += 1;
        window.newest = last.into_iter().chain(window.newest).max();
        if let (Some(first), Some(last)) = (first, last) {
            window.density = Some(bytes as f64 / (last.0 - first.0).max(1) as f64);
        }
        if ended || last.is_some_and(|last| last >= window.to) {
            window.state = State::Done;
        }
        let to = window.to;
        let inside: Vec<LogEvent> = events.into_iter().filter(|event| event.timestamp < to).collect();
        if !inside.is_empty() {
            let counted = window.pass.page(inside);
            window.ready.push_back(counted);
        }
        self.give_back(at, side_by_side);
    }

    /// A page shows all up to `last`: what waits behind the window and lies before that is the window's.
    fn reach(&mut self, at: usize, last: Timestamp) {
        while last >= self.windows[at].to {
            match self.windows.get_mut(at + 1) {
                Some(next) if next.state == State::Waits => {
                    if last >= next.to {
                        self.windows[at].to = next.to;
                        self.windows.remove(at + 1);
                    } else {
                        next.from = Some(last);
                        self.windows[at].to = last;
                        return;
                    }
                }
                _ => return,
            }
        }
    }

    /// Makes a window shorter that is longer than it was meant to be.
    fn give_back(&mut self, at: usize, side_by_side: usize) {
        let parts = (2 * side_by_side.max(1)) as f64;
        let window = &mut self.windows[at];
        let (State::Read, Some(newest), Some(density)) = (window.state, window.newest, window.density) else { return };
        let rest = window.rest(newest, density, self.horizon, self.present) / self.page.max(1.0);
        if window.taken == 1 {
            // What was expected was known of the window before it.
            let fair = ((rest + 1.0) / parts).clamp(LEAST, MOST);
            window.meant = window.meant.min(fair);
        }
        let mine = (window.meant - f64::from(window.taken)).max(LEAST);
        if side_by_side < 2 || rest <= mine * TOO_LONG {
            return;
        }
        let Some(cut) = cut(newest, window.to, mine * self.page / density) else { return };
        let waits = Window::new(self.next, Some(cut), window.to);
        window.to = cut;
        self.next += 1;
        self.windows.insert(at + 1, waits);
    }

    /// Begins the first window that waits, for one of `side_by_side` readers: its number and start.
    pub(crate) fn begin(&mut self, side_by_side: usize) -> Option<(Id, Option<Timestamp>)> {
        let at = self.windows.iter().position(|window| window.state == State::Waits)?;
        let density = self.windows.iter().take(at).rev().find_map(|window| window.density);
        let window = &mut self.windows[at];
        window.state = State::Read;
        let (id, from) = (window.id, window.from);
        if let (Some(from), Some(density)) = (from, density) {
            let rest = window.rest(from, density, self.horizon, self.present) / self.page.max(1.0);
            window.meant = (rest / (2 * side_by_side.max(1)) as f64).clamp(LEAST, MOST);
            if rest > window.meant * TOO_LONG
                && let Some(cut) = cut(from, window.to, window.meant * self.page / density)
            {
                let waits = Window::new(self.next, Some(cut), window.to);
                window.to = cut;
                self.next += 1;
                self.windows.insert(at + 1, waits);
            }
        }
        Some((id, from))
    }

    /// The next events to commit, in order, of up to `pages` pages.
    pub(crate) fn pop(&mut self, pages: usize) -> Vec<Counted> {
        let mut events = Vec::new();
        let mut popped = 0;
        while popped < pages {
            let Some(head) = self.windows.front_mut() else { break };
            match head.ready.pop_front() {
                Some(page) => {
                    events.extend(page);
                    popped += 1;
                }
                None if head.state == State::Done => drop(self.windows.pop_front()),
                None => break,
            }
        }
        events
    }

    /// Pages that were read and can't be committed yet.
    pub(crate) fn held(&self) -> usize {
        self.windows.iter().map(|window| window.ready.len()).sum()
    }

    /// Everything is read and committed.
    pub(crate) fn is_over(&self) -> bool {
        self.windows.is_empty()
    }
}

/// The moment `ms` after `from`, if it lies before `to`: at least a millisecond later.
fn cut(from: Timestamp, to: Timestamp, ms: f64) -> Option<Timestamp> {
    let cut = Timestamp(from.0.saturating_add((ms as i64).max(1)));
    (cut < to).then_some(cut)
}

#[cfg(test)]
mod tests;
