//! Which events of a drained read are new.
//!
//! The service gives no event ids that both calls share, and an answer proves what it holds, never what it lacks. So an event is
//! (timestamp, message), counted within one drained read (a [`Pass`]), and between two reads the larger count wins: the n-th event of a
//! kind in this pass is new exactly if fewer than n of that kind are stored. What was once stored stays; a re-read only adds.
//!
//! A pass begins and ends at whole milliseconds, otherwise its counts would start in the middle of equal events.

use crate::model::{LogEvent, Span, Timestamp};
use crate::store::{Counts, event_key};
use std::collections::HashMap;

/// An event and its number among the equal ones of its pass.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(crate) event: LogEvent,
    key: (Timestamp, u64),
    nth: u32,
}

/// The counts of one drained read, in whatever pages it comes.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    seen: HashMap<(Timestamp, u64), u32>,
}

#[cfg(test)]
impl Counted {
    /// What it is counted by.
    pub(crate) fn key(&self) -> (Timestamp, u64) {
        self.key
    }
}

impl Pass {
    /// Forgets the counts of what lies before `least`; whether any are left.
    pub(crate) fn forget_before(&mut self, least: Timestamp) -> bool {
        self.seen.retain(|key, _| key.0 >= least);
        !self.seen.is_empty()
    }

    /// Counts one page, in order of the service.
    ///
    /// Pages come in order of time, so counts of what lies before this page are forgotten: memory stays that of a page. Should the
    /// service break its order, counts come out too small, which can lose a repeated event but never double one.
    pub(crate) fn page(&mut self, events: Vec<LogEvent>) -> Vec<Counted> {
        if let Some(least) = events.iter().map(|e| e.timestamp).min() {
            self.forget_before(least);
        }
        self.seen.reserve(events.len());
        events
            .into_iter()
            .map(|event| {
                let key = event_key(&event);
                let nth = self.seen.entry(key).or_default();
                *nth += 1;
                Counted { event, key, nth: *nth }
            })
            .collect()
    }
}

/// The whole milliseconds that a counted page touches; `None` if it is empty.
pub(crate) fn span_of(page: &[Counted]) -> Option<Span> {
    let least = page.iter().map(|c| c.key.0).min()?;
    let greatest = page.iter().map(|c| c.key.0).max()?;
    Some(Span { start: least, end: Timestamp(greatest.0.saturating_add(1)) })
}

/// Whether `stored` lacks one of `page`.
pub(crate) fn is_any_missing(page: &[Counted], stored: &Counts) -> bool {
    page.iter().any(|counted| counted.nth > stored.get(&counted.key).copied().unwrap_or(0))
}

/// Those of `page` that `stored` lacks, in the page's order; `stored` then counts them too.
pub(crate) fn missing(page: Vec<Counted>, stored: &mut Counts) -> Vec<LogEvent> {
    stored.reserve(page.len());
    page.into_iter()
        .filter_map(|counted| {
            let have = stored.entry(counted.key).or_default();
            if counted.nth > *have {
                *have = counted.nth;
                Some(counted.event)
            } else {
                None
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(at: i64, text: &str) -> LogEvent {
        LogEvent { timestamp: Timestamp(at), ingestion_time: Timestamp(at), message: text.to_string() }
    }

    fn counts_of(events: &[LogEvent]) -> Counts {
        let mut counts = Counts::new();
        for event in events {
            *counts.entry(event_key(event)).or_default() += 1;
        }
        counts
    }

    fn store(stored: &mut Vec<LogEvent>, pass: &mut Pass, page: Vec<LogEvent>) {
        let page = pass.page(page);
        let Some(span) = span_of(&page) else { return };
        let mut counts = counts_of(stored);
        counts.retain(|key, _| span.contains(key.0));
        stored.extend(missing(page, &mut counts));
    }

    #[test]
    fn a_read_again_adds_nothing() {
        let page = vec![event(1, "a"), event(1, "a"), event(2, "b")];
        let mut stored = Vec::new();
        for _ in 0..3 {
            store(&mut stored, &mut Pass::default(), page.clone());
        }
        assert_eq!(stored, page);
    }

    #[test]
    fn equal_events_over_a_page_boundary_count() {
        let mut stored = Vec::new();
        let mut pass = Pass::default();
        store(&mut stored, &mut pass, vec![event(1, "a"), event(1, "a")]);
        store(&mut stored, &mut pass, vec![event(1, "a"), event(2, "a")]);
        assert_eq!(stored.len(), 4);
    }

    #[test]
    fn ingestion_time_is_not_compared() {
        let mut stored = vec![event(1, "a")];
        let mut other = event(1, "a");
        other.ingestion_time = Timestamp(99);
        store(&mut stored, &mut Pass::default(), vec![other]);
        assert_eq!(stored.len(), 1);
    }

    /// The events of one pass: a sorted list of (timestamp, letter), cut into pages.
    fn passes() -> impl Strategy<Value = Vec<(Vec<(i64, u8)>, usize)>> {
        let seen = proptest::collection::vec((0..6i64, 0..3u8), 0..20).prop_map(|mut v| {
            v.sort_by_key(|e| e.0);
            v
        });
        proptest::collection::vec((seen, 1..5usize), 1..8)
    }

    proptest! {
        #[test]
        fn the_larger_count_wins(passes in passes()) {
            let mut stored = Vec::new();
            let mut model = Counts::new();
            for (seen, page_size) in passes {
                let seen: Vec<LogEvent> = seen.iter().map(|(at, m)| event(*at, &m.to_string())).collect();
                let before = stored.clone();
                let mut pass = Pass::default();
                for page in seen.chunks(page_size) {
                    store(&mut stored, &mut pass, page.to_vec());
                }
                prop_assert_eq!(&stored[..before.len()], &before[..]);
                let added = &stored[before.len()..];
                let mut rest = seen.iter();
                for event in added {
                    prop_assert!(rest.any(|e| e == event), "order of discovery");
                }
                for (key, count) in counts_of(&seen) {
                    let most = model.entry(key).or_default();
                    *most = (*most).max(count);
                }
                prop_assert_eq!(counts_of(&stored), model.clone());
            }
        }

        #[test]
        fn two_passes_at_once_add_nothing_twice(seen in proptest::collection::vec((0..4i64, 0..2u8), 0..20), turns in proptest::collection::vec(any::<bool>(), 0..40)) {
            let mut seen: Vec<LogEvent> = seen.iter().map(|(at, m)| event(*at, &m.to_string())).collect();
            seen.sort_by_key(|e| e.timestamp);
            let mut stored = Vec::new();
            let mut sides = [(Pass::default(), seen.chunks(3)), (Pass::default(), seen.chunks(2))];
            for turn in turns.into_iter().chain([false; 20]).chain([true; 20]) {
                let (pass, pages) = &mut sides[usize::from(turn)];
                if let Some(page) = pages.next() {
                    store(&mut stored, pass, page.to_vec());
                }
            }
            prop_assert_eq!(counts_of(&stored), counts_of(&seen));
        }
    }
}
