//! Streams in the catalogue: what listings bring, names, generations.

use super::naming::{Called, Rows, by_name, named, slug_for};
use super::rows::{Place, StreamRecord, stream_record};
use super::{
    BYTES, COMPLETE, COUNTERS, Catalogue, GROUPS, NAMES, NEXT_ID, NEXT_SEQ, ORDER, SLUGS, STREAMS, TAILS, TAKEN, USED,
    take_number,
};
use crate::model::{GroupId, LogStream, StreamId, Timestamp};
use crate::store::names::{Names, hash64};
use crate::store::row::{Extent, Named, StreamRow};
use crate::store::{StoreError, StoreErrorKind, Upserted};
use redb::{ReadableTable, Table, WriteTransaction};

struct Streams<'a, T>(&'a T);

impl<T: ReadableTable<u64, &'static [u8]>> Rows for Streams<'_, T> {
    type Record = StreamRecord;

    fn record(&self, id: u64) -> Result<Option<StreamRecord>, StoreError> {
        stream_record(self.0, id)
    }

    fn called(record: &StreamRecord) -> Called<'_> {
        Called { exact: &record.row.stream.name, slug: &record.row.slug, gone: record.row.gone }
    }
}

/// What a listing makes of a stream's row; `None` if it says that this is another generation.
///
/// Times only move outwards: listings lag and may contradict an earlier one.
fn merged(old: &LogStream, new: &LogStream) -> Option<LogStream> {
    let created = match (old.created.0, new.created.0) {
        (0, b) => Timestamp(b),
        (a, b) if b > a => return None,
        // Without one it is only a name. An older one is the stream that was deleted: its times aren't this one's.
        (a, b) if b < a && b != 0 => return Some(old.clone()),
        (a, _) => Timestamp(a),
    };
    let first_event = match (old.first_event, new.first_event) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    Some(LogStream {
        name: old.name.clone(),
        arn: if new.arn.is_empty() { old.arn.clone() } else { new.arn.clone() },
        created,
        first_event,
        last_event: old.last_event.max(new.last_event),
        last_ingestion: old.last_ingestion.max(new.last_ingestion),
    })
}

impl Catalogue {
    /// Writes what a listing of a group's streams brought; no commit if it brought nothing new.
    pub(crate) fn upsert_streams(&self, group: GroupId, listed: &[LogStream]) -> Result<Upserted, StoreError> {
        let known = self.read(|tx| {
            let (names, streams) = (tx.open_table(NAMES)?, tx.open_table(STREAMS)?);
            let streams = Streams(&streams);
            let mut rows = Vec::with_capacity(listed.len());
            for stream in listed {
                let Some(id) = by_name(&names, &streams, group.0, &stream.name)? else { return Ok(None) };
                match streams.record(id)? {
                    Some(record) if merged(&record.row.stream, stream).as_ref() == Some(&record.row.stream) => {
                        rows.push(record.row);
                    }
                    _ => return Ok(None),
                }
            }
            Ok(Some(rows))
        })?;
        if let Some(rows) = known {
            return Ok(Upserted { rows, ..Upserted::default() });
        }
        let upserted = self.write(|tx| {
            if tx.open_table(GROUPS)?.get(group.0)?.is_none() {
                return Err(StoreError::new(
                    StoreErrorKind::Missing,
                    format!("no log group has the number {}", group.0),
                ));
            }
            let mut upserted = Upserted::default();
            let mut tables = Tables::open(tx)?;
            for stream in listed {
                tables.upsert(group, stream, &mut upserted)?;
            }
            Ok(upserted)
        })?;
        self.listing_changed(group.0);
        Ok(upserted)
    }

    /// A stream's row, gone ones too.
    pub(crate) fn stream(&self, id: StreamId) -> Result<Option<StreamRecord>, StoreError> {
        self.read(|tx| stream_record(&tx.open_table(STREAMS)?, id.0))
    }

    /// The present generation of an exact name.
    pub(crate) fn stream_by_name(&self, group: GroupId, name: &str) -> Result<Option<StreamRow>, StoreError> {
        let found =
            self.read(|tx| by_name(&tx.open_table(NAMES)?, &Streams(&tx.open_table(STREAMS)?), group.0, name))?;
        match found {
            Some(id) => Ok(self.stream(StreamId(id))?.map(|r| r.row)),
            None => Ok(None),
        }
    }

