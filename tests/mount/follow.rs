//! Following: `tail -f` and `tail -F` of three makers, `less +F`, inotify; each event once, in order, soon, for few calls.
//!
//! `CWLOGS_TEST_FULL=1` runs the large sizes: 1,000 events over 60 s, and a `cat` of 2 GB beside a tail (use a release build).

use crate::support::fake_cloudwatch::{Plan, Quotas};
use crate::world::{Listener, Mounted, World, now};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

mod growth;
mod huge;
mod looking;
mod terminal;
mod watching;

/// GNU, busybox and uutils. The last waits for inotify and never polls a regular file.
const TAILS: [&str; 3] = ["tail -s 0.1", "busybox tail", "coreutils tail"];

fn full_size() -> bool {
    std::env::var_os("CWLOGS_TEST_FULL").is_some()
}

/// Lines `prefix00000` and so on.
fn numbered(prefix: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|i| format!("{prefix}{i:05}")).collect()
}

/// What a tail showed of some files, without the headings between them.
fn shown(tail: &Listener) -> Vec<String> {
    let lines = tail.lines().into_iter().map(|(_, line)| line);
    lines.filter(|line| !line.is_empty() && !line.starts_with("==> ")).collect()
}

/// Waits until a tail has shown so many lines, and a little longer for what would be too many.
fn shown_after(tail: &Listener, count: usize, time: Duration) -> Vec<String> {
    let started = Instant::now();
    while shown(tail).len() < count && started.elapsed() < time {
        std::thread::sleep(Duration::from_millis(20));
    }
    shown(tail)
}

/// The time at `part` of sorted ones.
fn percentile(times: &mut [Duration], part: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * part).round() as usize]
}

/// When each line of `bytes` became readable: by a pread loop on an open descriptor, or by the size that stat tells.
struct Watch(std::thread::JoinHandle<Vec<Instant>>);

impl Watch {
    /// Of `count` lines behind what is there now.
    fn start(path: &Path, bytes: u64, count: usize, by_size: bool) -> Watch {
        let file = std::fs::File::open(path).unwrap();
        let base = file.metadata().unwrap().len();
        let path = path.to_path_buf();
        let deadline = Instant::now() + Duration::from_secs(120);
        Watch(std::thread::spawn(move || {
            let mut seen = Vec::new();
            let mut buffer = vec![0; 1 << 16];
            while seen.len() < count && Instant::now() < deadline {
                let at = base + seen.len() as u64 * bytes;
                let end = if by_size {
                    std::fs::metadata(&path).unwrap().len()
                } else {
                    at + file.read_at(&mut buffer, at).unwrap() as u64
                };
                let now = Instant::now();
                seen.resize(((end - base) / bytes) as usize, now);
                std::thread::sleep(Duration::from_millis(5));
            }
            seen
        }))
    }
}

