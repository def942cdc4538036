//! Reads followed, complete streams again: late events, and what isn't settled.
//!
//! A poll looks only at the very end, so what is stamped minutes ago and arrives now is found here: the late window every 30 s, the range
//! after the settled edge every 60 s, drained. Both wait behind everybody else's calls and stretch to at most a fifth of the quota.

use crate::clock::Moment;
use crate::fetch::follow::poll::Target;
use crate::fetch::freshness::check::{LATE_INTERVAL, Members, sweep};
use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::stream::commit::{Batch, Seal, commit};
use crate::fetch::stream::drain::{Drained, Read, drain};
use crate::fetch::stream::page::NAMES;
use crate::fetch::stream::stale::By;
use crate::fetch::stream::state::{Group, Streams};
use crate::fetch::stream::watermark::{OVERLAP, Trust, edge};
use crate::model::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How often what isn't settled is read again.
const SETTLE_INTERVAL: Duration = Duration::from_secs(60);
/// The share of the quota that this may take.
const SHARE: f64 = 0.2;
/// Streams whose edges lie this much further back than the others' are read by themselves.
const FAR_BACK: Duration = Duration::from_secs(3600);

/// When the group's streams are read again.
pub(crate) struct Rereads {
    late_at: Instant,
    settle_at: Instant,
    running: Option<(Instant, JoinHandle<u64>)>,
}

impl Rereads {
    pub(crate) fn new() -> Rereads {
        let now = Instant::now();
        Rereads { late_at: now + LATE_INTERVAL, settle_at: now + SETTLE_INTERVAL, running: None }
    }

    /// Starts what is due, one at a time, in the background.
    pub(crate) fn start_if_due(&mut self, streams: &Arc<Streams>, group: &Arc<Group>, targets: &[Target], now: Moment) {
        match self.running.take() {
            Some((started, task)) if !task.is_finished() => {
                self.running = Some((started, task));
                return;
            }
            Some((started, mut task)) => {
                let calls = finished(&mut task);
                let not_before = started + stretch(streams, calls);
                self.late_at = self.late_at.max(not_before);
                self.settle_at = self.settle_at.max(not_before);
            }
            None => {}
        }
        let complete: Vec<Target> = targets.iter().filter(|t| t.extent.complete).cloned().collect();
        let instant = Instant::now();
        if complete.is_empty() || instant < self.late_at {
            return;
        }
        let settle = instant >= self.settle_at;
        self.late_at = instant + LATE_INTERVAL;
        if settle {
            self.settle_at = instant + SETTLE_INTERVAL;
        }
        let task = streams.shared.tasks.spawn(again(streams.clone(), group.clone(), complete, now, settle));
        self.running = Some((instant, task));
    }
}

/// The calls that an ended task made.
fn finished(task: &mut JoinHandle<u64>) -> u64 {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(task).poll(&mut cx) {
        std::task::Poll::Ready(Ok(calls)) => calls,
        _ => 0,
    }
}

/// Seconds over which so many calls are a fifth of the quota.
fn stretch(streams: &Streams, calls: u64) -> Duration {
    let quotas = streams.shared.settings.borrow().quotas;
    let rate = quotas.get_log_events.min(quotas.filter_log_events).max(0.1);
    Duration::from_secs_f64(calls as f64 / (SHARE * rate))
}

/// Where a stream is read again from; not behind what polls have asked for, or what is late would come before what they lack.
fn from(edge: Timestamp, asked: Timestamp, now: Timestamp, late_window: Duration, settle: bool) -> Timestamp {
    let late = (now - late_window).min(asked - OVERLAP);
    if settle { late.min(edge) } else { late }
}

/// What a read proves: one of the late window alone leaves out what an earlier one could not keep.
fn proof(settle: bool) -> By {
    if settle { By::Read } else { By::Poll }
}

