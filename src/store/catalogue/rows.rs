//! How rows are written: a version byte, the fields, a checksum. Pure.
//!
//! Version 1 is read too: it knew neither whose clock an edge was set by, nor whether the index says that a stream is complete.

use crate::model::{GroupId, LogClass, LogGroup, LogStream, StreamId, Timestamp};
use crate::store::bytes::{Take, put_option, put_signed, put_text, put_varint};
use crate::store::row::{Extent, GroupRow, StreamRow, Vouch};
use crate::store::{StoreError, StoreErrorKind};
use redb::ReadableTable;

const VERSION: u8 = 2;
/// The version before, which is read and never written.
const BEFORE: u8 = 1;

/// A group's row and what only the catalogue needs of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupRecord {
    pub(crate) row: GroupRow,
    pub(crate) gone: bool,
}

/// A stream's row and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamRecord {
    pub(crate) row: StreamRow,
    pub(crate) place: Place,
}

/// What of a stream is in its files; the rest is in live rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Committed bytes of the text file.
    pub(crate) text: u64,
    /// Committed bytes of the index file, its header included.
    pub(crate) index: u64,
    /// Committed events in the files.
    pub(crate) events: u64,
    /// Number of the first live row.
    pub(crate) tail_first: u64,
    /// Number of the next live row to come.
    pub(crate) tail_next: u64,
    /// The index says that the stream was read to its end.
    pub(crate) marked: bool,
}

impl GroupRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let GroupRow { id, group, slug, seq, walked_at, vouch } = &self.row;
        let mut out = vec![VERSION];
        put_varint(&mut out, id.0);
        put_text(&mut out, &group.name);
        put_text(&mut out, &group.arn);
        put_signed(&mut out, group.created.0);
        out.push(match group.class {
            LogClass::Standard => 0,
            LogClass::InfrequentAccess => 1,
            LogClass::Delivery => 2,
        });
        put_option(&mut out, group.retention_days.map(i64::from));
        put_varint(&mut out, group.stored_bytes);
        put_text(&mut out, slug);
        put_varint(&mut out, *seq);
        put_option(&mut out, walked_at.map(|t| t.0));
        put_option(&mut out, vouch.map(|v| v.from.0));
        put_option(&mut out, vouch.map(|v| v.to.0));
        out.push(u8::from(self.gone));
        out.push(u8::from(vouch.is_some_and(|v| v.by_service)));
        seal(out)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<GroupRecord, StoreError> {
        unseal(bytes).and_then(|(version, take)| GroupRecord::take(version, take)).ok_or_else(|| damaged("group"))
    }

    fn take(version: u8, mut take: Take<'_>) -> Option<GroupRecord> {
        let id = GroupId(take.varint()?);
        let group = LogGroup {
            name: take.text()?,
            arn: take.text()?,
            created: Timestamp(take.signed()?),
            class: match take.byte()? {
                0 => LogClass::Standard,
                1 => LogClass::InfrequentAccess,
                2 => LogClass::Delivery,
                _ => return None,
            },
            retention_days: match take.option()? {
                Some(days) => Some(u32::try_from(days).ok()?),
                None => None,
            },
            stored_bytes: take.varint()?,
        };
        let slug = take.text()?;
        let seq = take.varint()?;
        let walked_at = take.option()?.map(Timestamp);
        let span = take.option()?.zip(take.option()?);
        let gone = take.flag()?;
        let by_service = version > BEFORE && take.flag()?;
        let vouch = span.map(|(from, to)| Vouch { from: Timestamp(from), to: Timestamp(to), by_service });
        take.0.is_empty().then_some(GroupRecord { row: GroupRow { id, group, slug, seq, walked_at, vouch }, gone })
    }
}

/// The row of a stream.
pub(super) fn stream_record(
    streams: &impl ReadableTable<u64, &'static [u8]>,
    id: u64,
) -> Result<Option<StreamRecord>, StoreError> {
    streams.get(id)?.map(|row| StreamRecord::decode(row.value())).transpose()
}

