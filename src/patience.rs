//! Deadlines that a stop of this process doesn't use up.
//!
//! A process that is stopped (SIGSTOP, a frozen cgroup, a debugger) sees no time go by, but its deadlines do: when it goes on, all that wait
//! for the service would have waited too long, though they asked nobody meanwhile. So a deadline that notices a stop gives one
//! moment more, once: a process that is stopped again and again waits for no one for ever.

use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How often a wait looks whether the process was stopped.
const STEP: Duration = Duration::from_secs(5);
/// A timer that is later than this was not late by load alone.
const STOPPED: Duration = Duration::from_secs(2);
/// What a wait is given back after a stop, at most and once.
const GRACE: Duration = Duration::from_secs(10);

/// A moment until which something may take, and its one grace.
///
/// What is done until then is waited for by [`before`] from end to end: a time that nobody watched looks like a stop.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    /// When it is next looked at.
    next: Instant,
    grace: bool,
}

impl Deadline {
    /// So long from now.
    pub fn after(time: Duration) -> Deadline {
        let now = Instant::now();
        Deadline { at: now + time, next: now + time.min(STEP), grace: true }
    }

    /// So long from now; a grace that was given stays given.
    pub fn renew(&mut self, time: Duration) {
        let grace = self.grace;
        *self = Deadline { grace, ..Deadline::after(time) };
    }

    /// Ends when it is over. May be dropped and called again.
    pub async fn passed(&mut self) {
        loop {
            sleep_until(self.next).await;
            if self.look(Instant::now()) {
                return;
            }
        }
    }

    /// Whether it is over at `now`; takes a stop since the last look into account.
    pub fn is_over(&mut self) -> bool {
        self.look(Instant::now())
    }

    /// Whether a stop was met.
    pub fn was_stopped(&mut self) -> bool {
        self.look(Instant::now());
        !self.grace
    }

    /// What is left of it.
    pub fn left(&mut self) -> Duration {
        let now = Instant::now();
        self.look(now);
        self.at.saturating_duration_since(now)
    }

    fn look(&mut self, now: Instant) -> bool {
        let late = now.saturating_duration_since(self.next);
        if late > STOPPED && self.grace {
            self.grace = false;
            self.at = self.at.max(now + late.min(GRACE));
        }
        self.next = self.at.min(now + STEP);
        now >= self.at
    }
}

/// `work`, or `None` once the deadline has passed.
pub async fn before<T>(deadline: &mut Deadline, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = deadline.passed() => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets time go by that nothing in the process could use.
    async fn stop(time: Duration) {
        tokio::time::advance(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_over_when_its_time_is() {
        let began = Instant::now();
        Deadline::after(Duration::from_secs(30)).passed().await;
        assert_eq!(began.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_gives_a_moment_more() {
        let mut deadline = Deadline::after(Duration::from_secs(30));
        stop(Duration::from_secs(45)).await;
        let began = Instant::now();
        deadline.passed().await;
        assert_eq!(began.elapsed(), GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_long_before_its_end_costs_nothing() {
        let began = Instant::now();
        let mut deadline = Deadline::after(Duration::from_secs(30));
        stop(Duration::from_secs(8)).await;
        deadline.passed().await;
        assert_eq!(began.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn twenty_stops_end_it() {
        let mut deadline = Deadline::after(Duration::from_secs(30));
        for _ in 0..20 {
            stop(Duration::from_secs(45)).await;
            if deadline.is_over() {
                break;
            }
        }
        assert!(deadline.is_over());
        deadline.renew(Duration::from_secs(30));
        stop(Duration::from_secs(45)).await;
        assert!(deadline.is_over(), "one grace a wait, however often it is renewed");
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_ends_in_time_is_done() {
        let mut deadline = Deadline::after(Duration::from_secs(1));
        assert_eq!(before(&mut deadline, async { 7 }).await, Some(7));
        assert_eq!(before(&mut deadline, std::future::pending::<()>()).await, None);
    }
}
