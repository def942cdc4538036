//! How the listing of one folder (the root or a group) stands, and who waits for it.
//!
//! At most one *run* is under way a folder: the first walk, or a refresh of the newest page that may become a whole walk again. Its
//! progress is a value in a `watch`: waiters look at the value, then at the catalogue, and sleep until the value changes, so that no
//! page stored between the two looks is missed. What a waiter must do follows from the value alone ([`Progress::verdict`]).
//! A run that ends in any way, by a panic too, tells its waiters.

use crate::error::{Error, ErrorKind};
use crate::fetch::service::priority::Priority;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A folder known from before waits no longer than that for its newest page, from the start of the refresh.
pub(crate) const REFRESH_WAIT: Duration = Duration::from_secs(2);
/// How long a folder isn't looked through again for names that lookups ask for.
const LOOK_AGAIN: Duration = Duration::from_mins(10);
/// After a failed run no other one is started for so long.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// The part of a run that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No run.
    Idle,
    /// The first walk: rows are shown as they come, and only its end is the end.
    First,
    /// The newest pages of a folder that is known.
    Refresh,
    /// A whole walk of a folder that is known; no program waits for it.
    Rewalk,
}

/// How a listing stands.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// What is under way.
    pub(crate) phase: Phase,
    /// When the present or last run began.
    pub(crate) started: Instant,
    /// Pages stored since the folder was first touched.
    pub(crate) pages: u64,
    /// The folder was listed to its end as the selection asks; what is in the catalogue may be shown as the whole.
    pub(crate) known: bool,
    /// When the newest page, or all of the root, was last read.
    pub(crate) fresh: Option<Instant>,
    /// How many pages all of the root had when that was last read.
    pub(crate) length: Option<u64>,
    /// When a whole walk of a known folder was last begun, or the first one ended.
    pub(crate) walked: Option<Instant>,
    /// When and why the last run failed, until one succeeds.
    pub(crate) failure: Option<(Instant, Error)>,
    /// The first walk under way ends early: it was begun for a lookup, and no program lists the folder.
    pub(crate) is_look: bool,
    /// When such a walk last ended early, and how many streams it had met.
    pub(crate) looked: Option<(Instant, u64)>,
    /// Counts changes of the selection: a run begun under another one proves nothing.
    epoch: u64,
}

/// What a program does that has seen all rows that there are.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// There are no more.
    End,
    /// Nothing is under way and the listing isn't known: start it.
    Start,
    /// Look again when the progress changes, or at this time.
    Wait(Option<Instant>),
    /// The walk failed.
    Failed(Error),
}

impl Progress {
    /// Whether the listing is older than its time to live, or never was, and may be asked for now.
    pub(crate) fn is_due(&self, ttl: Duration, now: Instant) -> bool {
        let paused = self.failure.as_ref().is_some_and(|(at, _)| {
            // With rows to show, asking a dead service again can wait as long as asking a live one.
            now < *at + if self.known { ttl.max(FAILURE_PAUSE) } else { FAILURE_PAUSE }
        });
        self.phase == Phase::Idle && !paused && !self.is_believed(ttl, now)
    }

    /// Whether it was listed to the end.
    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    /// Whether the listing was read within its time to live.
    pub(crate) fn is_believed(&self, ttl: Duration, now: Instant) -> bool {
        self.known && self.fresh.is_some_and(|at| now < at + ttl)
    }

    /// Whether a lookup may have a folder that was never listed looked through.
    pub(crate) fn may_look(&self, now: Instant) -> bool {
        let looked = self.looked.is_some_and(|(at, _)| now < at + LOOK_AGAIN);
        !self.known && !looked && self.is_due(Duration::ZERO, now)
    }

    /// What follows from having seen all rows in the catalogue, read after this value.
    pub(crate) fn verdict(&self, now: Instant) -> Verdict {
        match (self.phase, self.known) {
            (Phase::First, _) => Verdict::Wait(None),
            (Phase::Refresh, _) if now < self.started + REFRESH_WAIT => {
                Verdict::Wait(Some(self.started + REFRESH_WAIT))
            }
            (Phase::Refresh | Phase::Rewalk, _) | (Phase::Idle, true) => Verdict::End,
            (Phase::Idle, false) => match &self.failure {
                Some((_, error)) => Verdict::Failed(error.clone()),
                None => Verdict::Start,
            },
        }
    }
}

/// One folder's listing.
pub(crate) struct Folder {
    progress: watch::Sender<Progress>,
    waiting: AtomicUsize,
}

impl Folder {
    /// A folder that nothing was asked of yet; `known` if an earlier run, of another process perhaps, listed it to the end.
    pub(crate) fn new(known: bool) -> Folder {
        let progress = Progress {
            phase: Phase::Idle,
            started: Instant::now(),
            pages: 0,
            known,
            fresh: None,
            length: None,
            walked: None,
            failure: None,
            is_look: false,
            looked: None,
            epoch: 0,
        };
        Folder { progress: watch::Sender::new(progress), waiting: AtomicUsize::new(0) }
    }