impl StreamRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let StreamRow { id, group, stream, slug, seq, extent, gone } = &self.row;
        let mut out = vec![VERSION];
        put_varint(&mut out, id.0);
        put_varint(&mut out, group.0);
        put_text(&mut out, &stream.name);
        put_text(&mut out, &stream.arn);
        put_signed(&mut out, stream.created.0);
        for time in [stream.first_event, stream.last_event, stream.last_ingestion] {
            put_option(&mut out, time.map(|t| t.0));
        }
        put_text(&mut out, slug);
        put_varint(&mut out, *seq);
        put_varint(&mut out, extent.text_len);
        put_varint(&mut out, extent.events);
        out.push(u8::from(extent.complete));
        put_signed(&mut out, extent.settled_to.0);
        put_signed(&mut out, extent.read_to.0);
        for time in [extent.oldest, extent.newest, extent.newest_ingestion] {
            put_option(&mut out, time.map(|t| t.0));
        }
        out.push(u8::from(*gone));
        let Place { text, index, events, tail_first, tail_next, marked } = self.place;
        for number in [text, index, events, tail_first, tail_next] {
            put_varint(&mut out, number);
        }
        out.push(u8::from(extent.settled_by_service));
        out.push(u8::from(marked));
        out.push(u8::from(extent.doubted));
        seal(out)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<StreamRecord, StoreError> {
        unseal(bytes).and_then(|(version, take)| StreamRecord::take(version, take)).ok_or_else(|| damaged("stream"))
    }

    fn take(version: u8, mut take: Take<'_>) -> Option<StreamRecord> {
        let id = StreamId(take.varint()?);
        let group = GroupId(take.varint()?);
        let stream = LogStream {
            name: take.text()?,
            arn: take.text()?,
            created: Timestamp(take.signed()?),
            first_event: take.option()?.map(Timestamp),
            last_event: take.option()?.map(Timestamp),
            last_ingestion: take.option()?.map(Timestamp),
        };
        let slug = take.text()?;
        let seq = take.varint()?;
        let mut extent = Extent {
            text_len: take.varint()?,
            events: take.varint()?,
            complete: take.flag()?,
            settled_to: Timestamp(take.signed()?),
            settled_by_service: false,
            doubted: false,
            read_to: Timestamp(take.signed()?),
            oldest: take.option()?.map(Timestamp),
            newest: take.option()?.map(Timestamp),
            newest_ingestion: take.option()?.map(Timestamp),
        };
        let gone = take.flag()?;
        let mut place = Place {
            text: take.varint()?,
            index: take.varint()?,
            events: take.varint()?,
            tail_first: take.varint()?,
            tail_next: take.varint()?,
            marked: false,
        };
        if version > BEFORE {
            (extent.settled_by_service, place.marked) = (take.flag()?, take.flag()?);
            extent.doubted = take.flag()?;
        }
        let row = StreamRow { id, group, stream, slug, seq, extent, gone };
        take.0.is_empty().then_some(StreamRecord { row, place })
    }
}

/// Reads bytes as either row, with and without the checksum that keeps most nonsense out.
#[cfg(any(fuzzing, test))]
pub(crate) fn read_any(bytes: &[u8]) {
    for bytes in [bytes, &seal([&[VERSION], bytes].concat())] {
        if let Ok(record) = GroupRecord::decode(bytes) {
            assert_eq!(GroupRecord::decode(&record.encode()).ok(), Some(record));
        }
        if let Ok(record) = StreamRecord::decode(bytes) {
            assert_eq!(StreamRecord::decode(&record.encode()).ok(), Some(record));
        }
    }
}

/// A row of each kind without version and checksum, for the fuzz target to begin with.
#[cfg(any(fuzzing, test))]
pub(crate) fn any_rows() -> [Vec<u8>; 2] {
    let time = Timestamp(1_790_000_000_000);
    let group = GroupRow {
        id: GroupId(16),
        group: LogGroup {
            name: "/aws/lambda/x".into(),
            arn: "arn:x".into(),
            created: time,
            class: LogClass::Delivery,
            retention_days: Some(14),
            stored_bytes: 1 << 40,
        },
        slug: "aws-lambda-x".into(),
        seq: 1,
        walked_at: Some(time),
        vouch: Some(Vouch { from: time, to: time, by_service: true }),
    };
    let stream = StreamRow {
        id: StreamId(17),
        group: GroupId(16),
        stream: LogStream {
            name: "[$LATEST]3f2a".into(),
            arn: "arn:y".into(),
            created: time,
            first_event: Some(time),
            last_event: None,
            last_ingestion: Some(Timestamp(-1)),
        },
        slug: "latest-3f2a".into(),
        seq: 2,
        extent: Extent { text_len: 300, events: 3, complete: true, oldest: Some(time), ..Extent::default() },
        gone: true,
    };
    let rows = [
        GroupRecord { row: group, gone: false }.encode(),
        StreamRecord {
            row: stream,
            place: Place { text: 300, index: 90, events: 3, tail_first: 1, tail_next: 2, marked: true },
        }
        .encode(),
    ];
    rows.map(|row| row[1..row.len() - 4].to_vec())
}

