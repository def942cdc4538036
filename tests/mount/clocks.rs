//! A machine whose clock is wrong: here it is the service's that is off, which is the same.

use crate::support::fake_cloudwatch::Plan;
use crate::world::{Listener, World, read};
use std::path::Path;
use std::time::Duration;

const MINUTE: i64 = 60_000;
/// By how much the service's clock is ahead of the machine's, in ms.
const OFFSETS: [i64; 3] = [-60 * MINUTE, -20 * MINUTE, 180 * MINUTE];

/// A world whose service goes by another clock, and three streams: all of it long ago, up to now, and stamped ahead.
fn off_by(offset: i64) -> World {
    let world = World::with(Plan { clock_offset_ms: offset, ..Plan::default() });
    let now = world.fake.now();
    for (stream, newest) in [("old", now - 24 * 60 * MINUTE), ("fresh", now), ("ahead", now + 90 * MINUTE)] {
        let lines: Vec<String> = (0..50).map(|i| format!("{stream} {i}")).collect();
        let events: Vec<(i64, &str)> =
            lines.iter().zip(0..).map(|(line, i)| (newest - (49 - i) * 1000, line.as_str())).collect();
        world.fake.put("g", stream, &events);
    }
    world
}

/// Beyond the poll interval: an earlier open doesn't serve for this one.
const LATER: Duration = Duration::from_millis(400);
const POLL: [&str; 2] = ["--poll-interval", "200ms"];

/// What differs is told in lines.
fn assert_complete(world: &World, stream: &str, file: &Path, when: &str) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (shown, expected) = (text(read(file).unwrap()), text(world.fake.oracle("g", stream)));
    assert_eq!(
        shown.lines().rev().take(5).collect::<Vec<_>>(),
        expected.lines().rev().take(5).collect::<Vec<_>>(),
        "{when}"
    );
    assert_eq!(shown, expected, "{when}");
}

#[test]
fn a_machine_with_a_wrong_clock_reads_everything_and_is_told_once() {
    for offset in OFFSETS {
        let mut world = off_by(offset);
        let mounted = world.mount(&["-v"]);
        for stream in ["old", "fresh", "ahead"] {
            let file = mounted.file(&format!("g/{stream}.log"));
            assert_complete(&world, stream, &file, &format!("off by {offset}"));
        }
        let calls = world.fake.calls();
        let refused = calls.errors.get("InvalidSignatureException").copied().unwrap_or_default();
        assert!(refused > 0, "the clock is off by more than the service takes: {:?}", calls.errors);
        mounted.signal(libc::SIGTERM);
        let (status, log) = mounted.wait();
        assert!(status.success(), "{log}");
        let way = if offset > 0 { "behind the service's" } else { "ahead of the service's" };
        let told = log.lines().filter(|line| line.contains("WARN") && line.contains(way)).count();
        assert_eq!(told, 1, "off by {offset}:\n{log}");
        assert!(!log.contains("credentials were refused"), "the credentials are good:\n{log}");
    }
}

#[test]
fn with_a_wrong_clock_a_later_read_shows_what_came() {
    for offset in OFFSETS {
        let mut world = off_by(offset);
        let mounted = world.mount(&POLL);
        let file = mounted.file("g/fresh.log");
        assert_complete(&world, "fresh", &file, &format!("off by {offset}"));
        for i in 0..3 {
            world.fake.put("g", "fresh", &[(world.fake.now(), &format!("later {i}"))]);
            std::thread::sleep(LATER);
            assert_complete(&world, "fresh", &file, &format!("put {i}, off by {offset}"));
        }
    }
}

#[test]
fn with_a_wrong_clock_tail_follows() {
    for offset in OFFSETS {
        let mut world = off_by(offset);
        let mounted = world.mount(&POLL);
        let tail = Listener::start(&format!("tail -n 2 -f {}", mounted.file("g/fresh.log").display()));
        let lines = tail.wait_for(2, Duration::from_secs(10));
        assert_eq!(lines.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>(), ["fresh 48", "fresh 49"]);
        for i in 0..3 {
            world.fake.put("g", "fresh", &[(world.fake.now(), &format!("later {i}"))]);
            let lines = tail.wait_for(3 + i, Duration::from_secs(10));
            assert_eq!(lines.last().unwrap().1, format!("later {i}"), "off by {offset}: {lines:?}");
        }
    }
}

#[test]
fn with_a_wrong_clock_a_second_mount_shows_what_came() {
    for offset in OFFSETS {
        let mut world = off_by(offset);
        for i in 0..3 {
            let mounted = world.mount(&POLL);
            for stream in ["old", "fresh"] {
                let file = mounted.file(&format!("g/{stream}.log"));
                assert_complete(&world, stream, &file, &format!("mount {i}, off by {offset}"));
                world.fake.put("g", stream, &[(world.fake.now(), &format!("later {i}"))]);
                std::thread::sleep(LATER);
                assert_complete(&world, stream, &file, &format!("put {i}, off by {offset}"));
                world.fake.put("g", stream, &[(world.fake.now(), &format!("between {i}"))]);
            }
            mounted.unmount();
        }
    }
}

#[test]
fn a_clock_that_is_set_while_the_mount_stands_hides_nothing() {
    let mut world = off_by(0);
    let mounted = world.mount(&POLL);
    let file = mounted.file("g/fresh.log");
    assert_complete(&world, "fresh", &file, "before");
    for offset in [45 * MINUTE, 90 * MINUTE] {
        world.fake.change(|plan| plan.clock_offset_ms = offset);
        world.fake.put("g", "fresh", &[(world.fake.now(), &format!("put at {offset}"))]);
        std::thread::sleep(LATER);
        assert_complete(&world, "fresh", &file, &format!("off by {offset}"));
    }
}
