//! The daemon is killed, again and again, while writers write and readers read: what was shown stays, and nothing is
//! lost or doubled.
//!
//! Every second round ends at a random moment, by SIGKILL from outside; the others at an instant inside a commit that
//! the daemon, a debug build, is told to die at (see `src/store/killpoint.rs`). Followers keep for each file its inode
//! and every byte that they were ever shown; each new daemon's file must begin with those. `CWLOGS_KILLS` is the number
//! of rounds, `CWLOGS_SEED` repeats a run's choices.

use crate::content::RATES;
use crate::support::fake_cloudwatch::Synth;
use crate::world::{Mounted, World, now, read};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Rounds of the ordinary run.
const ROUNDS: usize = 8;
/// Instants inside a commit.
const POINTS: [&str; 6] =
    ["TextWritten", "IndexWritten", "TextSynced", "IndexSynced", "BeforeCatalogue", "BeforeShown"];
/// Instants of the commits that a clean stop makes.
const AT_STOP: [&str; 2] = ["Checkpoint", "Checkpointed"];
/// Written streams: (name, ms between puts, events a put, bytes an event). The first two fill files, the others live
/// rows.
const WRITTEN: [(&str, u64, usize, usize); 6] = [
    ("app/heavy", 400, 35, 2_000),
    ("web/heavy", 600, 200, 500),
    ("app/steady", 100, 10, 100),
    ("web/steady", 150, 3, 300),
    ("app/slow", 700, 1, 80),
    ("web/slow", 900, 2, 80),
];
/// A stream that was never fetched is added every so many rounds, so that downloads die too.
const NEW_EACH: usize = 4;
/// Bytes of such a stream.
const NEW_BYTES: u64 = 2 << 20;
/// How long a daemon may take to reach the instant it was told.
const REACH: Duration = Duration::from_secs(20);
/// How long followers may take to be back, in the rounds that wait for them.
const BACK: Duration = Duration::from_secs(30);

/// What followers were shown of one file.
#[derive(Default)]
struct Shown {
    inode: Option<u64>,
    bytes: Vec<u8>,
    /// How many daemons showed all of that again.
    compared: usize,
}

struct Followed {
    group: &'static str,
    stream: String,
    shown: Mutex<Shown>,
    /// What tails printed of it, to be compared at the next chance.
    printed: Mutex<Vec<PathBuf>>,
}

impl Followed {
    fn new(group: &'static str, stream: &str) -> Followed {
        Followed { group, stream: stream.into(), shown: Mutex::default(), printed: Mutex::default() }
    }

    fn path(&self, mount: &Path) -> PathBuf {
        mount.join(self.group).join(format!("{}.log", self.stream))
    }

    fn name(&self) -> String {
        format!("{}/{}", self.group, self.stream)
    }

