//! An event's place in the service's order, and the tokens that stand at such a place.
//!
//! The order is timestamp, then ingestion time, then the put, then the place in the put. The four are packed into one number of
//! 192 bits (timestamp × 2^144, as the service's `eventId`), so that the decimal `eventId` sorts as the events do and a token
//! needs no table: `f/<id>/s` stands behind the event `id`. The highest bit of the place says that the token was given with an
//! empty page; it makes that token another one than the last page's, as the service does, and isn't part of the place.

/// Where an event stands in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// Milliseconds since the epoch.
    pub(crate) timestamp: i64,
    /// Milliseconds since the epoch.
    pub(crate) ingestion: i64,
    /// Number of the put, of the whole account.
    pub(crate) batch: u64,
    /// Place in the put, below 2^35.
    pub(crate) place: u64,
}

const PLACE_BITS: u32 = 36;
const DRAINED: u64 = 1 << (PLACE_BITS - 1);
const DIGITS: usize = 56;

impl Key {
    /// Before every event.
    pub(crate) const MIN: Key = Key { timestamp: 0, ingestion: 0, batch: 0, place: 0 };

    /// Before every event stamped `timestamp`, behind every one stamped earlier.
    pub(crate) fn at(timestamp: i64) -> Key {
        Key { timestamp: timestamp.max(0), ..Key::MIN }
    }

    /// Whether this is no event but a place before those of its millisecond, as scans that stop anywhere leave.
    pub(crate) fn is_between(self) -> bool {
        self.ingestion == 0 && self.batch == 0
    }

    /// The place right behind this one: as an exclusive upper bound it lets this event in.
    pub(crate) fn after(self) -> Key {
        Key { place: self.place + 1, ..self }
    }

    /// The place right before this one: as an exclusive lower bound it lets this event in.
    pub(crate) fn before(self) -> Key {
        if self.place > 0 {
            return Key { place: self.place - 1, ..self };
        }
        // No put has so many events: nothing lies between this and the first of the next put.
        let place = DRAINED - 1;
        match (self.batch, self.ingestion) {
            (0, 0) => Key { timestamp: (self.timestamp - 1).max(0), ingestion: (1 << 44) - 1, batch: u64::MAX, place },
            (0, _) => Key { ingestion: self.ingestion - 1, batch: u64::MAX, place, ..self },
            _ => Key { batch: self.batch - 1, place, ..self },
        }
    }

    /// The 56 decimal digits of the number, appended.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&Wide::of(self).digits());
    }

    /// The 56 decimal digits of the number.
    pub(crate) fn text(self) -> String {
        let mut out = Vec::with_capacity(DIGITS);
        self.write(&mut out);
        out.into_iter().map(char::from).collect()
    }

    fn parse(digits: &str) -> Option<Key> {
        Wide::parse(digits)?.key()
    }
}

/// A number of 192 bits: 32-bit words, most significant first.
struct Wide([u32; 6]);

impl Wide {
    fn of(key: Key) -> Wide {
        let ingestion = key.ingestion.max(0) as u128 & ((1 << 44) - 1);
        let place = key.place as u128 & ((1 << PLACE_BITS) - 1);
        // 144 bits: 44 of ingestion, 64 of the put's number, 36 of the place. The lower 128 hold all but 16 of ingestion's.
        let low = ingestion << 100 | (key.batch as u128) << PLACE_BITS | place;
        let high = (key.timestamp.max(0) as u64) << 16 | (ingestion >> 28) as u64;
        Wide([(high >> 32) as u32, high as u32, (low >> 96) as u32, (low >> 64) as u32, (low >> 32) as u32, low as u32])
    }

