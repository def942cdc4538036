//! Counters of calls: by call and outcome, by group (bounded), and how many ended lately.

use crate::source::{Call, SourceErrorKind};
use crate::sync::lock;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Groups that are counted apart; the rest share one counter.
pub const MAX_GROUPS: usize = 512;
/// Seconds over which the present rate is taken.
const RECENT: usize = 60;
const CALLS: usize = Call::ALL.len();

/// What became of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answered.
    pub answered: u64,
    /// Refused for the quota.
    pub throttled: u64,
    /// Refused or failed otherwise.
    pub failed: u64,
    /// Events or rows in the answers.
    pub items: u64,
    /// Time spent waiting for quota.
    pub waited: Duration,
}

impl Counts {
    /// All tries.
    pub fn total(&self) -> u64 {
        self.answered + self.throttled + self.failed
    }

    fn add(&mut self, outcome: Result<u64, SourceErrorKind>, waited: Duration) {
        match outcome {
            Ok(items) => {
                self.answered += 1;
                self.items += items;
            }
            Err(SourceErrorKind::Throttled) => self.throttled += 1,
            Err(_) => self.failed += 1,
        }
        self.waited = self.waited.saturating_add(waited);
    }
}

/// One call's numbers.
#[derive(Clone, Debug)]
pub struct CallSummary {
    /// Which call.
    pub call: Call,
    /// Since the start.
    pub counts: Counts,
    /// Failures by kind since the start, the most frequent first.
    pub failures: Vec<(SourceErrorKind, u64)>,
    /// Tries that ended within the last minute.
    pub last_minute: u64,
}

/// One group's numbers.
#[derive(Clone, Debug)]
pub struct GroupSummary {
    /// Exact name; `None` for all those beyond the bound.
    pub group: Option<String>,
    /// Since the start.
    pub counts: Counts,
}

/// Counters of calls. One lock: calls come at tens a second.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    calls: [OneCall; CALLS],
    groups: HashMap<String, Counts>,
    other_groups: Counts,
}

#[derive(Debug, Default)]
struct OneCall {
    counts: Counts,
    failures: HashMap<SourceErrorKind, u64>,
    recent: Recent,
}

/// Tries by second, for the last minute: slot = second modulo 60.
#[derive(Debug)]
struct Recent([(u64, u64); RECENT]);

impl Default for Recent {
    fn default() -> Recent {
        Recent([(0, 0); RECENT])
    }
}

impl Recent {
    fn add(&mut self, second: u64) {
        let slot = &mut self.0[second as usize % RECENT];
        *slot = if slot.0 == second { (second, slot.1 + 1) } else { (second, 1) };
    }

    fn sum(&self, second: u64) -> u64 {
        let oldest = second.saturating_sub(RECENT as u64 - 1);
        self.0.iter().filter(|(at, _)| (oldest..=second).contains(at)).map(|(_, count)| count).sum()
    }
}

fn second_of(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Metrics {
    pub(crate) fn call(
        &self,
        call: Call,
        group: Option<&str>,
        outcome: Result<u64, SourceErrorKind>,
        waited: Duration,
        now: SystemTime,
    ) {
        let mut inner = lock(&self.0);
        let one = &mut inner.calls[call as usize];
        one.counts.add(outcome, waited);
        one.recent.add(second_of(now));
        if let Err(kind) = outcome {
            *one.failures.entry(kind).or_default() += 1;
        }
        let Some(group) = group else { return };
        let full = inner.groups.len() >= MAX_GROUPS;
        match inner.groups.entry(group.to_owned()) {
            Entry::Vacant(_) if full => inner.other_groups.add(outcome, waited),
            entry => entry.or_default().add(outcome, waited),
        }
    }

    /// Each call's numbers, in the order of [`Call::ALL`].
    pub fn calls(&self, now: SystemTime) -> Vec<CallSummary> {
        let inner = lock(&self.0);
        let summary = |(call, one): (Call, &OneCall)| {
            let mut failures: Vec<_> = one.failures.iter().map(|(kind, count)| (*kind, *count)).collect();
            failures.sort_by_key(|(kind, count)| (u64::MAX - count, *kind as u8));
            CallSummary { call, counts: one.counts.clone(), failures, last_minute: one.recent.sum(second_of(now)) }
        };
        Call::ALL.into_iter().zip(&inner.calls).map(summary).collect()
    }

    /// The `max` groups with most calls; those beyond the bound together at the end.
    pub fn groups(&self, max: usize) -> Vec<GroupSummary> {
        let inner = lock(&self.0);
        let mut named: Vec<_> = inner.groups.iter().collect();
        named.sort_by(|a, b| b.1.total().cmp(&a.1.total()).then(a.0.cmp(b.0)));
        let mut summaries: Vec<_> = named
            .into_iter()
            .take(max)
            .map(|(group, counts)| GroupSummary { group: Some(group.clone()), counts: counts.clone() })
            .collect();
        if inner.other_groups.total() > 0 {
            summaries.push(GroupSummary { group: None, counts: inner.other_groups.clone() });
        }
        summaries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn calls_are_told_apart_by_outcome() {
        let metrics = Metrics::default();
        let waited = Duration::from_millis(20);
        metrics.call(Call::GetLogEvents, Some("g"), Ok(10), waited, at(1000));
        metrics.call(Call::GetLogEvents, Some("g"), Err(SourceErrorKind::Throttled), waited, at(1030));
        metrics.call(Call::GetLogEvents, None, Err(SourceErrorKind::Denied), waited, at(1030));
        let summary = metrics.calls(at(1030)).into_iter().find(|s| s.call == Call::GetLogEvents).unwrap();
        assert_eq!((summary.counts.answered, summary.counts.throttled, summary.counts.failed), (1, 1, 1));
        assert_eq!((summary.counts.items, summary.counts.waited), (10, Duration::from_millis(60)));
        assert_eq!(summary.last_minute, 3);
        assert_eq!(metrics.calls(at(1060))[Call::GetLogEvents as usize].last_minute, 2);
        assert_eq!(metrics.calls(at(5000))[Call::GetLogEvents as usize].last_minute, 0);
        assert_eq!(metrics.groups(10)[0].counts.total(), 2);
    }

    #[test]
    fn groups_are_bounded() {
        let metrics = Metrics::default();
        for i in 0..MAX_GROUPS + 3 {
            metrics.call(Call::FilterLogEvents, Some(&format!("g{i}")), Ok(0), Duration::ZERO, at(1));
        }
        metrics.call(Call::FilterLogEvents, Some("g7"), Ok(0), Duration::ZERO, at(1));
        let groups = metrics.groups(usize::MAX);
        assert_eq!(groups.len(), MAX_GROUPS + 1);
        assert_eq!(groups[0].group.as_deref(), Some("g7"));
        assert_eq!(groups.last().map(|g| (g.group.clone(), g.counts.total())), Some((None, 3)));
    }
}
