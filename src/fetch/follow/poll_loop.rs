//! One poll loop a group.
//!
//! It lives while a stream of the group is followed, and three polls longer, for `tail -F` reopens. A poll is one page from just
//! before what was seen last (see `poll`); intervals go from start to start, so that an answer's latency isn't added to them. A failed
//! poll backs off and the next good one catches up. Beside the polls, in tasks of their own, complete streams are read again: the late
//! window, and what isn't settled; both stretch so that they take at most a fifth of the quota.
//!
//! Streams whose files are looked at again and again, and aren't open, are followed *slowly*: the same loop polls them each few seconds,
//! together, in calls of their own that wait behind all others and that no poll of an open stream waits for.

use crate::fetch::follow::poll::{self, How, Outcome, Target};
use crate::fetch::follow::reread::Rereads;
use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::stream::following::{self, Followed, slowly};
use crate::fetch::stream::stale::By;
use crate::fetch::stream::state::{Group, Stream, Streams};
use crate::model::Timestamp;
use crate::store::row::Extent;
use crate::sync::lock;
use futures_util::FutureExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A stream is polled once it has been open for this part of an interval.
const SETTLED_IN: u32 = 4;
/// For how long after a cut page polls read on until nothing comes.
const DRAIN_FOR: Duration = Duration::from_secs(60);
/// A group that is cheaper to ask by its streams' names is tried as a whole again after this long.
const WHOLE_AGAIN: Duration = Duration::from_secs(60);
/// Longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The stream is open, or looked at again and again.
pub struct Follow {
    _stream: Arc<Stream>,
    _guard: Arc<()>,
}

impl Stream {
    /// Keeps it followed: polled each interval, and three polls after the last guard is gone.
    pub fn follow(self: &Arc<Self>) -> Follow {
        follow(self, |followed| {
            if !followed.is_open() && !followed.polled {
                // Opened again and again for a moment isn't open for long.
                followed.since = Instant::now();
            }
            followed.idle = 0;
            Arc::clone(&followed.guards)
        })
    }

    /// Keeps it followed slowly: polled each few seconds, behind all other calls, together with others of the group. For a complete stream
    /// whose file is looked at again and again, and isn't open.
    pub fn follow_slowly(self: &Arc<Self>) -> Follow {
        follow(self, |followed| Arc::clone(&followed.slow_guards))
    }

    /// Whether it is polled each interval anyway, since a program has it open.
    pub fn is_polled(&self) -> bool {
        lock(&self.group.following.state).followed.get(&self.id).is_some_and(Followed::is_polled)
    }
}

/// Follows a stream by the guard that `guard` gives; starts the group's loop if it doesn't run.
fn follow(stream: &Arc<Stream>, guard: impl FnOnce(&mut Followed<Arc<Stream>>) -> Arc<()>) -> Follow {
    let mut state = lock(&stream.group.following.state);
    let guard = guard(state.followed.entry(stream.id).or_insert_with(|| {
        let complete_at = stream.progress.borrow().complete.then(|| stream.streams.shared.clock.now());
        Followed::new(stream.clone(), complete_at)
    }));
    if !state.running && !stream.streams.shared.stopping.is_cancelled() {
        state.running = true;
        stream.streams.shared.tasks.spawn(run(stream.streams.clone(), stream.group.clone()));
    }
    drop(state);
    Follow { _stream: stream.clone(), _guard: guard }
}

type Turn = following::Turn<Arc<Stream>>;

impl Turn {
    /// Up to when its copy, of this extent, has all that the service showed.
    fn copy_asked(&self, extent: &Extent) -> Timestamp {
        let brought = || self.complete_at.filter(|_| !self.stream.is_shown_stale());
        // Its last open brought all there was, unless that failed, or a download has ended since.
        self.asked.or_else(brought).unwrap_or(extent.read_to)
    }
}

/// What is kept from one poll to the next.
#[derive(Default)]
struct Line {
    reach: Option<Duration>,
    cut: Option<Instant>,
    whole_not_before: Option<Instant>,
}

impl Line {
    fn how(&self, priority: Priority, now: Timestamp, started: Instant) -> How {
        How {
            priority,
            now,
            reach: self.reach,
            drain: self.cut.is_some_and(|at| at.elapsed() < DRAIN_FOR),
            try_whole: self.whole_not_before.is_none_or(|at| started >= at),
        }
    }

    fn note(&mut self, outcome: &Outcome, started: Instant) {
        self.reach = outcome.reach;
        if outcome.whole == Some(false) {
            self.whole_not_before = Some(started + WHOLE_AGAIN);
        }
        if outcome.cut {
            self.cut = Some(started);
        }
    }
}

