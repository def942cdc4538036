//! The end of a stream that is too big to fetch.

use super::{TAILS, display, full_size, shown, shown_after, us_east_1};
use crate::support::fake_cloudwatch::Synth;
use crate::world::{Listener, World, now};
use std::io::Read;
use std::time::{Duration, Instant};

/// Computed events until a minute ago.
fn synth(world: &World, group: &str, bytes: u64) {
    let line_bytes = 999;
    let end = now() - 60_000;
    let count = bytes / 1_000;
    world.fake.synth(
        group,
        "s",
        Synth { count, line_bytes, first: end - 86_400_000, end, ingestion: None, seed: 7, burst: None, batch: 0 },
    );
}

fn last_lines(world: &World, group: &str, lines: usize) -> Vec<String> {
    let text = String::from_utf8(world.fake.oracle_tail(group, "s", lines)).unwrap();
    text.lines().map(str::to_string).collect()
}

/// The last lines of 2 GB at once, then each event once, for a call an interval.
#[test]
fn a_tail_of_a_huge_stream_fetches_its_end() {
    let latency = Duration::from_millis(200);
    let mut world = World::with(us_east_1(latency));
    for group in 0..TAILS.len() {
        synth(&world, &format!("huge{group}"), 2_000_000_000);
    }
    let mounted = world.mount(&[]);
    for (number, tail) in TAILS.iter().enumerate() {
        let group = format!("huge{number}");
        world.fake.reset_calls();
        let started = Instant::now();
        let listener = Listener::start(&format!("{tail} -n 20 -f {}", display(&mounted, &format!("{group}/s.log"))));
        let mut expected = last_lines(&world, &group, 20);
        assert_eq!(expected.len(), 20);
        let lines = listener.wait_for(20, Duration::from_secs(10));
        let calls = world.fake.calls();
        assert_eq!(shown(&listener), expected, "{tail}");
        let first = lines[19].0.duration_since(started);
        assert!(first < latency * 5, "{tail}: the last lines took {first:?}");
        assert!(calls.total <= 4, "{tail}: {:?}", calls.by_call);
        let following = Instant::now();
        for i in 0..8 {
            world.put_now(&group, "s", &format!("event {i}"));
            expected.push(format!("event {i}"));
            std::thread::sleep(Duration::from_millis(700));
        }
        assert_eq!(shown_after(&listener, expected.len(), Duration::from_secs(10)), expected, "{tail}");
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(shown(&listener), expected, "{tail}");
        let intervals = following.elapsed().as_secs() + 2;
        let polls = world.fake.calls().total - calls.total;
        eprintln!("{tail}: {first:?}, {} calls, then {polls} in {:?}", calls.total, following.elapsed());
        assert!(polls <= intervals, "{tail}: {polls} calls in {:?}", following.elapsed());
    }
}

/// A `cat` beside it fetches the whole, and neither disturbs the other: over completion of the download and past it.
#[test]
fn a_whole_read_beside_a_tail_is_exact() {
    let mut world = World::with(us_east_1(Duration::from_millis(50)));
    let size = if full_size() { 2_000_000_000 } else { 60_000_000 };
    synth(&world, "huge", size);
    let mounted = world.mount(&[]);
    let path = mounted.file("huge/s.log");
    let tails = TAILS.map(|tail| Listener::start(&format!("{tail} -n 20 -f {}", path.display())));
    let mut expected = last_lines(&world, "huge", 20);
    for tail in &tails {
        assert_eq!(shown_after(tail, 20, Duration::from_secs(10)), expected);
    }
    let mut oracle = world.fake.oracle_pieces("huge", "s");
    let mut cat = std::process::Command::new("cat")
        .arg(&path)
        .stdout(std::process::Stdio::piped())
        .stdin(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut output = cat.stdout.take().unwrap();
    let mut total = 0;
    let mut buffer = Vec::new();
    let put = |i: usize, expected: &mut Vec<String>| {
        world.put_now("huge", "s", &format!("event {i}"));
        expected.push(format!("event {i}"));
    };
    let mut events = 0;
    for piece in oracle.by_ref() {
        // What comes while the whole is read; the oracle of the pieces was fixed before.
        if total / (size / 8) > events {
            events += 1;
            put(events as usize, &mut expected);
        }
        let wanted = piece.len().min((size - total) as usize);
        buffer.resize(wanted, 0);
        output.read_exact(&mut buffer).unwrap();
        assert!(buffer == piece[..wanted], "cat differs near byte {total}");
        total += wanted as u64;
        if total == size {
            break;
        }
    }
    drop(oracle);
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(cat.wait().unwrap().success());
    let came: Vec<&str> = rest.lines().collect();
    assert_eq!(came, expected[20..20 + came.len()], "what cat shows behind the computed events");
    for i in 100..103 {
        put(i, &mut expected);
        std::thread::sleep(Duration::from_millis(1_200));
    }
    for tail in &tails {
        assert_eq!(shown_after(tail, expected.len(), Duration::from_secs(10)), expected);
    }
    std::thread::sleep(Duration::from_millis(1_500));
    for tail in &tails {
        assert_eq!(shown(tail), expected);
    }
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(whole.len() as u64, world.fake.oracle_size("huge", "s").1);
    if !full_size() {
        assert!(whole == world.fake.oracle("huge", "s"));
    }
}
