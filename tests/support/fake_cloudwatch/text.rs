//! Text as it may come: UTF-8 mostly, but writers cut characters in two, and some servers hand on what they were given.

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::fmt;

/// A message, or a name as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    /// As a file shows it: U+FFFD stands for what is no text.
    pub(crate) shown: Box<str>,
    /// The inside of the JSON string that is sent, where that differs.
    pub(crate) json: Option<Box<[u8]>>,
}

impl Text {
    /// Text of UTF-8, except that a surrogate may be there as three bytes, which JSON then writes as an escape; and that any other bytes
    /// may, which are written as they are.
    pub(crate) fn of(bytes: &[u8]) -> Text {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return Text::from(text);
        }
        let (mut shown, mut json) = (String::new(), Vec::new());
        let mut rest = bytes;
        while !rest.is_empty() {
            let valid = rest.utf8_chunks().next().map_or("", |chunk| chunk.valid());
            shown.push_str(valid);
            json.extend_from_slice(inside(valid).as_bytes());
            rest = &rest[valid.len()..];
            let taken = match rest {
                [] => break,
                [0xed, second @ 0xa0..=0xbf, third @ 0x80..=0xbf, ..] => {
                    let unit = 0xd000 | u32::from(second & 0x3f) << 6 | u32::from(third & 0x3f);
                    json.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                    3
                }
                _ => {
                    let taken = rest.utf8_chunks().next().map_or(1, |chunk| chunk.invalid().len());
                    json.extend_from_slice(&rest[..taken]);
                    taken
                }
            };
            shown.push('\u{fffd}');
            rest = &rest[taken..];
        }
        Text { shown: shown.into(), json: Some(json.into()) }
    }

    /// The inside of the JSON string that is sent.
    pub(crate) fn json(&self) -> &[u8] {
        self.json.as_deref().unwrap_or(self.shown.as_bytes())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        let plain = text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\');
        Text { shown: text.into(), json: (!plain).then(|| inside(text).into_bytes().into()) }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text::from(text.as_str())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        struct Taken;
        impl Visitor<'_> for Taken {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text::of(bytes))
            }
        }
        deserializer.deserialize_bytes(Taken)
    }
}

fn inside(text: &str) -> String {
    let quoted = serde_json::to_string(text).expect("a string is always JSON");
    quoted[1..quoted.len() - 1].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_written_as_it_is() {
        let parts = |bytes: &[u8]| {
            let text = Text::of(bytes);
            (text.shown.to_string(), text.json().to_vec())
        };
        assert_eq!(parts("é\n".as_bytes()), ("é\n".into(), "é\\n".into()));
        assert_eq!(parts(b"a\xed\xa0\xbd\"b"), ("a\u{fffd}\"b".into(), br#"a\ud83d\"b"#.to_vec()));
        assert_eq!(parts(b"\xed\xbf\xbf\xf0\x9f\x98"), ("\u{fffd}\u{fffd}".into(), b"\\udfff\xf0\x9f\x98".to_vec()));
        let put: Text = serde_json::from_slice(br#""cut \ud83d""#).unwrap();
        assert_eq!((&*put.shown, put.json()), ("cut \u{fffd}", &br"cut \ud83d"[..]));
    }
}
