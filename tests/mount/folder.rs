//! What folders cost: the first entry of a huge one, the whole of it, the same again, and names that nobody has.

use crate::content::{RATES, names_in};
use crate::support::fake_cloudwatch::{GroupSpec, Populate, StreamSpec};
use crate::world::{Mounted, World, output, read};
use cwlogs_mount::store::names::{exact_encode, slug_with_hash};
use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const STREAMS: u64 = 100_000;
const GROUPS: u64 = 1_000;
const LATENCY: Duration = Duration::from_millis(300);

/// Opens a folder, tells when its first entry came, then shows the rest.
const FIRST_ENTRY: &str = r#"
import os, sys, time
began = time.monotonic()
entries = os.scandir(sys.argv[1])
first = next(entries)
print(time.monotonic() - began, flush=True)
print(first.name)
for entry in entries:
    print(entry.name)
"#;

fn group(name: &str, stream: &str, count: u64) -> GroupSpec {
    let streams = StreamSpec { name: stream.into(), count: Some(count), events: 2, ..StreamSpec::default() };
    GroupSpec { name: name.into(), streams: vec![streams], ..GroupSpec::default() }
}

/// The daemon's memory in MiB: now, and at most so far.
fn memory(mounted: &Mounted) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", mounted.pid())).unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// Calls since the last time this was asked.
fn calls(world: &World) -> u64 {
    let total = world.fake.calls().total;
    world.fake.reset_calls();
    total
}

#[test]
fn a_huge_folder_shows_its_first_entries_at_once_and_costs_nothing_again() {
    let mut world = World::start();
    world.fake.populate(&Populate { groups: vec![group("huge", "2026/11/23/[$LATEST]{}", STREAMS)] });
    let mounted = world.mount(&["--rate", RATES, "--listing-ttl", "10m"]);
    let folder = mounted.file("huge");
    assert_eq!(names_in(mounted.path()), ["huge"]);
    world.latency(LATENCY);
    let began = Instant::now();
    let mut child =
        Command::new("python3").args(["-c", FIRST_ENTRY]).arg(&folder).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    // The rest would be 2,000 latencies.
    world.latency(Duration::ZERO);
    let first = Duration::from_secs_f64(first.trim().parse().unwrap());
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success());
    let names: Vec<&str> = rest.lines().collect();
    let once: HashSet<&str> = names.iter().copied().collect();
    let walked = calls(&world);
    println!(
        "first entry after {first:?}, {} in {:?}, {walked} calls, MiB {:?}",
        names.len(),
        began.elapsed(),
        memory(&mounted)
    );
    assert!(first < 2 * LATENCY, "the first entry came after {first:?}");
    assert_eq!((names.len(), once.len()), (STREAMS as usize, STREAMS as usize), "each once");
    assert!(once.contains("2026-11-23-latest-000000.log") && once.contains("2026-11-23-latest-099999.log"));

    let began = Instant::now();
    assert_eq!(names_in(&folder).len(), STREAMS as usize);
    println!("again in {:?}", began.elapsed());
    assert_eq!(calls(&world), 0, "the listing's time to live isn't over");
    output(&format!("ls -l {} | wc -l", folder.display()));
    assert_eq!(calls(&world), 0);
    let (resident, peak) = memory(&mounted);
    println!("MiB resident {resident}, at most {peak}");
    assert!(peak < 200, "{peak} MiB");
    mounted.unmount();

    let mounted = world.mount(&["--rate", RATES, "--listing-ttl", "10m"]);
    let folder = mounted.file("huge");
    calls(&world);
    assert_eq!(names_in(&folder).len(), STREAMS as usize);
    assert!(world.fake.calls().of("DescribeLogStreams") <= 1, "{:?}", world.fake.calls());
    assert_eq!(read(&folder.join("2026-11-23-latest-000007.log")).unwrap().len(), 200);
}

