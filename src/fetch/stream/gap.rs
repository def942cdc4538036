//! What a stream could not keep comes first once it can: reads that begin behind it are refused until one has brought it.
//!
//! Polls and checks of others look at a stream too, from wherever suits those. After a time without room the first of them would else
//! append what is newest, and what came before that would stand behind it, for ever. What nothing asks for again is waited for no longer
//! than [`HOLD`].

use crate::fetch::service::fault::Fault;
use crate::model::{Span, Timestamp};
use crate::sync::lock;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// How long later events wait for it, from the last refusal on.
const HOLD: Duration = Duration::from_secs(60);

/// What one stream lacks.
#[derive(Debug, Default)]
pub(crate) struct Gap(Mutex<Option<Missing>>);

#[derive(Debug)]
struct Missing {
    from: Timestamp,
    until: Instant,
    fault: Fault,
}

impl Gap {
    /// A page whose events are stamped inside `page` could not be kept, of a stream whose newest event is stamped `newest`.
    pub(crate) fn note(&self, page: Span, newest: Option<Timestamp>, fault: Fault) {
        // What is older is late in any case.
        let first = newest.map_or(page.start, |newest| page.start.max(Timestamp(newest.0.saturating_add(1))));
        if first >= page.end {
            return;
        }
        let mut missing = lock(&self.0);
        let from = missing.as_ref().map_or(first, |known| known.from.min(first));
        *missing = Some(Missing { from, until: Instant::now() + HOLD, fault });
    }

    /// Why a page is refused: it begins behind what is missing.
    pub(crate) fn refuses(&self, page: Option<Span>) -> Option<Fault> {
        let mut missing = lock(&self.0);
        if missing.as_ref().is_some_and(|missing| missing.until <= Instant::now()) {
            *missing = None;
        }
        missing.as_ref().filter(|missing| page.is_some_and(|page| page.start > missing.from)).map(|m| m.fault.clone())
    }

    /// A page was kept that wasn't refused.
    pub(crate) fn is_closed(&self, page: Option<Span>) {
        if page.is_some() {
            *lock(&self.0) = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{StoreError, StoreErrorKind};

    fn span(start: i64, end: i64) -> Span {
        Span { start: Timestamp(start), end: Timestamp(end) }
    }

    fn full() -> Fault {
        Fault::Store(StoreError::new(StoreErrorKind::NoSpace, "full"))
    }

    #[tokio::test(start_paused = true)]
    async fn later_events_wait_for_what_is_missing_and_not_for_ever() {
        let gap = Gap::default();
        assert!(gap.refuses(Some(span(1, 2))).is_none());
        gap.note(span(100, 201), Some(Timestamp(150)), full());
        gap.note(span(300, 301), Some(Timestamp(150)), full());
        assert!(gap.refuses(Some(span(152, 400))).is_some());
        assert!(gap.refuses(Some(span(151, 400))).is_none());
        assert!(gap.refuses(None).is_none(), "nothing to keep");
        gap.is_closed(Some(span(151, 400)));
        assert!(gap.refuses(Some(span(152, 400))).is_none());
        gap.note(span(500, 501), None, full());
        tokio::time::sleep(HOLD).await;
        assert!(gap.refuses(Some(span(600, 601))).is_none());
    }

    #[test]
    fn what_is_late_in_any_case_keeps_nothing_waiting() {
        let gap = Gap::default();
        gap.note(span(100, 151), Some(Timestamp(150)), full());
        assert!(gap.refuses(Some(span(600, 601))).is_none());
    }
}