    /// What a name without its ending means where listings name things so.
    pub(crate) fn stream_named(
        &self,
        group: GroupId,
        name: &str,
        listed: Names,
    ) -> Result<Named<StreamRow>, StoreError> {
        let found = self.read(|tx| {
            let streams = tx.open_table(STREAMS)?;
            named(&tx.open_table(NAMES)?, &tx.open_table(SLUGS)?, &Streams(&streams), group.0, name, listed)
        })?;
        Ok(found.map(|record| record.row))
    }

    /// Up to `max` streams after `seq`.
    pub(crate) fn streams_after(&self, group: GroupId, seq: u64, max: usize) -> Result<Vec<StreamRow>, StoreError> {
        self.read(|tx| {
            let (order, streams) = (tx.open_table(ORDER)?, tx.open_table(STREAMS)?);
            let streams = Streams(&streams);
            let mut rows = Vec::new();
            for found in order.range((group.0, seq.saturating_add(1))..=(group.0, u64::MAX))?.take(max) {
                rows.extend(streams.record(found?.1.value())?.map(|r| r.row));
            }
            Ok(rows)
        })
    }

    /// The complete streams of a group whose extents `is_wanted` takes.
    pub(crate) fn complete_streams(
        &self,
        group: GroupId,
        is_wanted: impl Fn(&Extent) -> bool,
    ) -> Result<Vec<(StreamId, String, Extent)>, StoreError> {
        self.read(|tx| {
            let (complete, streams) = (tx.open_table(COMPLETE)?, tx.open_table(STREAMS)?);
            let streams = Streams(&streams);
            let mut found = Vec::new();
            for key in complete.range((group.0, 0)..=(group.0, u64::MAX))? {
                let record = streams.record(key?.0.value().1)?;
                if let Some(record) = record.filter(|record| is_wanted(&record.row.extent)) {
                    found.push((record.row.id, record.row.stream.name, record.row.extent));
                }
            }
            Ok(found)
        })
    }

    /// Marks a stream as gone.
    pub(crate) fn forget_stream(&self, id: StreamId) -> Result<(), StoreError> {
        let group = self.write(|tx| {
            let mut tables = Tables::open(tx)?;
            match stream_record(&tables.streams, id.0)? {
                None => Err(StoreError::new(StoreErrorKind::Missing, format!("no log stream has the number {}", id.0))),
                Some(record) if record.row.gone => Ok(record.row.group),
                Some(record) => {
                    tables.order.remove((record.row.group.0, record.row.seq))?;
                    Ok(tables.retire(record)?.group)
                }
            }
        })?;
        self.listing_changed(group.0);
        Ok(())
    }

    /// Retires a stream and makes a new row of the same name and place, with nothing in it; `None` if it is gone already.
    pub(crate) fn renew_stream(&self, id: StreamId) -> Result<Option<StreamId>, StoreError> {
        let renewed = self.write(|tx| {
            let mut tables = Tables::open(tx)?;
            let Some(record) = stream_record(&tables.streams, id.0)?.filter(|record| !record.row.gone) else {
                return Ok(None);
            };
            let index = record.place.index;
            // Nothing of it is left; who has it open goes on with what it knows.
            let record =
                StreamRecord { row: StreamRow { extent: Extent::default(), ..record.row }, place: Place::default() };
            let old = tables.retire(record)?;
            let new = StreamRow { id: tables.next_id()?, extent: Extent::default(), gone: false, ..old };
            tables.insert(&StreamRecord { row: new.clone(), place: Place::default() })?;
            drop_tail(tx, id)?;
            tables.drop_bytes(tx, id, index)?;
            Ok(Some((new.id, new.group)))
        })?;
        if let Some((_, group)) = renewed {
            self.listing_changed(group.0);
        }
        Ok(renewed.map(|(new, _)| new))
    }
}

/// Takes a stream's live rows away.
fn drop_tail(tx: &WriteTransaction, id: StreamId) -> Result<(), StoreError> {
    tx.open_table(TAILS)?.retain_in((id.0, 0)..=(id.0, u64::MAX), |_, _| false)?;
    Ok(())
}

/// The tables that a stream's row stands in.
struct Tables<'a> {
    names: Table<'a, (u64, u64, u64), ()>,
    slugs: Table<'a, (u64, &'static str), u64>,
    order: Table<'a, (u64, u64), u64>,
    complete: Table<'a, (u64, u64), ()>,
    streams: Table<'a, u64, &'static [u8]>,
    counters: Table<'a, (u64, u64), u64>,
}

