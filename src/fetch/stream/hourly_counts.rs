//! How many events a drained read showed, by the hour.

use crate::model::{Hours, LogEvent, Timestamp};

/// Counts page after page, in order of time.
#[derive(Debug, Default)]
pub(crate) struct HourlyCounts {
    hours: Hours,
    /// The newest timestamp seen, and how many events have it.
    newest: Option<(Timestamp, u64)>,
}

impl HourlyCounts {
    /// Counts a page.
    pub(crate) fn page(&mut self, events: &[LogEvent]) {
        for event in events {
            *self.hours.entry(event.timestamp.hour()).or_default() += 1;
            self.newest = match self.newest {
                Some((at, count)) if at == event.timestamp => Some((at, count + 1)),
                Some((at, count)) if at > event.timestamp => Some((at, count)),
                _ => Some((event.timestamp, 1)),
            };
        }
    }

    /// The read starts again from the newest millisecond seen: its events come once more.
    pub(crate) fn restart(&mut self) {
        if let Some((at, count)) = self.newest.take()
            && let Some(hour) = self.hours.get_mut(&at.hour())
        {
            *hour = hour.saturating_sub(count);
        }
    }

    /// What was counted.
    pub(crate) fn hours(mut self) -> Hours {
        self.hours.retain(|_, count| *count > 0);
        self.hours
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(times: &[i64]) -> Vec<LogEvent> {
        let event =
            |at: &i64| LogEvent { timestamp: Timestamp(*at), ingestion_time: Timestamp(*at), message: String::new() };
        times.iter().map(event).collect()
    }

    #[test]
    fn a_read_that_starts_again_counts_nothing_twice() {
        let mut hours = HourlyCounts::default();
        hours.page(&events(&[1, 3_599_999, 3_600_000]));
        hours.page(&events(&[3_600_000]));
        hours.restart();
        hours.page(&events(&[3_600_000, 3_600_000, 3_600_001]));
        assert_eq!(hours.hours(), Hours::from([(0, 2), (1, 3)]));
    }

    #[test]
    fn an_hour_that_is_gone_after_a_restart_is_left_out() {
        let mut hours = HourlyCounts::default();
        hours.page(&events(&[5]));
        hours.restart();
        assert_eq!(hours.hours(), Hours::new());
    }
}
