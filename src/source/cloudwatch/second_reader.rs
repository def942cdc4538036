//! A second reader of text that is none, for tests and fuzz targets: it makes strict JSON of a body before anything is read, one byte
//! after another, where `body::text` reads first and decodes then.

use serde_json::Value;

/// Stands for each part of a string that is no text.
pub(crate) const MARK: char = '\u{10fffe}';

/// The body with [`MARK`] for each part of a string that is no text. `None` where it holds the mark already, or a raw control character
/// in a string: JSON has none there, and readers differ in where they take one.
pub(crate) fn strict(body: &[u8]) -> Option<Vec<u8>> {
    let lower = body.to_ascii_lowercase();
    let holds = |bytes: &[u8]| lower.windows(bytes.len()).any(|window| window == bytes);
    if holds(MARK.to_string().as_bytes()) || holds(br"\udbff\udffe") {
        return None;
    }
    let (mut all, mut at, mut inside) = (Vec::with_capacity(body.len()), 0, false);
    while let Some(byte) = body.get(at) {
        let rest = &body[at..];
        let (taken, is_text) = match byte {
            b'"' => {
                inside = !inside;
                (1, true)
            }
            b'\\' if inside => match (unit(rest), rest.get(6..).and_then(unit)) {
                (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (12, true),
                (Some(0xd800..=0xdfff), _) => (6, false),
                _ => (2.min(rest.len()), true),
            },
            0..0x20 if inside => return None,
            0x80.. if inside => match rest[..rest.len().min(4)].utf8_chunks().next() {
                Some(chunk) if chunk.valid().is_empty() => (chunk.invalid().len(), false),
                chunk => (chunk.and_then(|chunk| chunk.valid().chars().next()).map_or(1, char::len_utf8), true),
            },
            _ => (1, true),
        };
        if is_text {
            all.extend_from_slice(&rest[..taken]);
        } else {
            all.extend_from_slice(MARK.to_string().as_bytes());
        }
        at += taken;
    }
    Some(all)
}

/// The value of the escape `\uXXXX` that `text` begins with.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.get(..6)?.strip_prefix(br"\u")?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Strict JSON as messages are read: U+FFFD for each mark.
pub(crate) fn replaced(strict: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(strict).replace(MARK, "\u{fffd}").into_bytes()
}

/// Whether the page has to fail, for a token that is no text; `None` if that depends on more than is looked at here: on keys that are no
/// text, which matter where they are looked at.
pub(crate) fn must_fail(page: &Value) -> Option<bool> {
    let tokens =
        ["nextToken", "nextForwardToken", "nextBackwardToken"].map(|key| page.get(key).and_then(Value::as_str));
    let token_is_none = tokens.iter().flatten().any(|token| token.contains(MARK));
    (!has_marked_key(page)).then_some(token_is_none)
}

fn has_marked_key(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains(MARK) || has_marked_key(value)),
        Value::Array(items) => items.iter().any(has_marked_key),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_json_is_made_of_any() {
        let mark = |text: &str| text.replace('?', &MARK.to_string()).into_bytes();
        assert_eq!(
            strict(br#"{"a\ud83d\ude00":"\ud83d","b":"x\ude00"}"#),
            Some(mark(r#"{"a\ud83d\ude00":"?","b":"x?"}"#))
        );
        assert_eq!(strict(b"[\"\xff \xe2\x82 \xed\xa0\xbd\"]"), Some(mark(r#"["? ? ???"]"#)));
        assert_eq!(strict(b"[\n\"\n\"]"), None);
        assert_eq!(strict(MARK.to_string().as_bytes()), None);
    }
}
