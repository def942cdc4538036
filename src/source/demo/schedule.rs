//! When a stream's events are stamped: a pure function of their number, and its inverse, both O(1).
//!
//! Events come in units of a fixed number of lines (the five lines of an invocation). Unit `u` begins somewhere inside its own
//! period, and its lines follow it at a fixed gap that still ends inside the period; so timestamps never decrease with the number.

use crate::model::Timestamp;

/// The times of one stream's events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// Start of the first unit's period.
    pub(crate) start: Timestamp,
    /// Milliseconds from one unit's period to the next.
    pub(crate) period: i64,
    /// Events a unit.
    pub(crate) lines: u64,
    /// Milliseconds between the lines of a unit.
    pub(crate) gap: i64,
    /// How many units there ever are; `None` goes on for ever.
    pub(crate) units: Option<u64>,
    /// What the jitter is drawn from.
    pub(crate) seed: u64,
}

impl Schedule {
    /// How many events there ever are.
    pub(crate) fn total(&self) -> u64 {
        self.units.map_or(u64::MAX, |units| units * self.lines)
    }

    /// The time of event `k`.
    pub(crate) fn at(&self, k: u64) -> Timestamp {
        let (unit, line) = ((k / self.lines) as i64, (k % self.lines) as i64);
        let room = (self.period - (self.lines as i64 - 1) * self.gap).max(1);
        let jitter = (mix(self.seed, unit as u64) % room as u64) as i64;
        Timestamp(self.start.0 + unit * self.period + jitter + line * self.gap)
    }

    /// The number of the first event at or after `time`; the total if there is none.
    pub(crate) fn first_from(&self, time: Timestamp) -> u64 {
        if time <= self.start {
            return 0;
        }
        // Far beyond any clock, and far from overflow in what follows.
        let time = time.min(Timestamp(i64::MAX / 4));
        let unit = ((time.0 - self.start.0) / self.period) as u64;
        let first = unit.saturating_mul(self.lines);
        let inside = (0..self.lines).find(|line| self.at(first + line) >= time);
        first.saturating_add(inside.unwrap_or(self.lines)).min(self.total())
    }

    /// How many events are stamped up to and with `time`.
    pub(crate) fn count_to(&self, time: Timestamp) -> u64 {
        self.first_from(Timestamp(time.0.saturating_add(1)))
    }
}

/// A well-mixed number from a seed and a counter (splitmix64).
pub(crate) fn mix(seed: u64, counter: u64) -> u64 {
    let mut z = seed.wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_inverse_is_exact(seed: u64, period in 10i64..5000, lines in 1u64..6, k in 0u64..10_000, off in -7i64..7) {
            let gap = (period / 10).min(3);
            let schedule = Schedule { start: Timestamp(1_000_000), period, lines, gap, units: Some(4000), seed };
            prop_assert!(schedule.at(k) <= schedule.at(k + 1));
            let time = Timestamp(schedule.at(k).0 + off);
            let first = schedule.first_from(time);
            prop_assert!(first == schedule.total() || schedule.at(first) >= time);
            prop_assert!(first == 0 || schedule.at(first - 1) < time);
            let endless = Schedule { units: None, ..schedule };
            prop_assert!(endless.first_from(Timestamp(i64::MAX)) > 1_000_000);
            let count = schedule.count_to(time);
            prop_assert!(count == 0 || schedule.at(count - 1) <= time);
        }
    }
}