#[test]
fn the_root_and_folders_are_asked_for_once_in_their_time_to_live() {
    let mut world = World::start();
    let mut groups = group("/many/{}", "s", 1);
    groups.count = Some(GROUPS);
    world.fake.populate(&Populate { groups: vec![groups, group("listed", "s{}", 120)] });
    let mounted = world.mount(&["--listing-ttl", "3s"]);
    assert_eq!(names_in(mounted.path()).len() as u64, GROUPS + 1);
    assert_eq!(calls(&world), GROUPS / 50 + 1, "a page a call, and none twice");
    assert_eq!(names_in(mounted.path()).len() as u64, GROUPS + 1);
    assert_eq!(calls(&world), 0);

    let folder = mounted.file("listed");
    assert_eq!(names_in(&folder).len(), 120);
    assert!(calls(&world) <= 4, "three pages, and the newest again");
    assert_eq!(names_in(&folder).len(), 120);
    assert_eq!(calls(&world), 0);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(calls(&world), 0, "nobody looks, so nobody asks");
    assert_eq!(names_in(&folder).len(), 120);
    assert_eq!(calls(&world), 1, "the newest page");
}

#[test]
fn each_name_opens_what_it_lists_in_the_next_mount_too() {
    let mut world = World::start();
    let long = "/x".repeat(120);
    let names = ["web/1", "web-1", "Web 1", "web-1~0123abcd", "a\u{9b}31m", "\u{202e}b", "100%", &long];
    for name in names {
        world.put_now("/app/web", name, name);
        world.put_now("app-web", name, "of another group");
    }
    for kind in ["slug", "exact"] {
        let listed = |mounted: &Mounted| -> BTreeMap<PathBuf, u64> {
            let folders = std::fs::read_dir(mounted.path()).unwrap().map(|entry| entry.unwrap().path());
            let entries = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(Result::unwrap));
            let relative = |path: PathBuf| path.strip_prefix(mounted.path()).unwrap().to_owned();
            entries.map(|entry| (relative(entry.path()), entry.ino())).collect()
        };
        let mounted = world.mount(&["--names", kind]);
        let first = listed(&mounted);
        assert_eq!(first.len(), 2 * names.len());
        mounted.unmount();
        // Looked up before anything is listed.
        let mounted = world.mount(&["--names", kind]);
        for (path, ino) in &first {
            let path = mounted.path().join(path);
            assert_eq!(std::fs::metadata(&path).unwrap().ino(), *ino, "{path:?}");
        }
        let of = |name: &str| if kind == "slug" { slug_with_hash(name) } else { exact_encode(name) };
        for name in names.iter().filter(|name| exact_encode(name).len() <= 251) {
            let path = mounted.path().join(of("/app/web")).join(format!("{}.log", of(name)));
            assert_eq!(read(&path).unwrap(), format!("{name}\n").as_bytes(), "{path:?}");
        }
        assert_eq!(listed(&mounted), first);
        if kind == "exact" {
            is_missing(&mounted.file("%2Fapp%2Fweb/x-x.log"));
            is_missing(&mounted.file("%2Fapp%2Fweb/a-31m.log"));
            let raw = mounted.file("%2Fapp%2Fweb/a\u{9b}31m.log");
            assert_eq!(read(&raw).unwrap(), "a\u{9b}31m\n".as_bytes(), "as a script may have written it down");
            is_missing(&mounted.file("app"));
            assert!(
                first.keys().all(|path| path.to_str().unwrap().chars().all(|c| !c.is_control() && c != '\u{202e}'))
            );
        }
    }
}

fn is_missing(path: &Path) {
    let error = std::fs::metadata(path).expect_err("nobody has that name");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{path:?}: {error}");
}

