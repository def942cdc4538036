//! A cache that is too small, full or damaged: the same bytes at the same offsets again, or a stream that begins anew and says so.
//!
//! `CWLOGS_CORRUPTIONS` is the number of random corruptions, `CWLOGS_SEED` repeats a run's choices.

use crate::support::fake_cloudwatch::{GroupSpec, Populate, StreamSpec};
use crate::world::{Mounted, World, detach, output, read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Streams of about 300 KB each.
const STREAMS: usize = 12;

fn world() -> World {
    let world = World::start();
    let streams =
        StreamSpec { name: "s{}".into(), count: Some(STREAMS as u64), events: 3_000, ..StreamSpec::default() };
    let group = GroupSpec { name: "g".into(), streams: vec![streams], ..GroupSpec::default() };
    world.fake.populate(&Populate { groups: vec![group] });
    world
}

fn name(at: usize) -> String {
    format!("s{at:06}")
}

fn file(mounted: &Mounted, at: usize) -> PathBuf {
    mounted.file(&format!("g/{}.log", name(at)))
}

fn oracle(world: &World, at: usize) -> Vec<u8> {
    world.fake.oracle("g", &name(at))
}

/// Files of one kind in the cache, largest first.
fn cached(world: &World, kind: &str) -> Vec<PathBuf> {
    let found = output(&format!(
        "find {}/cache/streams -name '*.{kind}' -printf '%s %p\n' | sort -rn",
        world.folder().display()
    ));
    found.lines().map(|line| line.split_once(' ').unwrap().1.into()).collect()
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

fn status(mounted: &Mounted) -> String {
    String::from_utf8(read(&mounted.file(".cwlogs/status")).unwrap()).unwrap()
}

#[test]
fn a_small_cache_lets_go_of_text_and_gets_the_same_again() {
    let mut world = world();
    let mounted = world.mount(&["--cache-size", "4MiB", "--min-free", "0"]);
    let sizes: u64 = (0..STREAMS).map(|at| oracle(&world, at).len() as u64).sum();
    assert!(sizes > 3_000_000, "{sizes}");
    let inode = |at| std::fs::metadata(file(&mounted, at)).unwrap().ino();
    let mut inodes: Vec<u64> = Vec::new();
    for round in 0..2 {
        for at in 0..STREAMS {
            let text = read(&file(&mounted, at)).unwrap();
            // The late event stands behind all else, and the oracle in its place.
            if round == 0 || at != 3 {
                assert!(text == oracle(&world, at), "round {round}, stream {at}");
            }
        }
        if round == 0 {
            inodes = (0..STREAMS).map(inode).collect();
        }
        // Late events keep their places behind what was there.
        world.fake.put("g", &name(3), &[(crate::world::now() - 60_000, "late")]);
        std::thread::sleep(Duration::from_millis(1500));
        let text = read(&file(&mounted, 3)).unwrap();
        assert!(text.ends_with(b"late\n"));
        if round == 1 {
            break;
        }
        let kept = text.len();
        for at in [4, 5, 6, 7, 8, 9, 10, 11, 0, 1] {
            read(&file(&mounted, at)).unwrap();
        }
        output("sync; echo 3 > /proc/sys/vm/drop_caches || true");
        let again = read(&file(&mounted, 3)).unwrap();
        assert!(again[..kept] == text[..], "an offset moved");
    }
    let told = status(&mounted);
    let taken = told.lines().find(|line| line.starts_with("cache  ")).unwrap().to_owned();
    assert!(!taken.contains(", 0 streams"), "{taken}");
    assert_eq!(inodes, (0..STREAMS).map(inode).collect::<Vec<_>>());
    mounted.unmount();

    // Nothing grows any more, and yet a smaller limit is kept.
    const SMALLER: u64 = 1 << 20;
    let text = |world: &World| -> u64 {
        cached(world, "text").iter().map(|path| path.metadata().map_or(0, |found| found.len())).sum()
    };
    assert!(text(&world) > SMALLER);
    let mounted = world.mount(&["--cache-size", "1MiB", "--min-free", "0"]);
    let started = Instant::now();
    while text(&world) > SMALLER {
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", cached(&world, "text"));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(read(&file(&mounted, 5)).unwrap() == oracle(&world, 5));
}

#[test]
fn damaged_text_is_fetched_again_in_its_place() {
    let mut world = world();
    let mounted = world.mount(&[]);
    (0..STREAMS).for_each(|at| assert!(read(&file(&mounted, at)).unwrap() == oracle(&world, at)));
    let before: Vec<u64> = (0..STREAMS).map(|at| std::fs::metadata(file(&mounted, at)).unwrap().ino()).collect();
    mounted.unmount();
    let texts = cached(&world, "text");
    assert_eq!(texts.len(), STREAMS);
    flip(&texts[0], 1_000);
    flip(&texts[0], 200_000);
    std::fs::OpenOptions::new().write(true).open(&texts[1]).unwrap().set_len(100_000).unwrap();
    std::fs::remove_file(&texts[2]).unwrap();
    output(&format!("mv {0} x && mv {1} {0} && mv x {1}", texts[3].display(), texts[4].display()));
    let mounted = world.mount(&[]);
    for (at, inode) in before.iter().enumerate() {
        assert_eq!(std::fs::metadata(file(&mounted, at)).unwrap().ino(), *inode);
        assert!(read(&file(&mounted, at)).unwrap() == oracle(&world, at), "stream {at}");
        let json = output(&format!("wc -l < {}", mounted.file(&format!("g/{}.jsonl", name(at))).display()));
        assert_eq!(json.trim(), "3000");
    }
    let told = status(&mounted);
    assert!(told.contains("are damaged and are fetched again"), "{told}");
}

#[test]
fn a_lost_index_begins_the_stream_anew_and_a_lost_catalogue_is_rebuilt() {
    let mut world = world();
    let mounted = world.mount(&[]);
    (0..STREAMS).for_each(|at| assert!(read(&file(&mounted, at)).unwrap() == oracle(&world, at)));
    let inode = |mounted: &Mounted, at: usize| std::fs::metadata(file(mounted, at)).unwrap().ino();
    let before: Vec<u64> = (0..STREAMS).map(|at| inode(&mounted, at)).collect();
    mounted.unmount();
    for index in &cached(&world, "index")[..2] {
        flip(index, 600);
    }
    std::fs::remove_file(&cached(&world, "index")[2]).unwrap();
    let mounted = world.mount(&[]);
    let mut anew = 0;
    for (at, inode_before) in before.iter().enumerate() {
        assert!(read(&file(&mounted, at)).unwrap() == oracle(&world, at), "stream {at}");
        anew += usize::from(inode(&mounted, at) != *inode_before);
    }
    assert_eq!(anew, 3);
    assert!(status(&mounted).contains("fetched anew, under a new inode"), "{}", status(&mounted));
    mounted.unmount();

    world.fake.reset_calls();
    std::fs::remove_file(world.folder().join("cache/catalogue.redb")).unwrap();
    let mounted = world.mount(&[]);
    for at in 0..STREAMS {
        assert!(read(&file(&mounted, at)).unwrap() == oracle(&world, at), "stream {at}");
    }
    assert!(status(&mounted).contains("rebuilt from the cached files"), "{}", status(&mounted));
    mounted.unmount();
}

/// Corruptions of one folder between two mounts.
const TOGETHER: usize = 20;
/// Opens of a damaged stream, at most, until it is right again.
const OPENS: usize = 4;

/// One random thing that happens to `one` of `files`; tells what.
fn corrupt(one: &Path, files: &[PathBuf], rng: &mut fastrand::Rng) -> String {
    let len = one.metadata().map_or(0, |found| found.len());
    let told = match rng.u8(0..8) {
        _ if len == 0 => "left as it is: it is gone or empty".to_owned(),
        0 => {
            std::fs::remove_file(one).unwrap();
            "removed".to_owned()
        }
        1 => {
            let kept = rng.u64(0..len);
            std::fs::OpenOptions::new().write(true).open(one).unwrap().set_len(kept).unwrap();
            format!("cut to {kept} of {len}")
        }
        2 if !files.is_empty() => {
            let other = rng.choice(files).unwrap();
            let aside = one.with_extension("aside");
            std::fs::rename(one, &aside).unwrap();
            // Gone by now, perhaps, or the same file.
            let _ = std::fs::rename(other, one);
            std::fs::rename(&aside, other).unwrap();
            format!("exchanged with {}", other.display())
        }
        flips => {
            let places: Vec<u64> = (0..1 + flips % 3).map(|_| rng.u64(0..len)).collect();
            places.iter().for_each(|at| flip(one, *at));
            format!("flipped at {places:?} of {len}")
        }
    };
    format!("{} {told}", one.display())
}

/// Corrupts the folder of a daemon that has ended; tells how.
fn corrupt_folder(world: &World, rng: &mut fastrand::Rng) -> Vec<String> {
    let (texts, indexes) = (cached(world, "text"), cached(world, "index"));
    let catalogue = world.folder().join("cache/catalogue.redb");
    let mut told = Vec::new();
    // A catalogue that is rebuilt reads every index; not each time, or nobody else would find out about them.
    if rng.u8(0..4) == 0 {
        told.push(corrupt(&catalogue, &[], rng));
    }
    while told.len() < TOGETHER {
        let files = if rng.u8(0..3) > 0 { &texts } else { &indexes };
        told.push(corrupt(rng.choice(files).unwrap(), files, rng));
    }
    told
}

#[test]
fn a_mount_on_a_corrupted_folder_never_shows_a_wrong_byte() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let rounds = number("CWLOGS_CORRUPTIONS").unwrap_or(60).div_ceil(TOGETHER as u64);
    let seed = number("CWLOGS_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("CWLOGS_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut world = world();
    let oracles: Vec<Vec<u8>> = (0..STREAMS).map(|at| oracle(&world, at)).collect();
    let mut inodes = [0; STREAMS];
    let (mut kept, mut anew, mut failed, mut rebuilt) = (0, 0, 0, 0);
    for round in 0..=rounds {
        let told = if round == 0 { Vec::new() } else { corrupt_folder(&world, &mut rng) };
        let mounted = world.mount(&[]);
        for (at, inode) in inodes.iter_mut().enumerate() {
            let whole = (0..OPENS).any(|_| match read(&file(&mounted, at)) {
                Ok(text) => {
                    assert!(text == oracles[at], "round {round}, stream {at}: wrong bytes after {told:#?}");
                    true
                }
                Err(_) => {
                    failed += 1;
                    false
                }
            });
            assert!(whole, "round {round}, stream {at}: not to be read after {told:#?}\n{}", status(&mounted));
            let now = std::fs::metadata(file(&mounted, at)).unwrap().ino();
            if round > 0 {
                *(if now == *inode { &mut kept } else { &mut anew }) += 1;
            }
            *inode = now;
        }
        rebuilt += usize::from(status(&mounted).contains("rebuilt from the cached files"));
        mounted.unmount();
    }
    println!(
        "{} corruptions in {rounds} rounds: {kept} streams as they were, {anew} anew, {failed} failed opens, {rebuilt} catalogues rebuilt",
        rounds * TOGETHER as u64
    );
}

/// A cache on a disk of its own, of a few megabytes.
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
fn a_full_disk_is_told_and_survived() {
    let mut world = world();
    let big = StreamSpec { name: "big".into(), events: 60_000, ..StreamSpec::default() };
    world.fake.populate(&Populate {
        groups: vec![GroupSpec { name: "h".into(), streams: vec![big], ..GroupSpec::default() }],
    });
    let disk = SmallDisk::mount(world.folder().join("cache"), "32m");
    let filler = disk.0.join("filler");
    let mounted = world.mount(&["--min-free", "0"]);
    for at in 0..3 {
        assert!(read(&file(&mounted, at)).unwrap() == oracle(&world, at));
    }
    std::fs::write(&filler, vec![1; 26 << 20]).or_else(|_| std::fs::metadata(&filler).map(drop)).unwrap();
    let error = read(&mounted.file("h/big.log")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
    for at in 0..3 {
        assert!(read(&file(&mounted, at)).unwrap() == oracle(&world, at), "what is cached stays readable");
    }
    std::fs::remove_file(&filler).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(read(&mounted.file("h/big.log")).unwrap() == world.fake.oracle("h", "big"));
    mounted.unmount();
    let mounted = world.mount(&["--min-free", "0"]);
    assert!(read(&mounted.file("h/big.log")).unwrap() == world.fake.oracle("h", "big"));
    mounted.unmount();
}
