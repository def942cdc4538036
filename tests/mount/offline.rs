//! The network goes away under a running mount and comes back, and credentials expire and are renewed: what is cached stays
//! readable, nothing hangs, and afterwards every tail goes on by itself with each event once.
//!
//! `CWLOGS_TEST_FULL=1`: outages of a minute instead of seconds.

use crate::support::fake_cloudwatch::{Fault, FaultKind};
use crate::world::{Listener, Mounted, World, read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How a network is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gone {
    /// Connections are refused, those that were there are reset.
    Refused,
    /// Connections are accepted, and nothing is ever answered.
    BlackHole,
}

/// GNU by its own polling, GNU by name, busybox, and uutils by inotify.
const TAILS: [&str; 4] = ["tail -s 0.1 -f", "tail -s 0.1 -F", "busybox tail -f", "coreutils tail -f"];
/// An open of a cached stream may look for the network that long, and no longer.
const CACHED_OPEN: Duration = Duration::from_secs(6);
/// An open of what isn't cached gives up after 30 s without progress.
const UNCACHED_OPEN: Duration = Duration::from_secs(35);
/// A request that was sent into a black hole is given up after 20 s; the next one gets through.
const HEALED: Duration = Duration::from_secs(30);

fn outage() -> Duration {
    Duration::from_secs(if std::env::var_os("CWLOGS_TEST_FULL").is_some() { 60 } else { 8 })
}

fn go(world: &World, gone: Gone) {
    match gone {
        Gone::Refused => world.fake.network_down(Duration::from_secs(600)),
        Gone::BlackHole => world.fake.change(|plan| plan.faults = vec![Fault::new(FaultKind::Hang)]),
    }
}

fn come_back(world: &World, gone: Gone) {
    match gone {
        Gone::Refused => world.fake.network_up(),
        Gone::BlackHole => world.fake.change(|plan| plan.faults.clear()),
    }
}

fn errno(result: &std::io::Result<Vec<u8>>) -> Option<i32> {
    result.as_ref().err().and_then(std::io::Error::raw_os_error)
}

fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let done = what();
    (done, began.elapsed())
}

/// The output of a command that must end in time.
fn ends(script: &str, time: Duration) -> Vec<u8> {
    let shell = format!("timeout -s KILL {} {script}", time.as_secs_f64());
    let output = Command::new("bash").args(["-c", &shell]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{script}: {} {}", output.status, String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Ends the writer however the test ends: a scope waits for its threads.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// An event each 100 ms until told to end; how many there were.
fn write_until(world: &World, ended: &AtomicBool) -> usize {
    let mut count = 0;
    while !ended.load(Ordering::SeqCst) {
        world.put_now("app", "followed", &format!("event {count:06}"));
        count += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    count
}

fn lines(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("line {i}")).collect()
}

fn survives(gone: Gone) {
    let mut world = World::start();
    world.put_history("app", "followed", &[]);
    world.put_history("app", "cached", &lines(5_000));
    world.put_history("app", "uncached", &lines(10));
    world.put_history("other", "cached", &lines(500));
    let mounted = world.mount(&[]);
    let folder = mounted.path().display().to_string();
    ends(&format!("cat {folder}/app/followed.log {folder}/app/cached.log {folder}/other/cached.log"), UNCACHED_OPEN);
    ends(&format!("ls -R {folder}"), UNCACHED_OPEN);
    let tails = TAILS.map(|tail| (tail, Listener::start(&format!("{tail} -n +1 {folder}/app/followed.log"))));
    let ended = AtomicBool::new(false);
    let (count, returned) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_until(&world, &ended));
        let ends_writer = Ends(&ended);
        std::thread::sleep(Duration::from_secs(3));
        go(&world, gone);
        let began = Instant::now();
        std::thread::sleep(Duration::from_millis(500));
        let uncached = scope.spawn(|| timed(|| read(&mounted.file("app/uncached.log"))));
        while_gone(&world, &mounted, gone, began);
        come_back(&world, gone);
        let returned = Instant::now();
        let (uncached, time) = uncached.join().unwrap();
        // Where the outage outlasts its patience it fails; else the network's return serves it.
        match uncached {
            Ok(bytes) => assert!(outage() < UNCACHED_OPEN && bytes == world.fake.oracle("app", "uncached")),
            failed => assert_eq!(errno(&failed), Some(libc::ETIMEDOUT), "{failed:?}"),
        }
        println!("{gone:?}: an uncached open ended after {time:?}");
        assert!(time < UNCACHED_OPEN, "{time:?}");
        std::thread::sleep(Duration::from_secs(3));
        drop(ends_writer);
        (writer.join().unwrap(), returned)
    });
    let expected: Vec<String> = (0..count).map(|i| format!("event {i:06}")).collect();
    for (tail, listener) in &tails {
        listener.wait_for(count, HEALED);
        // A moment more for what would be too many.
        std::thread::sleep(Duration::from_millis(300));
        let shown = listener.lines();
        let first = shown.iter().find(|(at, _)| *at > returned).map(|(at, _)| *at - returned);
        println!("{gone:?}: {tail} shows its first line {first:?} after the network's return");
        let shown: Vec<String> = shown.into_iter().map(|(_, line)| line).collect();
        let at = shown.iter().zip(&expected).position(|(a, b)| a != b);
        assert!(shown == expected, "{gone:?}: {tail}: {} lines, not {count}; first other one {at:?}", shown.len());
        assert!(first.is_some_and(|first| first < HEALED), "{first:?}");
    }
    drop(tails);
    assert!(read(&mounted.file("app/followed.log")).unwrap() == world.fake.oracle("app", "followed"));
    assert!(read(&mounted.file("app/uncached.log")).unwrap() == world.fake.oracle("app", "uncached"));
}

