//! The machine that the program runs on: its clocks, which may be wrong and may be set, and its sleep.

use crate::clock::Clock;
use crate::model::Timestamp;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// When every history begins, in ms since the epoch.
const DAWN: Timestamp = Timestamp(1_790_000_000_000);

/// Clocks that go with the paused one.
pub(crate) struct Machine {
    booted: Instant,
    /// How long it slept, in ms: nothing of it is seen by the paused clock.
    slept: AtomicU64,
    /// By how many ms its wall clock is ahead of the service's.
    ahead: AtomicI64,
}

impl Machine {
    pub(crate) fn new(ahead: i64) -> Machine {
        Machine { booted: Instant::now(), slept: AtomicU64::new(0), ahead: AtomicI64::new(ahead) }
    }

    /// What the service's clock shows.
    pub(crate) fn service_time(&self) -> Timestamp {
        DAWN + self.since_boot()
    }

    pub(crate) fn set_ahead(&self, ahead: i64) {
        self.ahead.store(ahead, Ordering::SeqCst);
    }

    pub(crate) fn sleep(&self, time: Duration) {
        self.slept.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for Machine {
    fn now(&self) -> Timestamp {
        Timestamp(self.service_time().0 + self.ahead.load(Ordering::SeqCst))
    }

    fn since_boot(&self) -> Duration {
        self.booted.elapsed() + self.suspended()
    }

    fn suspended(&self) -> Duration {
        Duration::from_millis(self.slept.load(Ordering::SeqCst))
    }
}
