//! Where a stream's events have expired, the service may give one empty page after the other, with ever new tokens and no end.
//!
//! A read that meets such a run goes on where events may be: at the oldest one that the listing tells of, or where the group's retention
//! begins. Both are hints where to look first and never a bound: retention deletes days late, and listings lag. So what was passed over
//! is doubted, which readers are told, and looked at again with more patience, behind all other work.

use crate::error::Error;
use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::stream::commit::{Batch, commit_one};
use crate::fetch::stream::drain::{Drained, Read, drain};
use crate::fetch::stream::stale::By;
use crate::fetch::stream::state::Stream;
use crate::model::Timestamp;
use crate::store::row::StreamRow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Empty pages in a row that a second look has patience for.
const SECOND_LOOK: u32 = 1_000;
/// How far the beginning of retention must lie behind the last hint to be another one.
const STEP: Duration = Duration::from_mins(10);
/// How late retention may delete.
const LATE: Duration = Duration::from_hours(72);
const DAY: Duration = Duration::from_hours(24);

/// The next moment after `from` at which there may be events; `None` if nothing tells of one.
fn next_hint(row: &StreamRow, retention_begins: Option<Timestamp>, from: Option<Timestamp>) -> Option<Timestamp> {
    let is_behind = |hint: &Timestamp, step: Duration| from.is_none_or(|from| *hint > from + step);
    let events = [row.stream.first_event, row.extent.oldest, row.extent.newest];
    let events = events.into_iter().flatten().filter(|hint| is_behind(hint, Duration::ZERO));
    // Where retention begins moves on with the clock: it is one hint however often it is asked for.
    let retention = [retention_begins.map(|begins| begins - LATE), retention_begins];
    let retention = retention.into_iter().flatten().filter(|hint| is_behind(hint, STEP));
    events.chain(retention).min()
}

impl Stream {
    /// Where a read that would begin at `from` begins, if what lies there gave nothing a moment ago; it settles nothing then.
    pub(crate) fn past_the_desert(&self, from: Option<Timestamp>) -> Option<Timestamp> {
        self.streams.deserts.passed(self.id, from)
    }

    /// Where a read goes on that met nothing but empty pages behind `at`; `None` if nothing tells of a better place.
    pub(crate) fn leave_desert(&self, at: Option<Timestamp>) -> Result<Option<Timestamp>, Error> {
        let hint = next_hint(&self.row()?, self.retention_begins(), at);
        if let Some(hint) = hint {
            self.streams.deserts.note(self.id, hint);
        }
        Ok(hint)
    }

    /// Looks, in the background, once more at what was passed over, unless that was done a while ago.
    pub(crate) fn look_again(self: &Arc<Self>) {
        // A row that can't be read is told to the reader.
        let Ok(row) = self.row() else { return };
        let now = self.streams.shared.clock.now();
        let Some(end) = self.streams.deserts.may_look(self.id, row.extent.oldest.unwrap_or(now)) else { return };
        let (stream, stopping) = (Arc::clone(self), self.streams.shared.stopping.clone());
        self.streams.shared.tasks.spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                looked = stream.read_desert(end) => {
                    if let Err(fault) = looked {
                        tracing::debug!(error = %fault.about(&stream.subject), "what was passed over could not be looked at");
                    }
                }
            }
        });
    }

    async fn read_desert(self: &Arc<Self>, end: Timestamp) -> Result<(), Fault> {
        let read = Read {
            stream: self,
            priority: Priority::Background,
            start: None,
            end: end + Duration::from_millis(1),
            read_to: None,
            only_complete: true,
            barren: SECOND_LOOK,
            calls: None,
            hours: None,
        };
        if let Drained::All(_) = drain(read, &|| true).await? {
            let mut whole = Batch::events(Arc::clone(self), Vec::new(), true);
            whole.doubted = Some(false);
            commit_one(&self.streams, whole).await?;
            self.streams.deserts.forget(self.id);
            self.doubted.store(false, Ordering::Relaxed);
            self.is_up_to_date(By::Read);
        }
        Ok(())
    }

    /// Whether the listing, too, says that nothing is left of the stream's events.
    pub(crate) fn is_told_empty(&self) -> Result<bool, Error> {
        let told = self.row()?.stream;
        match told.last_event.max(told.first_event) {
            Some(newest) => Ok(self.retention_begins().is_some_and(|begins| newest < begins)),
            // The listing lags, by an hour perhaps: of a new stream it says nothing yet.
            None => Ok(told.created + DAY < self.streams.shared.clock.moment().earliest),
        }
    }

    /// The oldest moment that the group's retention keeps; `None` keeps all.
    fn retention_begins(&self) -> Option<Timestamp> {
        let group = self.streams.shared.store.group(self.group.id).ok().flatten();
        let days = group.and_then(|row| row.group.retention_days)?;
        Some(self.streams.shared.clock.now() - DAY * days)
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
}
