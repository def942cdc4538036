//! What the fuzz target (`fuzz/`) may call: each reader of bytes that somebody else may have written. Only built for fuzzing and for tests.

use crate::config::{file, value};
use crate::render::Format;
use crate::store::{fuzzing as store, names};
use crate::tree::{CommandLine, tail_asks};

/// A reader; it must return, whatever it is given.
pub type Reader = fn(&[u8]);

/// All of them.
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        /// What the fuzz target does, for a moment: it must not rot.
        #[test]
        fn no_reader_panics(which in 0..READERS.len(), bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,60}") {
            READERS[which](&bytes);
            READERS[which](text.as_bytes());
        }
    }
}
