//! The index beside a stream's text: what is known of each event but its bytes. Pure codec.
//!
//! A file is a header (magic, version, the stream's identity) and blocks back to back. A block holds up to [`BLOCK_EVENTS`] events,
//! delta-coded under a checksum; its own fixed-size header tells how many events and text bytes it stands for and the least and greatest
//! timestamp, so that the blocks of a time span are found by reading headers alone. Blocks are never changed once committed.
//!
//! A block without events is a mark: the stream was read to its end once, so the file knows by itself that it isn't a part only.

use super::bytes::{Take, put_signed, put_text, put_varint};
use crate::model::{LogEvent, Span, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

/// Most events in a block.
pub(crate) const BLOCK_EVENTS: usize = 256;
/// Text bytes after which a block ends, so that one block's text is read in one piece.
const BLOCK_TEXT: u64 = 1 << 20;
/// Length of a block's header, in bytes.
pub(crate) const BLOCK_HEADER: usize = 48;
/// The longest file header: two names of 512 characters and change.
pub(crate) const FILE_HEADER_MAX: usize = 8 * 1024;

const MAGIC: &[u8; 8] = b"cwlogsix";
const VERSION: u32 = 1;

/// What the index keeps of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) timestamp: Timestamp,
    pub(crate) ingestion_time: Timestamp,
    /// Length of the message in bytes.
    pub(crate) message_len: u32,
    /// The message ended in a newline, so the text has none of ours after it.
    pub(crate) own_newline: bool,
    /// xxh3 of the message.
    pub(crate) hash: u64,
}

impl Entry {
    pub(crate) fn of(event: &LogEvent) -> Entry {
        Entry {
            timestamp: event.timestamp,
            ingestion_time: event.ingestion_time,
            message_len: u32::try_from(event.message.len()).unwrap_or(u32::MAX),
            own_newline: event.message.ends_with('\n'),
            hash: xxh3_64(event.message.as_bytes()),
        }
    }

    /// Bytes of canonical text.
    pub(crate) fn text_len(&self) -> u64 {
        u64::from(self.message_len) + u64::from(!self.own_newline)
    }

    /// The event again, from its canonical text; `None` if the text isn't UTF-8.
    pub(crate) fn event(&self, text: &[u8]) -> Option<LogEvent> {
        let message = std::str::from_utf8(text.get(..self.message_len as usize)?).ok()?.to_owned();
        Some(LogEvent { timestamp: self.timestamp, ingestion_time: self.ingestion_time, message })
    }
}

/// What a block's header tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHead {
    /// Bytes after the header.
    pub(crate) payload_len: u32,
    pub(crate) events: u32,
    /// Bytes of canonical text that the events have together.
    pub(crate) text_len: u64,
    pub(crate) least: Timestamp,
    pub(crate) greatest: Timestamp,
    pub(crate) greatest_ingestion: Timestamp,
    payload_crc: u32,
}

impl BlockHead {
    /// `None` if the bytes aren't a block's header.
    pub(crate) fn decode(bytes: &[u8]) -> Option<BlockHead> {
        let (body, crc) = bytes.get(..BLOCK_HEADER)?.split_at(BLOCK_HEADER - 4);
        if Take(crc).u32()? != crc32fast::hash(body) {
            return None;
        }
        let mut take = Take(body);
        Some(BlockHead {
            payload_len: take.u32()?,
            events: take.u32()?,
            text_len: take.u64()?,
            least: Timestamp(take.i64()?),
            greatest: Timestamp(take.i64()?),
            greatest_ingestion: Timestamp(take.i64()?),
            payload_crc: take.u32()?,
        })
    }

    /// Whether it is no block of events, but the mark of a stream that was read to its end.
    pub(crate) fn is_mark(&self) -> bool {
        self.events == 0
    }

    /// Whether an event of the block may be stamped inside `span`.
    pub(crate) fn meets(&self, span: Span) -> bool {
        self.least < span.end && span.start <= self.greatest
    }

