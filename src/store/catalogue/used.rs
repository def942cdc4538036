//! Which streams have text on disk, how much, and when it was last wanted: what eviction chooses by.

use super::rows::{Place, stream_record};
use super::{BYTES, COMPLETE, COUNTERS, Catalogue, GROUPS, NEXT_ID, STREAMS, TAKEN, USED};
use crate::model::{StreamId, Timestamp};
use crate::store::StoreError;
use crate::store::row::Extent;
use redb::{ReadableTable, Table, WriteTransaction};
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

/// How long the disk may take to forget a removed file, in ms; a generous guess. What was taken away before the last of it is gone.
const LATELY: u64 = 600_000;

/// A stream with text on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) id: StreamId,
    /// Retention may have taken some of its events by now: the service might not give them again.
    pub(crate) at_risk: bool,
    /// When it was last opened or grew.
    pub(crate) at: Timestamp,
    /// Bytes of its text file.
    pub(crate) text: u64,
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

/// Sets what a stream's text takes on disk, and with it the sum of all.
pub(super) fn note_text(
    used: &mut Table<'_, u64, (u64, u64)>,
    counters: &mut Table<'_, (u64, u64), u64>,
    id: u64,
    text: u64,
    index_grown: u64,
) -> Result<(), StoreError> {
    let before = used.insert(id, (now().0 as u64, text))?.map_or(0, |v| v.value().1);
    add_bytes(counters, (text + index_grown) as i64 - before as i64)
}

fn add_bytes(counters: &mut Table<'_, (u64, u64), u64>, bytes: i64) -> Result<(), StoreError> {
    let sum = counters.get(BYTES)?.map_or(0, |v| v.value());
    counters.insert(BYTES, sum.saturating_add_signed(bytes))?;
    Ok(())
}

/// Writes when streams were last wanted.
pub(super) fn write_touched(tx: &WriteTransaction, touched: &HashMap<u64, Timestamp>) -> Result<(), StoreError> {
    if touched.is_empty() {
        return Ok(());
    }
    let mut used = tx.open_table(USED)?;
    for (id, at) in touched {
        let text = used.get(*id)?.map(|v| v.value().1);
        if let Some(text) = text {
            used.insert(*id, (at.0 as u64, text))?;
        }
    }
    Ok(())
}

/// A stream whose files were found by a rebuild.
pub(crate) struct Adopted {
    pub(crate) id: u64,
    pub(crate) place: Place,
    pub(crate) extent: Extent,
    /// Bytes of its text file; 0 if it has none.
    pub(crate) text_on_disk: u64,
}

impl Catalogue {
    /// Gives streams the files that a rebuild found.
    pub(crate) fn adopt(&self, adopted: &[Adopted]) -> Result<(), StoreError> {
        self.write(|tx| {
            let mut streams = tx.open_table(STREAMS)?;
            let mut complete = tx.open_table(COMPLETE)?;
            let mut used = tx.open_table(USED)?;
            let mut taken = tx.open_table(TAKEN)?;
            let mut counters = tx.open_table(COUNTERS)?;
            for one in adopted {
                let Some(mut record) = stream_record(&streams, one.id)? else { continue };
                record.place = one.place;
                record.row.extent = one.extent;
                streams.insert(one.id, record.encode().as_slice())?;
                if one.extent.complete {
                    complete.insert((record.row.group.0, one.id), ())?;
                }
                if one.text_on_disk > 0 {
                    note_text(&mut used, &mut counters, one.id, one.text_on_disk, 0)?;
                } else {
                    taken.insert(one.id, now().0 as u64)?;
                }
                add_bytes(&mut counters, one.place.index as i64)?;
            }
            Ok(())
        })
    }

