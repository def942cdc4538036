//! The quota of one call as a pure machine: a token bucket that learns its rate, and fair shares among those who wait.
//!
//! *Rate*: the bucket fills at the rate in force, and within any [`WINDOW`] no more than the rate are granted, whatever the bucket
//! holds: a service that counts by the second refuses a burst on top of the rate. *Learning*: refusals teach the rate (see
//! [`AdaptiveRate`]). *Shares*: each class has a virtual time that advances by 1/share with each grant, and the waiting class
//! with the least virtual time is next; a class that begins to wait starts at the present virtual time, so unused shares are lent
//! and never saved up. *In flight*: bounded, and the lesser classes may fill only a part of the bound, so that slow background
//! calls never take the last place from a caller that waits.
//!
//! Time comes in as an argument and only moves forward.

use crate::fetch::service::adaptive_rate::{AdaptiveRate, MIN_RATE};
use crate::fetch::service::priority::Priority;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// The bucket holds that many seconds' worth, and at least one call.
const BURST_SECONDS: f64 = 0.2;
/// Grants are counted over a second and what requests may gain on each other on their way.
const WINDOW: Duration = Duration::from_millis(1030);
/// Requests under way are bounded by that many seconds' worth of calls.
const IN_FLIGHT_SECONDS: f64 = 2.0;
/// …and may always be that many.
const MIN_IN_FLIGHT: usize = 4;
/// Longest sleep while the rate is recovering, since it grows meanwhile.
const RECOVERING_STEP: Duration = Duration::from_millis(250);

/// The classes, in the order of their indexes.
pub(crate) const CLASSES: usize = 3;

/// Index of a priority's class.
pub(crate) fn class(priority: Priority) -> usize {
    match priority {
        Priority::Waiting | Priority::Refreshing => 0,
        Priority::Following => 1,
        Priority::Background => 2,
    }
}

/// Shares of the quota where all classes wait.
const SHARES: [f64; CLASSES] = [0.6, 0.3, 0.1];
/// Part of the in-flight bound up to which each class may fill it.
const ROOM: [f64; CLASSES] = [1.0, 0.75, 0.5];

/// What the bucket says to those who wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Next {
    /// This class may send one request now; it has been counted.
    Grant(usize),
    /// Ask again at this time.
    At(Instant),
    /// Ask again when a request has ended.
    Blocked,
}

/// The quota of one call.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    rate: AdaptiveRate,
    tokens: f64,
    refilled: Instant,
    /// Grants within the last window, oldest first.
    granted: VecDeque<Instant>,
    in_flight: usize,
    /// How long an answer takes, smoothed; zero as long as none came.
    latency: Duration,
    virtual_times: [f64; CLASSES],
    virtual_now: f64,
}

impl TokenBucket {
    /// A full bucket at `rate` calls a second.
    pub(crate) fn new(rate: f64, now: Instant) -> TokenBucket {
        let rate = AdaptiveRate::new(sane(rate));
        TokenBucket {
            tokens: burst(rate.rate(now)),
            rate,
            refilled: now,
            granted: VecDeque::new(),
            in_flight: 0,
            latency: Duration::ZERO,
            virtual_times: [0.0; CLASSES],
            virtual_now: 0.0,
        }
    }

    /// Calls a second in force.
    pub(crate) fn rate(&self, now: Instant) -> f64 {
        self.rate.rate(now)
    }

    /// So many requests at a time use the rate up; `None` as long as no answer has told how long one takes.
    pub(crate) fn parallelism(&self, now: Instant) -> Option<usize> {
        (self.latency > Duration::ZERO).then(|| (self.rate(now) * self.latency.as_secs_f64()).ceil() as usize)
    }

    /// Takes another configured rate. What throttling taught is kept if it is less.
    pub(crate) fn configure(&mut self, rate: f64, now: Instant) {
        self.refill(now);
        self.rate.configure(sane(rate));
        self.tokens = self.tokens.min(burst(self.rate(now)));
    }

    /// A class begins to wait, having had none waiting before.
    pub(crate) fn begins_to_wait(&mut self, class: usize) {
        self.virtual_times[class] = self.virtual_times[class].max(self.virtual_now);
    }