    /// Reads the file from its beginning, compares, and follows it until an error.
    fn follow(&self, mount: &Path, over: &AtomicBool, back: &AtomicUsize) -> std::io::Result<()> {
        let file = File::open(self.path(mount))?;
        let inode = file.metadata()?.ino();
        let mut shown = lock(&self.shown);
        assert_eq!(*shown.inode.get_or_insert(inode), inode, "{}: another inode", self.name());
        let mut offset = 0;
        let mut is_compared = false;
        let mut buffer = vec![0; 128 << 10];
        loop {
            let count = file.read_at(&mut buffer, offset as u64)?;
            let seen = &buffer[..count];
            let known = shown.bytes.len().saturating_sub(offset).min(count);
            let before = &shown.bytes[offset..offset + known];
            if let Some(at) = before.iter().zip(seen).position(|(a, b)| a != b) {
                panic!("{}: byte {} was shown otherwise before", self.name(), offset + at);
            }
            shown.bytes.extend_from_slice(&seen[known..]);
            offset += count;
            if count == 0 {
                assert!(
                    offset >= shown.bytes.len(),
                    "{}: it ends at {offset}, and {} bytes were shown",
                    self.name(),
                    shown.bytes.len()
                );
                self.compare_printed(&shown);
                if !std::mem::replace(&mut is_compared, true) {
                    shown.compared += 1;
                    back.fetch_add(1, Ordering::SeqCst);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            if over.load(Ordering::SeqCst) && count == 0 {
                return Ok(());
            }
        }
    }

    /// What a tail printed was shown to it, perhaps before the followers.
    fn compare_printed(&self, shown: &Shown) {
        lock(&self.printed).retain(|path| {
            let printed = std::fs::read(path).unwrap();
            let known = printed.len().min(shown.bytes.len());
            assert!(printed[..known] == shown.bytes[..known], "{}: a tail was shown other bytes", self.name());
            let is_longer = printed.len() > known;
            if !is_longer {
                std::fs::remove_file(path).unwrap();
            }
            is_longer
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in another follower is the test's failure already.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Puts events until it is told to stop: most are stamped now, some late, some twice.
fn write(world: &World, number: usize, seed: u64, stop: &AtomicBool) {
    let (name, pause, count, bytes) = WRITTEN[number];
    let (group, stream) = name.split_once('/').unwrap();
    let mut random = fastrand::Rng::with_seed(seed ^ number as u64);
    let mut made = 0;
    while !stop.load(Ordering::SeqCst) {
        let at = now();
        let mut events: Vec<(i64, String)> = Vec::new();
        for _ in 0..count {
            let late = if random.f64() < 0.03 { random.i64(0..3_000) } else { 0 };
            events.push((at - late, format!("{made:08} {}", "x".repeat(random.usize(0..bytes * 2)))));
            made += 1;
            if random.f64() < 0.02 {
                events.extend(events.last().cloned());
            }
        }
        let events: Vec<(i64, &str)> = events.iter().map(|(at, text)| (*at, text.as_str())).collect();
        world.fake.put(group, stream, &events);
        std::thread::sleep(Duration::from_millis(random.u64(1..pause * 2)));
    }
}

/// How a round ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Anywhen,
    At(&'static str),
    AtStop(&'static str),
}

fn end_of(round: usize, random: &mut fastrand::Rng, first: usize) -> End {
    if round.is_multiple_of(2) {
        return End::Anywhen;
    }
    let number = (first + round / 2) % (POINTS.len() + AT_STOP.len());
    match POINTS.get(number) {
        // Which stop it is matters less than when.
        None => End::AtStop(AT_STOP[random.usize(0..AT_STOP.len())]),
        Some(point) => End::At(point),
    }
}

/// Waits, or kills, until the daemon is dead; tells where it died.
fn die(
    mut mounted: Mounted,
    end: End,
    random: &mut fastrand::Rng,
    over: &AtomicBool,
    is_back: &dyn Fn() -> bool,
) -> String {
    let (point, signal) = match end {
        End::At(_) => (true, libc::SIGKILL),
        End::Anywhen => (false, libc::SIGKILL),
        End::AtStop(_) => (false, libc::SIGTERM),
    };
    // Were every life short, a slow machine would never get further than the beginning.
    let patience = if point { REACH } else { BACK * u32::from(random.bool()) };
    let started = Instant::now();
    while !mounted.is_over() && started.elapsed() < patience && (point || !is_back()) {
        std::thread::sleep(Duration::from_millis(2));
    }
    if !point {
        std::thread::sleep(Duration::from_millis(random.u64(0..2_000)));
    }
    over.store(true, Ordering::SeqCst);
    mounted.signal(signal);
    let (status, log) = mounted.wait_leaving_the_mount();
    let at = log.lines().find_map(|line| line.strip_prefix("killed at "));
    assert!(!log.contains("panicked"), "the daemon panicked:\n{log}");
    match (end, at) {
        (_, Some(at)) => at.to_owned(),
        (End::Anywhen, None) => "any moment".into(),
        (End::AtStop(_), None) => {
            assert!(status.success(), "{status}:\n{log}");
            "nothing to write out: a clean stop".into()
        }
        (End::At(_), None) => "its point wasn't reached: any moment".into(),
    }
}

/// Real tools that read while the followers do. Killed when dropped.
struct Readers(Vec<Child>);

impl Readers {
    fn start(world: &World, round: usize, files: &[Followed], mount: &Path, random: &mut fastrand::Rng) -> Readers {
        let quiet = |command: &mut Command| command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut children = Vec::new();
        for number in 0..3 {
            let file = &files[random.usize(0..files.len())];
            let printed = world.folder().join(format!("printed-{round}-{number}"));
            let output = File::create(&printed).unwrap();
            lock(&file.printed).push(printed);
            let mut tail = Command::new("tail");
            children.push(quiet(tail.args(["-s", "0.05", "-c", "+1", "-f"]).arg(file.path(mount)).stdout(output)));
        }
        let mut cat = Command::new("bash");
        cat.args(["-c", "while cat \"$@\"; do :; done", "cat"]).stdout(Stdio::null());
        children.push(quiet(cat.args((0..2).map(|_| files[random.usize(0..files.len())].path(mount)))));
        Readers(children)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Whether the daemon is at its end, which a reader may notice before the test does.
fn ended_soon(over: &AtomicBool) -> bool {
    let started = Instant::now();
    while !over.load(Ordering::SeqCst) && started.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(1));
    }
    over.load(Ordering::SeqCst)
}

/// One daemon's life, with followers and readers.
fn round(
    world: &World,
    mount: &Path,
    files: &[Followed],
    number: usize,
    end: End,
    random: &mut fastrand::Rng,
) -> String {
    let mut command = world.command();
    command.args(["--rate", RATES, "--settle-after", "5s", "--poll-interval", "200ms"]);
    if let End::At(point) | End::AtStop(point) = end {
        let passes = if matches!(end, End::At(_)) { random.u64(0..6) } else { 0 };
        command.env("CWLOGS_KILL_AT", format!("{point}:{passes}"));
    }
    let mounted = Mounted::start(command, mount);
    let (over, back) = (&AtomicBool::new(false), &AtomicUsize::new(0));
    let readers = Readers::start(world, number, files, mount, random);
    let died = std::thread::scope(|scope| {
        let followers: Vec<_> = files
            .iter()
            .map(|file| scope.spawn(move || (file.name(), file.follow(mount, over, back), ended_soon(over))))
            .collect();
        let died = die(mounted, end, random, over, &|| back.load(Ordering::SeqCst) == files.len());
        for follower in followers {
            let (name, result, ended) = follower.join().unwrap();
            assert!(ended, "{name}: {result:?} while the daemon lived");
        }
        died
    });
    drop(readers);
    died
}

/// All that the service has is in the files, once each, behind what was shown.
fn compare_all(world: &World, mounted: &Mounted, files: &[Followed]) -> u64 {
    let mut events = 0;
    for file in files {
        let expected = world.fake.oracle(file.group, &file.stream);
        let started = Instant::now();
        let path = file.path(mounted.path());
        let bytes = loop {
            let bytes = read(&path).unwrap();
            if bytes.len() >= expected.len() || started.elapsed() > Duration::from_secs(60) {
                break bytes;
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        let shown = lock(&file.shown);
        let inode = std::fs::metadata(&path).unwrap().ino();
        assert!(shown.inode.is_none_or(|before| before == inode), "{}: another inode", file.name());
        assert!(bytes.starts_with(&shown.bytes), "{}: not what was shown", file.name());
        file.compare_printed(&Shown { bytes: bytes.clone(), ..Shown::default() });
        let left = lock(&file.printed).len();
        assert_eq!(left, 0, "{}: a tail was shown more than there is", file.name());
        let mut counts: BTreeMap<&[u8], i64> = BTreeMap::new();
        expected.split(|b| *b == b'\n').for_each(|line| *counts.entry(line).or_default() -= 1);
        bytes.split(|b| *b == b'\n').for_each(|line| *counts.entry(line).or_default() += 1);
        let wrong: Vec<(String, i64)> = counts
            .iter()
            .filter(|(_, n)| **n != 0)
            .map(|(line, n)| (String::from_utf8_lossy(&line[..line.len().min(40)]).into_owned(), *n))
            .collect();
        assert!(wrong.is_empty(), "{}: lost (-) or doubled (+): {wrong:?}", file.name());
        events += world.fake.oracle_size(file.group, &file.stream).0;
    }
    events
}

/// Prints the seed when the test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("CWLOGS_SEED={} repeats the choices of this run", self.0);
        }
    }
}

#[test]
fn kills_take_nothing_back_and_lose_and_double_nothing() {
    let rounds = env("CWLOGS_KILLS").map_or(ROUNDS, |n| n as usize);
    let seed = Seed(env("CWLOGS_SEED").unwrap_or_else(|| fastrand::u64(..)));
    let mut random = fastrand::Rng::with_seed(seed.0);
    let world = World::start();
    let mount = world.folder().join("mnt");
    std::fs::create_dir(&mount).unwrap();
    let mut files = Vec::new();
    for (name, ..) in WRITTEN {
        let (group, stream) = name.split_once('/').unwrap();
        world.put_history(group, stream, &["the first".into()]);
        files.push(Followed::new(group, stream));
    }
    let stop = AtomicBool::new(false);
    let mut deaths: BTreeMap<String, usize> = BTreeMap::new();
    std::thread::scope(|scope| {
        // Also when a round fails: the scope waits for the writers.
        let _stops = Stops(&stop);
        for number in 0..WRITTEN.len() {
            let (world, stop, seed) = (&world, &stop, seed.0);
            scope.spawn(move || write(world, number, seed, stop));
        }
        let first = random.usize(0..8);
        for number in 0..rounds {
            if number.is_multiple_of(NEW_EACH) {
                let stream = format!("new{number}");
                let (first, count) = (now() - 3_600_000, NEW_BYTES / 100);
                let synth = Synth {
                    count,
                    line_bytes: 99,
                    first,
                    end: now() - 600_000,
                    ingestion: None,
                    seed: number as u64,
                    burst: None,
                    batch: 0,
                };
                world.fake.synth("app", &stream, synth);
                files.push(Followed::new("app", &stream));
            }
            let end = end_of(number, &mut random, first);
            *deaths.entry(round(&world, &mount, &files, number, end, &mut random)).or_default() += 1;
        }
    });
    let mounted = world.mount_at(&mount, &["--rate", RATES, "--settle-after", "5s", "--poll-interval", "200ms"]);
    let events = compare_all(&world, &mounted, &files);
    mounted.unmount();
    let inside: usize = POINTS.iter().chain(&AT_STOP).filter_map(|point| deaths.get(*point)).sum();
    let compared: usize = files.iter().map(|file| lock(&file.shown).compared).sum();
    let count = files.len();
    eprintln!("{rounds} rounds, {inside} inside a commit: {deaths:?}");
    eprintln!("{count} files with {events} events, compared {compared} times");
    // Only a debug build knows the points.
    assert!(inside > 0 || rounds < 2 || std::env::var_os("CWLOGS_TEST_BINARY").is_some());
}

struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