/// Five streams in one group, followed by six tails at once and by six more on one of them; one stream is never fetched and grows
/// already when it is opened.
#[test]
fn every_tail_shows_every_event_once_and_soon() {
    let (count, time) = if full_size() { (1_000, 60_000) } else { (150, 10_000) };
    let mut world = World::start();
    let streams = ["one", "two", "three", "four", "cold"];
    for stream in &streams[..4] {
        world.put_history("app", stream, &numbered(&format!("{stream} old "), 0..20));
    }
    world.put_history("app", "cold", &[]);
    let mounted = world.mount(&[]);
    let file = |stream: &str| mounted.file(&format!("app/{stream}.log"));
    let mut watches = Vec::new();
    for stream in &streams[..4] {
        crate::world::read(&file(stream)).unwrap();
    }
    let puts = count / streams.len();
    let line = |stream: &str, i: usize| format!("{stream:<5} {i:05} event");
    let bytes = line("one", 0).len() as u64 + 1;
    for stream in &streams[..4] {
        for by_size in [false, true] {
            watches.push((*stream, Watch::start(&file(stream), bytes, puts, by_size)));
        }
    }
    let all = streams.map(|stream| file(stream).to_str().unwrap().to_string()).join(" ");
    let mut tails = Vec::new();
    let mut put_at = std::collections::HashMap::new();
    let pause = Duration::from_millis(time / count as u64);
    let started = Instant::now();
    for i in 0..count {
        // The tails are opened while everything grows: the cold stream's beginning is in what they show.
        if i == count / 10 {
            for tail in TAILS {
                for follow in ["-f", "-F"] {
                    let script = |files: &str| format!("{tail} -n 2000 {follow} {files}");
                    tails.push((format!("{tail} {follow}"), Listener::start(&script(&all)), true));
                    let one = file("two").to_str().unwrap().to_string();
                    tails.push((format!("{tail} {follow} two"), Listener::start(&script(&one)), false));
                }
            }
        }
        let stream = streams[i % streams.len()];
        world.put_now("app", stream, &line(stream, i / streams.len()));
        put_at.insert((stream, i / streams.len()), Instant::now());
        std::thread::sleep((started + pause * (i as u32 + 1)).saturating_duration_since(Instant::now()));
    }
    let mut delays = Vec::new();
    for (stream, watch) in watches {
        let seen = watch.0.join().unwrap();
        assert_eq!(seen.len(), puts, "{stream}: not all events became readable");
        delays.extend(seen.iter().enumerate().map(|(i, at)| at.saturating_duration_since(put_at[&(stream, i)])));
    }
    let expected = |stream: &str| -> Vec<String> {
        let old = if stream == "cold" { Vec::new() } else { numbered(&format!("{stream} old "), 0..20) };
        old.into_iter().chain((0..puts).map(|i| line(stream, i))).collect()
    };
    for (name, tail, all) in &tails {
        let of = if *all { &streams[..] } else { &streams[1..2] };
        let total = of.iter().map(|s| expected(s).len()).sum();
        let lines = shown_after(tail, total, Duration::from_secs(15));
        for stream in of {
            let prefix = format!("{stream} ");
            let got: Vec<&String> = lines.iter().filter(|l| l.starts_with(&prefix)).collect();
            assert_eq!(got, expected(stream).iter().collect::<Vec<_>>(), "{name}: {stream}");
        }
        assert_eq!(lines.len(), total, "{name}: other lines");
    }
    let (half, worst) = (percentile(&mut delays, 0.5), percentile(&mut delays, 1.0));
    let late = percentile(&mut delays, 0.99);
    eprintln!("put to readable: median {half:?}, 99th percentile {late:?}, worst {worst:?}");
    // The small size runs beside other tests, and must only show that polls go on.
    let bound = if full_size() { Duration::from_millis(1_300) } else { Duration::from_secs(5) };
    assert!(late < bound, "99th percentile {late:?}, median {half:?}, worst {worst:?}");
}

/// Late and equal events, while a stream is followed, complete and not.
#[test]
fn late_and_equal_events_come_once_each() {
    let mut world = World::start();
    for stream in ["whole", "end"] {
        world.put_history("app", stream, &numbered("old ", 0..5));
    }
    let mounted = world.mount(&[]);
    crate::world::read(&mounted.file("app/whole.log")).unwrap();
    let tails: Vec<Listener> = ["whole", "end"]
        .iter()
        .flat_map(|s| TAILS.map(|t| Listener::start(&format!("{t} -f {}/{s}.log", mounted.file("app").display()))))
        .collect();
    let mut expected = numbered("old ", 0..5);
    for tail in &tails {
        assert_eq!(shown_after(tail, 5, Duration::from_secs(10)), expected);
    }
    let mut put = |events: &[(i64, &str)]| {
        for stream in ["whole", "end"] {
            world.fake.put("app", stream, events);
        }
        expected.extend(events.iter().map(|(_, text)| (*text).to_string()));
        for tail in &tails {
            assert_eq!(shown_after(tail, expected.len(), Duration::from_secs(10)), expected);
        }
    };
    let at = now();
    put(&[(at, "same"), (at, "same"), (at, "same")]);
    put(&[(at, "same")]);
    put(&[(at + 1, "next")]);
    put(&[(at - 4_000, "late by less than the overlap")]);
    put(&[(at + 2, "same"), (at + 2, "same")]);
    std::thread::sleep(Duration::from_millis(2_500));
    for tail in &tails {
        assert_eq!(shown(tail), expected);
    }
    // Later than polls look back: the late window is read again each 30 s.
    for stream in ["whole", "end"] {
        world.fake.put("app", stream, &[(at - 120_000, "two minutes late")]);
    }
    expected.push("two minutes late".into());
    for tail in &tails {
        assert_eq!(shown_after(tail, expected.len(), Duration::from_secs(45)), expected);
    }
}