impl<'a> Tables<'a> {
    fn open(tx: &'a WriteTransaction) -> Result<Tables<'a>, StoreError> {
        Ok(Tables {
            names: tx.open_table(NAMES)?,
            slugs: tx.open_table(SLUGS)?,
            order: tx.open_table(ORDER)?,
            complete: tx.open_table(COMPLETE)?,
            streams: tx.open_table(STREAMS)?,
            counters: tx.open_table(COUNTERS)?,
        })
    }

    fn upsert(&mut self, group: GroupId, listed: &LogStream, upserted: &mut Upserted) -> Result<(), StoreError> {
        let present = by_name(&self.names, &Streams(&self.streams), group.0, &listed.name)?;
        let (slug, last) = match present {
            Some(id) => (String::new(), Some(id)),
            None => slug_for(&self.slugs, &Streams(&self.streams), group.0, &listed.name)?,
        };
        let old = match last {
            Some(id) => stream_record(&self.streams, id)?,
            None => None,
        };
        let record = match old {
            Some(record) if !record.row.gone => {
                if let Some(stream) = merged(&record.row.stream, listed) {
                    let changed = record.row.stream != stream;
                    let record = StreamRecord { row: StreamRow { stream, ..record.row }, ..record };
                    if changed {
                        self.streams.insert(record.row.id.0, record.encode().as_slice())?;
                    }
                    upserted.rows.push(record.row);
                    return Ok(());
                }
                let old = self.retire(record)?;
                let row = StreamRow { id: self.next_id()?, stream: listed.clone(), extent: Extent::default(), ..old };
                upserted.replaced.push((old.id, row.id));
                StreamRecord { row: StreamRow { gone: false, ..row }, place: Place::default() }
            }
            // It was only thought to be gone: the same creation time is the same stream, with the text that it had.
            Some(record) if listed.created.0 != 0 && record.row.stream.created == listed.created => {
                let stream = merged(&record.row.stream, listed).unwrap_or_else(|| listed.clone());
                StreamRecord { row: StreamRow { stream, gone: false, ..record.row }, ..record }
            }
            _ => StreamRecord {
                row: StreamRow {
                    id: self.next_id()?,
                    group,
                    stream: listed.clone(),
                    slug,
                    seq: take_number(&mut self.counters, (NEXT_SEQ, group.0), 1)?,
                    extent: Extent::default(),
                    gone: false,
                },
                place: Place::default(),
            },
        };
        self.insert(&record)?;
        upserted.new.push(record.row.id);
        upserted.rows.push(record.row);
        Ok(())
    }

    /// Puts a row in all its places.
    fn insert(&mut self, record: &StreamRecord) -> Result<(), StoreError> {
        let StreamRow { id, group, seq, stream, slug, extent, .. } = &record.row;
        self.names.insert((group.0, hash64(&stream.name), id.0), ())?;
        self.slugs.insert((group.0, slug.as_str()), id.0)?;
        self.order.insert((group.0, *seq), id.0)?;
        if extent.complete {
            self.complete.insert((group.0, id.0), ())?;
        }
        self.streams.insert(id.0, record.encode().as_slice())?;
        Ok(())
    }

    /// A stream's files are going to be removed.
    fn drop_bytes(&mut self, tx: &WriteTransaction, id: StreamId, index: u64) -> Result<(), StoreError> {
        let text = tx.open_table(USED)?.remove(id.0)?.map_or(0, |v| v.value().1);
        tx.open_table(TAKEN)?.insert(id.0, super::used::now().0 as u64)?;
        let sum = self.counters.get(BYTES)?.map_or(0, |v| v.value());
        self.counters.insert(BYTES, sum.saturating_sub(text + index))?;
        Ok(())
    }

    fn next_id(&mut self) -> Result<StreamId, StoreError> {
        Ok(StreamId(take_number(&mut self.counters, NEXT_ID, super::FIRST_ID)?))
    }

    /// Takes a row out of everything but its own table and the slugs.
    fn retire(&mut self, mut record: StreamRecord) -> Result<StreamRow, StoreError> {
        record.row.gone = true;
        let StreamRow { id, group, stream, .. } = &record.row;
        self.names.remove((group.0, hash64(&stream.name), id.0))?;
        self.complete.remove((group.0, id.0))?;
        self.streams.insert(id.0, record.encode().as_slice())?;
        Ok(record.row)
    }
}