    /// The events; `None` if the payload isn't what was written.
    pub(crate) fn entries(&self, payload: &[u8]) -> Option<Vec<Entry>> {
        if payload.len() != self.payload_len as usize || crc32fast::hash(payload) != self.payload_crc {
            return None;
        }
        let mut take = Take(payload);
        let mut entries = Vec::with_capacity((self.events as usize).min(BLOCK_EVENTS));
        let mut at = self.least.0;
        for _ in 0..self.events {
            at = at.wrapping_add(take.signed()?);
            let ingestion = at.wrapping_add(take.signed()?);
            let length = take.varint()?;
            entries.push(Entry {
                timestamp: Timestamp(at),
                ingestion_time: Timestamp(ingestion),
                message_len: u32::try_from(length >> 1).ok()?,
                own_newline: length & 1 == 1,
                hash: take.u64()?,
            });
        }
        let fits = self.text_len == entries.iter().map(Entry::text_len).sum::<u64>();
        (take.0.is_empty() && fits).then_some(entries)
    }
}

/// Appends `entries` as blocks and returns their headers, in order.
pub(crate) fn encode_blocks(entries: &[Entry], out: &mut Vec<u8>) -> Vec<BlockHead> {
    let mut heads = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let mut text = 0;
        let fit = rest
            .iter()
            .take(BLOCK_EVENTS)
            .take_while(|entry| {
                text += entry.text_len();
                text <= BLOCK_TEXT
            })
            .count();
        let (block, after) = rest.split_at(fit.max(1));
        heads.push(encode_block(block, out));
        rest = after;
    }
    heads
}

fn encode_block(entries: &[Entry], out: &mut Vec<u8>) -> BlockHead {
    let least = entries.iter().map(|e| e.timestamp).min().unwrap_or_default();
    let mut payload = Vec::with_capacity(entries.len() * 16);
    let mut at = least.0;
    for entry in entries {
        put_signed(&mut payload, entry.timestamp.0.wrapping_sub(at));
        at = entry.timestamp.0;
        put_signed(&mut payload, entry.ingestion_time.0.wrapping_sub(at));
        put_varint(&mut payload, u64::from(entry.message_len) << 1 | u64::from(entry.own_newline));
        payload.extend_from_slice(&entry.hash.to_le_bytes());
    }
    let head = BlockHead {
        payload_len: payload.len() as u32,
        events: entries.len() as u32,
        text_len: entries.iter().map(Entry::text_len).sum(),
        least,
        greatest: entries.iter().map(|e| e.timestamp).max().unwrap_or_default(),
        greatest_ingestion: entries.iter().map(|e| e.ingestion_time).max().unwrap_or_default(),
        payload_crc: crc32fast::hash(&payload),
    };
    let from = out.len();
    out.extend_from_slice(&head.payload_len.to_le_bytes());
    out.extend_from_slice(&head.events.to_le_bytes());
    out.extend_from_slice(&head.text_len.to_le_bytes());
    for time in [head.least, head.greatest, head.greatest_ingestion] {
        out.extend_from_slice(&time.0.to_le_bytes());
    }
    out.extend_from_slice(&head.payload_crc.to_le_bytes());
    let crc = crc32fast::hash(&out[from..]);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&payload);
    head
}

/// Appends the mark of a stream that was read to its end.
pub(crate) fn encode_mark(out: &mut Vec<u8>) {
    encode_block(&[], out);
}

/// Decodes blocks that stand back to back, as a live row holds them.
pub(crate) fn decode_blocks(mut bytes: &[u8]) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let head = BlockHead::decode(bytes)?;
        let payload = bytes.get(BLOCK_HEADER..BLOCK_HEADER.checked_add(head.payload_len as usize)?)?;
        entries.extend(head.entries(payload)?);
        bytes = &bytes[BLOCK_HEADER + payload.len()..];
    }
    Some(entries)
}

/// Whose events an index file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: u64,
    pub(crate) group: String,
    pub(crate) group_created: Timestamp,
    pub(crate) stream: String,
    pub(crate) stream_created: Timestamp,
}