/// The service may give less than a page anywhere, and does so for as long as it likes.
#[test]
fn short_pages_hold_up_no_follower() {
    let mut world = World::start();
    for stream in ["alone", "more"] {
        world.put_history(stream, "s", &numbered("old ", 0..3));
    }
    world.put_history("more", "t", &numbered("old ", 0..3));
    let mounted = world.mount(&["--poll-interval", "200ms"]);
    let files = ["alone/s", "more/s", "more/t"].map(|f| mounted.file(&format!("{f}.log")));
    crate::world::read(&files[0]).unwrap();
    crate::world::read(&files[1]).unwrap();
    let tails = files.each_ref().map(|f| Listener::start(&format!("tail -s 0.1 -f {}", f.display())));
    for tail in &tails {
        assert_eq!(shown_after(tail, 3, Duration::from_secs(10)).len(), 3);
    }
    let mut total = 0;
    let mut expect = |events: usize, what: &str| {
        let at = now();
        let lines = numbered("new ", total..total + events);
        let batch: Vec<(i64, &str)> = lines.iter().enumerate().map(|(i, l)| (at + i as i64, l.as_str())).collect();
        for (group, stream) in [("alone", "s"), ("more", "s"), ("more", "t")] {
            world.fake.put(group, stream, &batch);
        }
        total += events;
        let expected: Vec<String> = numbered("old ", 0..3).into_iter().chain(numbered("new ", 0..total)).collect();
        for tail in &tails {
            assert_eq!(shown_after(tail, expected.len(), Duration::from_secs(8)), expected, "{what}");
        }
    };
    // Each page ends just where the poll before it ended.
    world.fake.change(|plan| plan.page_events = 10);
    expect(10, "as many as a page holds");
    expect(1, "one behind a full page");
    expect(20, "two pages");
    expect(7, "behind them");
    world.fake.change(|plan| plan.page_events = 3);
    expect(31, "tiny pages");
    expect(2, "behind tiny pages");
    world.fake.change(|plan| {
        plan.page_events = 10_000;
        plan.partial_page = 0.7;
        plan.empty_first = 0.2;
        plan.empty_page = 0.2;
    });
    for _ in 0..4 {
        expect(25, "pages that end by chance");
    }
}

/// Polls go out at the interval that was asked for, and stop when nobody follows.
#[test]
fn the_poll_interval_is_kept() {
    let mut world = World::start();
    world.put_history("app", "s", &numbered("old ", 0..3));
    for (interval, least, most) in [("500ms", 8, 13), ("3s", 1, 3)] {
        let mounted = world.mount(&["--poll-interval", interval]);
        let tail = Listener::start(&format!("tail -s 0.1 -f {}", mounted.file("app/s.log").display()));
        assert_eq!(shown_after(&tail, 3, Duration::from_secs(10)).len(), 3);
        world.fake.reset_calls();
        std::thread::sleep(Duration::from_secs(6));
        let calls = world.fake.calls();
        assert!((least..=most).contains(&calls.total), "{interval}: {:?}", calls.by_call);
        drop(tail);
        if interval == "500ms" {
            // Three polls more, for a tail that opens again.
            std::thread::sleep(Duration::from_millis(2_500));
            world.fake.reset_calls();
            std::thread::sleep(Duration::from_secs(2));
            assert_eq!(world.fake.calls().total, 0);
        }
        mounted.unmount();
        // The next mount knows nothing.
        std::fs::remove_dir_all(world.folder().join("cache")).unwrap();
    }
}

fn us_east_1(latency: Duration) -> Plan {
    Plan {
        latency_ms: latency.as_millis() as u64,
        quotas: Quotas { region: Some("us-east-1".into()), ..Quotas::default() },
        ..Plan::default()
    }
}

fn display(mounted: &Mounted, file: &str) -> String {
    mounted.file(file).display().to_string()
}