    /// Sets the number that the next row gets.
    pub(crate) fn number_from(&self, id: u64) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.open_table(COUNTERS)?.insert(NEXT_ID, id)?;
            Ok(())
        })
    }

    /// A stream's text is wanted; written with the next commit.
    pub(crate) fn touch(&self, id: StreamId) {
        self.lock_touched().insert(id.0, now());
    }

    /// A stream's text file is there, as long as what was committed.
    pub(crate) fn text_is_back(&self, id: StreamId) -> Result<(), StoreError> {
        self.write(|tx| {
            let Some(record) = stream_record(&tx.open_table(STREAMS)?, id.0)? else { return Ok(()) };
            let mut used = tx.open_table(USED)?;
            note_text(&mut used, &mut tx.open_table(COUNTERS)?, id.0, record.place.text, 0)
        })
    }

    /// All of a stream's text that was taken away is back.
    pub(crate) fn text_is_whole(&self, id: StreamId) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.open_table(TAKEN)?.remove(id.0)?;
            Ok(())
        })
    }

    /// Whether all of a stream's text should be in its file: it was never taken away since it was last whole.
    pub(crate) fn text_is_there(&self, id: StreamId) -> Result<bool, StoreError> {
        self.read(|tx| Ok(tx.open_table(USED)?.get(id.0)?.is_some() && tx.open_table(TAKEN)?.get(id.0)?.is_none()))
    }

    /// The text files of these streams are going to be taken away.
    pub(crate) fn text_is_taken(&self, ids: &[StreamId]) -> Result<(), StoreError> {
        self.write(|tx| {
            let mut used = tx.open_table(USED)?;
            let mut taken = tx.open_table(TAKEN)?;
            let mut counters = tx.open_table(COUNTERS)?;
            for id in ids {
                let text = used.remove(id.0)?.map_or(0, |v| v.value().1);
                taken.insert(id.0, now().0 as u64)?;
                add_bytes(&mut counters, -(text as i64))?;
            }
            Ok(())
        })
    }

    /// Streams whose text was taken away lately and isn't back in any part.
    pub(crate) fn taken_lately(&self) -> Result<Vec<StreamId>, StoreError> {
        self.read(|tx| {
            let (used, taken) = (tx.open_table(USED)?, tx.open_table(TAKEN)?);
            let rows = || Ok::<_, StoreError>(taken.iter()?.map(|row| row.map(|(id, at)| (id.value(), at.value()))));
            let mut last = 0;
            for row in rows()? {
                last = last.max(row?.1);
            }
            let mut found = Vec::new();
            for row in rows()? {
                let (id, at) = row?;
                if at + LATELY >= last && used.get(id)?.is_none() {
                    found.push(StreamId(id));
                }
            }
            Ok(found)
        })
    }

    /// All streams with text on disk: what may be lost for good last, then the least recently used first.
    pub(crate) fn uses(&self) -> Result<Vec<Use>, StoreError> {
        let touched = self.lock_touched().clone();
        let now = now();
        let mut uses = self.read(|tx| {
            let (used, streams, groups) = (tx.open_table(USED)?, tx.open_table(STREAMS)?, tx.open_table(GROUPS)?);
            let mut retention: HashMap<u64, Option<u32>> = HashMap::new();
            let mut uses = Vec::new();
            for row in used.iter()? {
                let (id, value) = row?;
                let (at, text) = value.value();
                let Some(record) = stream_record(&streams, id.value())? else { continue };
                let group = record.row.group.0;
                let days = match retention.get(&group) {
                    Some(days) => *days,
                    None => {
                        let days = super::groups::get(&groups, group)?.and_then(|g| g.row.group.retention_days);
                        retention.insert(group, days);
                        days
                    }
                };
                let kept_since = days.map(|days| now - Duration::from_hours(24 * u64::from(days)));
                let at_risk = record.row.gone
                    || kept_since.zip(record.row.extent.oldest).is_some_and(|(since, oldest)| oldest <= since);
                let at = touched.get(&id.value()).copied().unwrap_or(Timestamp(at as i64));
                uses.push(Use { id: StreamId(id.value()), at_risk, at, text });
            }
            Ok(uses)
        })?;
        uses.sort_by_key(|u| (u.at_risk, u.at, u.id));
        Ok(uses)
    }
}
