//! Events to bytes: what a file shows of each event.
//!
//! A pure function of the event and the two names: the same committed events give the same bytes on every machine and at every
//! time, which is what lets a rendition be thrown away and made again. Every event ends in a newline, so that events never run together.

use crate::model::{LogEvent, Timestamp};
use std::io::Write;

/// What a file shows of each event. The store keeps canonical bytes ([`Format::Message`]); the others are made from them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// The message, and a newline if it doesn't end in one.
    #[default]
    Message,
    /// `2026-11-23T10:00:00.123Z message`.
    Timestamped,
    /// A template with `{timestamp} {ingestion_time} {log_group} {log_stream} {message}`.
    Template(String),
    /// One JSON object an event: `timestamp`, `ingestionTime`, `message`; RFC 3339 times, UTC.
    JsonLines,
}

/// Another number for another way of rendering the same format: sizes that were measured under another one say nothing.
const RENDERING: u64 = 1;

/// The fields that a template may name.
const FIELDS: [&str; 5] = ["timestamp", "ingestion_time", "log_group", "log_stream", "message"];

impl Format {
    /// A number for this format, the same in every run; another one for whatever renders otherwise.
    pub fn number(&self) -> u64 {
        let name = match self {
            Format::Message => "message",
            Format::Timestamped => "timestamped",
            Format::Template(template) => &format!("template {template}"),
            Format::JsonLines => "json lines",
        };
        xxhash_rust::xxh3::xxh3_64_with_seed(name.as_bytes(), RENDERING)
    }

    /// What a person typed: `message`, `timestamped`, or a template with `{message}` in it. Braces around anything but a word stand
    /// for themselves.
    pub fn parse(text: &str) -> Result<Format, String> {
        match text {
            "message" => return Ok(Format::Message),
            "timestamped" => return Ok(Format::Timestamped),
            _ => {}
        }
        let mut shows_message = false;
        for part in Parts::new(text) {
            if let Part::Field(name) = part {
                if !FIELDS.contains(&name) {
                    return Err(format!(
                        "unknown field {{{name}}} in the format; known are {{{}}}",
                        FIELDS.join("} {")
                    ));
                }
                shows_message |= name == "message";
            }
        }
        if shows_message {
            Ok(Format::Template(text.to_owned()))
        } else {
            Err(format!("`{text}` is no format: give message, timestamped, or a template that contains {{message}}"))
        }
    }
}

/// Appends what `format` shows of `event`; always ends in a newline.
pub fn render(format: &Format, group: &str, stream: &str, event: &LogEvent, out: &mut Vec<u8>) {
    let before = out.len();
    match format {
        Format::Message => out.extend_from_slice(event.message.as_bytes()),
        Format::Timestamped => {
            push_time(event.timestamp, out);
            out.push(b' ');
            out.extend_from_slice(event.message.as_bytes());
        }
        Format::Template(template) => {
            for part in Parts::new(template) {
                match part {
                    Part::Field("timestamp") => push_time(event.timestamp, out),
                    Part::Field("ingestion_time") => push_time(event.ingestion_time, out),
                    Part::Field("log_group") => out.extend_from_slice(group.as_bytes()),
                    Part::Field("log_stream") => out.extend_from_slice(stream.as_bytes()),
                    Part::Field("message") => out.extend_from_slice(event.message.as_bytes()),
                    Part::Field(other) => {
                        out.push(b'{');
                        out.extend_from_slice(other.as_bytes());
                        out.push(b'}');
                    }
                    Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                }
            }
        }
        Format::JsonLines => {
            out.extend_from_slice(b"{\"timestamp\":\"");
            push_time(event.timestamp, out);
            out.extend_from_slice(b"\",\"ingestionTime\":\"");
            push_time(event.ingestion_time, out);
            out.extend_from_slice(b"\",\"message\":");
            // Writing a string into memory has no way to fail.
            let _ = serde_json::to_writer(&mut *out, &event.message);
            out.push(b'}');
        }
    }
    // What came before must not lend its newline to an event that shows as nothing.
    if out.len() == before || out.last() != Some(&b'\n') {
        out.push(b'\n');
    }
}

