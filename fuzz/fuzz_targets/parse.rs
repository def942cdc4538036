//! Everything that reads bytes from disk, a path, a command line or a file of settings.
//!
//! The first byte chooses the reader. None may panic; what is written must be read as it was.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((which, bytes)) = input.split_first() else { return };
    cwlogs_mount::fuzzing::READERS[*which as usize % cwlogs_mount::fuzzing::READERS.len()](bytes);
});
