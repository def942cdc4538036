//! What refusals teach about the rate of one call. Pure.
//!
//! The quota is the account's: other programs use it up too, unseen, and the service may count it in any way. So only refusals tell,
//! and one alone tells little: services refuse now and then by chance. Two among the last [`LOOK_BACK`] answers mean that we are over;
//! then the rate becomes what was admitted in the last second, less a little, but not less than half of what it was. From there it grows
//! back to the configured rate within [`RECOVERY`], slowly at first (as the cube of time): where another client still has the rest, the
//! next refusals are a while off; where the quota is free again, all of it is back soon. Requests sent before the last change teach
//! nothing more.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// Least calls a second that throttling or a setting can bring about: below that nothing would ever find out that it is over.
pub(crate) const MIN_RATE: f64 = 0.2;
/// Answers among which refusals are counted.
const LOOK_BACK: usize = 20;
/// So many refusals among them are more than chance.
const REFUSALS: usize = 2;
/// What throttling leaves of the rate at least.
const MOST_DECREASE: f64 = 0.5;
/// What throttling leaves of the rate at most.
const LEAST_DECREASE: f64 = 0.9;
/// The part of what was admitted that is asked for afterwards.
const BELOW_ADMITTED: f64 = 0.95;
/// After that long without more refusals the whole rate is back.
const RECOVERY: Duration = Duration::from_secs(9);

/// The rate in force.
#[derive(Debug)]
pub(crate) struct AdaptiveRate {
    configured: f64,
    /// The rate that the last refusals left, and when.
    taught: Option<(f64, Instant)>,
    /// The latest answers: when each came, and whether it was within the quota.
    answers: VecDeque<(Instant, bool)>,
}

impl AdaptiveRate {
    /// Nothing learnt yet.
    pub(crate) fn new(configured: f64) -> AdaptiveRate {
        AdaptiveRate { configured, taught: None, answers: VecDeque::new() }
    }

    /// Calls a second without any refusal.
    pub(crate) fn configured(&self) -> f64 {
        self.configured
    }

    /// Takes another configured rate; what was taught stays.
    pub(crate) fn configure(&mut self, rate: f64) {
        self.configured = rate;
    }

    /// Calls a second at `now`.
    pub(crate) fn rate(&self, now: Instant) -> f64 {
        let Some((low, at)) = self.taught.filter(|(low, _)| *low < self.configured) else { return self.configured };
        let part = (now.saturating_duration_since(at).as_secs_f64() / RECOVERY.as_secs_f64()).min(1.0);
        low + (self.configured - low) * part.powi(3)
    }

    /// Whether the rate still grows.
    pub(crate) fn is_recovering(&self, now: Instant) -> bool {
        self.rate(now) < self.configured
    }

    /// An answer to a request sent at `sent` came; tells whether the rate went down.
    pub(crate) fn learn(&mut self, sent: Instant, admitted: bool, now: Instant) -> bool {
        self.answers.push_back((now, admitted));
        let second = Duration::from_secs(1);
        let most = LOOK_BACK.max(self.configured.ceil() as usize * 2);
        while self.answers.len() > most {
            self.answers.pop_front();
        }
        if admitted || self.taught.is_some_and(|(_, at)| sent <= at) {
            return false;
        }
        let since = self.taught.map(|(_, at)| at);
        let young = self.answers.iter().rev().take(LOOK_BACK).filter(|(at, _)| since.is_none_or(|since| *at > since));
        if young.filter(|(_, admitted)| !admitted).count() < REFUSALS {
            return false;
        }
        let last_second = self.answers.iter().rev().take_while(|(at, _)| now.saturating_duration_since(*at) <= second);
        let within = last_second.filter(|(_, admitted)| *admitted).count() as f64;
        let rate = self.rate(now);
        let low = (within * BELOW_ADMITTED).clamp(rate * MOST_DECREASE, rate * LEAST_DECREASE);
        self.taught = Some((low.max(MIN_RATE.min(self.configured)), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service that admits `quota` calls in any second, asked at the rate in force from `start` for `seconds`; (calls, refusals).
    fn live(rate: &mut AdaptiveRate, quota: f64, start: Instant, seconds: u64) -> (usize, usize) {
        let (mut now, mut calls, mut refusals) = (start, 0, 0);
        let mut seen: VecDeque<Instant> = VecDeque::new();
        while now < start + Duration::from_secs(seconds) {
            now += Duration::from_secs_f64(1.0 / rate.rate(now));
            while seen.front().is_some_and(|at| now - *at >= Duration::from_secs(1)) {
                seen.pop_front();
            }
            let admitted = (seen.len() as f64) < quota;
            if admitted {
                seen.push_back(now);
            }
            calls += 1;
            refusals += usize::from(!admitted);
            rate.learn(now, admitted, now);
        }
        (calls, refusals)
    }

    #[test]
    fn it_gives_way_to_others_and_comes_back() {
        let start = Instant::now();
        let mut rate = AdaptiveRate::new(25.0);
        let (calls, refusals) = live(&mut rate, 12.5, start, 60);
        assert!(refusals * 20 < calls, "{refusals} of {calls}");
        assert!(calls - refusals > 60 * 10, "{refusals} of {calls}: the half is used");
        assert_eq!(rate.rate(start + Duration::from_secs(70)), 25.0);
        assert!(!rate.is_recovering(start + Duration::from_secs(70)));
    }

    #[test]
    fn a_refusal_by_chance_teaches_nothing() {
        let start = Instant::now();
        let mut rate = AdaptiveRate::new(25.0);
        for i in 0..1000u32 {
            let at = start + Duration::from_millis(40) * i;
            assert!(!rate.learn(at, i % 100 != 0, at));
        }
        assert_eq!(rate.rate(start), 25.0);
    }

    #[test]
    fn what_was_sent_before_a_change_teaches_no_more() {
        let start = Instant::now();
        let mut rate = AdaptiveRate::new(25.0);
        let at = start + Duration::from_millis(100);
        assert_eq!((0..10).filter(|_| rate.learn(start, false, at)).count(), 1);
        assert_eq!(rate.rate(at), 12.5);
        let later = at + Duration::from_millis(10);
        assert_eq!((0..2).filter(|_| rate.learn(later, false, later)).count(), 1);
        assert!(rate.rate(later) < 6.5);
        for i in 1..100 {
            let at = later + Duration::from_millis(i);
            rate.learn(at, false, at);
        }
        assert!(rate.rate(later + Duration::from_millis(100)) >= MIN_RATE);
    }

    #[test]
    fn a_lower_setting_counts_at_once() {
        let start = Instant::now();
        let mut rate = AdaptiveRate::new(25.0);
        assert_eq!((0..2).filter(|_| rate.learn(start, false, start)).count(), 1);
        assert_eq!(rate.rate(start), 12.5);
        rate.configure(10.0);
        assert_eq!(rate.rate(start), 10.0);
    }
}
