//! How often and how late a failed request is tried again. Pure.
//!
//! Back-off is exponential with full jitter: the *n*th wait is uniform in 0..min(cap, base·2ⁿ), so that callers that failed
//! together don't come back together. Beside it each call kind has a [`RetryBudget`] of retries: a little time's worth, topped up by
//! success. A dead service drains it and is then asked again only at the trickle, however many wait; the first answers of a
//! healed one fill it again.

use std::time::Duration;
use tokio::time::Instant;

const BASE: Duration = Duration::from_millis(100);
const CAP: Duration = Duration::from_secs(5);

/// Retries that a full budget holds.
const CAPACITY: f64 = 50.0;
/// Retries that come back each second.
const TRICKLE: f64 = 2.0;
/// Retries that each answer brings back.
const PER_ANSWER: f64 = 1.0;

/// The wait before retry number `retry` (from 0), for a `random` in 0..1.
pub(crate) fn backoff(retry: u32, random: f64) -> Duration {
    CAP.min(BASE.saturating_mul(1 << retry.min(16))).mul_f64(random.clamp(0.0, 1.0))
}

/// The retries that a call kind has left.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    left: f64,
    at: Instant,
}

impl RetryBudget {
    /// A full one.
    pub(crate) fn new(now: Instant) -> RetryBudget {
        RetryBudget { left: CAPACITY, at: now }
    }

    /// Takes one retry, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.left = (self.left + now.saturating_duration_since(self.at).as_secs_f64() * TRICKLE).min(CAPACITY);
        self.at = self.at.max(now);
        let granted = self.left >= 1.0;
        if granted {
            self.left -= 1.0;
        }
        granted
    }

    /// The service answered.
    pub(crate) fn answered(&mut self) {
        self.left = (self.left + PER_ANSWER).min(CAPACITY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_cap() {
        assert_eq!(backoff(0, 1.0), BASE);
        assert_eq!(backoff(1, 1.0), BASE * 2);
        assert_eq!(backoff(3, 0.5), BASE * 4);
        assert_eq!(backoff(40, 1.0), CAP);
        assert_eq!(backoff(40, 0.0), Duration::ZERO);
    }

    #[test]
    fn a_dead_service_gets_a_trickle_and_a_healed_one_all() {
        let start = Instant::now();
        let mut budget = RetryBudget::new(start);
        let tries = |budget: &mut RetryBudget, at: Instant| (0..1000).filter(|_| budget.take(at)).count();
        assert_eq!(tries(&mut budget, start), 50);
        assert_eq!(tries(&mut budget, start + Duration::from_secs(1)), 2);
        for _ in 0..10 {
            budget.answered();
        }
        assert_eq!(tries(&mut budget, start + Duration::from_secs(1)), 10);
        assert_eq!(tries(&mut budget, start + Duration::from_secs(3600)), 50);
    }
}
