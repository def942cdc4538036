//! The store's readers of bytes from disk, for `crate::fuzzing`.
//!
//! Each reads the bytes as they are and once more under checksums that fit them: no chance finds its way past those.

use super::bytes::Take;
use super::catalogue::{any_rows, read_rows};
use super::index::{BLOCK_HEADER, Entry, Identity, decode_blocks, encode_blocks};
use super::live::TailRow;
use crate::model::{LogEvent, Timestamp};

/// A reader that [`seeds`] are for.
type Seeded = fn(&[u8]);

/// An index file's header, and blocks.
pub(crate) fn index(bytes: &[u8]) {
    for bytes in [bytes, &sealed_identity(bytes)] {
        if let Some((identity, _)) = Identity::decode(bytes) {
            let again = identity.encode();
            assert_eq!(Identity::decode(&again), Some((identity, again.len())));
        }
    }
    for bytes in [bytes, &sealed_block(bytes)] {
        if let Some(entries) = decode_blocks(bytes) {
            let mut again = Vec::new();
            encode_blocks(&entries, &mut again);
            assert_eq!(decode_blocks(&again), Some(entries));
        }
    }
}

pub(crate) fn catalogue_rows(bytes: &[u8]) {
    read_rows(bytes);
}

pub(crate) fn live_row(bytes: &[u8]) {
    for bytes in [bytes, &with_crc(bytes.to_vec()), &sealed_row(bytes)] {
        if let Some(row) = TailRow::decode(bytes, 7) {
            let again = TailRow::encode(&row.entries, &row.text);
            assert!(TailRow::decode(&again, 7).is_some_and(|r| r.entries == row.entries && r.text == row.text));
        }
    }
}

pub(crate) fn numbers(bytes: &[u8]) {
    let mut take = Take(bytes);
    while !take.0.is_empty() {
        let read = (take.varint().is_some(), take.signed().is_some(), take.option().is_some(), take.text().is_some());
        if read == (false, false, false, false) {
            return;
        }
    }
}

fn with_crc(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// `body` as an index file's header.
fn sealed_identity(body: &[u8]) -> Vec<u8> {
    let time = Timestamp::EPOCH;
    let empty =
        Identity { id: 0, group: String::new(), group_created: time, stream: String::new(), stream_created: time };
    // Magic and version.
    let mut out = empty.encode()[..12].to_vec();
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
    with_crc(out)
}

/// A block's header with its lengths and checksums set right, and what follows as its payload.
fn sealed_block(bytes: &[u8]) -> Vec<u8> {
    let Some((head, payload)) = bytes.split_at_checked(BLOCK_HEADER) else { return Vec::new() };
    let mut head = head.to_vec();
    head[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    head.truncate(BLOCK_HEADER - 8);
    head.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    [&with_crc(head), payload].concat()
}

/// A live row of one block, whose text is the last bytes: as many as the block's header says.
fn sealed_row(bytes: &[u8]) -> Vec<u8> {
    let len = Take(bytes.get(8..).unwrap_or_default()).u64().and_then(|len| usize::try_from(len).ok());
    let Some((block, text)) = len.and_then(|len| bytes.split_at_checked(bytes.len().checked_sub(len)?)) else {
        return Vec::new();
    };
    let block = sealed_block(block);
    with_crc([&(block.len() as u32).to_le_bytes(), block.as_slice(), text].concat())
}

/// What was written by this program, to begin with: an index, the same without its checks, live rows.
pub(crate) fn seeds() -> Vec<(Seeded, Vec<u8>)> {
    let event = |at: i64, message: &str| LogEvent {
        timestamp: Timestamp(1_790_000_000_000 + at),
        ingestion_time: Timestamp(1_790_000_000_007),
        message: message.into(),
    };
    let events = [event(0, "GET /index.html 200"), event(-60_000, "late\n"), event(7_200_000, "")];
    let entries: Vec<Entry> = events.iter().map(Entry::of).collect();
    let text: Vec<u8> = b"GET /index.html 200\nlate\n\n".to_vec();
    let mut blocks = Vec::new();
    encode_blocks(&entries, &mut blocks);
    let time = Timestamp(1_780_000_000_000);
    let identity = Identity {
        id: 77,
        group: "/aws/lambda/x".into(),
        group_created: time,
        stream: "[$LATEST]1".into(),
        stream_created: time,
    };
    let header = identity.encode();
    let [group, stream] = any_rows();
    vec![
        (catalogue_rows, group),
        (catalogue_rows, stream),
        (index, header[16..header.len() - 4].to_vec()),
        (index, header),
        (index, blocks.clone()),
        (live_row, TailRow::encode(&entries, &text)),
        (live_row, [blocks, text].concat()),
    ]
}
