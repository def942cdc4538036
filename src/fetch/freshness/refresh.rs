//! Opens of complete streams: joined into checks of their group.
//!
//! One check (see `check`) reads everything that is new in a group and so vouches for every complete stream of it at once. A check that
//! began at most a second before an open serves that open, running or ended, but each file once: a file that is opened again within that
//! time is checked again, or its reader would miss what came since. An open that no check serves waits for the next, which takes along all
//! that wait by then. Nothing waiting, no check. A check that fails, for all or for one stream, shows the cached copies and says so
//! (see `stale`), and for a while none is tried again.

use crate::error::{Error, ErrorKind};
use crate::fetch::freshness::check::{self, Refused};
use crate::fetch::freshness::one_stream::read_from;
use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::shared::{Shared, Wanted};
use crate::fetch::stream::checks::Waiter;
use crate::fetch::stream::commit::{Batch, commit_one};
use crate::fetch::stream::stale::By;
use crate::fetch::stream::state::{Group, Stream, Streams};
use crate::model::{StreamId, Timestamp};
use crate::patience::Deadline;
use crate::store::row::StreamRow;
use crate::sync::lock;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// How long after a failure the cached copies are shown without asking.
const COOL_DOWN: Duration = Duration::from_secs(5);
/// How often the chain is written.
const SAVE_INTERVAL: Duration = Duration::from_secs(5);
/// The part of a reader's patience after which it is shown the copy: a moment before the wait itself would fail.
const PATIENCE: f64 = 5.0 / 6.0;

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
        // Apart: a defect there must not leave `running` set for ever.
        let outcome = streams.shared.apart(check::check(streams.clone(), group.clone(), wanted.clone())).await;
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
    match streams.shared.apart(read).await {
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

impl Streams {
    /// Writes down the chains of checks, for the next start.
    pub(crate) fn save_vouches(&self) {
        let groups: Vec<Arc<Group>> = lock(&self.groups).values().cloned().collect();
        for group in groups {
            save_vouch(&self.shared, &group, true);
        }
    }
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
}
