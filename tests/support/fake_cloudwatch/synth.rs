//! Events that are computed, never stored: gigabytes of stream in a few bytes.
//!
//! Event `i` of `count` is a line of exactly `line_bytes` bytes (no newline), its timestamp spread evenly over the range. Only ASCII
//! that needs no escape in JSON is used, so that a page is built by copying. The content depends on seed and index alone.

use super::key::Key;
use serde::{Deserialize, Serialize};

/// A run of computed events.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Synth {
    /// How many events.
    pub(crate) count: u64,
    /// Bytes of each message, without a newline; at least 32.
    pub(crate) line_bytes: usize,
    /// Timestamp of event 0, in ms.
    pub(crate) first: i64,
    /// First millisecond after the range over which the events are spread.
    pub(crate) end: i64,
    /// Ingestion time of every event in ms; without it, 500 ms after the event's own time.
    #[serde(default)]
    pub(crate) ingestion: Option<i64>,
    /// Makes one stream's text differ from another's.
    #[serde(default)]
    pub(crate) seed: u64,
    /// Where given, a part of the events stands denser than the rest.
    #[serde(default)]
    pub(crate) burst: Option<Burst>,
    /// The put's number; given by the account.
    #[serde(skip)]
    pub(crate) batch: u64,
}

/// Most of the events in little of the time. All are parts of the whole (0–1).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Burst {
    /// How many of the events.
    pub(crate) events: f64,
    /// In how much of the time.
    pub(crate) time: f64,
    /// Where it begins; at most `1 - time`.
    pub(crate) at: f64,
}

impl Burst {
    /// The offset of event `i` of `count` within `range` ms: evenly before the burst, within it, and after it.
    fn offset(&self, i: u64, count: u64, range: u64) -> u64 {
        let part = |of: u64, part: f64| (of as f64 * part) as u64;
        let (from, lasts) = (part(range, self.at), part(range, self.time));
        let (within, before) = (part(count, self.events), part(count, (1.0 - self.events) * self.at));
        let (first, past) = (before, before + within);
        let (start, span, done, all) = if i < first {
            (0, from, i, first)
        } else if i < past {
            (from, lasts, i - first, within)
        } else {
            (from + lasts, range - from - lasts, i - past, count - past)
        };
        start + (done as u128 * span as u128 / all.max(1) as u128) as u64
    }
}

const FILL: &[u8] =
    b" GET /api/v1/orders/items?page=3&sort=created status=200 bytes=5120 duration=12ms region=eu agent=curl/8.9 \
INFO handler finished request in time cache=hit shard=7 retry=0 user=alice session=5f3c9a queue=main depth=4 lock=free \
level=info component=checkout stage=payment provider=bank currency=EUR amount=42 result=accepted trace=on span=leaf";

impl Synth {
    /// Timestamp of event `i`, in ms.
    pub(crate) fn timestamp(&self, i: u64) -> i64 {
        let range = (self.end - self.first).max(0) as u64;
        let count = self.count.max(1);
        if let Some(burst) = &self.burst {
            return self.first + burst.offset(i, count, range) as i64;
        }
        let offset = match i.checked_mul(range) {
            Some(product) => product / count,
            None => (i as u128 * range as u128 / count as u128) as u64,
        };
        self.first + offset as i64
    }

    /// The place of event `i` in the order.
    pub(crate) fn key(&self, i: u64) -> Key {
        let timestamp = self.timestamp(i);
        let ingestion = self.ingestion.unwrap_or(timestamp + 500);
        Key { timestamp, ingestion, batch: self.batch, place: i }
    }

    /// The first index whose key is `bound` or behind it (behind it only, if `after`).
    pub(crate) fn seek(&self, bound: Key, after: bool) -> u64 {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let key = self.key(middle);
            if key < bound || after && key == bound {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The message of event `i`, appended.
    pub(crate) fn write(&self, i: u64, out: &mut Vec<u8>) {
        let start = out.len();
        let mut head = [b'0'; 12];
        decimal(i, &mut head);
        out.extend_from_slice(&head);
        out.push(b' ');
        let mut mark = [b'0'; 16];
        let mut hash = mix(self.seed ^ mix(i));
        for slot in &mut mark {
            *slot = b"0123456789abcdef"[(hash & 15) as usize];
            hash >>= 4;
        }
        out.extend_from_slice(&mark);
        let mut from = (hash as usize).wrapping_add(i as usize * 7) % FILL.len();
        while out.len() - start < self.line_bytes {
            let missing = self.line_bytes - (out.len() - start);
            let part = &FILL[from..FILL.len().min(from + missing)];
            out.extend_from_slice(part);
            from = 0;
        }
        out.truncate(start + self.line_bytes);
    }
}

/// Writes `value` into `digits`, which hold zeroes, right-aligned.
pub(crate) fn decimal(mut value: u64, digits: &mut [u8]) {
    for slot in digits.iter_mut().rev() {
        if value == 0 {
            break;
        }
        *slot = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Splitmix64's finaliser: a number as good as random of another.
pub(crate) fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_their_length_and_keys_rise() {
        let synth = Synth {
            count: 1000,
            line_bytes: 777,
            first: 5000,
            end: 5400,
            ingestion: None,
            seed: 3,
            burst: None,
            batch: 1,
        };
        let mut last = Key::MIN;
        for i in 0..1000 {
            let mut line = Vec::new();
            synth.write(i, &mut line);
            assert_eq!(line.len(), 777);
            assert!(line.iter().all(|b| (b' '..=b'~').contains(b) && *b != b'"' && *b != b'\\'));
            let key = synth.key(i);
            assert!(key > last && key.timestamp < 5400);
            assert_eq!((synth.seek(key, false), synth.seek(key, true)), (i, i + 1));
            last = key;
        }
    }

    #[test]
    fn a_burst_holds_its_part_and_keys_rise() {
        let burst = Some(Burst { events: 0.9, time: 0.01, at: 0.6 });
        let synth =
            Synth { count: 10_000, line_bytes: 32, first: 0, end: 100_000, ingestion: None, seed: 0, burst, batch: 1 };
        let keys: Vec<Key> = (0..10_000).map(|i| synth.key(i)).collect();
        assert!(keys.is_sorted() && keys[9_999].timestamp < 100_000);
        assert_eq!(keys.iter().filter(|key| (60_000..61_000).contains(&key.timestamp)).count(), 9_000);
        assert!((0..10_000).all(|i| synth.seek(keys[i as usize], false) == i));
    }
}