fn seal(mut out: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// The version of a row, and its fields.
fn unseal(bytes: &[u8]) -> Option<(u8, Take<'_>)> {
    let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    let mut take = Take(body);
    let version = take.byte()?;
    (Take(crc).u32()? == crc32fast::hash(body) && (BEFORE..=VERSION).contains(&version)).then_some((version, take))
}

fn damaged(what: &str) -> StoreError {
    StoreError::new(StoreErrorKind::CatalogueLost, format!("the catalogue: a {what}'s row is damaged"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn stream_rows_round_trip_and_are_checked(
            name in any::<String>(), slug in any::<String>(), numbers in any::<[u64; 10]>(), times in any::<[Option<i64>; 6]>(),
            settled in any::<[i64; 3]>(), flags in any::<[bool; 5]>(), at in any::<prop::sample::Index>(),
        ) {
            let time = |i: usize| times[i].map(Timestamp);
            let record = StreamRecord {
                row: StreamRow {
                    id: StreamId(numbers[0]),
                    group: GroupId(numbers[1]),
                    stream: LogStream { arn: format!("arn:{name}"), name, created: Timestamp(settled[2]), first_event: time(0), last_event: time(1), last_ingestion: time(2) },
                    slug,
                    seq: numbers[2],
                    extent: Extent { text_len: numbers[3], events: numbers[4], complete: flags[0], settled_to: Timestamp(settled[0]), settled_by_service: flags[2], doubted: flags[4], read_to: Timestamp(settled[1]), oldest: time(3), newest: time(4), newest_ingestion: time(5) },
                    gone: flags[1],
                },
                place: Place { text: numbers[5], index: numbers[6], events: numbers[7], tail_first: numbers[8], tail_next: numbers[9], marked: flags[3] },
            };
            let mut bytes = record.encode();
            prop_assert_eq!(&StreamRecord::decode(&bytes).unwrap(), &record);
            let at = at.index(bytes.len());
            bytes[at] ^= 0x10;
            prop_assert_eq!(StreamRecord::decode(&bytes).unwrap_err().kind, StoreErrorKind::CatalogueLost);
        }

        #[test]
        fn group_rows_round_trip(name in any::<String>(), slug in any::<String>(), numbers in any::<[u64; 3]>(), days in any::<Option<u32>>(), vouch in any::<Option<(i64, i64, bool)>>(), walked in any::<Option<i64>>(), class in 0..3, gone in any::<bool>()) {
            let class = [LogClass::Standard, LogClass::InfrequentAccess, LogClass::Delivery][class as usize];
            let record = GroupRecord {
                row: GroupRow {
                    id: GroupId(numbers[0]),
                    group: LogGroup { name, arn: "a".into(), created: Timestamp(5), class, retention_days: days, stored_bytes: numbers[1] },
                    slug, seq: numbers[2], walked_at: walked.map(Timestamp),
                    vouch: vouch.map(|(a, b, by_service)| Vouch { from: Timestamp(a), to: Timestamp(b), by_service }),
                },
                gone,
            };
            prop_assert_eq!(GroupRecord::decode(&record.encode()).unwrap(), record);
        }

        #[test]
        fn rows_of_the_version_before_are_read(settled in any::<i64>(), gone in any::<bool>()) {
            let [_, stream] = any_rows();
            let mut record = StreamRecord::decode(&seal([&[VERSION][..], &stream].concat())).unwrap();
            (record.row.extent.settled_to, record.row.gone, record.place.marked) = (Timestamp(settled), gone, false);
            let mut bytes = record.encode();
            bytes.truncate(bytes.len() - 4 - 3);
            bytes[0] = BEFORE;
            prop_assert_eq!(StreamRecord::decode(&seal(bytes)).unwrap(), record);
        }

        #[test]
        fn any_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = StreamRecord::decode(&seal(bytes.clone()));
            prop_assert!(GroupRecord::decode(&bytes).is_err());
        }
    }
}
