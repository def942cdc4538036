//! Opens of complete streams: joined into checks of their group.
//!
//! One check (see `check`) reads everything that is new in a group and so vouches for every complete stream of it at once. A check that
//! began at most one poll interval before an open serves that open, running or ended; an open that none serves waits for the next, which
//! takes along whoever waits by then. Nothing waiting, no check. A check that fails shows the cached copies, and for a while none is
//! tried again.

use super::Shared;
use super::check;
use super::commit::{Seal, commit};
use super::drain::{Drained, Read, ahead, drain};
use super::fault::Fault;
use super::service::Weight;
use super::stream::{Group, Stream, Streams, lock};
use super::vouch::Past;
use crate::error::Error;
use crate::model::{StreamId, Timestamp};
use crate::store::row::{StreamRow, Vouch};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long after a failure the cached copies are shown without asking.
const COOL_DOWN: Duration = Duration::from_secs(5);
/// How often the chain is written.
const SAVE_INTERVAL: Duration = Duration::from_secs(5);
/// Reads of single streams are forgotten after this long, when there are many.
const FORGET_READS: Duration = Duration::from_secs(60);

/// The checks of one group.
pub(crate) struct Checks {
    pub(crate) state: Mutex<State>,
    /// Counts ended checks.
    ended: watch::Sender<u64>,
}

/// What checks found out. Times are of this run.
#[derive(Default)]
pub(crate) struct State {
    running: bool,
    next_waiter: u64,
    waiting: HashMap<u64, Waiter>,
    pub(crate) chain: Option<Vouch>,
    chain_saved: Option<Instant>,
    chain_dirty: bool,
    /// The last whole check and when it began.
    pub(crate) whole: Option<(Instant, Past)>,
    /// When the chain was last extended, or tried to be.
    pub(crate) from_edges: Option<Instant>,
    /// When a whole check last looked back over the late window.
    pub(crate) late: Option<Instant>,
    /// Whole checks from here or before were too large, until then.
    pub(crate) too_large: Option<(Timestamp, Instant)>,
    /// Streams read by themselves or by name: when that began, and when it was noted.
    reads: HashMap<StreamId, (Instant, Instant)>,
    failed: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Waiter {
    stream: StreamId,
    /// Checks that began at this moment or later serve it.
    not_before: Instant,
}

impl Checks {
    pub(crate) fn new(chain: Option<Vouch>) -> Checks {
        Checks { state: Mutex::new(State { chain, ..State::default() }), ended: watch::Sender::new(0) }
    }
}

impl State {
    /// Whether something that began at `not_before` or later vouches for a stream.
    fn vouched(&self, id: StreamId, not_before: Instant) -> bool {
        self.reads.get(&id).is_some_and(|(began, _)| *began >= not_before)
            || self.whole.as_ref().is_some_and(|(began, past)| *began >= not_before && past.covered.contains(&id))
    }

    /// Whether a request of its own read a stream from its settled edge on, lately.
    pub(crate) fn was_read_within(&self, id: StreamId, time: Duration) -> bool {
        self.reads.get(&id).is_some_and(|(began, _)| began.elapsed() < time)
    }

