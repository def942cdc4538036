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

/// The sizes of files as a program is told them that looks at one after another and opens none.
fn sizes(folder: &Path, ending: &str, files: usize) -> Vec<u64> {
    let script =
        format!("import os,sys\nfor n in range({files}): print(os.stat(f'{{sys.argv[1]}}/s{{n:02}}{ending}').st_size)");
    let output = std::process::Command::new("python3").arg("-c").arg(script).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn sizes_that_were_told_outlive_a_restart() {
    const FILES: usize = 40;
    let mut world = World::start();
    for file in 0..FILES {
        let lines: Vec<String> = (0..20 + file).map(|i| format!("{file} {i} \"quoted\"")).collect();
        world.put_history("g", &format!("s{file:02}"), &lines);
    }
    let timestamped = ["--rate", RATES, "--format", "timestamped"];
    let mounted = world.mount(&timestamped);
    let whole = |mounted: &Mounted, ending: &str| -> Vec<Vec<u8>> {
        (0..FILES).map(|n| read(&mounted.file(&format!("g/s{n:02}{ending}"))).unwrap()).collect()
    };
    let lengths = |texts: &[Vec<u8>]| texts.iter().map(|text| text.len() as u64).collect::<Vec<_>>();
    let (logs, jsons) = (whole(&mounted, ".log"), whole(&mounted, ".jsonl"));
    assert_eq!(sizes(&mounted.file("g"), ".log", FILES), lengths(&logs));
    mounted.unmount();

    let mounted = world.mount(&timestamped);
    assert_eq!(sizes(&mounted.file("g"), ".log", FILES), lengths(&logs), "after a remount");
    assert_eq!(sizes(&mounted.file("g"), ".jsonl", FILES), lengths(&jsons), "after a remount");
    // The kernel forgets what it was told.
    output("sync; echo 2 > /proc/sys/vm/drop_caches || true");
    assert_eq!(sizes(&mounted.file("g"), ".log", FILES), lengths(&logs), "forgotten by the kernel");
    assert!(whole(&mounted, ".log") == logs && whole(&mounted, ".jsonl") == jsons);
    // Grows, and is told; then nothing has time to be written.
    world.put_now("g", "s00", "grown");
    eventually("the growth is read", || read(&mounted.file("g/s00.log")).unwrap().ends_with(b"grown\n"));
    let grown = sizes(&mounted.file("g"), ".log", FILES);
    assert!(grown[0] > logs[0].len() as u64);
    std::thread::sleep(Duration::from_millis(2_500));
    mounted.signal(libc::SIGKILL);
    mounted.wait_leaving_the_mount();

    // Growth while it isn't mounted shows once the file is opened.
    world.put_now("g", "s01", "while nothing was mounted");
    detach(&world.folder().join("mnt2"));
    let mounted = world.mount(&timestamped);
    assert_eq!(sizes(&mounted.file("g"), ".log", FILES), grown, "after a kill");
    let later = whole(&mounted, ".log");
    for (file, (before, after)) in logs.iter().zip(&later).enumerate() {
        assert!(after.starts_with(before), "{file}: a byte moved");
        assert_eq!(after.len() > before.len(), file < 2, "{file}");
    }
    assert_eq!(sizes(&mounted.file("g"), ".log", FILES), lengths(&later));
    mounted.unmount();

    // Another format has other sizes, and the first one's are kept.
    let mounted = world.mount(&["--rate", RATES]);
    assert_eq!(sizes(&mounted.file("g"), ".jsonl", FILES)[2..], lengths(&jsons)[2..]);
    let texts = whole(&mounted, ".log");
    assert!(texts.iter().zip(&later).all(|(plain, stamped)| plain.len() < stamped.len()));
    mounted.unmount();
    let mounted = world.mount(&["--rate", RATES, "--format", "{message} of {log_stream}"]);
    read(&mounted.file("g/s05.log")).unwrap();
    mounted.unmount();
    let mounted = world.mount(&timestamped);
    assert_eq!(sizes(&mounted.file("g"), ".log", FILES), lengths(&later));
}

/// A disk of its own, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf, size: &str) -> SmallDisk {
        std::fs::create_dir(&path).unwrap();
        output(&format!("mount -t tmpfs -o mode=700,size={size} small {}", path.display()));
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