/// Returns the calls made; a failure is told to no one: the next round does it.
async fn again(streams: Arc<Streams>, group: Arc<Group>, mut targets: Vec<Target>, now: Moment, settle: bool) -> u64 {
    let (late_window, settle_after) = {
        let settings = streams.shared.settings.borrow();
        (settings.late_window, settings.settle_after)
    };
    let trust = Trust::of(&streams.shared.clock);
    let chain = group.chain(trust);
    for target in &mut targets {
        target.extent.settled_to = edge(&target.extent, chain, settle_after, trust);
    }
    let calls = AtomicU64::new(0);
    let start = |t: &Target| from(t.extent.settled_to, t.asked, now.earliest, late_window, settle);
    let mut together: Vec<(Timestamp, Target)> = targets.into_iter().map(|t| (start(&t), t)).collect();
    together.sort_by_key(|(from, _)| *from);
    let usual = together.last().map_or(now.earliest, |(from, _)| *from);
    let split = match together.len() {
        1 => 1,
        _ => together.partition_point(|(from, _)| *from < usual - FAR_BACK),
    };
    let (alone, together) = together.split_at(split);
    let mut result = Ok(());
    for (from, target) in alone {
        result = result.and(one(&streams, target, *from, now, settle, &calls).await);
    }
    for chunk in together.chunks(NAMES) {
        result = result.and(several(&streams, &group, chunk, now, settle, &calls).await);
    }
    if let Err(fault) = result
        && !matches!(fault, Fault::Stopping)
    {
        tracing::debug!(error = %fault.about(&group.name), "streams were not read again");
    }
    calls.load(Ordering::Relaxed)
}

async fn one(
    streams: &Arc<Streams>,
    target: &Target,
    from: Timestamp,
    now: Moment,
    settle: bool,
    calls: &AtomicU64,
) -> Result<(), Fault> {
    let read = Read {
        stream: &target.stream,
        priority: Priority::Background,
        start: Some(from),
        end: now.latest + Duration::from_millis(1),
        read_to: None,
        barren: 0,
        only_complete: true,
        calls: Some(calls),
        hours: None,
    };
    let drained = match drain(read, &|| true).await {
        Err(fault) => {
            target.stream.is_stale(By::Read, &fault.clone().about(&target.stream.subject));
            return Err(fault);
        }
        drained => drained?,
    };
    // One that is stuck on empty pages settles nothing.
    if let Drained::All(_) = drained {
        target.stream.is_up_to_date(proof(settle));
        seal(streams, &[(from, target.clone())], now, settle).await?;
    }
    Ok(())
}

async fn several(
    streams: &Arc<Streams>,
    group: &Group,
    chunk: &[(Timestamp, Target)],
    now: Moment,
    settle: bool,
    calls: &AtomicU64,
) -> Result<(), Fault> {
    let Some(from) = chunk.iter().map(|(from, _)| *from).min() else { return Ok(()) };
    let rows = chunk.iter().map(|(_, t)| (t.stream.id, t.stream.name.clone(), t.extent)).collect();
    let members = Members::of(rows);
    let names: Vec<String> = chunk.iter().map(|(_, t)| t.stream.name.clone()).collect();
    let swept = match sweep(streams, group, &members, &names, from, now, Priority::Background, usize::MAX).await {
        Err(fault) if fault.is_refusal() => return each(streams, chunk, now, settle, calls).await,
        swept => swept?,
    };
    calls.fetch_add(swept.pages as u64, Ordering::Relaxed);
    if !swept.drained {
        return each(streams, chunk, now, settle, calls).await;
    }
    for (_, target) in chunk {
        match swept.refused.get(&target.stream.id) {
            Some(fault) => target.stream.is_stale(By::Read, &fault.clone().about(&target.stream.subject)),
            None => target.stream.is_up_to_date(proof(settle)),
        }
    }
    let kept: Vec<_> = chunk.iter().filter(|(_, t)| !swept.refused.contains_key(&t.stream.id)).cloned().collect();
    seal(streams, &kept, now, settle).await
}

/// Each by itself, where a call for several doesn't do it. One that fails keeps none of the others from being read.
async fn each(
    streams: &Arc<Streams>,
    chunk: &[(Timestamp, Target)],
    now: Moment,
    settle: bool,
    calls: &AtomicU64,
) -> Result<(), Fault> {
    let mut result = Ok(());
    for (from, target) in chunk {
        result = result.and(one(streams, target, *from, now, settle, calls).await);
    }
    result
}

/// Moves the settled edges on.
async fn seal(streams: &Arc<Streams>, read: &[(Timestamp, Target)], now: Moment, settle: bool) -> Result<(), Fault> {
    if !settle {
        return Ok(());
    }
    let batches = read.iter().map(|(_, target)| {
        let mut batch = Batch::events(target.stream.clone(), Vec::new(), true);
        batch.seal = Some(Seal { from: target.extent.settled_to, began: now });
        batch.read_to = Some(now);
        batch
    });
    commit(streams, batches.collect()).await.map(drop)
}
