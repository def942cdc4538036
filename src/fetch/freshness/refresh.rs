//! Opens of complete streams: joined into checks of their group.
//!
//! One check (see `check`) reads everything that is new in a group and so vouches for every complete stream of it at once. A check that
//! began at most a second before an open serves that open, running or ended, but each file once: a file that is opened again within that
//! time is checked again, or its reader would miss what came since. An open that no check serves waits for the next, which takes along all
//! that wait by then. Nothing waiting, no check. A check that fails, for all or for one stream, shows the cached copies and says so
//! (see `stale`), and for a while none is tried again.

use crate::error::{Error, ErrorKind};
use crate::fetch::freshness::check::{self, Refused};
use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::shared::Shared;
use crate::fetch::shared::Wanted;
use crate::fetch::stream::commit::{Batch, Seal, commit_one};
use crate::fetch::stream::drain::{Drained, Read, ahead, drain};
use crate::fetch::stream::stale::By;
use crate::fetch::stream::state::{Group, Stream, Streams};
use crate::fetch::stream::watermark::{Past, Trust};
use crate::model::{StreamId, Timestamp};
use crate::patience::Deadline;
use crate::store::row::{StreamRow, Vouch};
use crate::sync::lock;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
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
/// How old a check may be that serves an open, whatever the poll interval.
const OLDEST: Duration = Duration::from_secs(1);
/// The part of a reader's patience after which it is shown the copy: a moment before the wait itself would fail.
const PATIENCE: f64 = 5.0 / 6.0;

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
    /// Streams of which a check that began then could not keep what it read, and why.
    refused: HashMap<StreamId, (Instant, Error)>,
    /// When what served the last open of a stream began.
    served: HashMap<StreamId, Instant>,
    failed: Option<(Instant, Error)>,
    /// Since when the machine has not been suspended, if it ever was.
    awake: Option<Instant>,
    /// For how long the machine had been suspended when this was last looked at.
    suspended: Duration,
}

#[derive(Clone, Copy)]
struct Waiter {
    stream: StreamId,
    need: Need,
}

/// When something must have begun to serve an open.
#[derive(Clone, Copy, Debug)]
struct Need {
    not_before: Instant,
    /// Later than what served the file's last open.
    after: Option<Instant>,
}

