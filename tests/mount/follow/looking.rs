//! Programs that look at size and time first, and open only what has grown: shippers, log viewers, `fs.watchFile`.

use super::numbered;
use crate::content::RATES;
use crate::support::fake_cloudwatch::{CallLine, GroupSpec, Populate, StreamSpec};
use crate::world::{Listener, Mounted, World, now, output, read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Looks at each file once a second, opens those that have grown, and shows their new lines.
const LOOKER: &str = r#"
import os, sys, time
sizes = {path: os.stat(path).st_size for path in sys.argv[1:]}
print("looks", flush=True)
while True:
    time.sleep(1)
    for path, seen in sizes.items():
        size = os.stat(path).st_size
        if size > seen:
            with open(path, "rb") as file:
                file.seek(seen)
                data = file.read(size - seen)
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
            sizes[path] = size
"#;

fn looker(world: &World, files: &[String]) -> Listener {
    let script = world.folder().join("looker.py");
    std::fs::write(&script, LOOKER).unwrap();
    let looker = Listener::start(&format!("python3 {} {}", script.display(), files.join(" ")));
    assert_eq!(looker.wait_for(1, Duration::from_secs(20)).len(), 1, "it has looked at all");
    looker
}

fn file(mounted: &Mounted, group: &str, stream: &str) -> String {
    mounted.file(&format!("{group}/{stream}.log")).display().to_string()
}

/// Calls for events since the last reset.
fn event_calls(world: &World) -> Vec<CallLine> {
    let log = world.fake.call_log();
    log.into_iter().filter(|line| line.call == "GetLogEvents" || line.call == "FilterLogEvents").collect()
}

#[test]
fn a_program_that_looks_before_it_opens_sees_each_line_soon() {
    const LINES: usize = 30;
    let mut world = World::start();
    for stream in ["alone", "beside"] {
        world.put_history("app", stream, &numbered("old ", 0..10));
    }
    for stream in ["alone", "beside"] {
        world.put_now("app", stream, "the last of the old");
    }
    let mounted = world.mount(&["--rate", RATES]);
    for stream in ["alone", "beside"] {
        read(Path::new(&file(&mounted, "app", stream))).unwrap();
    }
    // Three polls more belong to those reads.
    std::thread::sleep(Duration::from_secs(5));
    let looker = looker(&world, &[file(&mounted, "app", "alone")]);
    let mut put = Vec::new();
    for line in numbered("new ", 0..LINES) {
        world.put_now("app", "alone", &line);
        put.push((Instant::now(), line));
        std::thread::sleep(Duration::from_secs(2));
    }
    let shown = looker.wait_for(1 + LINES, Duration::from_secs(25));
    let shown = &shown[1..];
    assert_eq!(
        shown.iter().map(|(_, line)| line).collect::<Vec<_>>(),
        put.iter().map(|(_, line)| line).collect::<Vec<_>>()
    );
    let longest = put.iter().zip(shown).map(|((at, _), (seen, _))| seen.duration_since(*at)).max().unwrap();
    println!("the longest took {longest:?}");
    assert!(longest < Duration::from_secs(20), "{longest:?}");
    // Nothing is asked for the file that is only there.
    assert!(event_calls(&world).iter().filter(|call| call.streams == ["beside"]).count() <= 10);
}

#[test]
fn listings_again_and_again_ask_for_no_event() {
    let mut world = World::start();
    let streams = StreamSpec {
        name: "s{}".into(),
        count: Some(1_000),
        events: 3,
        first: Some(now() - 60_000),
        ..StreamSpec::default()
    };
    let small = StreamSpec { count: Some(10), ..streams.clone() };
    let group = |name: &str, streams| GroupSpec { name: name.into(), streams: vec![streams], ..GroupSpec::default() };
    world.fake.populate(&Populate { groups: vec![group("large", streams), group("small", small)] });
    let mounted = world.mount(&["--rate", RATES]);
    let path = mounted.path().display();
    output(&format!("cat {path}/large/*.log {path}/small/*.log | wc -c"));
    std::thread::sleep(Duration::from_secs(6));
    world.fake.reset_calls();
    let began = Instant::now();
    let mut rounds = 0;
    while began.elapsed() < Duration::from_secs(30) {
        for folder in ["large", "small"] {
            let listed = output(&format!("ls -l {path}/{folder} | wc -l; find {path}/{folder} -mmin -5 | wc -l"));
            assert!(listed == "1001\n1001\n" || listed == "11\n11\n", "{listed}");
        }
        rounds += 1;
        std::thread::sleep(Duration::from_secs(2));
    }
    let calls = event_calls(&world);
    assert!(calls.is_empty(), "{} calls in {rounds} rounds: {:?}", calls.len(), calls.first());
}

#[test]
fn a_tail_is_polled_as_often_beside_those_that_look() {
    let mut world = World::start();
    for stream in 0..64 {
        world.put_now("app", &format!("looked-{stream:02}"), "old");
    }
    world.put_history("app", "tailed", &numbered("old ", 0..3));
    let mounted = world.mount(&["--rate", RATES]);
    let path = mounted.path().display();
    output(&format!("cat {path}/app/*.log | wc -c"));
    let files: Vec<String> = (0..64).map(|n| file(&mounted, "app", &format!("looked-{n:02}"))).collect();
    let lookers = files.chunks(32).map(|files| looker(&world, files)).collect::<Vec<_>>();
    let tail = Listener::start(&format!("tail -n 1 -s 0.1 -f {}", file(&mounted, "app", "tailed")));
    std::thread::sleep(Duration::from_secs(20));
    world.fake.reset_calls();
    const SECONDS: u64 = 20;
    for second in 0..SECONDS {
        if second == 5 {
            (0..64).for_each(|n| world.put_now("app", &format!("looked-{n:02}"), "grown"));
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    let calls = event_calls(&world);
    let polls: Vec<&CallLine> = calls.iter().filter(|call| call.streams == ["tailed"]).collect();
    // The late window is read again each 30 s.
    let (least, most) = (SECONDS as usize - 3, SECONDS as usize + 5);
    assert!((least..=most).contains(&polls.len()), "{} polls in {SECONDS} s", polls.len());
    let longest = polls.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap();
    println!(
        "{} polls of the tail's stream, the longest pause {longest} ms; {} calls in all",
        polls.len(),
        calls.len()
    );
    let of_others = calls.iter().filter(|call| call.streams.len() > 1).count();
    assert!((2..=8).contains(&of_others), "{of_others} polls of 64 files that are only looked at, in {SECONDS} s");
    world.put_now("app", "tailed", "the last");
    assert_eq!(tail.wait_for(2, Duration::from_secs(10)).last().map(|(_, line)| line.as_str()), Some("the last"));
    for looker in &lookers {
        let shown = looker.wait_for(33, Duration::from_secs(15));
        assert_eq!(shown.len(), 33, "each of 32 files has grown by a line");
    }
}

#[test]
fn a_file_that_was_read_has_the_time_of_what_is_in_it() {
    let mut world = World::start();
    world.put_history("app", "read", &numbered("old ", 0..10));
    world.put_history("app", "unread", &numbered("old ", 0..10));
    let mounted = world.mount(&["--rate", RATES, "--listing-ttl", "200ms"]);
    let path = mounted.file("app/read.log");
    read(&path).unwrap();
    let look = |path: &Path| {
        // As a program does whose kernel remembers nothing.
        output("sync; echo 2 > /proc/sys/vm/drop_caches || true");
        let stat = std::fs::metadata(path).unwrap();
        (stat.size(), stat.mtime() * 1_000 + stat.mtime_nsec() / 1_000_000)
    };
    std::thread::sleep(Duration::from_secs(5));
    let before = look(&path);
    for stream in ["read", "unread"] {
        world.put_now("app", stream, "new");
    }
    let put = now();
    let began = Instant::now();
    let unread = mounted.file("app/unread.log");
    // By its listing.
    let listed = || {
        output(&format!("ls -l {} > {}", mounted.file("app").display(), world.folder().join("listed").display()));
        let stat = output(&format!("stat -c %Y {}", unread.display()));
        stat.trim().parse::<i64>().unwrap() * 1_000
    };
    while listed() < put - 5_000 {
        assert!(began.elapsed() < Duration::from_secs(20), "the listing doesn't tell");
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(look(&path), before, "the listing moved the time of a file whose size stays");
    read(&path).unwrap();
    let after = look(&path);
    assert_eq!(after.0, before.0 + 4);
    assert!(after.1 > before.1);
}