/// Cached content and listings, again and again.
fn while_gone(world: &World, mounted: &Mounted, gone: Gone, began: Instant) {
    let folder = mounted.path().display().to_string();
    let (mut longest, mut rounds) = (Duration::ZERO, 0);
    while began.elapsed() < outage() {
        for stream in ["app/cached", "other/cached"] {
            let (bytes, time) = timed(|| ends(&format!("cat {folder}/{stream}.log"), CACHED_OPEN));
            let (group, name) = stream.split_once('/').unwrap();
            assert!(bytes == world.fake.oracle(group, name), "{stream}");
            longest = longest.max(time);
        }
        let (listing, time) = timed(|| ends(&format!("ls -l {folder} {folder}/app"), CACHED_OPEN));
        assert!(String::from_utf8_lossy(&listing).contains("uncached.log"));
        longest = longest.max(time);
        rounds += 1;
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("{gone:?}: {rounds} rounds of cached reads in {:?}, the longest took {longest:?}", began.elapsed());
}

#[test]
fn a_refused_network_is_survived() {
    survives(Gone::Refused);
}

#[test]
fn a_black_hole_is_survived() {
    survives(Gone::BlackHole);
}

#[test]
fn an_uncached_open_fails_in_time_in_either_outage() {
    for gone in [Gone::Refused, Gone::BlackHole] {
        let mut world = World::start();
        world.put_history("app", "uncached", &lines(10));
        let mounted = world.mount(&[]);
        ends(&format!("ls {}/app", mounted.path().display()), UNCACHED_OPEN);
        go(&world, gone);
        std::thread::sleep(Duration::from_millis(500));
        let path = mounted.file("app/uncached.log");
        let (failed, time) = timed(|| read(&path));
        println!("{gone:?}: an uncached open fails after {time:?}");
        assert_eq!(errno(&failed), Some(libc::ETIMEDOUT), "{gone:?}: {failed:?}");
        assert!(time < UNCACHED_OPEN, "{gone:?}: {time:?}");
        come_back(&world, gone);
        let (healed, time) = timed(|| until_read(&path, HEALED));
        println!("{gone:?}: it can be read {time:?} after the network's return");
        assert!(healed == world.fake.oracle("app", "uncached"));
    }
}

fn until_read(path: &Path, time: Duration) -> Vec<u8> {
    let began = Instant::now();
    loop {
        match read(path) {
            Ok(bytes) => return bytes,
            Err(error) => assert!(began.elapsed() < time, "not healed: {error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn renewed_credentials_heal_a_running_mount() {
    let world = World::start();
    world.put_history("app", "followed", &[]);
    world.put_history("app", "cached", &lines(500));
    world.put_history("app", "uncached", &lines(10));
    let keys = |id: &str| {
        let folder = world.folder().join(".aws");
        std::fs::create_dir_all(&folder).unwrap();
        let text =
            format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = secret\naws_session_token = t\n");
        // As `aws sso login` and helpers do it: whole or not at all.
        std::fs::write(folder.join("new"), text).unwrap();
        std::fs::rename(folder.join("new"), folder.join("credentials")).unwrap();
    };
    keys("AKIAFIRSTFIRST");
    let path = world.folder().join("mnt");
    std::fs::create_dir(&path).unwrap();
    let mut command = world.command();
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let mounted = Mounted::start(command, &path);
    let folder = path.display().to_string();
    ends(&format!("cat {folder}/app/followed.log {folder}/app/cached.log"), UNCACHED_OPEN);
    let tails = TAILS.map(|tail| (tail, Listener::start(&format!("{tail} -n +1 {folder}/app/followed.log"))));
    let ended = AtomicBool::new(false);
    let (count, renewed) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_until(&world, &ended));
        let ends_writer = Ends(&ended);
        std::thread::sleep(Duration::from_secs(3));
        world.fake.change(|plan| plan.accepted_key = Some("AKIASECONDSECOND".into()));
        std::thread::sleep(Duration::from_millis(1_500));
        let began = Instant::now();
        while began.elapsed() < outage() {
            let (bytes, time) = timed(|| ends(&format!("cat {folder}/app/cached.log"), CACHED_OPEN));
            assert!(bytes == world.fake.oracle("app", "cached"));
            assert!(time < Duration::from_secs(2), "{time:?}");
            let (refused, time) = timed(|| read(&mounted.file("app/uncached.log")));
            assert_eq!(errno(&refused), Some(libc::EACCES), "{refused:?}");
            assert!(time < Duration::from_secs(5), "{time:?}");
            std::thread::sleep(Duration::from_millis(300));
        }
        let errors = std::fs::read_to_string(mounted.file(".cwlogs/errors")).unwrap();
        assert!(errors.contains("aws sso login"), "{errors}");
        keys("AKIASECONDSECOND");
        let renewed = Instant::now();
        assert!(until_read(&mounted.file("app/uncached.log"), HEALED) == world.fake.oracle("app", "uncached"));
        println!("an uncached open succeeds {:?} after the renewal", renewed.elapsed());
        std::thread::sleep(Duration::from_secs(3));
        drop(ends_writer);
        (writer.join().unwrap(), renewed)
    });
    let expected: Vec<String> = (0..count).map(|i| format!("event {i:06}")).collect();
    for (tail, listener) in &tails {
        listener.wait_for(count, HEALED);
        std::thread::sleep(Duration::from_millis(300));
        let shown = listener.lines();
        let first = shown.iter().find(|(at, _)| *at > renewed).map(|(at, _)| *at - renewed);
        println!("{tail} shows its first line {first:?} after the renewal");
        let shown: Vec<String> = shown.into_iter().map(|(_, line)| line).collect();
        assert!(shown == expected, "{tail}: {} lines, not {count}", shown.len());
    }
}