    /// Whose streams the next check is for.
    fn wanted(&self) -> HashSet<StreamId> {
        self.waiting.values().filter(|w| !self.vouched(w.stream, w.not_before)).map(|w| w.stream).collect()
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

    pub(crate) fn set_chain(&mut self, chain: Option<Vouch>) {
        self.chain_dirty |= self.chain != chain;
        self.chain = chain;
    }
}

/// A drained read of one stream, begun at `began`, is about to be committed.
pub(crate) fn was_read(stream: &Stream, began: Instant) {
    lock(&stream.group.checks.state).note_reads([stream.id], began);
}

/// Whether an open now needs no call.
pub(crate) fn is_fresh(stream: &Stream) -> bool {
    let not_before = serves_from(&stream.home.shared, Instant::now());
    lock(&stream.group.checks.state).vouched(stream.id, not_before)
}

fn serves_from(shared: &Shared, called: Instant) -> Instant {
    let interval = shared.settings.borrow().poll_interval;
    called.checked_sub(interval).unwrap_or(called)
}

/// See [`Stream::bring_up_to_date`]; the stream is complete.
pub(crate) async fn bring_up_to_date(stream: &Arc<Stream>, called: Instant) -> Result<(), Error> {
    let home = &stream.home;
    let not_before = serves_from(&home.shared, called);
    let group = &stream.group;
    let mut ended = group.checks.ended.subscribe();
    let mut waiter = None;
    loop {
        ended.borrow_and_update();
        {
            let mut state = lock(&group.checks.state);
            if state.vouched(stream.id, not_before) {
                break;
            }
            if state.failed.is_some_and(|at| at + COOL_DOWN > called) {
                return Ok(());
            }
            if waiter.is_none() {
                let number = state.next_waiter;
                state.next_waiter += 1;
                state.waiting.insert(number, Waiter { stream: stream.id, not_before });
                waiter = Some(Waiting { group: group.clone(), number });
            }
            if !state.running {
                state.running = true;
                home.shared.tasks.spawn(run(home.clone(), group.clone()));
            }
        }
        tokio::select! {
            () = home.shared.stopping.cancelled() => return Err(Fault::Stopping.about(&stream.subject)),
            // The sender lives in the group, which this function holds.
            _ = ended.changed() => {}
        }
    }
    drop(waiter);
    backfill(stream).await
}

/// An open that waits for a check; takes itself off the list.
struct Waiting {
    group: Arc<Group>,
    number: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        lock(&self.group.checks.state).waiting.remove(&self.number);
    }
}

/// Checks until nobody waits.
async fn run(home: Arc<Streams>, group: Arc<Group>) {
    loop {
        let wanted = {
            let mut state = lock(&group.checks.state);
            let wanted = state.wanted();
            if wanted.is_empty() {
                state.running = false;
                drop(state);
                // Whoever waits still was served by a read of another kind meanwhile, and must hear of it.
                group.checks.ended.send_modify(|n| *n += 1);
                return;
            }
            wanted
        };
        // In a task of its own: a defect there must not leave `running` set for ever.
        let task = home.shared.tasks.spawn(check::check(home.clone(), group.clone(), wanted.clone()));
        let outcome = task.await.unwrap_or(Err(Fault::Died));
        save_vouch(&home.shared, &group, false);
        let failed = outcome.is_err();
        if let Err(fault) = outcome {
            tell(&home, &group, &wanted, fault);
        }
        {
            let mut state = lock(&group.checks.state);
            if failed {
                state.failed = Some(Instant::now());
                // Everybody who waits is shown what is cached.
                state.waiting.clear();
            } else {
                state.failed = None;
            }
        }
        group.checks.ended.send_modify(|n| *n += 1);
    }
}

/// A check failed: the report hears it once, each waiting stream has it in its progress.
fn tell(home: &Arc<Streams>, group: &Group, wanted: &HashSet<StreamId>, fault: Fault) {
    if matches!(fault, Fault::Stopping) {
        return;
    }
    let error = fault.about(&group.name);
    home.report.error(&error);
    for id in wanted {
        if let Ok(stream) = home.stream(*id) {
            stream.progress.send_modify(|p| {
                let number = p.failure.as_ref().map_or(0, |f| f.0) + 1;
                p.failure = Some((number, error.clone()));
            });
        }
    }
}

/// Writes the chain, at most every few seconds unless `now`.
pub(crate) fn save_vouch(shared: &Shared, group: &Group, now: bool) {
    let chain = {
        let mut state = lock(&group.checks.state);
        let due = now || state.chain_saved.is_none_or(|at| at.elapsed() >= SAVE_INTERVAL);
        if !state.chain_dirty || !due {
            return;
        }
        state.chain_dirty = false;
        state.chain_saved = Some(Instant::now());
        state.chain
    };
    if let Some(chain) = chain
        && let Err(e) = shared.store.set_vouch(group.id, chain)
    {
        // It only saves calls after a restart.
        tracing::debug!(error = %e, "the chain of checks was not written");
    }
}

/// Whether a listing tells of events taken in that neither are stored nor could be known when the stream was last read.
fn has_backfill(row: &StreamRow, now: Timestamp) -> bool {
    row.stream.last_ingestion.is_some_and(|told| {
        told > row.extent.newest_ingestion.unwrap_or(Timestamp::EPOCH) && told > row.extent.read_to && told <= now
    })
}

/// Reads the stream again, whole, if the listing tells of events that no tail shows.
async fn backfill(stream: &Arc<Stream>) -> Result<(), Error> {
    let row = stream.row()?;
    if row.gone || !has_backfill(&row, stream.home.shared.clock.now()) {
        return Ok(());
    }
    let state = &stream.group.checks.state;
    if lock(state).failed.is_some_and(|at| at.elapsed() < COOL_DOWN) {
        return Ok(());
    }
    // Lives as long as this future: whoever withdraws ends the read after the page in flight.
    let waits = Arc::new(());
    let task = stream.home.shared.tasks.spawn(read_from(
        stream.clone(),
        Weight::Refreshing,
        Timestamp::EPOCH,
        Arc::downgrade(&waits),
    ));
    match task.await.unwrap_or(Err(Fault::Died)) {
        Ok(()) => Ok(()),
        Err(Fault::Stopping) => Err(Fault::Stopping.about(&stream.subject)),
        Err(fault) => {
            lock(state).failed = Some(Instant::now());
            stream.failed(fault.about(&stream.subject));
            Ok(())
        }
    }
}

/// Reads one complete stream from `from` (not after its settled edge) to now, drained, and what is stamped ahead; for as long as
/// `waits` lives.
pub(crate) async fn read_from(
    stream: Arc<Stream>,
    weight: Weight,
    from: Timestamp,
    waits: Weak<()>,
) -> Result<(), Fault> {
    let began = Instant::now();
    let now = stream.home.shared.clock.now();
    let end = now + Duration::from_millis(1);
    let read = Read {
        stream: &stream,
        weight,
        start: Some(from),
        end,
        read_to: None,
        only_complete: true,
        calls: None,
        tally: None,
    };
    let drained = match drain(read, &|| waits.strong_count() > 0).await {
        Err(fault) if fault.is_not_found() => {
            stream.is_gone();
            return Err(stream.not_found().into());
        }
        other => other?,
    };
    if drained == Drained::LeftEarly {
        return Ok(());
    }
    let mut last = ahead(&stream, weight, end, now).await?;
    last.only_complete = true;
    last.read_to = Some(now);
    last.seal = Some(Seal { from, began: now });
    last.beat = true;
    commit(&stream.home, vec![last]).await?;
    was_read(&stream, began);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GroupId, LogStream};
    use crate::store::row::Extent;

