//! Files in another format than the stored one: they are made from it, which takes time and room.

use crate::content::RATES;
use crate::support::fake_cloudwatch::Synth;
use crate::world::{Mounted, World, detach, now, output, read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A stream of computed lines, an hour old.
fn synth(world: &World, stream: &str, bytes: u64) {
    let end = now() - 3_600_000;
    let synth = Synth {
        count: bytes / 200,
        line_bytes: 199,
        first: end - 3_600_000,
        end,
        ingestion: None,
        seed: bytes,
        burst: None,
        batch: 0,
    };
    world.fake.synth("g", stream, synth);
}

/// The lines of a `.jsonl` file: as many as the stream has events, the last of them whole.
fn is_whole(world: &World, stream: &str, json: &[u8]) -> bool {
    let (events, _) = world.fake.oracle_size("g", stream);
    let last = json.strip_suffix(b"\n").and_then(|json| json.rsplit(|b| *b == b'\n').next()).unwrap_or_default();
    json.iter().filter(|b| **b == b'\n').count() as u64 == events
        && serde_json::from_slice::<serde_json::Value>(last).is_ok_and(|line| line["message"].is_string())
}

/// Bytes in the folder of renditions.
fn made(world: &World) -> u64 {
    let folder = std::fs::read_dir(world.folder().join("cache/renditions")).unwrap();
    folder.map(|file| file.unwrap().metadata().map_or(0, |found| found.len())).sum()
}

fn status(mounted: &Mounted) -> String {
    String::from_utf8(read(&mounted.file(".cwlogs/status")).unwrap()).unwrap()
}

/// Waits until `found` is what it must be.
fn eventually(what: &str, mut found: impl FnMut() -> bool) {
    let started = Instant::now();
    while !found() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Several large ones at once, for there are several threads that answer.
#[test]
fn making_one_holds_up_no_other_request() {
    const STREAMS: usize = 4;
    let mut world = World::start();
    let streams: Vec<String> = (0..STREAMS).map(|n| format!("big{n}")).collect();
    for stream in &streams {
        synth(&world, stream, 25_000_000);
    }
    world.put_history("other", "s", &["a line".to_owned()]);
    let mounted = world.mount(&["--rate", RATES, "--poll-interval", "1m"]);
    let small = mounted.file("other/s.log");
    for stream in &streams {
        read(&mounted.file(&format!("g/{stream}.log"))).unwrap();
    }
    read(&small).unwrap();
    let over = AtomicBool::new(false);
    let (reads, longest, making) = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let (mut reads, mut longest) = (0, Duration::ZERO);
            while !over.load(Ordering::SeqCst) {
                let began = Instant::now();
                assert_eq!(read(&small).unwrap(), b"a line\n");
                longest = longest.max(began.elapsed());
                reads += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            (reads, longest)
        });
        std::thread::sleep(Duration::from_millis(100));
        let began = Instant::now();
        let readers: Vec<_> = streams
            .iter()
            .map(|stream| {
                let path = mounted.file(&format!("g/{stream}.jsonl"));
                scope.spawn(move || read(&path).unwrap())
            })
            .collect();
        for (reader, stream) in readers.into_iter().zip(&streams) {
            assert!(is_whole(&world, stream, &reader.join().unwrap()), "{stream}");
        }
        let making = began.elapsed();
        over.store(true, Ordering::SeqCst);
        let (reads, longest) = other.join().unwrap();
        (reads, longest, making)
    });
    println!("{STREAMS} made in {making:?}; meanwhile {reads} reads, the longest took {longest:?}");
    assert!(longest < making / 4, "a read took {longest:?} of the {making:?} of making");
}

/// A program that streams sees the first lines long before the last are made.
#[test]
fn a_streaming_reader_is_served_as_it_is_made() {
    let mut world = World::start();
    synth(&world, "big", 60_000_000);
    let mounted = world.mount(&["--rate", RATES]);
    read(&mounted.file("g/big.log")).unwrap();
    let path = mounted.file("g/big.jsonl").display().to_string();
    let first = output(&format!("head -n 1 {path}"));
    assert!(first.starts_with("{\"timestamp\":"), "{first}");
    let part = made(&world);
    let whole = read(Path::new(&path)).unwrap();
    assert!(is_whole(&world, "big", &whole));
    assert!(part < whole.len() as u64 / 2, "{part} of {} bytes were made for the first line", whole.len());
    assert_eq!(output(&format!("cat {path} | wc -c")).trim(), whole.len().to_string());
}

/// A disk of its own, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf, size: &str) -> SmallDisk {
        std::fs::create_dir(&path).unwrap();
        output(&format!("mount -t tmpfs -o size={size} small {}", path.display()));
        SmallDisk(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        detach(&self.0);
    }
}

#[test]
fn one_that_would_take_what_must_stay_free_is_refused() {
    let mut world = World::start();
    synth(&world, "big", 30_000_000);
    let _disk = SmallDisk::mount(world.folder().join("cache"), "100m");
    let mounted = world.mount(&["--rate", RATES, "--min-free", "50MiB"]);
    let text = mounted.file("g/big.log");
    let json = mounted.file("g/big.jsonl");
    assert!(read(&text).unwrap() == world.fake.oracle("g", "big"));
    for _ in 0..2 {
        let error = read(&json).map(|bytes| bytes.len()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
    }
    let streamed = crate::world::shell(&format!("cat {}", json.display()));
    assert!(!streamed.status.success() && String::from_utf8_lossy(&streamed.stderr).contains("No space left"));
    let errors = String::from_utf8(read(&mounted.file(".cwlogs/errors")).unwrap()).unwrap();
    assert!(errors.contains("less free than --min-free keeps"), "{errors}");
    eventually("nothing of it stays", || made(&world) == 0);
    assert!(read(&text).unwrap() == world.fake.oracle("g", "big"), "what is cached stays readable");
    // A cold one fails alike, though its text arrives.
    synth(&world, "cold", 25_000_000);
    let streamed = crate::world::shell(&format!("cat {}", mounted.file("g/cold.jsonl").display()));
    assert!(!streamed.status.success(), "{} bytes, and no error", streamed.stdout.len());
}

#[test]
fn those_that_nobody_reads_go_before_any_text() {
    let mut world = World::start();
    for stream in ["a", "b", "c"] {
        synth(&world, stream, 3_000_000);
    }
    let mounted = world.mount(&["--rate", RATES, "--cache-size", "16MiB", "--min-free", "0"]);
    read(&mounted.file("g/a.log")).unwrap();
    let json = mounted.file("g/a.jsonl");
    let whole = read(&json).unwrap();
    assert!(is_whole(&world, "a", &whole));
    assert_eq!(made(&world), whole.len() as u64);
    read(&mounted.file("g/b.log")).unwrap();
    // The catalogue takes some, so here or with the next it is too much.
    read(&mounted.file("g/b.jsonl")).unwrap();
    read(&mounted.file("g/c.log")).unwrap();
    read(&mounted.file("g/c.jsonl")).unwrap();
    let told = status(&mounted);
    let taken = told.lines().find(|line| line.starts_with("cache  ")).unwrap().to_owned();
    assert!(taken.contains(", 0 streams"), "{taken}");
    assert!(made(&world) < 2 * whole.len() as u64, "{} bytes of renditions stay", made(&world));
    // And it is the same again.
    let size = std::fs::metadata(&json).unwrap().size();
    assert_eq!(size, whole.len() as u64);
    assert!(read(&json).unwrap() == whole);
}
