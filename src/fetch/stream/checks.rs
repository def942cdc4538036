//! What checks of a group have found out, and who waits for the next. Plain state; `freshness` checks.

use crate::error::Error;
use crate::fetch::shared::{Shared, Wanted};
use crate::fetch::stream::watermark::{Past, Trust};
use crate::model::{StreamId, Timestamp};
use crate::store::row::Vouch;
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Reads of single streams are forgotten after this long, when there are many.
const FORGET_READS: Duration = Duration::from_secs(60);
/// How old a check may be that serves an open, whatever the poll interval.
const OLDEST: Duration = Duration::from_secs(1);

/// The checks of one group.
pub(crate) struct Checks {
    pub(crate) state: Mutex<State>,
    /// Counts ended checks.
    pub(crate) ended: watch::Sender<u64>,
}

/// What checks found out. Times are of this run.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) running: bool,
    pub(crate) next_waiter: u64,
    pub(crate) waiting: HashMap<u64, Waiter>,
    pub(crate) chain: Option<Vouch>,
    pub(crate) chain_saved: Option<Instant>,
    pub(crate) chain_dirty: bool,
    /// The last whole check and when it began.
    pub(crate) whole: Option<(Instant, Past)>,
    /// When the chain was last extended, or tried to be.
    pub(crate) from_edges: Option<Instant>,
    /// When a whole check last looked back over the late window.
    pub(crate) late: Option<Instant>,
    /// Whole checks from here or before were too large, until then.
    pub(crate) too_large: Option<(Timestamp, Instant)>,
    /// Streams read by themselves or by name: when that began, and when it was noted.
    pub(crate) reads: HashMap<StreamId, (Instant, Instant)>,
    /// Streams of which a check that began then could not keep what it read, and why.
    pub(crate) refused: HashMap<StreamId, (Instant, Error)>,
    /// When what served the last open of a stream began.
    pub(crate) served: HashMap<StreamId, Instant>,
    pub(crate) failed: Option<(Instant, Error)>,
    /// Since when the machine has not been suspended, if it ever was.
    pub(crate) awake: Option<Instant>,
    /// For how long the machine had been suspended when this was last looked at.
    pub(crate) suspended: Duration,
}

#[derive(Clone, Copy)]
pub(crate) struct Waiter {
    pub(crate) stream: StreamId,
    pub(crate) need: Need,
}

/// When something must have begun to serve an open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    pub(crate) not_before: Instant,
    /// Later than what served the file's last open.
    pub(crate) after: Option<Instant>,
}

impl Need {
    pub(crate) fn is_met_by(&self, began: Instant) -> bool {
        began >= self.not_before && self.after.is_none_or(|after| began > after)
    }
}

impl Checks {
    pub(crate) fn new(chain: Option<Vouch>) -> Checks {
        Checks { state: Mutex::new(State { chain, ..State::default() }), ended: watch::Sender::new(0) }
    }
}

impl State {
    /// What is needed at `called`.
    pub(crate) fn need(&self, id: StreamId, called: Instant, wanted: Wanted, shared: &Shared) -> Need {
        let oldest = shared.settings.borrow().poll_interval.min(OLDEST);
        let after = self.served.get(&id).copied().filter(|_| wanted == Wanted::Content);
        Need { not_before: called.checked_sub(oldest).unwrap_or(called), after }
    }

    /// When something began that vouches for a stream and meets a need.
    pub(crate) fn vouched(&self, id: StreamId, need: &Need) -> Option<Instant> {
        let read = self.reads.get(&id).map(|(began, _)| *began);
        let whole = self.whole.as_ref().filter(|(_, past)| past.covered.contains(&id)).map(|(began, _)| *began);
        read.into_iter().chain(whole).filter(|began| need.is_met_by(*began) && self.is_awake(*began)).max()
    }

    /// Whether the machine has not been suspended since.
    pub(crate) fn is_awake(&self, began: Instant) -> bool {
        self.awake.is_none_or(|awake| began >= awake)
    }

    /// Why what was read for a stream, by something that meets a need, could not be kept.
    pub(crate) fn refusal(&self, id: StreamId, need: &Need) -> Option<&Error> {
        self.refused.get(&id).filter(|(began, _)| need.is_met_by(*began)).map(|(_, error)| error)
    }

    /// What began then served an open.
    pub(crate) fn serve(&mut self, id: StreamId, wanted: Wanted, began: Instant) {
        if wanted == Wanted::Size {
            return;
        }
        if self.served.len() > 4096 {
            self.served.retain(|_, began| began.elapsed() < FORGET_READS);
        }
        self.served.insert(id, began);
    }

    /// This run's clock tells nothing of a suspend: after one nothing is new that was read before it, or began to be.
    pub(crate) fn note_suspended(&mut self, suspended: Duration, now: impl FnOnce() -> Instant) {
        if suspended > self.suspended + OLDEST {
            self.awake = Some(now());
            self.served.clear();
            // What is read again at intervals of that clock is due.
            (self.late, self.from_edges) = (None, None);
            self.failed = None;
        }
        self.suspended = suspended;
    }

    /// Whether a request of its own read a stream from its settled edge on, lately.
    pub(crate) fn was_read_within(&self, id: StreamId, time: Duration) -> bool {
        self.reads.get(&id).is_some_and(|(began, _)| began.elapsed() < time && self.is_awake(*began))
    }