impl Identity {
    /// The header of this stream's index file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_varint(&mut body, self.id);
        put_text(&mut body, &self.group);
        put_signed(&mut body, self.group_created.0);
        put_text(&mut body, &self.stream);
        put_signed(&mut body, self.stream_created.0);
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(&body);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header and tells its length; `None` if there is none of this version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Identity, usize)> {
        let mut take = Take(bytes);
        if take.bytes(8)? != MAGIC || take.u32()? != VERSION {
            return None;
        }
        let len = take.u32()? as usize;
        let mut body = Take(take.bytes(len)?);
        if take.u32()? != crc32fast::hash(bytes.get(..16 + len)?) {
            return None;
        }
        let identity = Identity {
            id: body.varint()?,
            group: body.text()?,
            group_created: Timestamp(body.signed()?),
            stream: body.text()?,
            stream_created: Timestamp(body.signed()?),
        };
        Some((identity, 16 + len + 4))
    }

    /// The same stream; a creation time of 0 wasn't known yet when it was written.
    pub(crate) fn agrees(&self, other: &Identity) -> bool {
        let times = |a: Timestamp, b: Timestamp| a == b || a.0 == 0 || b.0 == 0;
        self.id == other.id
            && self.group == other.group
            && self.stream == other.stream
            && times(self.group_created, other.group_created)
            && times(self.stream_created, other.stream_created)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> impl Strategy<Value = Entry> {
        (any::<i64>(), any::<i64>(), 0u32..2_000_000, any::<bool>(), any::<u64>()).prop_map(
            |(timestamp, ingestion, len, own, hash)| Entry {
                timestamp: Timestamp(timestamp),
                ingestion_time: Timestamp(ingestion),
                message_len: len,
                own_newline: own && len > 0,
                hash,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn blocks_round_trip(entries in proptest::collection::vec(entry(), 0..600)) {
            let mut bytes = Vec::new();
            let heads = encode_blocks(&entries, &mut bytes);
            prop_assert!(heads.iter().all(|h| h.events as usize <= BLOCK_EVENTS));
            prop_assert!(heads.iter().all(|h| h.events == 1 || h.text_len <= BLOCK_TEXT));
            prop_assert_eq!(heads.iter().map(|h| h.text_len).sum::<u64>(), entries.iter().map(Entry::text_len).sum::<u64>());
            prop_assert_eq!(decode_blocks(&bytes), Some(entries));
        }

        #[test]
        fn a_changed_byte_is_noticed(entries in proptest::collection::vec(entry(), 1..20), at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut bytes = Vec::new();
            encode_blocks(&entries, &mut bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            prop_assert_eq!(decode_blocks(&bytes), None);
        }

        #[test]
        fn identities_round_trip(id in any::<u64>(), group in any::<String>(), stream in any::<String>(), a in any::<i64>(), b in any::<i64>()) {
            let identity = Identity { id, group, group_created: Timestamp(a), stream, stream_created: Timestamp(b) };
            let mut bytes = identity.encode();
            let len = bytes.len();
            bytes.extend_from_slice(b"blocks");
            prop_assert_eq!(Identity::decode(&bytes), Some((identity, len)));
            prop_assert_eq!(Identity::decode(&bytes[..len - 1]), None);
        }
    }

    /// Files of this version are out there: a change needs a new version number.
    #[test]
    fn the_format_is_pinned() {
        let event = LogEvent { timestamp: Timestamp(1_000), ingestion_time: Timestamp(1_500), message: "hi".into() };
        let mut bytes = Vec::new();
        encode_blocks(&[Entry::of(&event)], &mut bytes);
        assert_eq!(bytes.len(), BLOCK_HEADER + 12);
        assert_eq!(bytes[..16], [12, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[BLOCK_HEADER..BLOCK_HEADER + 4], [0, 0xe8, 0x07, 4]);
        assert_eq!(bytes[BLOCK_HEADER + 4..], xxh3_64(b"hi").to_le_bytes());
    }
}