/// Polls of the slowly followed streams, one at a time, beside the loop.
#[derive(Default)]
struct Slow {
    line: Line,
    pace: Pace,
    started: Option<Instant>,
    running: Option<(JoinHandle<Outcome>, Vec<Polled>)>,
}

impl Slow {
    /// Takes what a poll that has ended brought; whether it is time for the next.
    fn is_due(&mut self, streams: &Streams, group: &Group, interval: Duration) -> bool {
        let Some(started) = self.started else { return true };
        if let Some((task, followed)) = &mut self.running {
            let Some(ended) = task.now_or_never() else { return false };
            let followed = std::mem::take(followed);
            self.running = None;
            let outcome = ended.unwrap_or_else(|_| Outcome { fault: Some(Fault::Died), ..Outcome::default() });
            self.line.note(&outcome, started);
            note(group, &followed, &outcome);
            tell(group, &followed, &outcome);
            match outcome.fault {
                Some(Fault::Stopping) => {}
                Some(fault) => self.pace.failed(streams, group, fault),
                None => self.pace.worked(),
            }
        }
        started.elapsed() >= self.pace.pause(slowly(interval))
    }

    fn start(&mut self, streams: &Arc<Streams>, group: &Arc<Group>, turn: Vec<Turn>) {
        if turn.is_empty() {
            return;
        }
        let (started, now) = (Instant::now(), streams.shared.clock.now());
        self.started = Some(started);
        match targets(streams, turn, now, false) {
            Ok(targets) if targets.is_empty() => {}
            Ok(targets) => {
                let how = self.line.how(Priority::Background, now, started);
                let followed = streams_of(&targets);
                let poll = poll::poll(streams.clone(), group.clone(), targets, how);
                self.running = Some((streams.shared.tasks.spawn(poll), followed));
            }
            Err(fault) => self.pace.failed(streams, group, fault),
        }
    }
}

async fn run(streams: Arc<Streams>, group: Arc<Group>) {
    let mut pace = Pace::default();
    let mut rereads = Rereads::new();
    let (mut line, mut slow) = (Line::default(), Slow::default());
    let mut folded = Instant::now();
    let mut started = Instant::now();
    loop {
        let interval = streams.shared.settings.borrow().poll_interval;
        tokio::select! {
            biased;
            () = streams.shared.stopping.cancelled() => break,
            () = tokio::time::sleep_until(started + pace.pause(interval)) => {}
        }
        let before = std::mem::replace(&mut started, Instant::now());
        let slow_is_due = slow.is_due(&streams, &group, interval);
        let (turn, slow_turn) = {
            let mut state = lock(&group.following.state);
            let took = started - before;
            state.interval = Some(state.interval.map_or(took, |usual| (usual * 3 + took) / 4));
            let turn = state.turn(interval / SETTLED_IN);
            if state.followed.is_empty() {
                state.running = false;
                state.interval = None;
                return;
            }
            (turn, if slow_is_due { state.slow_turn() } else { Vec::new() })
        };
        slow.start(&streams, &group, slow_turn);
        if turn.is_empty() {
            continue;
        }
        let fold = folded.elapsed() >= crate::fetch::freshness::check::LATE_INTERVAL;
        if fold {
            folded = started;
        }
        let moment = streams.shared.clock.moment();
        let now = moment.now;
        let targets = match targets(&streams, turn, now, fold) {
            Ok(targets) => targets,
            Err(fault) => {
                pace.failed(&streams, &group, fault);
                continue;
            }
        };
        rereads.start_if_due(&streams, &group, &targets, moment);
        let followed = streams_of(&targets);
        // In a task of its own: a defect there must not end the loop.
        let poll = poll::poll(streams.clone(), group.clone(), targets, line.how(Priority::Following, now, started));
        let task = streams.shared.tasks.spawn(poll);
        match task.await.unwrap_or_else(|_| Outcome { fault: Some(Fault::Died), ..Outcome::default() }) {
            Outcome { fault: Some(Fault::Stopping), .. } => break,
            outcome => {
                line.note(&outcome, started);
                note(&group, &followed, &outcome);
                tell(&group, &followed, &outcome);
                match outcome.fault {
                    Some(fault) => pace.failed(&streams, &group, fault),
                    None => pace.worked(),
                }
            }
        }
    }
    let mut state = lock(&group.following.state);
    state.running = false;
    // Followed streams hold the group and the group holds them: let go.
    let followed = std::mem::take(&mut state.followed);
    drop(state);
    drop(followed);
}

/// A stream of a poll, and whether its copy was complete when that began.
type Polled = (Arc<Stream>, bool);

fn streams_of(targets: &[Target]) -> Vec<Polled> {
    targets.iter().map(|target| (target.stream.clone(), target.extent.complete)).collect()
}

