//! What an append changes: lengths, extents and live rows, of many streams in one commit.

use super::groups::write_vouches;
use super::rows::{Place, StreamRecord, stream_record};
use super::sizes::write_sizes;
use super::used::{note_text, write_touched};
use super::{COMPLETE, COUNTERS, Catalogue, STREAMS, TAILS, USED};
use crate::model::{StreamId, Timestamp};
use crate::store::{StoreError, StoreErrorKind};
use std::collections::HashSet;
use std::ops::Range;

/// What becomes of one stream with a commit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) id: u64,
    /// Where its bytes are from then on.
    pub(crate) place: Place,
    /// Committed text and events from then on, live rows included.
    pub(crate) text_len: u64,
    pub(crate) events: u64,
    /// A live row to add: its number and bytes.
    pub(crate) tail: Option<(u64, Vec<u8>)>,
    /// Live rows that are in the files now.
    pub(crate) moved: Range<u64>,
    /// Bytes by which its index grows; its text then is as long as `place` says.
    pub(crate) index_grown: u64,
    pub(crate) complete: bool,
    pub(crate) settled_to: Option<Timestamp>,
    pub(crate) settled_by_service: bool,
    pub(crate) doubted: Option<bool>,
    pub(crate) read_to: Option<Timestamp>,
    /// Least and greatest timestamp and greatest ingestion time of what is new.
    pub(crate) oldest: Option<Timestamp>,
    pub(crate) newest: Option<Timestamp>,
    pub(crate) newest_ingestion: Option<Timestamp>,
}

impl Change {
    /// Whether a listing shows it: a size that becomes known or grows, a newer time.
    fn shows_in(&self, record: &StreamRecord) -> bool {
        let extent = &record.row.extent;
        self.text_len != extent.text_len || (self.complete && !extent.complete)
    }
}

/// A stream's row and the bytes of its live rows.
pub(crate) type Stored = (StreamRecord, Vec<Vec<u8>>);

impl Catalogue {
    /// Commits all changes, or none.
    pub(crate) fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        let (vouches, sizes) = (self.pending_vouches(), self.pending_sizes());
        if changes.is_empty() && vouches.is_empty() && sizes.is_empty() {
            return Ok(());
        }
        let touched = std::mem::take(&mut *self.lock_touched());
        let groups = self.write(|tx| {
            let mut groups = HashSet::new();
            let mut streams = tx.open_table(STREAMS)?;
            let mut complete = tx.open_table(COMPLETE)?;
            let mut tails = tx.open_table(TAILS)?;
            let mut used = tx.open_table(USED)?;
            let mut counters = tx.open_table(COUNTERS)?;
            for change in changes {
                let Some(mut record) = stream_record(&streams, change.id)? else {
                    return Err(StoreError::new(
                        StoreErrorKind::Missing,
                        format!("no log stream has the number {}", change.id),
                    ));
                };
                if change.shows_in(&record) {
                    groups.insert(record.row.group.0);
                }
                apply(change, &mut record);
                streams.insert(change.id, record.encode().as_slice())?;
                if change.complete && !record.row.gone {
                    complete.insert((record.row.group.0, change.id), ())?;
                }
                for number in change.moved.clone() {
                    tails.remove((change.id, number))?;
                }
                if let Some((number, bytes)) = &change.tail {
                    tails.insert((change.id, *number), bytes.as_slice())?;
                }
                if change.index_grown > 0 {
                    note_text(&mut used, &mut counters, change.id, change.place.text, change.index_grown)?;
                }
            }
            drop((used, counters));
            write_touched(tx, &touched)?;
            write_vouches(tx, &vouches)?;
            write_sizes(tx, &sizes)?;
            Ok(groups)
        })?;
        groups.into_iter().for_each(|group| self.listing_changed(group));
        self.vouches_written(&vouches);
        self.sizes_written(&sizes);
        Ok(())
    }

    /// A stream's row and live rows, of one moment.
    pub(crate) fn stream_and_tail(&self, id: StreamId) -> Result<Option<Stored>, StoreError> {
        self.read(|tx| {
            let Some(record) = stream_record(&tx.open_table(STREAMS)?, id.0)? else { return Ok(None) };
            let mut rows = Vec::new();
            for row in tx.open_table(TAILS)?.range((id.0, 0)..=(id.0, u64::MAX))? {
                rows.push(row?.1.value().to_vec());
            }
            Ok(Some((record, rows)))
        })
    }

    /// Up to `max` streams after `id` that have live rows.
    pub(crate) fn streams_with_tails(&self, after: u64, max: usize) -> Result<Vec<StreamId>, StoreError> {
        self.read(|tx| {
            let tails = tx.open_table(TAILS)?;
            let (mut found, mut after) = (Vec::new(), after);
            while found.len() < max && after < u64::MAX {
                let Some(next) = tails.range((after + 1, 0)..)?.next() else { break };
                after = next?.0.value().0;
                found.push(StreamId(after));
            }
            Ok(found)
        })
    }
}

fn apply(change: &Change, record: &mut StreamRecord) {
    record.place = change.place;
    let extent = &mut record.row.extent;
    extent.text_len = change.text_len;
    extent.events = change.events;
    extent.complete |= change.complete;
    if let Some(edge) = change.settled_to {
        (extent.settled_to, extent.settled_by_service) = (edge, change.settled_by_service);
    }
    extent.doubted = change.doubted.unwrap_or(extent.doubted);
    extent.read_to = change.read_to.unwrap_or(extent.read_to);
    extent.oldest = match (extent.oldest, change.oldest) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    extent.newest = extent.newest.max(change.newest);
    extent.newest_ingestion = extent.newest_ingestion.max(change.newest_ingestion);
}