    /// Who of the waiting classes may send a request now.
    pub(crate) fn next(&mut self, waiting: [bool; CLASSES], now: Instant) -> Next {
        self.refill(now);
        let eligible = (0..CLASSES).filter(|&c| waiting[c] && self.in_flight < self.room(c));
        let Some(chosen) = eligible.min_by(|&a, &b| self.virtual_times[a].total_cmp(&self.virtual_times[b])) else {
            return Next::Blocked;
        };
        let rate = self.rate(now);
        let mut wait = Duration::ZERO;
        if self.tokens < 1.0 {
            wait = Duration::from_secs_f64((1.0 - self.tokens) / rate);
        }
        let most = (rate as usize).max(1);
        if let Some(at) = self.granted.len().checked_sub(most).and_then(|over| self.granted.get(over)) {
            wait = wait.max((*at + WINDOW).saturating_duration_since(now));
        }
        if !wait.is_zero() {
            if self.rate.is_recovering(now) {
                wait = wait.min(RECOVERING_STEP);
            }
            // A timer that fires a rounding error too early would spin; a millisecond is the timers' grain.
            return Next::At(now + wait.max(Duration::from_millis(1)));
        }
        self.tokens -= 1.0;
        self.granted.push_back(now);
        self.in_flight += 1;
        self.virtual_now = self.virtual_times[chosen];
        self.virtual_times[chosen] += 1.0 / SHARES[chosen];
        Next::Grant(chosen)
    }

    /// A granted request, sent at `sent`, has ended; or it was never sent: then it costs nothing.
    pub(crate) fn ended(&mut self, class: usize, sent: Option<Instant>, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match sent {
            Some(sent) => {
                let took = now.saturating_duration_since(sent);
                self.latency = if self.latency.is_zero() { took } else { (self.latency * 3 + took) / 4 };
            }
            None => {
                self.granted.pop_back();
                self.tokens = (self.tokens + 1.0).min(burst(self.rate(now)));
                self.virtual_times[class] -= 1.0 / SHARES[class];
            }
        }
    }

    /// The service took a request, sent at `sent`, to be within the quota, or refused it as being over.
    pub(crate) fn learn(&mut self, sent: Instant, admitted: bool, now: Instant) {
        self.refill(now);
        if self.rate.learn(sent, admitted, now) {
            self.tokens = self.tokens.min(0.0);
        }
    }

    fn refill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.refilled).as_secs_f64();
        let mean = (self.rate(self.refilled) + self.rate(now)) / 2.0;
        self.refilled = self.refilled.max(now);
        self.tokens = (self.tokens + mean * seconds).min(burst(self.rate(now)));
        while self.granted.front().is_some_and(|at| now.saturating_duration_since(*at) >= WINDOW) {
            self.granted.pop_front();
        }
    }

    fn room(&self, class: usize) -> usize {
        let bound = ((self.rate.configured() * IN_FLIGHT_SECONDS) as usize).max(MIN_IN_FLIGHT);
        (bound as f64 * ROOM[class]) as usize
    }
}

fn burst(rate: f64) -> f64 {
    (rate * BURST_SECONDS).max(1.0)
}

