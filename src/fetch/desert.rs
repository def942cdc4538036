//! Where a stream's events have expired, the service may give one empty page after the other, with ever new tokens and no end.
//!
//! A read that meets such a run goes on where events may be: at the oldest one that the listing tells of, or where the group's retention
//! begins. Both are hints where to look first and never a bound: retention deletes days late. So what was passed over counts as
//! unsettled, and is looked at again by a later open, some minutes later at the earliest.

use super::stream::{Stream, lock};
use crate::error::Error;
use crate::model::Timestamp;
use crate::store::row::StreamRow;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// How long a part that gave nothing but empty pages isn't asked for again.
const LEFT_ALONE: Duration = Duration::from_secs(600);
/// How late retention may delete.
const LATE: Duration = Duration::from_hours(72);
const DAY: Duration = Duration::from_hours(24);

/// What is known of the empty part of one stream.
#[derive(Debug, Default)]
pub(crate) struct Desert(Mutex<Option<(Timestamp, Instant)>>);

impl Desert {
    /// Nothing came up to `end`, though the service says that more follows.
    fn note(&self, end: Timestamp) {
        *lock(&self.0) = Some((end, Instant::now()));
    }

    /// Where a read that would begin at `from` begins instead.
    fn passed(&self, from: Option<Timestamp>) -> Option<Timestamp> {
        let (end, at) = (*lock(&self.0))?;
        (at.elapsed() < LEFT_ALONE && from.is_none_or(|from| from < end)).then_some(end)
    }
}

/// The next moment after `from` at which there may be events; `None` if nothing tells of one.
fn next_hint(row: &StreamRow, retention_begins: Option<Timestamp>, from: Option<Timestamp>) -> Option<Timestamp> {
    let early = retention_begins.map(|begins| begins - LATE);
    let hints = [row.stream.first_event, early, retention_begins];
    hints.into_iter().flatten().filter(|hint| from.is_none_or(|from| *hint > from)).min()
}

impl Stream {
    /// Where a read that would begin at `from` begins, if what lies there gave nothing a moment ago; it settles nothing then.
    pub(crate) fn past_the_desert(&self, from: Option<Timestamp>) -> Option<Timestamp> {
        self.desert.passed(from)
    }

    /// Where a read goes on that met nothing but empty pages behind `at`; `None` if nothing tells of a better place.
    pub(crate) fn leave_desert(&self, at: Option<Timestamp>) -> Result<Option<Timestamp>, Error> {
        let hint = next_hint(&self.row()?, self.retention_begins(), at);
        if let Some(hint) = hint {
            self.desert.note(hint);
        }
        Ok(hint)
    }

    /// Whether the listing, too, says that nothing is left of the stream's events.
    pub(crate) fn is_told_empty(&self) -> Result<bool, Error> {
        let told = self.row()?.stream;
        let newest = told.last_event.max(told.first_event);
        Ok(newest.is_none_or(|newest| self.retention_begins().is_some_and(|begins| newest < begins)))
    }

    /// The oldest moment that the group's retention keeps; `None` keeps all.
    fn retention_begins(&self) -> Option<Timestamp> {
        let group = self.home.shared.store.group(self.group.id).ok().flatten();
        let days = group.and_then(|row| row.group.retention_days)?;
        Some(self.home.shared.clock.now() - DAY * days)
    }

    /// Whether the service may have dropped an event stamped so by now.
    pub(crate) fn is_past_retention(&self, oldest: Timestamp) -> bool {
        self.retention_begins().is_some_and(|begins| oldest < begins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GroupId, LogStream, StreamId};
    use crate::store::row::Extent;

    fn row(first: Option<i64>) -> StreamRow {
        let stream = LogStream {
            name: "s".into(),
            arn: String::new(),
            created: Timestamp(0),
            first_event: first.map(Timestamp),
            last_event: None,
            last_ingestion: None,
        };
        let (id, group, slug, seq, extent) = (StreamId(17), GroupId(16), "s".into(), 1, Extent::default());
        StreamRow { id, group, stream, slug, seq, extent, gone: false }
    }

    #[test]
    fn hints_are_taken_from_the_oldest_on() {
        let day = DAY.as_millis() as i64;
        let begins = Some(Timestamp(100 * day));
        let hints = std::iter::successors(next_hint(&row(Some(50 * day)), begins, None), |at| {
            next_hint(&row(Some(50 * day)), begins, Some(*at))
        });
        assert_eq!(hints.map(|at| at.0 / day).collect::<Vec<_>>(), [50, 97, 100]);
        assert_eq!(next_hint(&row(None), None, None), None, "nothing tells");
    }

    #[tokio::test(start_paused = true)]
    async fn what_gave_nothing_is_left_alone_for_a_while() {
        let desert = Desert::default();
        assert_eq!(desert.passed(None), None);
        desert.note(Timestamp(50));
        assert_eq!(desert.passed(None), Some(Timestamp(50)));
        assert_eq!(desert.passed(Some(Timestamp(50))), None, "it begins behind it");
        tokio::time::advance(LEFT_ALONE).await;
        assert_eq!(desert.passed(None), None);
    }
}
