//! A file that has just been completed grows while everybody looks: no zero byte, no stale size, nothing twice.

use super::{TAILS, display, numbered, shown, shown_after};
use crate::world::{Listener, World, now, output};
use std::time::{Duration, Instant};

const READER: &str = include_str!("reader.py");

fn line(i: usize) -> String {
    format!("{i:08} {:054x}", i * 0x9e37_79b9)
}

#[test]
fn no_reader_of_a_growing_file_sees_a_zero_or_a_stale_size() {
    let mut world = World::start();
    let old: Vec<String> = (0..3_000).map(line).collect();
    world.put_history("app", "s", &old);
    world.small_pages(40_000, Duration::from_millis(100));
    let mounted = world.mount(&["--poll-interval", "100ms"]);
    let path = display(&mounted, "app/s.log");
    let script = world.folder().join("reader.py");
    std::fs::write(&script, READER).unwrap();
    let growths = if super::full_size() { 1_000 } else { 160 };
    let total = old.len() + growths * 3;
    // They wait for the download, and see the first growths just behind it.
    let readers = ["pread", "stat", "mmap", "sendfile"].map(|how| {
        let command = format!("python3 {} {how} {path} {}", script.display(), total * 64);
        (how, std::thread::spawn(move || crate::world::shell(&format!("timeout 120 {command}"))))
    });
    let tail = Listener::start(&format!("tail -s 0.1 -n 10000 -f {path}"));
    let inotify_tail = Listener::start(&format!("coreutils tail -n 10000 -f {path}"));
    let started = Instant::now();
    for growth in 0..growths {
        let first = old.len() + growth * 3;
        let lines: Vec<String> = (first..first + 3).map(line).collect();
        let at = now();
        world.fake.put("app", "s", &lines.iter().map(|l| (at, l.as_str())).collect::<Vec<_>>());
        let due = started + Duration::from_millis(50) * (growth as u32 + 1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if growth == 20 {
            world.fake.change(|plan| {
                plan.page_bytes = 1 << 20;
                plan.latency_ms = 0;
            });
        }
    }
    for (how, reader) in readers {
        let output = reader.join().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        eprintln!("{how}: {}", text.trim());
        assert!(output.status.success(), "{how}: {} {text} {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let expected: Vec<String> = (0..total).map(line).collect();
    for (name, tail) in [("tail", &tail), ("uutils", &inotify_tail)] {
        let lines = shown_after(tail, total, Duration::from_secs(10));
        let differs = (0..total).find(|&i| lines.get(i) != expected.get(i));
        let near = differs.map(|i| &lines[i.saturating_sub(2).min(lines.len())..(i + 4).min(lines.len())]);
        assert!(lines == expected, "{name} shows {} lines of {total}, at {differs:?} {near:#?}", lines.len());
    }
}

/// Another process completes the file under a tail's eyes.
#[test]
fn a_tail_goes_on_over_completion() {
    let mut world = World::start();
    for stream in ["s", "t"] {
        world.put_history("app", stream, &(0..4_000).map(line).collect::<Vec<_>>());
    }
    world.small_pages(30_000, Duration::from_millis(150));
    let mounted = world.mount(&[]);
    // One by its end alone, one from the middle of what arrives: the whole is read for it.
    let file = |stream: &str| display(&mounted, &format!("app/{stream}.log"));
    let ends = TAILS.map(|tail| Listener::start(&format!("{tail} -n 5 -f {}", file("s"))));
    let names = TAILS.map(|tail| Listener::start(&format!("{tail} -n 5 -F {}", file("s"))));
    let wholes = TAILS.map(|tail| Listener::start(&format!("{tail} -n +3990 -f {}", file("t"))));
    let mut expected: Vec<String> = (3_995..4_000).map(line).collect();
    for tail in ends.iter().chain(&names) {
        assert_eq!(shown_after(tail, 5, Duration::from_secs(20)), expected);
    }
    let (s, fetch) = (file("s"), std::sync::mpsc::channel());
    let (done, fetched) = fetch;
    std::thread::spawn(move || done.send(output(&format!("cat {s} | head -n 4000 | md5sum"))));
    let mut added = 0;
    let mut put = || {
        for stream in ["s", "t"] {
            world.put_now("app", stream, &format!("new {added:05}"));
        }
        added += 1;
        std::thread::sleep(Duration::from_millis(300));
    };
    let started = Instant::now();
    while fetched.try_recv().is_err() {
        put();
        assert!(started.elapsed() < Duration::from_secs(60), "the download doesn't end");
    }
    (0..6).for_each(|_| put());
    expected.extend(numbered("new ", 0..added));
    let from_middle: Vec<String> = (3_989..4_000).map(line).chain(numbered("new ", 0..added)).collect();
    std::thread::sleep(Duration::from_millis(1_500));
    for (tails, expected) in [(&ends, &expected), (&names, &expected), (&wholes, &from_middle)] {
        for (tail, name) in tails.iter().zip(TAILS) {
            shown_after(tail, expected.len(), Duration::from_secs(15));
            assert_eq!(&shown(tail), expected, "{name}");
        }
    }
}