impl Need {
    fn is_met_by(&self, began: Instant) -> bool {
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
    fn need(&self, id: StreamId, called: Instant, wanted: Wanted, shared: &Shared) -> Need {
        let oldest = shared.settings.borrow().poll_interval.min(OLDEST);
        let after = self.served.get(&id).copied().filter(|_| wanted == Wanted::Content);
        Need { not_before: called.checked_sub(oldest).unwrap_or(called), after }
    }

    /// When something began that vouches for a stream and meets a need.
    fn vouched(&self, id: StreamId, need: &Need) -> Option<Instant> {
        let read = self.reads.get(&id).map(|(began, _)| *began);
        let whole = self.whole.as_ref().filter(|(_, past)| past.covered.contains(&id)).map(|(began, _)| *began);
        read.into_iter().chain(whole).filter(|began| need.is_met_by(*began) && self.is_awake(*began)).max()
    }

    /// Whether the machine has not been suspended since.
    fn is_awake(&self, began: Instant) -> bool {
        self.awake.is_none_or(|awake| began >= awake)
    }

    /// Why what was read for a stream, by something that meets a need, could not be kept.
    fn refusal(&self, id: StreamId, need: &Need) -> Option<&Error> {
        self.refused.get(&id).filter(|(began, _)| need.is_met_by(*began)).map(|(_, error)| error)
    }

    /// What began then served an open.
    fn serve(&mut self, id: StreamId, wanted: Wanted, began: Instant) {
        if wanted == Wanted::Size {
            return;
        }
        if self.served.len() > 4096 {
            self.served.retain(|_, began| began.elapsed() < FORGET_READS);
        }
        self.served.insert(id, began);
    }

    /// This run's clock tells nothing of a suspend: after one nothing is new that was read before it, or began to be.
    fn note_suspended(&mut self, suspended: Duration, now: impl FnOnce() -> Instant) {
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
    fn wanted(&self) -> HashSet<StreamId> {
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
    fn note_refused(&mut self, refused: impl IntoIterator<Item = (StreamId, Error)>, began: Instant) {
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

/// A drained read of one stream, begun at `began`, is about to be committed.
pub(crate) fn was_read(stream: &Stream, began: Instant) {
    lock(&stream.group.checks.state).note_reads([stream.id], began);
}

/// Serves an open there and then, if that needs no call.
pub(crate) fn serves_now(stream: &Stream, wanted: Wanted) -> bool {
    // That something may be missing must be told.
    if stream.doubted.load(Ordering::Relaxed) {
        return false;
    }
    let shared = &stream.streams.shared;
    let mut state = lock(&stream.group.checks.state);
    state.note_suspended(stream.streams.shared.clock.machine().suspended(), || stream.streams.begin());
    let need = state.need(stream.id, Instant::now(), wanted, shared);
    let vouched = state.vouched(stream.id, &need);
    if let Some(began) = vouched {
        state.serve(stream.id, wanted, began);
    }
    vouched.is_some()
}

/// See [`Stream::bring_up_to_date`]; the stream is complete.
pub(crate) async fn bring_up_to_date(stream: &Arc<Stream>, called: Instant, wanted: Wanted) -> Result<(), Error> {
    stream.check_health()?;
    let failure = match join_check(stream, called, wanted).await? {
        None => show_committed(stream).await.err().map(|fault| fault.about(&stream.subject)),
        failure => failure,
    };
    match failure {
        None => {
            stream.is_up_to_date(By::Read);
            backfill(stream).await
        }
        Some(error) => {
            stream.check_health()?;
            stream.is_stale(By::Read, &error);
            Ok(())
        }
    }
}

/// What is committed and could not be shown then is shown now, unless that fails again: the check hasn't met it, for it isn't new.
async fn show_committed(stream: &Arc<Stream>) -> Result<(), Fault> {
    if !stream.streams.shared.store.is_unshown(stream.id) {
        return Ok(());
    }
    commit_one(&stream.streams, Batch::events(stream.clone(), Vec::new(), true)).await.map(drop)
}

/// Waits until a check has served the open, or has failed to: then why.
async fn join_check(stream: &Arc<Stream>, called: Instant, wanted: Wanted) -> Result<Option<Error>, Error> {
    let streams = &stream.streams;
    let group = &stream.group;
    let time = streams.shared.settings.borrow().patience.mul_f64(PATIENCE);
    let mut patience = Deadline::after(time);
    let mut ended = group.checks.ended.subscribe();
    let mut progress = stream.progress();
    progress.mark_unchanged();
    let mut waiter = None;
    let need = {
        let mut state = lock(&group.checks.state);
        state.note_suspended(streams.shared.clock.machine().suspended(), || streams.begin());
        state.need(stream.id, called, wanted, &streams.shared)
    };
    loop {
        ended.borrow_and_update();
        {
            let mut state = lock(&group.checks.state);
            if let Some(began) = state.vouched(stream.id, &need) {
                state.serve(stream.id, wanted, began);
                return Ok(None);
            }
            if let Some(error) = state.refusal(stream.id, &need) {
                return Ok(Some(error.clone()));
            }
            if let Some((at, error)) = &state.failed
                && *at + COOL_DOWN > called
            {
                return Ok(Some(error.clone()));
            }
            if waiter.is_none() {
                let number = state.next_waiter;
                state.next_waiter += 1;
                state.waiting.insert(number, Waiter { stream: stream.id, need });
                waiter = Some(Waiting { group: group.clone(), number });
            }
            if !state.running {
                state.running = true;
                streams.shared.tasks.spawn(run(streams.clone(), group.clone()));
            }
        }
        tokio::select! {
            () = streams.shared.stopping.cancelled() => return Err(Fault::Stopping.about(&stream.subject)),
            // The senders live in the group and the stream, which this function holds.
            _ = ended.changed() => {}
            _ = progress.changed() => patience.renew(time),
            () = patience.passed() => {
                let cause = format!("the check for new events made no progress for {} s", time.as_secs());
                return Ok(Some(Error::new(ErrorKind::TimedOut, &stream.subject, cause)));
            }
        }
    }
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

/// Checks until nothing waits.
async fn run(streams: Arc<Streams>, group: Arc<Group>) {
    loop {
        let wanted = {
            let mut state = lock(&group.checks.state);
            let wanted = state.wanted();
            if wanted.is_empty() {
                state.running = false;
                drop(state);
                // What waits still was served by a read of another kind meanwhile, and must hear of it.
                group.checks.ended.send_modify(|n| *n += 1);
                return;
            }
            wanted
        };
        let began = streams.begin();
        // In a task of its own: a defect there must not leave `running` set for ever.
        let task = streams.shared.tasks.spawn(check::check(streams.clone(), group.clone(), wanted.clone()));
        let outcome = task.await.unwrap_or(Err(Fault::Died));
        save_vouch(&streams.shared, &group, false);
        for fault in outcome.as_ref().map_or_else(|fault| vec![fault], |refused| refused.values().collect()) {
            streams.failed_by(fault).await;
        }
        let (refused, failed) = match outcome {
            Ok(refused) => (tell_refused(&streams, refused), None),
            Err(Fault::Stopping) => (Vec::new(), Some(Fault::Stopping.about(&group.name))),
            Err(fault) => (Vec::new(), Some(tell(&streams, &group, &wanted, fault))),
        };
        {
            let mut state = lock(&group.checks.state);
            state.note_refused(refused, began);
            if failed.is_some() {
                // All that wait are shown what is cached.
                state.waiting.clear();
            }
            state.failed = failed.map(|error| (Instant::now(), error));
        }
        group.checks.ended.send_modify(|n| *n += 1);
    }
}

/// A check failed: the report hears it once, each waiting stream has it in its progress.
fn tell(streams: &Arc<Streams>, group: &Group, wanted: &HashSet<StreamId>, fault: Fault) -> Error {
    let error = fault.about(&group.name);
    streams.report.error(&error);
    for stream in wanted.iter().filter_map(|id| streams.stream(*id).ok()) {
        stream.note_failure(error.clone());
    }
    error
}

/// What could not be kept of single streams; each has it in its progress.
fn tell_refused(streams: &Arc<Streams>, refused: Refused) -> Vec<(StreamId, Error)> {
    let told = refused.into_iter().filter_map(|(id, fault)| {
        let stream = streams.stream(id).ok()?;
        let error = fault.about(&stream.subject);
        stream.note_failure(error.clone());
        Some((id, error))
    });
    told.collect()
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
    let streams = &stream.streams;
    if row.gone || !has_backfill(&row, streams.shared.clock.moment().latest) {
        return Ok(());
    }
    let state = &stream.group.checks.state;
    if lock(state).failed.as_ref().is_some_and(|(at, _)| at.elapsed() < COOL_DOWN) {
        return Ok(());
    }
    // Lives as long as this future: a caller that withdraws ends the read after the page in flight.
    let waits = Arc::new(());
    let read = read_from(stream.clone(), Priority::Refreshing, Timestamp::EPOCH, Arc::downgrade(&waits));
    match streams.shared.tasks.spawn(read).await.unwrap_or(Err(Fault::Died)) {
        Ok(()) => Ok(()),
        Err(Fault::Stopping) => Err(Fault::Stopping.about(&stream.subject)),
        Err(fault) => {
            streams.failed_by(&fault).await;
            stream.check_health()?;
            let is_own = fault.is_of_one_stream();
            let error = fault.about(&stream.subject);
            if !is_own {
                lock(state).failed = Some((Instant::now(), error.clone()));
            }
            stream.failed(error.clone());
            stream.is_stale(By::Read, &error);
            Ok(())
        }
    }
}

/// Reads one complete stream from `from` (not after its settled edge) to now, drained, and what is stamped ahead; for as long as
/// `waits` lives.
pub(crate) async fn read_from(
    stream: Arc<Stream>,
    priority: Priority,
    from: Timestamp,
    waits: Weak<()>,
) -> Result<(), Fault> {
    let began = stream.streams.begin();
    let clock = &stream.streams.shared.clock;
    let mut now = clock.moment();
    let mut end = now.latest + Duration::from_millis(1);
    let settled = stream.row()?.extent.settled_to;
    let mut start = stream.past_the_desert(Some(from)).unwrap_or(from);
    loop {
        let read = Read {
            stream: &stream,
            priority,
            start: Some(start),
            end,
            read_to: None,
            only_complete: true,
            barren: 0,
            calls: None,
            hours: None,
        };
        match drain(read, &|| waits.strong_count() > 0).await {
            Err(fault) if fault.is_not_found() => {
                stream.is_gone();
                return Err(stream.not_found().into());
            }
            Ok(Drained::All(_)) if clock.again(now).latest > now.latest => {
                // The first answer told that the service's clock is ahead of what this read to.
                now = clock.moment();
                end = now.latest + Duration::from_millis(1);
            }
            Ok(Drained::All(_)) => break,
            Ok(Drained::LeftEarly) => return Ok(()),
            Ok(Drained::Stuck(at)) => start = stream.leave_desert(at)?.ok_or(Fault::Empties)?,
            Err(fault) => return Err(fault),
        }
    }
    let mut last = ahead(&stream, priority, end, now.latest).await?;
    last.only_complete = true;
    last.read_to = Some(now);
    last.seal = Some(Seal { from, began: now });
    // What was passed over may hold events yet, unless it was read and settled before.
    if start > from.max(settled) {
        last.doubted = Some(true);
        stream.doubted.store(true, Ordering::Relaxed);
    }
    last.beat = true;
    commit_one(&stream.streams, last).await?;
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