    /// Whose streams the next check is for.
    pub(crate) fn wanted(&self) -> HashSet<StreamId> {
        let open = |w: &&Waiter| self.vouched(w.stream, &w.need).is_none() && self.refusal(w.stream, &w.need).is_none();
        self.waiting.values().filter(open).map(|w| w.stream).collect()
    }

    /// Streams were read by a request of their own.
    pub(crate) fn note_reads(&mut self, ids: impl IntoIterator<Item = StreamId>, began: Instant) {
        let now = Instant::now();
        if self.reads.len() > 4096 {
            self.reads.retain(|_, (_, noted)| now.duration_since(*noted) < FORGET_READS);
        }
        for id in ids {
            let read = self.reads.entry(id).or_insert((began, now));
            *read = (read.0.max(began), now);
        }
    }

    /// What a check that began then read of these could not be kept.
    pub(crate) fn note_refused(&mut self, refused: impl IntoIterator<Item = (StreamId, Error)>, began: Instant) {
        self.refused.retain(|_, (began, _)| began.elapsed() < FORGET_READS);
        self.refused.extend(refused.into_iter().map(|(id, error)| (id, (began, error))));
    }

    /// The chain; one that can't be relied on any more is dropped.
    pub(crate) fn trusted_chain(&mut self, trust: Trust) -> Option<Vouch> {
        if let Some(chain) = self.chain
            && trust.chain(Some(chain)).is_none()
        {
            tracing::info!(to = %chain.to, "what a wrong clock may have settled is read again");
            self.chain = None;
        }
        self.chain
    }

    pub(crate) fn set_chain(&mut self, chain: Option<Vouch>) {
        self.chain_dirty |= self.chain != chain;
        self.chain = chain;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_check_serves_opens_of_one_interval() {
        let began = Instant::now();
        let need = |not_before| Need { not_before, after: None };
        let mut state = State::default();
        let past = Past { began_at: Timestamp(0), covered: HashSet::from([StreamId(1)]), large: false };
        state.whole = Some((began, past));
        assert_eq!(state.vouched(StreamId(1), &need(began)), Some(began));
        assert_eq!(state.vouched(StreamId(1), &need(began + Duration::from_millis(1))), None);
        assert_eq!(state.vouched(StreamId(2), &need(began)), None);
        state.note_reads([StreamId(2)], began);
        assert_eq!(state.vouched(StreamId(2), &need(began)), Some(began));
        state.waiting.insert(0, Waiter { stream: StreamId(1), need: need(began) });
        state.waiting.insert(1, Waiter { stream: StreamId(3), need: need(began) });
        assert_eq!(state.wanted(), HashSet::from([StreamId(3)]), "those already served are left out");
    }

    #[test]
    fn a_check_serves_each_file_once() {
        let began = Instant::now();
        let mut state = State::default();
        state.note_reads([StreamId(1), StreamId(2)], began);
        let need = |state: &State, id| Need { not_before: began, after: state.served.get(&id).copied() };
        assert!(state.vouched(StreamId(1), &need(&state, StreamId(1))).is_some());
        state.serve(StreamId(1), Wanted::Size, began);
        assert!(state.vouched(StreamId(1), &need(&state, StreamId(1))).is_some(), "a size isn't the content");
        state.serve(StreamId(1), Wanted::Content, began);
        assert!(state.vouched(StreamId(1), &need(&state, StreamId(1))).is_none(), "its reader has seen that");
        assert!(state.vouched(StreamId(2), &need(&state, StreamId(2))).is_some(), "another's has not");
        state.note_reads([StreamId(1)], began + Duration::from_nanos(1));
        assert!(state.vouched(StreamId(1), &need(&state, StreamId(1))).is_some());
    }

    #[test]
    fn what_was_read_before_a_suspend_is_old_after_it() {
        let began = Instant::now();
        let mut state = State::default();
        let nanos = Duration::from_nanos;
        state.note_suspended(Duration::from_secs(5), || began);
        state.note_reads([StreamId(1)], began + nanos(1));
        let need = Need { not_before: began, after: None };
        state.note_suspended(Duration::from_secs(5), || began + nanos(2));
        assert!(state.vouched(StreamId(1), &need).is_some());
        state.note_suspended(Duration::from_hours(8), || began + nanos(3));
        assert!(state.vouched(StreamId(1), &need).is_none());
        state.note_reads([StreamId(1)], began + nanos(2));
        assert!(state.vouched(StreamId(1), &need).is_none(), "it was under way when the machine was suspended");
        state.note_reads([StreamId(1)], began + nanos(4));
        assert!(state.vouched(StreamId(1), &need).is_some());
    }

    #[test]
    fn what_could_not_be_kept_of_one_stream_ends_its_wait_alone() {
        let began = Instant::now();
        let need = Need { not_before: began, after: None };
        let mut state = State::default();
        state.waiting.insert(0, Waiter { stream: StreamId(1), need });
        state.waiting.insert(1, Waiter { stream: StreamId(2), need });
        state.note_refused([(StreamId(1), Error::new(ErrorKind::NoSpace, "g/a", "full"))], began);
        assert_eq!(state.wanted(), HashSet::from([StreamId(2)]));
        assert_eq!(state.refusal(StreamId(1), &need).unwrap().kind(), ErrorKind::NoSpace);
        assert!(
            state.refusal(StreamId(1), &Need { not_before: began + Duration::from_millis(1), after: None }).is_none()
        );
    }
}