#[test]
fn names_that_nobody_has_are_no_reason_to_list() {
    let mut world = World::start();
    world.fake.populate(&Populate { groups: vec![group("listed", "s{}", 500), group("never", "s{}", 500)] });
    world.put_now("never", "2026/11/23/[$LATEST]New", "hello");
    let mounted = world.mount(&["--listing-ttl", "10m"]);
    names_in(mounted.path());
    names_in(&mounted.file("listed"));
    calls(&world);
    for name in [".git", ".hg", "@x"] {
        is_missing(&mounted.file(name));
    }
    assert_eq!(calls(&world), 0, "no group is called so");
    is_missing(&mounted.file("HEAD"));
    is_missing(&mounted.file("typo"));
    assert!(calls(&world) <= 2, "one each");
    for group in ["listed", "never"] {
        let folder = mounted.file(group);
        for name in [".git", "HEAD", "tags", ".log", "@all", "a:b.log", "s000001.log.swp", "4913"] {
            is_missing(&folder.join(name));
        }
        assert_eq!(calls(&world), 0, "no stream is called so");
        is_missing(&folder.join("Typo.log"));
        assert!(calls(&world) <= 1, "could be an exact name, in {group}");
    }
    is_missing(&mounted.file("listed/typo.log"));
    assert_eq!(calls(&world), 1);

    // Recent streams are found by their slugs before anybody has listed.
    assert_eq!(read(&mounted.file("never/2026-11-23-latest-new.log")).unwrap(), b"hello\n");
    let described = world.fake.calls().of("DescribeLogStreams");
    assert!(described <= 2, "an exact lookup and the newest page, not {described}");
    calls(&world);
    // Some stream may have that slug: the group is looked through, once.
    is_missing(&mounted.file("never/typo.log"));
    let walked = calls(&world);
    assert!((2..=1 + 11 + 2).contains(&walked), "an exact lookup, eleven pages, and the newest again: {walked}");
    for name in ["tpyo.log", "tpoy.log", "a-typo.log"] {
        is_missing(&mounted.file("never").join(name));
        assert_eq!(calls(&world), 1, "{name}: that was a whole listing");
    }
    // The oldest one by what needs no listing, and by what is worth one.
    assert_eq!(read(&mounted.file("never/s000000.log")).unwrap().len(), 200);
    let hashed = slug_with_hash("s000001");
    assert_eq!(read(&mounted.file(&format!("never/{hashed}.log"))).unwrap().len(), 200);
    assert_eq!(names_in(&mounted.file("never")).len(), 501);
}

#[test]
fn a_group_made_after_the_last_listing_is_entered_by_its_slug() {
    // Few groups are listed again, many are asked for by a piece of the name.
    for count in [3, 300] {
        let mut world = World::start();
        let mut groups = group("/few/{}", "s", 1);
        groups.count = Some(count);
        world.fake.populate(&Populate { groups: vec![groups] });
        let mounted = world.mount(&["--listing-ttl", "2s"]);
        assert_eq!(names_in(mounted.path()).len() as u64, count);
        is_missing(&mounted.file("made-later"));
        world.put_now("/Made/later", "s", "hello");
        calls(&world);
        let file = mounted.file("made-later/s.log");
        let began = Instant::now();
        while !file.exists() {
            assert!(began.elapsed() < Duration::from_secs(10), "not found among {count}");
            std::thread::sleep(Duration::from_millis(100));
        }
        let asked = world.fake.calls().of("DescribeLogGroups");
        // An exact lookup a second, and a listing or a question by pattern a time to live.
        assert!(asked <= 2 * (began.elapsed().as_secs() + 2), "{asked} calls in {:?}", began.elapsed());
        assert_eq!(read(&file).unwrap(), b"hello\n");
    }
}

#[test]
fn a_slug_in_a_folder_never_listed_is_found_or_it_is_said_how_far_was_looked() {
    let mut world = World::start();
    // Streams without events are the last ones in a listing.
    world.fake.put("middling", "Application", &[]);
    world.fake.put("huge", "Application", &[]);
    world.fake.populate(&Populate { groups: vec![group("middling", "s{}", 500), group("huge", "s{}", 3000)] });
    let mounted = world.mount(&["--rate", RATES]);
    assert_eq!(read(&mounted.file("middling/application.log")).unwrap(), b"");
    is_missing(&mounted.file("huge/application.log"));
    assert!(world.fake.calls().of("DescribeLogStreams") <= (1 + 11 + 2) + (1 + 50), "{:?}", world.fake.calls());
    let errors = String::from_utf8(read(&mounted.file(".cwlogs/errors")).unwrap()).unwrap();
    let line = errors.lines().find(|line| line.contains("huge/application")).unwrap_or_else(|| panic!("{errors}"));
    assert!(line.contains("looked through 2500 of its newest streams") && line.contains("`ls`"), "{line}");
    assert!(!errors.contains("middling"), "{errors}");
    assert_eq!(names_in(&mounted.file("huge")).len(), 3001);
    assert_eq!(read(&mounted.file("huge/application.log")).unwrap(), b"");
}