    fn row(told: Option<i64>, stored: Option<i64>, read_to: i64) -> StreamRow {
        StreamRow {
            id: StreamId(1),
            group: GroupId(1),
            stream: LogStream {
                name: "s".into(),
                arn: String::new(),
                created: Timestamp(0),
                first_event: None,
                last_event: None,
                last_ingestion: told.map(Timestamp),
            },
            slug: "s".into(),
            seq: 1,
            extent: Extent {
                complete: true,
                newest_ingestion: stored.map(Timestamp),
                read_to: Timestamp(read_to),
                ..Extent::default()
            },
            gone: false,
        }
    }

    #[test]
    fn a_listing_newer_than_store_and_read_means_backfill() {
        let now = Timestamp(1_000);
        assert!(has_backfill(&row(Some(500), Some(400), 450), now));
        assert!(!has_backfill(&row(Some(500), Some(500), 450), now), "stored");
        assert!(!has_backfill(&row(Some(500), Some(400), 501), now), "read since");
        assert!(!has_backfill(&row(None, Some(400), 0), now));
        assert!(has_backfill(&row(Some(500), None, 0), now));
        assert!(!has_backfill(&row(Some(1_001), None, 0), now), "the service's clock is ahead: later");
    }

    #[test]
    fn a_check_serves_opens_of_one_interval() {
        let began = Instant::now();
        let mut state = State::default();
        let past = Past { began_at: Timestamp(0), covered: HashSet::from([StreamId(1)]), large: false };
        state.whole = Some((began, past));
        assert!(state.vouched(StreamId(1), began));
        assert!(!state.vouched(StreamId(1), began + Duration::from_millis(1)));
        assert!(!state.vouched(StreamId(2), began));
        state.note_reads([StreamId(2)], began);
        assert!(state.vouched(StreamId(2), began));
        state.waiting.insert(0, Waiter { stream: StreamId(1), not_before: began });
        state.waiting.insert(1, Waiter { stream: StreamId(3), not_before: began });
        assert_eq!(state.wanted(), HashSet::from([StreamId(3)]), "those already served are left out");
    }
}