    /// To look and wait.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// The progress now.
    pub(crate) fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Begins a run if `due` says so of the progress. `None`: it doesn't, or a run is under way.
    pub(crate) fn begin(self: &Arc<Self>, due: impl FnOnce(&Progress) -> bool) -> Option<Run> {
        let mut run = None;
        self.progress.send_if_modified(|progress| {
            if progress.phase != Phase::Idle || !due(progress) {
                return false;
            }
            progress.phase = if progress.known { Phase::Refresh } else { Phase::First };
            progress.started = Instant::now();
            progress.is_look = false;
            run = Some(Run { folder: Arc::clone(self), first: !progress.known, epoch: progress.epoch, ended: false });
            true
        });
        run
    }

    /// As `begin`, for a lookup in a folder that was never listed: the run may end early.
    pub(crate) fn begin_look(self: &Arc<Self>) -> Option<Run> {
        let run = self.begin(|progress| progress.may_look(Instant::now()))?;
        self.progress.send_modify(|progress| progress.is_look = true);
        Some(run)
    }

    /// A program lists the folder: the run under way, if there is one, goes to the end.
    pub(crate) fn go_on(&self) {
        self.progress.send_if_modified(|progress| std::mem::take(&mut progress.is_look));
    }

    /// The selection has changed: what is known is known no more, but for `known`.
    pub(crate) fn reset(&self, known: bool) {
        self.progress.send_modify(|progress| {
            progress.known = known;
            progress.fresh = None;
            progress.length = None;
            progress.failure = None;
            progress.looked = None;
            progress.epoch += 1;
        });
    }

    /// The machine was suspended: what was read before it is old.
    pub(crate) fn expire(&self) {
        self.progress.send_modify(|progress| progress.fresh = None);
    }

    /// A caller waits while the guard lives: the run's calls take that priority.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    /// The priority of the run's next call, `otherwise` where no caller waits.
    pub(crate) fn priority(&self, otherwise: Priority) -> Priority {
        if self.waiting.load(Ordering::Relaxed) > 0 { Priority::Waiting } else { otherwise }
    }
}

/// A program waits for a folder's listing.
pub(crate) struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A run under way. Dropped unended, it counts as failed.
pub(crate) struct Run {
    folder: Arc<Folder>,
    first: bool,
    epoch: u64,
    ended: bool,
}

impl Run {
    /// Whether this is the folder's first walk.
    pub(crate) fn is_first(&self) -> bool {
        self.first
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }

    /// A page was stored.
    pub(crate) fn stored(&self) {
        self.folder.progress.send_modify(|progress| progress.pages += 1);
    }

    /// Whether it may end early (see [`Folder::begin_look`]).
    pub(crate) fn is_look(&self) -> bool {
        self.folder.progress.borrow().is_look
    }

    /// The run has ended early, having met so many streams.
    pub(crate) fn looked(mut self, streams: u64) {
        self.ended = true;
        self.folder.progress.send_modify(|progress| {
            progress.phase = Phase::Idle;
            progress.failure = None;
            progress.looked = Some((Instant::now(), streams));
        });
    }

    /// The newest pages are stored; the run goes on with what no program waits for.
    pub(crate) fn refreshed(&self) {
        self.folder.progress.send_modify(|progress| {
            progress.phase = Phase::Rewalk;
            progress.fresh = Some(Instant::now());
            progress.walked = progress.fresh;
            progress.failure = None;
        });
    }

    /// All pages of the root are stored, so many; the run goes on with what only takes rows away.
    pub(crate) fn listed(&self, pages: u64) {
        self.folder.progress.send_modify(|progress| {
            if progress.epoch == self.epoch {
                progress.fresh = Some(Instant::now());
                progress.length = Some(pages);
            }
        });
    }

    /// The run has ended well.
    pub(crate) fn done(mut self) {
        self.ended = true;
        self.folder.progress.send_modify(|progress| {
            progress.phase = Phase::Idle;
            progress.failure = None;
            if progress.epoch == self.epoch {
                progress.known = true;
                progress.fresh = Some(Instant::now());
                if self.first {
                    progress.walked = progress.fresh;
                }
            }
        });
    }

    /// The run has failed. What it stored stays.
    pub(crate) fn failed(mut self, error: Error) {
        self.end(error);
    }

    fn end(&mut self, error: Error) {
        self.ended = true;
        self.folder.progress.send_modify(|progress| {
            progress.phase = Phase::Idle;
            progress.failure = Some((Instant::now(), error));
        });
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Error::new(ErrorKind::Unavailable, "listing", "it was broken off"));
        }
    }
}

/// Which rows of a folder a walk has met, by their places in the order of discovery: a bit each, since a folder may hold millions.
#[derive(Default)]
pub(crate) struct Met(Vec<u64>);

