//! The first copy of a stream: from its head to the moment at which the download began.
//!
//! It runs once a stream, for as long as there is an [`Interest`]; the last one gone stops it after the page in flight. The part
//! stays, and the next download goes on from its newest event, or from up to where the part was settled when it was read; the size stays
//! unknown until a download came to the end. As long as no reader waits for it, but it is read ahead of who may come, one request at a
//! time gives way to everybody else's.

use crate::clock::Moment;
use crate::error::Error;
use crate::fetch::download::parallel::{self, Long};
use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::stream::commit::{Batch, Seal, commit_one};
use crate::fetch::stream::drain::{Drained, Read, ahead, drain};
use crate::fetch::stream::stale::By;
use crate::fetch::stream::state::Stream;
use crate::fetch::stream::via::Via;
use crate::fetch::stream::watermark::{Trust, settles};
use crate::model::{Span, Timestamp};
use crate::sync::lock;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// How often an empty answer that the listing contradicts is asked again, and how long after.
const DOUBTS: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(400)];

/// How often the end is read again because of checks under way meanwhile; each try is short, so one is nearly always enough.
const JOIN_TRIES: usize = 3;

/// A reader is interested in a download; the last one dropped stops it after the page in flight.
pub struct Interest {
    stream: Arc<Stream>,
    waits: bool,
}

impl Interest {
    /// Starts the download by `via` unless it runs or there is nothing to do; tells whether one runs that no reader waited for.
    fn new(stream: &Arc<Stream>, waits: bool, via: Via) -> (Interest, bool) {
        let mut downloads = lock(&stream.downloads);
        let is_first = downloads.waiting == 0;
        downloads.held += 1;
        downloads.waiting += usize::from(waits);
        if waits {
            stream.awaited.send_if_modified(|awaited| !std::mem::replace(awaited, true));
        }
        let begins = !downloads.running && !stream.progress.borrow().complete;
        if begins {
            downloads.running = true;
            downloads.began = stream.streams.shared.clock.now();
            stream.streams.shared.tasks.spawn(run(stream.clone(), via));
        }
        let is_news = begins || (downloads.running && is_first);
        (Interest { stream: stream.clone(), waits }, is_news)
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut downloads = lock(&self.stream.downloads);
        downloads.held -= 1;
        downloads.waiting -= usize::from(self.waits);
        if downloads.waiting == 0 {
            self.stream.awaited.send_if_modified(|awaited| std::mem::replace(awaited, false));
        }
    }
}

/// Starts the download unless it runs or there is nothing to do; tells whether one runs that no reader waited for.
pub(crate) fn start(stream: &Arc<Stream>) -> (Interest, bool) {
    Interest::new(stream, true, Via::Get)
}

/// Downloads a stream that no reader waits for yet, for as long as the future lives; ends with the download, whatever becomes of it.
pub(crate) async fn ahead_of_readers(stream: &Arc<Stream>, via: Via) {
    let mut progress = stream.progress();
    let (_interest, _) = Interest::new(stream, false, via);
    loop {
        let is_complete = progress.borrow_and_update().complete;
        // Not under the borrow: what starts a download looks at the progress under this lock.
        if is_complete || !lock(&stream.downloads).running {
            return;
        }
        // The sender lives in the stream.
        drop(progress.changed().await);
    }
}

/// Until the stream is complete, by the download that `begin` begins.
pub(crate) async fn wait(stream: &Arc<Stream>, begin: impl FnOnce() -> Interest) -> Result<(), Error> {
    let mut progress = stream.progress();
    let seen = progress.borrow_and_update().failure.as_ref().map_or(0, |f| f.0);
    let _interest = begin();
    loop {
        {
            let now = progress.borrow_and_update();
            if now.complete {
                return Ok(());
            }
            if let Some((number, error)) = &now.failure
                && *number > seen
            {
                return Err(error.clone());
            }
        }
        // The sender lives in the stream, which this function holds.
        if progress.changed().await.is_err() {
            return Err(Fault::Stopping.about(&stream.subject));
        }
    }
}

async fn run(stream: Arc<Stream>, via: Via) {
    loop {
        // Apart: a defect there must not leave `running` set for ever.
        let outcome = stream.streams.shared.apart(attempt(stream.clone(), via)).await;
        if let Err(fault) = &outcome {
            stream.streams.failed_by(fault).await;
        }
        let mut downloads = lock(&stream.downloads);
        if matches!(outcome, Ok(Drained::LeftEarly)) && downloads.held > 0 {
            continue;
        }
        // Before the failure is told: what hears of it may start again at once.
        downloads.running = false;
        let is_awaited = downloads.waiting > 0;
        drop(downloads);
        match outcome {
            Err(fault) if fault.is_not_found() => {
                stream.is_gone();
                stream.failed(stream.not_found());
            }
            Err(fault) if is_awaited => stream.failed(fault.about(&stream.subject)),
            // Who comes to read it meets by himself what is wrong.
            Err(fault) => {
                tracing::debug!(error = %fault.about(&stream.subject), "a stream was not read ahead");
                stream.progress.send_modify(|_| ());
            }
            Ok(_) => stream.progress.send_modify(|_| ()),
        }
        return;
    }
}

