//! What is cached costs the kernel few questions: each is counted. And texts that the kernel reads by itself (as root) grow, and
//! are followed, like all others.

use crate::content::RATES;
use crate::support::client::Client;
use crate::world::{Listener, Mounted, World, now, output, read};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a text of `.cwlogs/` stays the same, with a margin.
const AGREED: Duration = Duration::from_millis(1100);

/// Lines of a text that is long enough for the kernel to read it by itself.
const LONG: usize = 24_000;

type Counts = BTreeMap<String, i64>;

fn look(mounted: &Mounted) -> Counts {
    std::thread::sleep(AGREED);
    let status: serde_json::Value =
        serde_json::from_slice(&read(&mounted.file(".cwlogs/status.json")).unwrap()).unwrap();
    let requests = status["requests"].as_object().unwrap();
    requests.iter().map(|(name, count)| (name.clone(), count.as_i64().unwrap())).collect()
}

/// What `act` makes the kernel ask for, without what the counting asks for.
fn requests(mounted: &Mounted, act: impl FnOnce()) -> Counts {
    look(mounted);
    let (first, second) = (look(mounted), look(mounted));
    act();
    let third = look(mounted);
    second.iter().map(|(name, count)| (name.clone(), third[name] - 2 * count + first[name])).collect()
}

/// Reads of 30 cached files that a machine may bring about: to have memory free for others it takes cold cached pages away (DAMON does
/// so each minute), and they are asked for again. What reads files anew each time asks for ten times as many.
const RECLAIMED: i64 = 3;

/// As `requests`, once more if need be: see [`RECLAIMED`].
fn requests_warm(mounted: &Mounted, act: impl Fn()) -> Counts {
    let counts = requests(mounted, &act);
    if counts["read"] <= RECLAIMED { counts } else { requests(mounted, &act) }
}

fn lines(count: usize, what: &str) -> Vec<String> {
    (0..count).map(|i| format!("{what} {i} {}", "x".repeat(80))).collect()
}

