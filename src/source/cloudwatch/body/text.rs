//! Text that a body holds, proper or not.
//!
//! JSON lets a string name half a surrogate pair (`"\ud83d"`, an emoji cut in two), which no UTF-8 has, and a body may hold bytes that
//! are no UTF-8. Both come from writers that cut text anywhere, and from emulators. One such message must not take its page along: it is
//! read with U+FFFD in place of what is no text. A name or a page token is never read so, since it has to be sent back as it was.

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::str::Utf8Chunk;

/// A byte that is in no UTF-8. In a body that is read by [`loosely`] it stands for each maximal subpart that is no UTF-8, so that the
/// bytes of a surrogate can only come from an escape.
const NO_TEXT: u8 = 0xff;

/// A string of a body.
pub(super) trait Text: for<'de> Deserialize<'de> {
    /// As a message: U+FFFD stands for what is no text.
    fn message(self) -> String;
    /// As a name: its bytes, if it isn't proper text.
    fn name(self) -> Result<String, Vec<u8>>;
}

impl Text for String {
    fn message(self) -> String {
        self
    }

    fn name(self) -> Result<String, Vec<u8>> {
        Ok(self)
    }
}

/// A string's bytes, its escapes resolved. An unpaired surrogate is three bytes, as UTF-8 would write it if it might.
pub(super) struct Bytes(Vec<u8>);

impl Text for Bytes {
    fn message(self) -> String {
        String::from_utf8(self.0).unwrap_or_else(|improper| decode(improper.as_bytes()))
    }

    fn name(self) -> Result<String, Vec<u8>> {
        String::from_utf8(self.0).map_err(|improper| improper.into_bytes())
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        struct Taken;
        impl Visitor<'_> for Taken {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        // Of strings, serde_json gives bytes without a look at their encoding, and unpaired surrogates with them.
        deserializer.deserialize_bytes(Taken)
    }
}

/// A value from a body whose strings need not be text. `None` if it isn't JSON, or a field that must be text is none.
pub(super) fn loosely<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(&marked(body)).ok()
}

/// The body with [`NO_TEXT`] for each maximal subpart that is no UTF-8.
fn marked(body: &[u8]) -> Cow<'_, [u8]> {
    if std::str::from_utf8(body).is_ok() {
        return Cow::Borrowed(body);
    }
    let mut all = Vec::with_capacity(body.len());
    for chunk in body.utf8_chunks() {
        all.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            all.push(NO_TEXT);
        }
    }
    Cow::Owned(all)
}