/// `rate` within what the arithmetic bears.
fn sane(rate: f64) -> f64 {
    if rate.is_finite() { rate.clamp(MIN_RATE / 2.0, 10_000.0) } else { MIN_RATE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [bool; 3] = [true; 3];

    /// Grants of a bucket over `seconds`, by class, with requests that end at once.
    fn run(bucket: &mut TokenBucket, start: Instant, seconds: f64, waiting: [bool; 3]) -> [usize; 3] {
        let end = start + Duration::from_secs_f64(seconds);
        let mut grants = [0; 3];
        let mut now = start;
        while now < end {
            match bucket.next(waiting, now) {
                Next::Grant(class) => {
                    grants[class] += 1;
                    bucket.ended(class, Some(now), now);
                }
                Next::At(at) => now = at,
                Next::Blocked => break,
            }
        }
        grants
    }

    #[test]
    fn shares_are_60_30_10_where_all_wait() {
        let start = Instant::now();
        let grants = run(&mut TokenBucket::new(100.0, start), start, 10.0, ALL);
        let total: usize = grants.iter().sum();
        assert!((960..=1000).contains(&total), "{total}");
        for (got, share) in grants.iter().zip(SHARES) {
            assert!((*got as f64 / total as f64 - share).abs() < 0.01, "{grants:?}");
        }
    }

    #[test]
    fn unused_shares_are_lent_and_not_saved_up() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(100.0, start);
        let grants = run(&mut bucket, start, 10.0, [false, false, true]);
        assert!(grants[2] >= 960, "{grants:?}");
        bucket.begins_to_wait(1);
        let grants = run(&mut bucket, start + Duration::from_secs(10), 4.0, [false, true, true]);
        assert!((95..=106).contains(&grants[2]), "three to one, with no debt for what was lent: {grants:?}");
    }

    #[test]
    fn a_refused_burst_stops_the_bucket() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(25.0, start);
        let at = start + Duration::from_millis(100);
        (0..10).for_each(|_| bucket.learn(start, false, at));
        assert!(bucket.rate(at) < 25.0);
        assert!(matches!(bucket.next([true, false, false], at), Next::At(later) if later > at));
        assert_eq!(bucket.rate(at + Duration::from_secs(10)), 25.0);
    }

    #[test]
    fn a_second_holds_no_burst_beside_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(25.0, start);
        assert_eq!(run(&mut bucket, start, 1.0, [true, false, false])[0], 25);
        assert_eq!(bucket.parallelism(start), None, "no answer took any time");
        bucket.ended(0, Some(start), start + Duration::from_millis(200));
        assert_eq!(bucket.parallelism(start), Some(5));
    }

    #[test]
    fn slow_background_calls_leave_room_for_whoever_waits() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(25.0, start);
        let mut now = start;
        let mut granted = 0;
        loop {
            match bucket.next([false, false, true], now) {
                Next::Grant(_) => granted += 1,
                Next::At(at) => now = at,
                Next::Blocked => break,
            }
        }
        assert_eq!(granted, 25);
        now += Duration::from_secs(1);
        assert_eq!(bucket.next([true, false, true], now), Next::Grant(0));
    }

    #[test]
    fn what_was_never_sent_costs_nothing() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(1.0, start);
        assert_eq!(bucket.next([true, false, false], start), Next::Grant(0));
        bucket.ended(0, None, start);
        assert_eq!(bucket.next([true, false, false], start), Next::Grant(0));
    }

    #[test]
    fn another_rate_counts_at_once() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(1.0, start);
        bucket.configure(50.0, start);
        let grants = run(&mut bucket, start, 2.0, [true, false, false]);
        assert!((95..=100).contains(&grants[0]), "{grants:?}");
        bucket.configure(f64::NAN, start + Duration::from_secs(2));
        assert!(bucket.rate(start + Duration::from_secs(2)).is_finite());
    }

    proptest! {
        /// In any window of a second no more requests than the rate are granted, whatever waits and whatever is throttled.
        #[test]
        fn never_over_the_rate(
            rate in 1.0f64..60.0,
            steps in prop::collection::vec((0u64..80, any::<[bool; 3]>(), any::<bool>()), 1..300),
        ) {
            let start = Instant::now();
            let mut bucket = TokenBucket::new(rate, start);
            let mut now = start;
            let mut granted: Vec<Instant> = Vec::new();
            for (ms, waiting, throttle) in steps {
                now += Duration::from_millis(ms);
                if throttle {
                    bucket.learn(now, false, now);
                }
                while let Next::Grant(class) = bucket.next(waiting, now) {
                    prop_assert!(waiting[class]);
                    granted.push(now);
                    bucket.ended(class, Some(now), now);
                }
            }
            for (i, at) in granted.iter().enumerate() {
                let window = granted[i..].iter().take_while(|t| **t - *at <= Duration::from_secs(1)).count();
                prop_assert!(window as f64 <= rate, "{} in a second at {}", window, rate);
            }
        }

        /// A class that waits is never passed over for ever.
        #[test]
        fn nobody_starves(rate in 1.0f64..60.0) {
            let start = Instant::now();
            let grants = run(&mut TokenBucket::new(rate, start), start, 60.0 / rate + 1.0, ALL);
            prop_assert!(grants.iter().all(|n| *n > 0), "{grants:?}");
        }
    }
}