/// What each followed stream wants of this poll; streams that can't be asked for are left out.
fn targets(streams: &Streams, turn: Vec<Turn>, now: Timestamp, fold: bool) -> Result<Vec<Target>, Fault> {
    let late_window = streams.shared.settings.borrow().late_window;
    let mut targets = Vec::with_capacity(turn.len());
    for turn in turn {
        let stream = turn.stream.clone();
        let Some(row) = streams.shared.store.stream(stream.id)? else { continue };
        if row.gone || stream.check_class().is_err() {
            continue;
        }
        let tails: Vec<_> = stream.live_tails().into_iter().filter(|s| s.has_room()).collect();
        let newest: Vec<Option<Timestamp>> = row
            .extent
            .complete
            .then_some(row.extent.newest)
            .into_iter()
            .chain(tails.iter().map(|s| s.newest()))
            .collect();
        if newest.is_empty() {
            continue;
        }
        let copy = row.extent.complete.then(|| turn.copy_asked(&row.extent));
        let asked = copy.into_iter().chain(tails.iter().map(|s| s.asked())).min().unwrap_or(now).min(now);
        let mut start = poll::start(&newest, Some(asked), now, late_window);
        if fold && !row.extent.complete {
            start = start.min(now - late_window);
        }
        targets.push(Target {
            stream,
            extent: row.extent,
            start,
            newest: newest.iter().flatten().copied().min(),
            asked,
            tails,
            deep: fold,
            quiet: turn.quiet,
        });
    }
    Ok(targets)
}

fn note(group: &Group, polled: &[Polled], outcome: &Outcome) {
    let mut state = lock(&group.following.state);
    // What failed is looked for once more where it was: not only behind what is known.
    for (stream, _) in polled {
        if let Some(followed) = state.followed.get_mut(&stream.id)
            && !outcome.asked.iter().any(|(id, _)| *id == stream.id)
        {
            followed.quiet = 0;
        }
    }
    for (id, asked) in &outcome.asked {
        if let Some(followed) = state.followed.get_mut(id) {
            // Of what isn't complete polls give nothing to the copy.
            if polled.iter().any(|(stream, is_complete)| stream.id == *id && *is_complete) {
                followed.asked = Some(*asked);
            }
            followed.quiet = if outcome.news.contains(id) { 0 } else { followed.quiet.saturating_add(1) };
        }
    }
    let gone: Vec<Followed<Arc<Stream>>> = outcome.gone.iter().filter_map(|id| state.followed.remove(id)).collect();
    drop(state);
    for followed in gone {
        followed.stream.is_gone();
    }
}

/// Says of which files readers see the copy only, and of which they do no more.
fn tell(group: &Group, polled: &[Polled], outcome: &Outcome) {
    if let Some(fault) = &outcome.fault {
        let error = fault.clone().about(&group.name);
        polled.iter().for_each(|(stream, _)| stream.is_stale(found_by(fault), &error));
        return;
    }
    for (id, _) in &outcome.asked {
        if let Some((stream, _)) = polled.iter().find(|(stream, _)| stream.id == *id) {
            stream.is_up_to_date(By::Poll);
        }
    }
    for (id, fault) in &outcome.refused {
        if let Some((stream, _)) = polled.iter().find(|(stream, _)| stream.id == *id) {
            stream.is_stale(found_by(fault), &fault.clone().about(&stream.subject));
        }
    }
}

/// What the service has shown and the cache could not keep may lie before where the next poll begins; what it has not shown doesn't.
fn found_by(fault: &Fault) -> By {
    if matches!(fault, Fault::Store(_)) { By::Read } else { By::Poll }
}

/// How long until the next poll.
#[derive(Debug, Default)]
struct Pace {
    failures: u32,
}

impl Pace {
    fn pause(&self, interval: Duration) -> Duration {
        match self.failures {
            0 => interval,
            n => interval.saturating_mul(1 << n.min(5)).min(LONGEST_PAUSE.max(interval)),
        }
    }

    fn worked(&mut self) {
        self.failures = 0;
    }

    /// The report hears of the first failure of a row.
    fn failed(&mut self, streams: &Streams, group: &Group, fault: Fault) {
        if self.failures == 0 {
            streams.report.error(&fault.about(&group.name));
        }
        self.failures = self.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_back_off_and_one_success_ends_it() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::default();
        assert_eq!(pace.pause(second), second);
        pace.failures = 1;
        assert_eq!(pace.pause(second), second * 2);
        pace.failures = 40;
        assert_eq!(pace.pause(second), LONGEST_PAUSE);
        assert_eq!(pace.pause(second * 60), second * 60);
        pace.worked();
        assert_eq!(pace.pause(second), second);
    }
}