    fn key(&self) -> Option<Key> {
        let w = &self.0;
        let high = (w[0] as u64) << 32 | w[1] as u64;
        let low = (w[2] as u128) << 96 | (w[3] as u128) << 64 | (w[4] as u128) << 32 | w[5] as u128;
        Some(Key {
            timestamp: i64::try_from(high >> 16).ok()?,
            ingestion: ((high & 0xffff) << 28) as i64 | (low >> 100) as i64,
            batch: (low >> PLACE_BITS) as u64,
            place: low as u64 & ((1 << PLACE_BITS) - 1),
        })
    }

    fn digits(&self) -> [u8; DIGITS] {
        // Divided by 10^14, four times: a page has thousands of these.
        const CHUNK: u128 = 100_000_000_000_000;
        let w = &self.0;
        let mut limbs = [(w[0], w[1]), (w[2], w[3]), (w[4], w[5])].map(|(high, low)| (high as u64) << 32 | low as u64);
        let mut digits = [b'0'; DIGITS];
        for end in [56, 42, 28, 14] {
            let mut rest = 0u128;
            for limb in &mut limbs {
                let value = rest << 64 | *limb as u128;
                *limb = (value / CHUNK) as u64;
                rest = value % CHUNK;
            }
            super::synth::decimal(rest as u64, &mut digits[end - 14..end]);
        }
        digits
    }

    fn parse(digits: &str) -> Option<Wide> {
        if digits.len() != DIGITS || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let mut words = [0u32; 6];
        for digit in digits.bytes() {
            let mut carry = (digit - b'0') as u64;
            for word in words.iter_mut().rev() {
                let value = *word as u64 * 10 + carry;
                *word = value as u32;
                carry = value >> 32;
            }
        }
        Some(Wide(words))
    }
}

/// Which way a token of GetLogEvents leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To newer events.
    Forward,
    /// To older events.
    Backward,
}

/// A place between events with a direction: what a token means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// Which way.
    pub(crate) direction: Direction,
    /// The last event given that way.
    pub(crate) key: Key,
    /// Whether it was given with a page that found nothing more.
    pub(crate) drained: bool,
}

impl Token {
    /// `f/<id>/s` or `b/<id>/s`.
    pub(crate) fn text(self) -> String {
        let mut key = self.key;
        if self.drained {
            key.place |= DRAINED;
        }
        let letter = if self.direction == Direction::Forward { 'f' } else { 'b' };
        format!("{letter}/{}/s", key.text())
    }

    /// The token that [`Token::text`] wrote.
    pub(crate) fn parse(text: &str) -> Option<Token> {
        let (direction, rest) = match text.split_once('/')? {
            ("f", rest) => (Direction::Forward, rest),
            ("b", rest) => (Direction::Backward, rest),
            _ => return None,
        };
        let mut key = Key::parse(rest.strip_suffix("/s")?)?;
        let drained = key.place & DRAINED != 0;
        key.place &= !DRAINED;
        Some(Token { direction, key, drained })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ts_times_two_to_the_144_and_come_back() {
        let two_to_the_144 = Key { timestamp: 1, ingestion: 0, batch: 0, place: 0 };
        assert_eq!(two_to_the_144.text(), format!("{:0>56}", "22300745198530623141535718272648361505980416"));
        let key = Key { timestamp: 1_790_000_000_123, ingestion: 1_790_000_000_456, batch: u64::MAX - 5, place: 9_999 };
        assert_eq!(Key::parse(&key.text()), Some(key));
        for drained in [false, true] {
            let token = Token { direction: Direction::Backward, key, drained };
            assert_eq!(Token::parse(&token.text()), Some(token));
        }
        assert_eq!(Token::parse("f/12/s"), None);
    }

    #[test]
    fn digits_sort_as_keys() {
        let key = Key { timestamp: 5, ingestion: 7, batch: 9, place: 11 };
        let later = [
            Key { place: 12, ..key },
            Key { batch: 10, place: 0, ..key },
            Key { ingestion: 8, batch: 0, ..key },
            Key { timestamp: 6, ingestion: 0, ..key },
        ];
        for other in later {
            assert!(key < other && key.text() < other.text());
        }
    }
}
