//! What a second mount asks the service about streams that a first one has read: next to nothing.

use crate::content::RATES;
use crate::support::fake_cloudwatch::{GroupSpec, Populate, StreamSpec};
use crate::world::{Mounted, World, now, output};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const STREAMS: u64 = 1_000;
const BUSY: usize = 100;
const ARGUMENTS: [&str; 6] = ["--rate", RATES, "--settle-after", "2s", "--listing-ttl", "10m"];

fn world() -> World {
    let world = World::start();
    let streams = StreamSpec { name: "s{}".into(), count: Some(STREAMS), events: 30, ..StreamSpec::default() };
    let group = GroupSpec { name: "g".into(), streams: vec![streams], ..GroupSpec::default() };
    world.fake.populate(&Populate { groups: vec![group] });
    world
}

fn files(mounted: &Mounted) -> Vec<PathBuf> {
    (0..STREAMS).map(|i| mounted.file(&format!("g/s{i:06}.log"))).collect()
}

fn oracle(world: &World) -> Vec<u8> {
    (0..STREAMS).flat_map(|i| world.fake.oracle("g", &format!("s{i:06}"))).collect()
}

/// Reads every stream by one `cat`, each after the other.
fn cat(mounted: &Mounted, expected: &[u8]) -> Duration {
    let began = Instant::now();
    let done = Command::new("cat").args(files(mounted)).output().unwrap();
    let time = began.elapsed();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(done.stdout == expected, "{} bytes, not {}", done.stdout.len(), expected.len());
    time
}

/// Reads all streams, and again once that settles them.
fn settle(world: &mut World) -> (Mounted, Vec<u8>) {
    let expected = oracle(world);
    let mounted = world.mount(&ARGUMENTS);
    output(&format!("ls {}/g", mounted.path().display()));
    cat(&mounted, &expected);
    std::thread::sleep(Duration::from_secs(3));
    cat(&mounted, &expected);
    assert_eq!(
        output(&format!("getfattr --only-values -n user.cwlogs.settled {}/g/s000500.log", mounted.path().display())),
        "true"
    );
    (mounted, expected)
}

