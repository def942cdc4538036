//! Pages of FilterLogEvents: how many streams one is of, when it is full, and when a read has come to its end. Pure.

use crate::model::{LogEvent, Timestamp};

/// Names that one FilterLogEvents call takes.
pub(crate) const NAMES: usize = 100;
/// A page with more events, or more bytes of messages, than this is more than half full.
pub(crate) const HALF_EVENTS: usize = 5_000;
pub(crate) const HALF_BYTES: usize = 512 << 10;

/// More than half of what a page can hold.
pub(crate) fn is_half_full<'a>(events: impl Iterator<Item = &'a LogEvent>) -> bool {
    let (count, bytes) = events.fold((0, 0), |(n, b), e| (n + 1, b + e.size()));
    count > HALF_EVENTS || bytes > HALF_BYTES
}

/// Whether a read that began at `now` has seen all up to then.
///
/// Answers are in the order of time: a page that reaches past that moment has shown all up to it. What is stamped ahead gets one page
/// more, or writers that outrun the reader would be read for ever.
pub(crate) fn is_over<'a>(
    events: impl DoubleEndedIterator<Item = &'a LogEvent> + Clone,
    now: Timestamp,
    pages_ahead: &mut u32,
) -> bool {
    let reaches_now = events.clone().next_back().is_some_and(|event| event.timestamp > now);
    *pages_ahead += u32::from(reaches_now);
    reaches_now && (*pages_ahead > 1 || !is_half_full(events))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_full_by_count_or_bytes() {
        let event =
            |n: usize| LogEvent { timestamp: Timestamp(0), ingestion_time: Timestamp(0), message: "x".repeat(n) };
        assert!(!is_half_full(std::iter::repeat_n(&event(1), 5_000)));
        assert!(is_half_full(std::iter::repeat_n(&event(1), 5_001)));
        assert!(is_half_full(std::iter::repeat_n(&event(HALF_BYTES), 1)));
    }
}
