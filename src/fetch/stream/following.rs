//! Which streams of a group are followed, and whose turn it is. Plain state; `follow` polls. It holds the streams, so it is told only
//! what type they are of.

use crate::model::{StreamId, Timestamp};
use crate::sync::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// Polls after the last guard is gone.
const LINGER: u32 = 3;
/// From one poll of the slowly followed streams to the next, if the poll interval isn't longer.
const SLOWLY: Duration = Duration::from_secs(5);

/// Who is followed in one group.
pub(crate) struct Following<S> {
    pub(crate) state: Mutex<Table<S>>,
}

pub(crate) struct Table<S> {
    pub(crate) followed: HashMap<StreamId, Followed<S>>,
    pub(crate) running: bool,
    /// From the start of a poll to the next, as the quota lets it be; smoothed.
    pub(crate) interval: Option<Duration>,
}

pub(crate) struct Followed<S> {
    pub(crate) stream: S,
    /// Shared with each guard. A stream that was let go of as gone and is followed again has another one: guards of before count no
    /// more.
    pub(crate) guards: Arc<()>,
    /// The same of those who follow slowly.
    pub(crate) slow_guards: Arc<()>,
    pub(crate) since: Instant,
    /// It was open for long enough to be polled; until then the open itself has brought all there is.
    pub(crate) polled: bool,
    /// Polls since the last guard went.
    pub(crate) idle: u32,
    /// When that was, by the service's clock, if its copy was complete then.
    pub(crate) complete_at: Option<Timestamp>,
    /// Up to this moment polls have asked for its copy.
    pub(crate) asked: Option<Timestamp>,
    /// Polls in a row that brought nothing.
    pub(crate) quiet: u32,
}

// Not derived: that would ask the same of the streams.
impl<S> Default for Following<S> {
    fn default() -> Self {
        Following { state: Mutex::new(Table { followed: HashMap::new(), running: false, interval: None }) }
    }
}

impl<S: Clone> Following<S> {
    /// How far apart polls are; `None` before the second.
    pub(crate) fn interval(&self) -> Option<Duration> {
        let interval = lock(&self.state).interval?;
        // In tenths of a second, as a person wants it.
        Some(Duration::from_millis((interval.as_millis() as u64 + 50) / 100 * 100))
    }

    /// The streams that polls ask for, and those of them that are only followed slowly.
    pub(crate) fn streams(&self) -> Vec<(S, bool)> {
        let state = lock(&self.state);
        state.followed.values().map(|followed| (followed.stream.clone(), !followed.is_polled())).collect()
    }
}

/// How far apart polls of slowly followed streams are.
pub(crate) fn slowly(interval: Duration) -> Duration {
    interval.max(SLOWLY)
}

impl<S: Clone> Followed<S> {
    pub(crate) fn new(stream: S, complete_at: Option<Timestamp>) -> Followed<S> {
        Followed {
            stream,
            guards: Arc::default(),
            slow_guards: Arc::default(),
            since: Instant::now(),
            polled: false,
            idle: 0,
            complete_at,
            asked: None,
            quiet: 0,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        Arc::strong_count(&self.guards) > 1
    }

    /// It is polled each interval: open, or was until some polls ago.
    pub(crate) fn is_polled(&self) -> bool {
        self.is_open() || (self.polled && self.idle <= LINGER)
    }

    pub(crate) fn is_followed_slowly(&self) -> bool {
        Arc::strong_count(&self.slow_guards) > 1
    }

    pub(crate) fn turn(&self) -> Turn<S> {
        let Followed { stream, asked, complete_at, quiet, .. } = self;
        Turn { stream: stream.clone(), asked: *asked, complete_at: *complete_at, quiet: *quiet }
    }
}

/// One followed stream's turn.
pub(crate) struct Turn<S> {
    pub(crate) stream: S,
    pub(crate) asked: Option<Timestamp>,
    pub(crate) complete_at: Option<Timestamp>,
    pub(crate) quiet: u32,
}

impl<S: Clone> Table<S> {
    /// Those to poll now; lets go of those that have been open in no program for some polls. One that is open for a moment, as `cat` and
    /// `grep -r` have it, is never polled.
    pub(crate) fn turn(&mut self, least: Duration) -> Vec<Turn<S>> {
        self.followed.retain(|_, f| {
            if f.is_open() {
                f.idle = 0;
                return true;
            }
            f.idle = f.idle.saturating_add(1);
            f.polled &= f.idle <= LINGER;
            f.polled || f.is_followed_slowly()
        });
        let due = self.followed.values_mut().filter(|f| f.polled || (f.is_open() && f.since.elapsed() >= least));
        due.map(|f| {
            f.polled = true;
            f.turn()
        })
        .collect()
    }

    /// Those that are followed slowly, and that no other poll asks for.
    pub(crate) fn slow_turn(&self) -> Vec<Turn<S>> {
        self.followed.values().filter(|f| f.is_followed_slowly() && !f.is_polled()).map(Followed::turn).collect()
    }
}
