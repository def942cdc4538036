//! Two sides of a stream, hour by hour. Pure.

use crate::model::{Hours, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// An hour in which the sides differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// Counted from the epoch.
    pub(super) hour: i64,
    pub(super) cached: u64,
    pub(super) service: u64,
}

/// The hours that differ, oldest first.
pub(super) fn differences(cached: &Hours, service: &Hours) -> Vec<Difference> {
    let hours: BTreeSet<i64> = cached.keys().chain(service.keys()).copied().collect();
    let count = |side: &Hours, hour: i64| side.get(&hour).copied().unwrap_or(0);
    hours
        .into_iter()
        .map(|hour| Difference { hour, cached: count(cached, hour), service: count(service, hour) })
        .filter(|difference| difference.cached != difference.service)
        .collect()
}

/// Before which hour the service may have dropped events for their age; `None` where it keeps them for ever.
///
/// What lies before the first hour that the service still counts is gone as well: the retention may have been shorter once.
pub(super) fn kept_from(retention_days: Option<u32>, service: &Hours, now: Timestamp) -> Option<i64> {
    let cut = now - DAY * retention_days?;
    let first = service.keys().next().copied();
    Some((cut.hour() + 1).max(first.unwrap_or(i64::MAX)))
}

/// Whether retention explains the difference.
pub(super) fn is_removed(difference: &Difference, kept_from: Option<i64>) -> bool {
    difference.service < difference.cached && kept_from.is_some_and(|kept_from| difference.hour < kept_from)
}

/// Runs of neighbouring hours: (first, one after the last).
pub(super) fn runs(differences: &[Difference]) -> Vec<(i64, i64)> {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for difference in differences {
        match runs.last_mut() {
            Some((_, end)) if *end == difference.hour => *end += 1,
            _ => runs.push((difference.hour, difference.hour + 1)),
        }
    }
    runs
}

/// The larger count of each hour: an answer proves what it holds, never what it lacks.
pub(super) fn larger(into: &mut Hours, other: &Hours) {
    for (hour, count) in other {
        let have = into.entry(*hour).or_default();
        *have = (*have).max(*count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn differs(hour: i64, cached: u64, service: u64) -> Difference {
        Difference { hour, cached, service }
    }

    #[test]
    fn hours_on_either_side_alone_differ() {
        let (cached, service) = (Hours::from([(1, 5), (2, 1)]), Hours::from([(1, 5), (3, 2)]));
        let found = differences(&cached, &service);
        assert_eq!(found, [differs(2, 1, 0), differs(3, 0, 2)]);
        assert_eq!(runs(&found), [(2, 4)]);
        assert_eq!(runs(&[differs(1, 0, 1), differs(3, 0, 1)]), [(1, 2), (3, 4)]);
    }

    #[test]
    fn retention_excuses_only_what_is_too_old() {
        let now = Timestamp::of_hour(24 * 10);
        let service = Hours::from([(24 * 9, 1)]);
        assert_eq!(kept_from(None, &service, now), None);
        let kept = kept_from(Some(7), &service, now);
        assert_eq!(kept, Some(24 * 9), "nothing older is there any more");
        let kept = kept_from(Some(7), &Hours::from([(24 * 2, 1)]), now);
        assert_eq!(kept, Some(24 * 3 + 1), "retention may be in the middle of an hour");
        assert!(is_removed(&differs(24 * 3, 5, 2), kept));
        assert!(!is_removed(&differs(24 * 3, 2, 5), kept), "the service still shows it");
        assert!(!is_removed(&differs(24 * 4, 5, 2), kept));
        assert!(!is_removed(&differs(0, 5, 2), None));
    }

    #[test]
    fn the_larger_count_wins() {
        let mut service = Hours::from([(1, 5), (2, 1)]);
        larger(&mut service, &Hours::from([(1, 4), (2, 3), (3, 1)]));
        assert_eq!(service, Hours::from([(1, 5), (2, 3), (3, 1)]));
    }
}