fn push_time(at: Timestamp, out: &mut Vec<u8>) {
    // Writing into memory has no way to fail.
    let _ = write!(out, "{at}");
}

enum Part<'a> {
    Text(&'a str),
    Field(&'a str),
}

/// A template cut into literal text and `{word}` fields.
struct Parts<'a>(&'a str);

impl<'a> Parts<'a> {
    fn new(template: &'a str) -> Parts<'a> {
        Parts(template)
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let mut from = 0;
        while let Some(open) = self.0[from..].find('{').map(|i| from + i) {
            let word = &self.0[open + 1..];
            let len = word.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
            if len > 0 && word.as_bytes().get(len) == Some(&b'}') {
                if open > 0 {
                    let text = &self.0[..open];
                    self.0 = &self.0[open..];
                    return Some(Part::Text(text));
                }
                self.0 = &word[len + 1..];
                return Some(Part::Field(&word[..len]));
            }
            from = open + 1;
        }
        Some(Part::Text(std::mem::take(&mut self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_a_number_of_its_own_for_ever() {
        let template = |text: &str| Format::parse(text).unwrap();
        let formats = [
            Format::Message,
            Format::Timestamped,
            Format::JsonLines,
            template("{message}"),
            template("{timestamp} {message}"),
        ];
        let numbers: std::collections::HashSet<u64> = formats.iter().map(Format::number).collect();
        assert_eq!(numbers.len(), formats.len());
        assert_eq!(Format::JsonLines.number(), 5_025_519_726_330_960_250, "it is written down in caches");
    }

    fn shown(format: &Format, message: &str) -> String {
        let event = LogEvent {
            timestamp: Timestamp(1_795_428_000_123),
            ingestion_time: Timestamp(1_795_428_001_000),
            message: message.into(),
        };
        let mut out = b"before\n".to_vec();
        render(format, "/g", "s", &event, &mut out);
        String::from_utf8(out).unwrap().strip_prefix("before\n").unwrap().to_owned()
    }

    #[test]
    fn a_message_gets_a_newline_only_if_it_has_none() {
        assert_eq!(shown(&Format::Message, "a"), "a\n");
        assert_eq!(shown(&Format::Message, "a\n"), "a\n");
        assert_eq!(shown(&Format::Message, "a\n\n"), "a\n\n");
        assert_eq!(shown(&Format::Message, ""), "\n");
    }

    #[test]
    fn times_are_utc_with_milliseconds() {
        assert_eq!(shown(&Format::Timestamped, "a"), "2026-11-23T10:00:00.123Z a\n");
        assert_eq!(shown(&Format::Timestamped, ""), "2026-11-23T10:00:00.123Z \n");
    }

    #[test]
    fn templates_fill_known_fields_and_keep_other_braces() {
        let format = Format::parse(r#"{"g":"{log_group}/{log_stream}",{} {ingestion_time} {message}"#).unwrap();
        assert_eq!(shown(&format, "m\n"), "{\"g\":\"/g/s\",{} 2026-11-23T10:00:01.000Z m\n");
    }

    #[test]
    fn an_event_in_a_template_that_begins_with_an_empty_message_is_a_line() {
        assert_eq!(shown(&Format::parse("{message}").unwrap(), "x"), "x\n");
        assert_eq!(shown(&Format::parse("{message}").unwrap(), ""), "\n");
    }

    #[test]
    fn json_lines_keep_the_message_exactly() {
        let text = shown(&Format::JsonLines, "a\n\u{0}\"\\é\n");
        assert_eq!(text.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["message"], "a\n\u{0}\"\\é\n");
        assert_eq!(value["timestamp"], "2026-11-23T10:00:00.123Z");
        assert_eq!(value["ingestionTime"], "2026-11-23T10:00:01.000Z");
        assert!(text.starts_with(r#"{"timestamp":"#));
    }

    #[test]
    fn parse_names_what_it_does_not_know() {
        assert_eq!(Format::parse("message"), Ok(Format::Message));
        assert_eq!(Format::parse("timestamped"), Ok(Format::Timestamped));
        assert!(Format::parse("{message} {level}").unwrap_err().contains("{level}"));
        assert!(Format::parse("json").unwrap_err().contains("json"));
        assert!(Format::parse("").is_err());
    }
}
