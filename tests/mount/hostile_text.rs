//! Text that is none: half a surrogate pair, bytes that are no UTF-8. One message of that kind must not take its page along, nor one name.

use crate::support::fake_cloudwatch::{Fault, FaultKind, Which};
use crate::world::{Listener, World, output, read};
use std::time::Duration;

/// A writer cut an emoji in two; a file shows U+FFFD for the half.
const HALF: &[u8] = b"cut \xed\xa0\xbd";
/// Bytes that were never UTF-8.
const LATIN_1: &[u8] = b"caf\xe9 cr\xe8me";

#[test]
fn one_half_of_a_surrogate_pair_stops_no_tail() {
    const STREAMS: usize = 30;
    let mut world = World::start();
    for i in 0..STREAMS {
        world.put_history("g", &format!("s{i}"), &["first".into()]);
    }
    let mounted = world.mount(&[]);
    let tails: Vec<Listener> = (0..STREAMS)
        .map(|i| Listener::start(&format!("tail -n 1 -f {}", mounted.file(&format!("g/s{i}.log")).display())))
        .collect();
    for tail in &tails {
        assert_eq!(tail.wait_for(1, Duration::from_secs(20)).len(), 1, "every tail shows what was there");
    }
    // All are polled together now: what one is given comes with what the others are given.
    world.fake.put_bytes("g", "s7", &[(world.fake.now(), HALF), (world.fake.now(), LATIN_1)]);
    for round in 0..3 {
        for i in 0..STREAMS {
            world.put_now("g", &format!("s{i}"), &format!("round {round}"));
        }
        std::thread::sleep(Duration::from_millis(1_200));
    }
    for (i, tail) in tails.iter().enumerate() {
        let expected = if i == 7 { 6 } else { 4 };
        let lines = tail.wait_for(expected, Duration::from_secs(10));
        let lines: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
        let seven = ["first", "cut \u{fffd}", "caf\u{fffd} cr\u{fffd}me", "round 0", "round 1", "round 2"];
        let others = ["first", "round 0", "round 1", "round 2"];
        assert_eq!(lines, if i == 7 { &seven[..] } else { &others[..] }, "s{i}");
    }
    let cat = output(&format!("cat {}", mounted.file("g/s7.log").display()));
    assert_eq!(cat, "first\ncut \u{fffd}\ncaf\u{fffd} cr\u{fffd}me\nround 0\nround 1\nround 2\n");
}

#[test]
fn a_history_with_text_that_is_none_is_read_whole() {
    let mut world = World::start();
    let first = world.fake.now() - 3_600_000;
    let lines: Vec<Vec<u8>> = (0..5_000)
        .map(|i| match i % 100 {
            17 => [HALF, i.to_string().as_bytes()].concat(),
            18 => [LATIN_1, i.to_string().as_bytes()].concat(),
            _ => format!("line {i} 😀 \"quoted\"").into_bytes(),
        })
        .collect();
    let events: Vec<(i64, &[u8])> = lines.iter().zip(0..).map(|(line, i)| (first + i, line.as_slice())).collect();
    world.fake.put_bytes("g", "s", &events);
    world.small_pages(50_000, Duration::ZERO);
    let mounted = world.mount(&[]);
    let bytes = read(&mounted.file("g/s.log")).unwrap();
    assert!(bytes == world.fake.oracle("g", "s"));
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(text.lines().count(), 5_000);
    assert!(text.contains("cut \u{fffd}17\ncaf\u{fffd} cr\u{fffd}me18\n"));
}

#[test]
fn a_stream_whose_name_is_no_text_hides_no_other() {
    let mut world = World::start();
    for stream in ["a", "odd", "z"] {
        world.put_history("g", stream, &[format!("in {stream}")]);
    }
    let names = [("odd".to_owned(), b"odd \xed\xa0\xbd".to_vec())];
    world.fake.change(|plan| plan.written_names = names.into());
    let mounted = world.mount(&["--listing-ttl", "100ms", "--poll-interval", "200ms"]);
    assert_eq!(output(&format!("ls {}", mounted.file("g").display())), "a.log\nz.log\n");
    let tails =
        ["a", "z"].map(|s| Listener::start(&format!("tail -n 1 -f {}", mounted.file(&format!("g/{s}.log")).display())));
    for tail in &tails {
        assert_eq!(tail.wait_for(1, Duration::from_secs(10)).len(), 1);
    }
    for round in 0..10 {
        for stream in ["a", "odd", "z"] {
            world.put_now("g", stream, &format!("{stream} {round}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    for (tail, stream) in tails.iter().zip(["a", "z"]) {
        let lines = tail.wait_for(11, Duration::from_secs(10));
        let lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
        let rounds = (0..10).map(|round| format!("{stream} {round}"));
        assert_eq!(lines, std::iter::once(format!("in {stream}")).chain(rounds).collect::<Vec<_>>());
    }
    drop(tails);
    mounted.signal(libc::SIGTERM);
    let (_, log) = mounted.wait();
    let told = log.lines().filter(|line| line.contains("WARN") && line.contains(r"odd \xed\xa0\xbd")).count();
    assert_eq!(told, 1, "{log}");
}

#[test]
fn a_page_of_several_that_is_no_json_has_them_asked_one_by_one() {
    const STREAMS: usize = 5;
    let mut world = World::start();
    for i in 0..STREAMS {
        world.put_history("g", &format!("s{i}"), &["first".into()]);
    }
    let mounted = world.mount(&["--poll-interval", "200ms"]);
    let tails: Vec<Listener> = (0..STREAMS)
        .map(|i| Listener::start(&format!("tail -n 1 -f {}", mounted.file(&format!("g/s{i}.log")).display())))
        .collect();
    for tail in &tails {
        assert_eq!(tail.wait_for(1, Duration::from_secs(20)).len(), 1);
    }
    let which = Which { call: Some("FilterLogEvents".into()), group: Some("g".into()), stream: None };
    world.fake.change(|plan| plan.faults = vec![Fault { which, ..Fault::new(FaultKind::GarbledBody) }]);
    for i in 0..STREAMS {
        world.put_now("g", &format!("s{i}"), "second");
    }
    for (i, tail) in tails.iter().enumerate() {
        let lines: Vec<String> = tail.wait_for(2, Duration::from_secs(10)).into_iter().map(|(_, line)| line).collect();
        assert_eq!(lines, ["first", "second"], "s{i}");
    }
}
