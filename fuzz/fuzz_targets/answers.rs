//! Every answer of the service, read by the real client without a network.
//!
//! Two bytes choose call and status, the rest is the body. None may panic, and what it holds must not be left out.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| cwlogs_mount::fuzzing::ANSWERS(input));