impl Met {
    /// The row at `seq` was met; whether for the first time.
    pub(crate) fn insert(&mut self, seq: u64) -> bool {
        let word = (seq / 64) as usize;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let (before, bit) = (self.0[word], 1 << (seq % 64));
        self.0[word] |= bit;
        before & bit == 0
    }

    /// Whether the row at `seq` was met.
    pub(crate) fn contains(&self, seq: u64) -> bool {
        self.0.get((seq / 64) as usize).is_some_and(|word| word & (1 << (seq % 64)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn error() -> Error {
        Error::new(ErrorKind::Unavailable, "g", "scripted")
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_walk_is_waited_for_to_its_end() {
        let folder = Arc::new(Folder::new(false));
        assert!(matches!(folder.progress().verdict(Instant::now()), Verdict::Start));
        let run = folder.begin(|p| p.is_due(TTL, Instant::now())).unwrap();
        assert!(run.is_first());
        assert!(folder.begin(|_| true).is_none(), "one run at a time");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(matches!(folder.progress().verdict(Instant::now()), Verdict::Wait(None)));
        run.done();
        assert!(matches!(folder.progress().verdict(Instant::now()), Verdict::End));
        assert!(!folder.progress().is_due(TTL, Instant::now()));
        tokio::time::advance(TTL).await;
        assert!(folder.progress().is_due(TTL, Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_known_folder_waits_two_seconds_at_most_and_shows_its_rows_on_failure() {
        let folder = Arc::new(Folder::new(true));
        assert!(matches!(folder.progress().verdict(Instant::now()), Verdict::End));
        let run = folder.begin(|p| p.is_due(TTL, Instant::now())).unwrap();
        assert!(!run.is_first());
        assert!(matches!(folder.progress().verdict(Instant::now()), Verdict::Wait(Some(_))));
        tokio::time::advance(REFRESH_WAIT).await;
        assert!(matches!(folder.progress().verdict(Instant::now()), Verdict::End));
        run.failed(error());
        assert!(matches!(folder.progress().verdict(Instant::now()), Verdict::End));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(!folder.progress().is_due(TTL, Instant::now()));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(folder.progress().is_due(TTL, Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_first_walk_is_an_error_not_an_end() {
        let folder = Arc::new(Folder::new(false));
        folder.begin(|_| true).unwrap().failed(error());
        assert!(matches!(folder.progress().verdict(Instant::now()), Verdict::Failed(_)));
        assert!(!folder.progress().is_due(TTL, Instant::now()));
        tokio::time::advance(FAILURE_PAUSE).await;
        assert!(folder.progress().is_due(TTL, Instant::now()));
        drop(folder.begin(|_| true));
        assert!(matches!(folder.progress().verdict(Instant::now()), Verdict::Failed(_)), "broken off is failed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_under_another_selection_proves_nothing() {
        let folder = Arc::new(Folder::new(false));
        let run = folder.begin(|_| true).unwrap();
        folder.reset(false);
        run.done();
        assert!(matches!(folder.progress().verdict(Instant::now()), Verdict::Start));
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_is_looked_through_once_in_ten_minutes_and_listed_at_any_time() {
        let folder = Arc::new(Folder::new(false));
        let run = folder.begin_look().unwrap();
        assert!(run.is_first() && run.is_look());
        folder.go_on();
        assert!(!run.is_look(), "a program lists it");
        run.failed(error());
        assert!(folder.begin_look().is_none(), "it failed a moment ago");
        tokio::time::advance(FAILURE_PAUSE).await;
        folder.begin_look().unwrap().looked(2500);
        assert_eq!(folder.progress().looked.map(|(_, streams)| streams), Some(2500));
        assert!(matches!(folder.progress().verdict(Instant::now()), Verdict::Start), "that was no listing");
        assert!(folder.begin_look().is_none());
        let run = folder.begin(|p| p.is_due(TTL, Instant::now())).unwrap();
        assert!(!run.is_look());
        drop(run);
        tokio::time::advance(LOOK_AGAIN).await;
        folder.begin_look().unwrap().done();
        tokio::time::advance(LOOK_AGAIN).await;
        assert!(folder.begin_look().is_none(), "it is known");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_is_counted_by_guards() {
        let folder = Folder::new(true);
        let guard = folder.wait();
        assert_eq!(folder.priority(Priority::Background), Priority::Waiting);
        drop(guard);
        assert_eq!(folder.priority(Priority::Background), Priority::Background);
    }

    #[test]
    fn met_is_a_set() {
        let mut met = Met::default();
        for seq in [1, 63, 64, 1_000_000] {
            met.insert(seq);
        }
        assert!(met.contains(1) && met.contains(63) && met.contains(64) && met.contains(1_000_000));
        assert!(!met.contains(0) && !met.contains(65) && !met.contains(9_000_000));
    }
}
