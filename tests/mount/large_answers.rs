//! Answers that are larger than any of the service's: of a broken proxy, or of an emulator whose pages end at a number of events alone.

use crate::support::fake_cloudwatch::{Fault, FaultKind, Synth, Which};
use crate::world::{Mounted, World, read};
use std::time::{Duration, Instant};

/// What a daemon may take at most while it gives up an answer of 64 MiB: a few such answers at a time, and itself.
const MOST_MEMORY: u64 = 400 << 20;

/// The most memory that the daemon ever held, in bytes.
fn peak(mounted: &Mounted) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", mounted.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

#[test]
fn an_answer_without_end_takes_neither_the_memory_nor_the_others() {
    let mut world = World::start();
    for stream in ["endless", "other"] {
        world.put_history("g", stream, &(0..100).map(|i| format!("{stream} {i}")).collect::<Vec<_>>());
    }
    let which = |call: &str| Which { call: Some(call.into()), group: Some("g".into()), stream: Some("endless".into()) };
    let fault = |call: &str| Fault { which: which(call), ..Fault::new(FaultKind::EndlessBody) };
    world.fake.change(|plan| plan.faults = vec![fault("GetLogEvents"), fault("FilterLogEvents")]);
    let mounted = world.mount(&[]);
    let started = Instant::now();
    let error = read(&mounted.file("g/endless.log")).unwrap_err();
    let waited = started.elapsed();
    assert!(waited < Duration::from_secs(25), "a read of it ended after {waited:?}: {error}");
    assert_eq!(read(&mounted.file("g/other.log")).unwrap(), world.fake.oracle("g", "other"));
    let peak = peak(&mounted);
    assert!(peak < MOST_MEMORY, "{} MiB", peak >> 20);
    // It comes back by itself.
    world.fake.change(|plan| plan.faults.clear());
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(read(&mounted.file("g/endless.log")).unwrap(), world.fake.oracle("g", "endless"));
}

#[test]
fn a_page_of_ten_thousand_large_events_is_read_in_parts() {
    let mut world = World::start();
    world.fake.change(|plan| plan.page_bytes = usize::MAX);
    let first = world.fake.now() - 3_600_000;
    let (count, line_bytes) = (15_000, 8_000);
    let synth =
        Synth { count, line_bytes, first, end: first + 60_000, ingestion: None, seed: 3, burst: None, batch: 1 };
    world.fake.synth("g", "large", synth);
    let mounted = world.mount(&[]);
    let bytes = read(&mounted.file("g/large.log")).unwrap();
    assert!(bytes == world.fake.oracle("g", "large"), "{} bytes", bytes.len());
    let peak = peak(&mounted);
    assert!(peak < 2 * MOST_MEMORY, "{} MiB", peak >> 20);
}