/// The calls, a line each: when and what.
fn log(world: &World) -> String {
    let log = world.fake.call_log();
    let begun = log.first().map_or(0, |line| line.at);
    let lines = log.iter().map(|line| {
        let from = line.start.map(|start| line.at - start);
        let page = line.token.is_some();
        format!(
            "{:6} {} {:?} from -{from:?} token {page} events {}",
            line.at - begun,
            line.call,
            line.streams,
            line.events
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Calls that aren't the listing's.
fn reads(world: &World) -> u64 {
    let calls = world.fake.calls();
    calls.of("GetLogEvents") + calls.of("FilterLogEvents")
}

#[test]
fn a_thousand_settled_streams_cost_a_second_mount_five_calls() {
    let mut world = world();
    let (mounted, expected) = settle(&mut world);
    mounted.unmount();
    world.fake.reset_calls();

    let mounted = world.mount(&ARGUMENTS);
    output(&format!("ls {}/g", mounted.path().display()));
    let time = cat(&mounted, &expected);
    println!("quiet: {} calls in {time:?}: {:?}", reads(&world), world.fake.calls().by_call);
    assert!(reads(&world) <= 5, "{:?}", world.fake.calls());
    assert!(world.fake.calls().events < 100, "something was downloaded again");

    // Killed, it is no other: nothing is fetched twice, and nothing is lost.
    mounted.signal(libc::SIGKILL);
    drop(mounted);
    world.fake.reset_calls();
    let mounted = world.mount(&ARGUMENTS);
    let time = cat(&mounted, &expected);
    println!("killed: {} calls in {time:?}: {:?}", reads(&world), world.fake.calls().by_call);
    assert!(reads(&world) <= 5, "{:?}", world.fake.calls());
    assert!(world.fake.calls().events < 100, "something was downloaded again");
}

#[test]
fn beside_busy_streams_it_is_two_calls_a_second_more() {
    let mut world = world();
    let names: Vec<String> = (0..BUSY).map(|i| format!("busy{i:03}")).collect();
    for name in &names {
        world.put_history("g", name, &["before".into()]);
    }
    let (mounted, expected) = settle(&mut world);
    let busy = mounted.path().join("g");
    output(&format!("cat {0}/busy*.log | wc -l", busy.display()));
    mounted.unmount();

    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                for name in &names {
                    world.fake.put("g", name, &[(now(), "an event of a busy stream")]);
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        std::thread::sleep(Duration::from_secs(1));
        let mounted = world.mount_at(&second(&world), &ARGUMENTS);
        world.fake.reset_calls();
        let time = cat(&mounted, &expected);
        let calls = reads(&world);
        println!("busy: {calls} calls in {time:?}: {:?}", world.fake.calls().by_call);
        let first = log(&world);
        // Opened for a moment again and again, no stream is polled as if somebody followed it.
        let began = Instant::now();
        let mut passes = 0_u32;
        while began.elapsed() < Duration::from_secs(8) {
            cat(&mounted, &expected);
            passes += 1;
        }
        let (all, sustained, over) = (log(&world), reads(&world), time + began.elapsed());
        println!("busy: {sustained} calls in {over:?} for reading all of them {passes} times");
        ended.store(true, Ordering::SeqCst);
        let allowed = 5.0 + 2.0 * time.as_secs_f64();
        assert!(calls as f64 <= allowed, "{calls} calls in {time:?}:\n{first}");
        let named = world.fake.call_log().iter().filter(|line| !line.streams.is_empty()).count();
        assert!(named <= 2, "{named} calls name streams:\n{all}");
        // Each pass opens files that were opened within a second, which is a check for all of them, of two pages here; and one a second.
        let allowed = 5.0 + 2.0 * over.as_secs_f64() + 2.0 * f64::from(passes);
        assert!(sustained as f64 <= allowed, "{sustained} calls in {over:?} and {passes} passes:\n{all}");
    });
}

fn second(world: &World) -> PathBuf {
    let path = world.folder().join("second");
    std::fs::create_dir(&path).unwrap();
    path
}

#[test]
fn a_download_cut_short_by_a_kill_goes_on_where_it_was() {
    const EVENTS: u64 = 160_000;
    let mut world = World::start();
    // Taken in an hour ago: what was taken in lately isn't settled, and is read again from its beginning.
    let long = StreamSpec { name: "long".into(), events: EVENTS, ..StreamSpec::default() };
    world.fake.populate(&Populate {
        groups: vec![GroupSpec { name: "g".into(), streams: vec![long], ..GroupSpec::default() }],
    });
    let expected = world.fake.oracle("g", "long");
    world.small_pages(64 * 1024, Duration::from_millis(30));
    let mounted = world.mount(&["--rate", RATES]);
    let file = mounted.file("g/long.log");
    let mut head = vec![0; 2 << 20];
    let path = file.display().to_string();
    let shown = Command::new("bash").args(["-c", &format!("head -c {} {path}", head.len())]).output().unwrap().stdout;
    head.copy_from_slice(&shown);
    assert!(expected.starts_with(&head));
    // What was shown may still be in memory only; a second is the cache's rhythm.
    std::thread::sleep(Duration::from_millis(1_000));
    mounted.signal(libc::SIGKILL);
    drop(mounted);
    let given = world.fake.calls().events;
    assert!(given < EVENTS, "it was whole before it was killed");
    world.fake.reset_calls();
    let mounted = world.mount(&["--rate", RATES]);
    let done = Command::new("cat").arg(mounted.file("g/long.log")).output().unwrap();
    assert!(done.stdout == expected);
    let again = world.fake.calls().events;
    println!("given {given} before the kill and {again} after it");
    assert!(again < EVENTS - 10_000, "{again} events were given again");
    let byte = &mut [0];
    std::fs::File::open(mounted.file("g/long.log")).unwrap().read_exact_at(byte, 1 << 20).unwrap();
    assert_eq!(byte[0], expected[1 << 20]);
}
