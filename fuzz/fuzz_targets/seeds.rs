//! Writes what each reader reads as it should be into `corpus/`, for the other two to begin with. It is no fuzz target, but is built as
//! one: only then does the library have its readers open.

#![no_main]

use std::path::Path;

fn write(target: &str, seeds: &[Vec<u8>]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&folder).expect("a folder for the seeds");
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:02}")), seed).expect("a seed is written");
    }
}

fn write_all() {
    write("parse", &cwlogs_mount::fuzzing::seeds());
    write("answers", &cwlogs_mount::fuzzing::answer_seeds());
    std::process::exit(0);
}

libfuzzer_sys::fuzz_target!(init: write_all(), |_input| ());