/// One U+FFFD for each maximal subpart that is no UTF-8 (the Unicode Standard, 3.9, and `String::from_utf8_lossy`), and one for a whole
/// surrogate.
fn decode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(chunk) = rest.utf8_chunks().next() {
        text.push_str(chunk.valid());
        let improper = &rest[chunk.valid().len()..];
        let taken = match improper {
            [] => break,
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..] => 3,
            _ => Utf8Chunk::invalid(&chunk).len(),
        };
        text.push(char::REPLACEMENT_CHARACTER);
        rest = &improper[taken..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(json: &[u8]) -> Option<String> {
        loosely::<Bytes>(json).map(Text::message)
    }

    fn string(inside: &[u8]) -> Vec<u8> {
        [b"\"", inside, b"\""].concat()
    }

    #[test]
    fn what_is_no_text_becomes_one_replacement_a_part() {
        for (inside, expected) in [
            (&b"plain \\u00e9\\n"[..], "plain é\n"),
            (br"\ud83d\ude00", "😀"),
            (br"\uD83D\uDE00", "😀"),
            (br"half \ud83d", "half \u{fffd}"),
            (br"\ude00 low", "\u{fffd} low"),
            (br"\ud83dx", "\u{fffd}x"),
            (br"\ud83d\n", "\u{fffd}\n"),
            (br"\ud83d\u0041", "\u{fffd}A"),
            (br"\ud83d\ud83d\ude00", "\u{fffd}😀"),
            (br"\ude00\ud83d", "\u{fffd}\u{fffd}"),
            (br"\ufffd", "\u{fffd}"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            // The bytes of a character that was cut short are one part.
            (b"\xf0\x9f\x98 cut", "\u{fffd} cut"),
            (b"\xe2\x82", "\u{fffd}"),
            // A surrogate's bytes are three parts where they are bytes, and one where they are an escape.
            (b"\xed\xa0\xbd", "\u{fffd}\u{fffd}\u{fffd}"),
            (b"\xed\xa0\xbd\\ude00", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            (b"\\ud83d\xed\xb8\x80", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            (b"\\ud83d\xff", "\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(message(&string(inside)).as_deref(), Some(expected), "{}", inside.escape_ascii());
        }
        assert_eq!(message(br#""\x""#), None);
        assert_eq!(message(br#""\ud83"#), None);
        assert_eq!(message(b"[1]"), None);
    }

    #[test]
    fn names_are_text_or_none() {
        let name = |inside: &[u8]| loosely::<Bytes>(&string(inside)).unwrap().name();
        assert_eq!(
            name(b"2026/11/23/[$LATEST]\\u00e9\xef\xbf\xbd\\ufffd"),
            Ok("2026/11/23/[$LATEST]é\u{fffd}\u{fffd}".into())
        );
        assert_eq!(name(br"a\ud83d"), Err(b"a\xed\xa0\xbd".to_vec()));
        assert_eq!(name(b"a\xe2\x82b"), Err(b"a\xffb".to_vec()));
    }

    /// A piece of a string, as it is written and as it is read.
    #[derive(Clone, Debug)]
    enum Piece {
        Char(char),
        Escape(u16),
        Bytes(Vec<u8>),
    }

    fn pieces() -> impl Strategy<Value = Vec<Piece>> {
        let unit = prop_oneof![any::<u16>(), 0xd800..=0xdfffu16, Just(0x41u16)];
        let bytes = prop_oneof![
            proptest::collection::vec(0x80..=0xffu8, 1..5),
            Just(b"\xed\xa0\xbd".to_vec()),
            Just(b"\xf0\x9f\x98".to_vec()),
            Just(b"\xc3".to_vec()),
        ];
        let piece = prop_oneof![
            any::<char>()
                .prop_filter("needs an escape", |c| !c.is_control() && *c != '"' && *c != '\\')
                .prop_map(Piece::Char),
            unit.prop_map(Piece::Escape),
            bytes.prop_map(Piece::Bytes),
        ];
        proptest::collection::vec(piece, 0..12)
    }

    /// The text, and whether it is proper: bytes side by side by the standard library, escapes side by side by its reader of UTF-16.
    fn reference(pieces: &[Piece]) -> (String, bool) {
        let (mut text, mut proper) = (String::new(), true);
        let mut rest = pieces;
        while let [first, ..] = rest {
            let is_escape = |piece: &Piece| matches!(piece, Piece::Escape(_));
            let run = rest.iter().take_while(|piece| is_escape(piece) == is_escape(first)).count();
            let (run, later) = rest.split_at(run);
            rest = later;
            let (mut bytes, mut units) = (Vec::new(), Vec::new());
            for piece in run {
                match piece {
                    Piece::Char(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    Piece::Bytes(more) => bytes.extend_from_slice(more),
                    Piece::Escape(unit) => units.push(*unit),
                }
            }
            proper &= std::str::from_utf8(&bytes).is_ok() && String::from_utf16(&units).is_ok();
            text += &String::from_utf8_lossy(&bytes);
            text += &String::from_utf16_lossy(&units);
        }
        (text, proper)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn messages_are_read_as_the_standard_library_would(pieces in pieces()) {
            let mut inside = Vec::new();
            for piece in &pieces {
                match piece {
                    Piece::Char(c) => inside.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    Piece::Escape(unit) => inside.extend_from_slice(format!("\\u{unit:04x}").as_bytes()),
                    Piece::Bytes(bytes) => inside.extend_from_slice(bytes),
                }
            }
            let (expected, proper) = reference(&pieces);
            prop_assert_eq!(message(&string(&inside)), Some(expected.clone()));
            let name = loosely::<Bytes>(&string(&inside)).unwrap().name().ok();
            prop_assert_eq!(name, proper.then_some(expected));
        }
    }
}