/// Waits until `found` is what it must be.
fn eventually(what: &str, mut found: impl FnMut() -> bool) {
    let started = Instant::now();
    while !found() {
        assert!(started.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Puts a file's text on disk and has every block of it proved: from then on the kernel may read it by itself.
fn warm(world: &mut World, group: &str, stream: &str) -> Mounted {
    let first = world.mount(&["--rate", RATES]);
    read(&first.file(&format!("{group}/{stream}.log"))).unwrap();
    first.unmount();
    let mounted = world.mount(&["--rate", RATES, "--poll-interval", "200ms"]);
    read(&mounted.file(&format!("{group}/{stream}.log"))).unwrap();
    mounted
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn a_warm_read_costs_an_open_and_a_release() {
    let mut world = World::start();
    const FILES: usize = 30;
    for file in 0..FILES {
        // Two hours old: of younger ones in so small a folder the kernel asks again soon.
        let (lines, first) = (lines(if file % 2 == 0 { 100 } else { LONG }, "line"), now() - 7_200_000);
        let events: Vec<(i64, &str)> = lines.iter().map(|line| (first, line.as_str())).collect();
        world.fake.put("g", &format!("s{file:02}"), &events);
    }
    let mounted = world.mount(&["--rate", RATES]);
    let folder = mounted.file("g");
    let cat = || drop(output(&format!("cat '{}'/*", folder.display())));
    cat();
    cat();
    let counts = requests_warm(&mounted, cat);
    let files = FILES as i64;
    assert_eq!(
        (counts["open"], counts["release"], counts["flush"], counts["read"].max(RECLAIMED)),
        (files, files, 0, RECLAIMED),
        "{counts:?}"
    );
    // One for the folder: a read makes the kernel ask for the time of the last access anew.
    assert!(counts["getattr"] <= files + 2 && counts["lookup"] <= 2 && counts["xattr"] == 0, "{counts:?}");
    if is_root() {
        assert_eq!(counts["passthrough"], files / 2, "the long ones: {counts:?}");
    }
    let grep = || drop(output(&format!("grep -rc x '{}'", folder.display())));
    let counts = requests_warm(&mounted, grep);
    assert_eq!(
        (counts["open"], counts["release"], counts["flush"], counts["read"].max(RECLAIMED)),
        (files, files, 0, RECLAIMED),
        "{counts:?}"
    );
    assert!(counts["getattr"] <= files + 2 && counts["lookup"] <= 2 && counts["xattr"] == 0, "{counts:?}");
}

#[test]
fn a_folder_listed_again_costs_its_open() {
    let mut world = World::start();
    for file in 0..300 {
        world.put_history("g", &format!("s{file:03}"), &lines(1, "line"));
    }
    let mounted = world.mount(&["--rate", RATES, "--listing-ttl", "200ms"]);
    let folder = mounted.file("g");
    output(&format!("cat '{}'/*", folder.display()));
    let list = || assert_eq!(output(&format!("ls -l '{}' | wc -l", folder.display())).trim(), "301");
    // Sizes have become known since the last listing.
    list();
    let counts = requests(&mounted, list);
    assert!(counts["readdir"] == 0 && counts["opendir"] == 1, "{counts:?}");
    assert!(counts["lookup"] + counts["getattr"] <= 3 && counts["xattr"] <= 2, "{counts:?}");

    world.put_now("g", "new", "x");
    eventually("a new stream is listed", || folder.join("new.log").exists() && names(&folder).contains("new.log"));
    assert_eq!(names(&folder).len(), 301);
    let client = Client::new(&world.fake.url());
    client.call("DeleteLogStream", json!({ "logGroupName": "g", "logStreamName": "s000" })).unwrap();
    // Only a request of its own proves that a stream is gone, as a followed one gets.
    let followed = File::open(folder.join("s000.log")).unwrap();
    eventually("a stream that is gone isn't", || !names(&folder).contains("s000.log"));
    drop(followed);
    world.put_now("g", "s001", "longer");
    let before = std::fs::metadata(folder.join("s001.log")).unwrap().len();
    eventually("a size that grows is listed", || {
        read(&folder.join("s001.log")).unwrap();
        let shown = output(&format!("ls -l '{}' | grep s001", folder.display()));
        shown.split_whitespace().nth(4).unwrap().parse::<u64>().unwrap() > before
    });
}

fn names(folder: &Path) -> std::collections::HashSet<String> {
    std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// A follower that reads more than the size that it is told next takes the file for cut, and shows it all again.
#[test]
fn no_size_is_less_than_what_the_kernel_has_read_by_itself() {
    let mut world = World::start();
    world.put_history("g", "s", &lines(LONG, "history"));
    let mounted = warm(&mut world, "g", "s");
    let path = mounted.file("g/s.log");
    let mut file = File::open(&path).unwrap();
    let mut at = file.seek(SeekFrom::End(0)).unwrap();
    let (mut put, mut looks, started) = (0, 0, Instant::now());
    while put < 60 {
        let many = if put % 4 == 3 { 2000 } else { 1 };
        let texts: Vec<String> = (0..many).map(|i| format!("new {put} {i} {}", "y".repeat(60))).collect();
        let stamp = now();
        world.fake.put("g", "s", &texts.iter().map(|text| (stamp, text.as_str())).collect::<Vec<_>>());
        put += 1;
        let expected = world.fake.oracle("g", "s").len() as u64;
        while at < expected {
            let mut bytes = vec![0; 1 << 12];
            let read = file.read(&mut bytes).unwrap() as u64;
            at += read;
            looks += 1;
            if read > 0 {
                let size = if looks % 2 == 0 { file.metadata() } else { std::fs::metadata(&path) }.unwrap().len();
                assert!(size >= at, "{size} after {at} were read, growth {put}");
            }
            assert!(started.elapsed() < Duration::from_secs(90), "growth {put} isn't read");
        }
    }
}

#[test]
fn a_file_that_the_kernel_reads_by_itself_grows_and_is_followed() {
    let mut world = World::start();
    world.put_history("g", "s", &lines(LONG, "history"));
    let mounted = warm(&mut world, "g", "s");
    let path = mounted.file("g/s.log");
    let mut open = None;
    let counts = requests(&mounted, || {
        let mut file = File::open(&path).unwrap();
        file.read_to_end(&mut Vec::new()).unwrap();
        open = Some(file);
    });
    let mut file = open.unwrap();
    if !is_root() {
        return;
    }
    assert_eq!((counts["passthrough"], counts["read"]), (1, 0), "{counts:?}");
    let mapped = output(&format!("wc -c < '{}'", path.display())).trim().parse::<u64>().unwrap();

    // Followers that poll and that wait for inotify, while it is so open; then growth in small and in large steps.
    let tail = Listener::start(&format!("tail -n 0 -s 0.1 -F '{}'", path.display()));
    let busybox = Listener::start(&format!("busybox tail -n 0 -s 1 -f '{}'", path.display()));
    std::thread::sleep(Duration::from_millis(500));
    let mut put = 0;
    for round in 0..12 {
        let many = if round % 4 == 3 { 2000 } else { 1 };
        let stamp = now();
        let texts: Vec<String> = (0..many).map(|i| format!("new {} {}", put + i, "y".repeat(60))).collect();
        let events: Vec<(i64, &str)> = texts.iter().map(|text| (stamp, text.as_str())).collect();
        world.fake.put("g", "s", &events);
        put += many;
        let expected = world.fake.oracle("g", "s");
        eventually("the growth is read by the open file", || {
            let mut bytes = vec![0; expected.len() + 10];
            let read = file.read_at(&mut bytes, 0).unwrap();
            assert!(expected.starts_with(&bytes[..read]), "never anything else");
            let size = file.metadata().unwrap().len();
            assert!(size <= expected.len() as u64);
            read == expected.len() && size == expected.len() as u64
        });
        assert_eq!(read(&path).unwrap(), expected);
        assert_eq!(output(&format!("cat '{}' | wc -c", path.display())).trim(), expected.len().to_string());
    }
    let end = file.seek(SeekFrom::End(0)).unwrap();
    assert_eq!(end, world.fake.oracle("g", "s").len() as u64);
    assert!(end > mapped);
    for (name, follower) in [("GNU tail", &tail), ("busybox tail", &busybox)] {
        let seen = follower.wait_for(put, Duration::from_secs(10));
        assert_eq!(seen.len(), put, "{name}");
        for (number, (_, line)) in seen.iter().enumerate() {
            assert!(line.starts_with(&format!("new {number} ")), "{name}: {line}");
        }
    }
    drop((file, tail, busybox));
    let shown = world.fake.oracle("g", "s");
    assert_eq!(read(&path).unwrap(), shown);
    mounted.unmount();
    let again = world.mount(&["--rate", RATES]);
    assert_eq!(read(&again.file("g/s.log")).unwrap(), shown);
}

#[test]
fn a_kill_takes_nothing_back_from_a_file_that_the_kernel_reads_by_itself() {
    let mut world = World::start();
    world.put_history("g", "s", &lines(LONG, "history"));
    let mounted = warm(&mut world, "g", "s");
    let path = mounted.file("g/s.log");
    let file = File::open(&path).unwrap();
    world.put_now("g", "s", "seen before the kill");
    let expected = world.fake.oracle("g", "s");
    let mut bytes = vec![0; expected.len() + 10];
    eventually("the growth is read", || file.read_at(&mut bytes, 0).unwrap_or(0) == expected.len());
    mounted.signal(libc::SIGKILL);
    drop(file);
    drop(mounted);
    let again = world.mount(&["--rate", RATES]);
    assert_eq!(read(&again.file("g/s.log")).unwrap(), expected);
}

#[test]
fn both_kinds_of_open_never_meet() {
    let mut world = World::start();
    world.put_history("g", "s", &lines(LONG, "history"));
    let mounted = warm(&mut world, "g", "s");
    let path = mounted.file("g/s.log");
    let expected = world.fake.oracle("g", "s");
    let stop = Instant::now() + Duration::from_secs(3);
    std::thread::scope(|scope| {
        for reader in 0..8 {
            let (path, expected) = (&path, &expected);
            scope.spawn(move || {
                let mut kept = Vec::new();
                while Instant::now() < stop {
                    let mut file = File::open(path).unwrap();
                    let mut bytes = Vec::new();
                    file.read_to_end(&mut bytes).unwrap();
                    assert!(bytes.starts_with(expected));
                    // Some stay open over others' opens, some don't.
                    kept.push(file);
                    kept.truncate(reader % 3);
                }
            });
        }
        // Live rows make it a file for the page cache whenever nobody has it open.
        scope.spawn(|| {
            while Instant::now() < stop {
                world.put_now("g", "s", "more");
                std::thread::sleep(Duration::from_millis(150));
            }
        });
    });
    assert_eq!(read(&path).unwrap(), world.fake.oracle("g", "s"));
}