async fn attempt(stream: Arc<Stream>, via: Via) -> Result<Drained, Fault> {
    stream.check_class()?;
    stream.check_health()?;
    let row = stream.row()?;
    if row.gone {
        return Err(stream.not_found().into());
    }
    if row.extent.complete {
        return Ok(Drained::All(0));
    }
    let wanted = || lock(&stream.downloads).held > 0;
    let began = stream.streams.begin();
    let now = stream.streams.shared.clock.moment();
    let (start, read_to) = match row.extent.newest {
        None => (None, now),
        Some(newest) => {
            // What an earlier part read may since have got late events; what was settled when it was read has not.
            let settled = settled(&stream, row.extent.read_to)?;
            if newest <= settled {
                (Some(newest), now)
            } else {
                (Some(settled.max(Timestamp::EPOCH)), row.extent.read_to.into())
            }
        }
    };
    let mut doubts = DOUBTS.iter();
    let passed = stream.past_the_desert(start);
    let mut from = passed.or(start);
    // What is passed over may hold events yet.
    let mut is_doubtful = passed.is_some() || start.is_some() && row.extent.doubted;
    let mut may_be_stuck = true;
    loop {
        let newest_told = row.stream.last_event;
        let read_to = Some(read_to);
        let long = Long { stream: &stream, start: from, now: now.latest, newest_told, read_to, via, may_be_stuck };
        match parallel::read(long, &wanted).await? {
            Drained::Stuck(at) => match stream.leave_desert(at)? {
                Some(hint) => {
                    (from, is_doubtful) = (Some(hint), true);
                    // A part that is left early is gone on with by another read, which must know.
                    let mut doubt = Batch::events(stream.clone(), Vec::new(), false);
                    doubt.doubted = Some(true);
                    commit_one(&stream.streams, doubt).await?;
                }
                None if stream.row()?.extent.newest.is_none() && stream.is_told_empty()? => {
                    is_doubtful = true;
                    break;
                }
                // It goes on for as long as a reader waits.
                None => (from, may_be_stuck) = (at, false),
            },
            Drained::LeftEarly => return Ok(Drained::LeftEarly),
            Drained::All(0) if row.extent.newest.is_none() && told_of_events(&stream, now.latest)? => {
                let Some(delay) = doubts.next() else { break };
                tokio::time::sleep(*delay).await;
            }
            Drained::All(_) => break,
        }
    }
    if is_doubtful && stream.row()?.extent.newest.is_none() && !stream.is_told_empty()? {
        return Err(Fault::Empties);
    }
    let read = now;
    let Some((began, now)) = join_checks(&stream, began, now, &wanted).await? else {
        return Ok(Drained::LeftEarly);
    };
    let mut last = if now == read {
        Batch::events(stream.clone(), Vec::new(), false)
    } else {
        ahead(&stream, priority(&stream), now.latest + Duration::from_millis(1), now.latest).await?
    };
    let events = last.page.len() as u64;
    last.complete = true;
    last.read_to = Some(now);
    last.seal = Some(Seal { from: Timestamp::EPOCH, began: now });
    last.doubted = Some(is_doubtful);
    stream.doubted.store(is_doubtful, Ordering::Relaxed);
    last.beat = true;
    stream.was_read(began);
    commit_one(&stream.streams, last).await?;
    if is_doubtful {
        stream.is_up_to_date(By::Read);
    }
    // A listing may have replaced it meanwhile: then nothing was kept, and no reader would hear of an end.
    if stream.row()?.gone {
        stream.check_generation()?;
        return Err(stream.not_found().into());
    }
    Ok(Drained::All(events))
}

/// Of calls that nothing is read beside.
fn priority(stream: &Stream) -> Priority {
    if *stream.awaited.borrow() { Priority::Waiting } else { Priority::Background }
}

/// Up to where a read that began at `began` settled what is stored.
fn settled(stream: &Stream, began: Timestamp) -> Result<Timestamp, Fault> {
    let settle_after = stream.streams.shared.settings.borrow().settle_after;
    let by_age = began - settle_after;
    let span = Span { start: Timestamp(i64::MIN), end: by_age };
    let young = stream.streams.shared.store.oldest_ingested_since(stream.id, span, by_age)?;
    Ok(settles(began, settle_after, young))
}

/// Reads the end again if the service's clock, known by now, is ahead of what ended the download that began at `now`, or if checks of the
/// group have meanwhile settled more than it: they passed it over, for it wasn't complete, and would yet speak for it. Tells when what counts as its read began; `None` if it was left early.
async fn join_checks(
    stream: &Arc<Stream>,
    mut began: Instant,
    mut now: Moment,
    wanted: &(dyn Fn() -> bool + Sync),
) -> Result<Option<(Instant, Moment)>, Fault> {
    for _ in 0..JOIN_TRIES {
        let edge = now.earliest - stream.streams.shared.settings.borrow().settle_after;
        let chain = stream.group.chain(Trust::of(&stream.streams.shared.clock));
        let is_ahead = stream.streams.shared.clock.again(now).latest > now.latest;
        if !is_ahead && chain.is_none_or(|chain| chain.to <= edge) {
            break;
        }
        (began, now) = (stream.streams.begin(), stream.streams.shared.clock.moment());
        let read = Read {
            stream,
            priority: priority(stream),
            start: Some(edge),
            end: now.latest + Duration::from_millis(1),
            read_to: None,
            only_complete: false,
            barren: 0,
            calls: None,
            hours: None,
        };
        match drain(read, wanted).await? {
            Drained::All(_) => {}
            Drained::LeftEarly => return Ok(None),
            Drained::Stuck(_) => return Err(Fault::Empties),
        }
    }
    Ok(Some((began, now)))
}

/// Whether the listing says that there are events up to `now`, and that retention keeps them.
fn told_of_events(stream: &Arc<Stream>, now: Timestamp) -> Result<bool, Fault> {
    let told = stream.row()?.stream;
    if stream.is_told_empty()? {
        return Ok(false);
    }
    Ok(told.first_event.or(told.last_event).is_some_and(|at| at <= now))
}
