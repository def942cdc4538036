//! What the fuzz targets (`fuzz/`) may call: each reader of bytes that somebody else may have written. Only built for fuzzing and for
//! tests.

use crate::config::{file, value};
use crate::render::Format;
use crate::source::cloudwatch::fuzzing as service;
use crate::store::{fuzzing as store, names};
use crate::tree::{CommandLine, tail_asks};

/// A reader; it must return, whatever it is given.
pub type Reader = fn(&[u8]);

/// Those of bytes from disk, of paths, command lines and settings.
pub const READERS: &[Reader] = &[
    store::index,
    store::catalogue_rows,
    store::live_row,
    store::numbers,
    file_name,
    tail_arguments,
    settings,
    values,
];

/// The one of bytes from the network.
pub const ANSWERS: Reader = service::answer;

/// What each of [`READERS`] reads as it should be, to begin with: the first byte is its number.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts: &[(Reader, &[u8])] = &[
        (store::numbers, b"\x80\x01\x05hello\x01\x07"),
        (file_name, b"aws-lambda-x~3f2a19"),
        (file_name, "%2Faws%2Flambda%2f[$LATEST] \u{e9}\u{200b}..%2E".as_bytes()),
        (tail_arguments, b"tail\0-fqn\x0020\0--lines=4K\0--follow=name\0--\0f"),
        (tail_arguments, b"tail\0-4f\0f"),
        (settings, b"profile = \"p\"\nlog-stream = [\"a\", \"b\"]\npoll-interval = \"1s\"\ncache-size = \"10GiB\"\nrate = { get-log-events = 5 }\n"),
        (values, b"2026-11-23T10:00:00Z"),
        (values, b"get-log-events=25,filter-log-events=10"),
        (values, b"[\"a\", \"b\"]"),
        (values, b"10GiB"),
        (values, b"5%"),
        (values, b"0640"),
        (values, b"{timestamp} {message}"),
    ];
    let texts = texts.iter().map(|(reader, bytes)| (*reader, bytes.to_vec()));
    let number = |reader: Reader| READERS.iter().position(|other| std::ptr::fn_addr_eq(*other, reader));
    let numbered = texts.chain(store::seeds()).filter_map(|(reader, bytes)| {
        // There are few of them.
        let number = number(reader)? as u8;
        Some([&[number], bytes.as_slice()].concat())
    });
    numbered.collect()
}

/// Answers of the service as [`ANSWERS`] reads them: each is asked for by its own call, with success and without.
pub fn answer_seeds() -> Vec<Vec<u8>> {
    let with = |status: u8| service::SEEDS.iter().zip(0u8..).map(move |(body, call)| [&[call, status], *body].concat());
    with(0).chain(with(3)).chain(with(26)).collect()
}

fn text(bytes: &[u8]) -> &str {
    let valid = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
    std::str::from_utf8(&bytes[..valid]).unwrap_or_default()
}

/// A name looked up on the mount, and the names made of an exact one.
fn file_name(bytes: &[u8]) {
    let name = text(bytes);
    if let Some(exact) = names::exact_decode(name) {
        assert_eq!(names::exact_decode(&names::exact_encode(&exact)), Some(exact), "what was read can be written");
    }
    let (encoded, slug) = (names::exact_encode(name), names::slug_of(name));
    assert!(!encoded.contains('/') && !slug.contains('/'));
    assert!(slug != "." && slug != ".." && encoded != "." && encoded != "..");
    assert!(names::slug_with_hash(name).len() <= 255);
}

fn tail_arguments(bytes: &[u8]) {
    let arguments = text(bytes).split('\0').map(str::to_owned).collect();
    tail_asks("tail", &CommandLine { arguments, posixly_correct: bytes.len() % 2 == 1 });
}

fn settings(bytes: &[u8]) {
    drop(file::parse(text(bytes)));
}

fn values(bytes: &[u8]) {
    let text = text(bytes);
    drop((value::poll_interval(text), value::since(text), value::rate(text), value::mode(text)));
    drop((value::cache_size(text), value::min_free(text), value::stream_list(text), value::format(text)));
    drop(Format::parse(text));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;

    fn read(input: &[u8]) {
        let (which, bytes) = input.split_first().unwrap();
        READERS[usize::from(*which) % READERS.len()](bytes);
    }

    #[test]
    fn what_is_sound_is_read() {
        let seeds = seeds();
        assert!((0..READERS.len()).all(|n| seeds.iter().any(|seed| usize::from(seed[0]) == n)), "every reader has one");
        seeds.iter().for_each(|seed| read(seed));
        answer_seeds().iter().for_each(|seed| ANSWERS(seed));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        /// What the fuzz targets do, for a moment: they must not rot.
        #[test]
        fn no_reader_panics(which in any::<u8>(), bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,60}") {
            read(&[&[which], bytes.as_slice()].concat());
            read(&[&[which], text.as_bytes()].concat());
            ANSWERS(&bytes);
        }

        #[test]
        fn none_panics_where_something_sound_was_changed(which in any::<Index>(), at in any::<Index>(), byte in any::<u8>(), len in any::<Index>()) {
            for (seeds, reader) in [(seeds(), read as Reader), (answer_seeds(), ANSWERS)] {
                let mut seed = which.get(&seeds).clone();
                let at = at.index(seed.len());
                seed[at] = byte;
                reader(&seed);
                reader(&seed[..1 + len.index(seed.len())]);
            }
        }
    }
}
