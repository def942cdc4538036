//! Decisions by chance, quota counting, and the tokens given out: the small state behind a [`Plan`].

use super::plan::{Fault, FaultKind, Limiter, Plan, Quotas};
use super::synth::mix;
use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// Numbers as good as random from a seed.
pub(crate) struct Chance(u64);

impl Chance {
    /// The sequence of `seed`.
    pub(crate) fn new(seed: u64) -> Chance {
        Chance(mix(seed))
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0)
    }

    /// True `rate` of the times. Draws nothing at 0 or 1.
    pub(crate) fn hit(&mut self, rate: f64) -> bool {
        rate >= 1.0 || rate > 0.0 && ((self.next() >> 11) as f64 / (1u64 << 53) as f64) < rate
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high.saturating_sub(low) + 1)
    }
}

/// Counts of each fault rule.
#[derive(Default)]
pub(crate) struct FaultCounts(Vec<(u64, u64)>);

impl FaultCounts {
    /// The fault that this call meets, if any.
    pub(crate) fn draw<'a>(
        &mut self,
        plan: &'a Plan,
        chance: &mut Chance,
        call: &str,
        group: Option<&str>,
        streams: &[String],
        has_token: bool,
    ) -> Option<&'a Fault> {
        self.0.resize(plan.faults.len(), (0, 0));
        for (fault, (seen, done)) in plan.faults.iter().zip(&mut self.0) {
            let needs_token = matches!(fault.kind, FaultKind::ExpiredToken | FaultKind::RepeatToken);
            if !fault.which.matches(call, group, streams) || needs_token && !has_token {
                continue;
            }
            *seen += 1;
            if *seen > fault.skip && fault.times.is_none_or(|times| *done < times) && chance.hit(fault.rate) {
                *done += 1;
                return Some(fault);
            }
        }
        None
    }
}

/// What is left of each call's quota.
#[derive(Default)]
pub(crate) struct Limits {
    buckets: HashMap<String, (f64, Instant)>,
    seconds: HashMap<String, VecDeque<Instant>>,
}

impl Limits {
    /// Whether a call is within its quota now; counts it if so.
    pub(crate) fn admit(&mut self, quotas: &Quotas, chance: &mut Chance, call: &str, now: Instant) -> bool {
        let Some(rate) = quotas.rate(call) else { return true };
        match quotas.model {
            Limiter::Random => !chance.hit(quotas.random),
            Limiter::Bucket => {
                let size = (rate * quotas.burst_seconds).max(1.0);
                let (left, at) = self.buckets.entry(call.into()).or_insert((size, now));
                *left = (*left + now.duration_since(*at).as_secs_f64() * rate).min(size);
                *at = now;
                let admitted = *left >= 1.0;
                if admitted {
                    *left -= 1.0;
                }
                admitted
            }
            Limiter::SlidingSecond => {
                let seen = self.seconds.entry(call.into()).or_default();
                while seen.front().is_some_and(|at| now.duration_since(*at) >= Duration::from_secs(1)) {
                    seen.pop_front();
                }
                let admitted = (seen.len() as f64) < rate;
                if admitted {
                    seen.push_back(now);
                }
                admitted
            }
        }
    }
}

/// When tokens were given, newest last; bounded, the forgotten ones count as young.
#[derive(Default)]
pub(crate) struct TokenBook {
    given: HashMap<u64, Instant>,
    order: VecDeque<u64>,
    expired_before: Option<Instant>,
}

const BOOK: usize = 1 << 17;

impl TokenBook {
    /// Remembers a token. One that is there already keeps its time.
    pub(crate) fn give(&mut self, token: &str, now: Instant) {
        let id = id(token);
        if self.given.contains_key(&id) {
            return;
        }
        self.given.insert(id, now);
        self.order.push_back(id);
        if self.order.len() > BOOK
            && let Some(oldest) = self.order.pop_front()
        {
            self.given.remove(&oldest);
        }
    }

    /// Refuses every token given so far.
    pub(crate) fn expire_all(&mut self, now: Instant) {
        self.expired_before = Some(now);
    }

    /// Whether a token still holds. One that doesn't is forgotten: the same place may be given again.
    pub(crate) fn holds(&mut self, token: &str, ttl_ms: u64, now: Instant) -> bool {
        let Some(given) = self.given.get(&id(token)).copied() else { return true };
        let too_old = ttl_ms > 0 && now.duration_since(given) > Duration::from_millis(ttl_ms);
        let expired = too_old || self.expired_before.is_some_and(|before| given <= before);
        if expired {
            self.given.remove(&id(token));
        }
        !expired
    }
}

fn id(token: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    token.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limiters_hold_their_rate() {
        let mut quotas = Quotas { region: Some("us-west-2".into()), ..Quotas::default() };
        let start = Instant::now();
        for (model, in_ten_seconds) in [(Limiter::Bucket, 109..=110), (Limiter::SlidingSecond, 100..=100)] {
            quotas.model = model;
            let (mut limits, mut chance) = (Limits::default(), Chance::new(1));
            let admitted = (0..10_000)
                .filter(|ms| limits.admit(&quotas, &mut chance, "GetLogEvents", start + Duration::from_millis(*ms)))
                .count();
            assert!(in_ten_seconds.contains(&admitted), "{model:?}: {admitted}");
        }
        quotas.model = Limiter::Random;
        let (mut limits, mut chance) = (Limits::default(), Chance::new(1));
        let refused = (0..10_000).filter(|_| !limits.admit(&quotas, &mut chance, "GetLogEvents", start)).count();
        assert!((50..200).contains(&refused), "{refused}");
        assert!(limits.admit(&quotas, &mut chance, "PutLogEvents", start));
    }
}
