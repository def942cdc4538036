//! What is read side by side, ahead of a reader, or for many at once: exact whatever the service does, and cheap in calls.

use crate::support::fake_cloudwatch::{CallLine, Fault, FaultKind, GroupSpec, Hidden, Plan, Populate, StreamSpec};
use crate::world::{Mounted, World, now, output, read};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Pages of this size make a long stream of a few megabytes.
const PAGE: usize = 32 << 10;
/// Rates that no test waits for, and at which several requests are under way.
const RATES: &str = "get-log-events=200,filter-log-events=80,describe-log-streams=500";

/// Calls that read events.
fn reads(world: &World) -> u64 {
    let calls = world.fake.calls();
    calls.of("GetLogEvents") + calls.of("FilterLogEvents")
}

/// Each of several faults at this rate.
fn bad_days(rate: f64) -> Vec<Fault> {
    use FaultKind::{ExpiredToken, ResetInBody, ServiceUnavailable, Throttle, TruncatedBody};
    let kinds = [ServiceUnavailable, ResetInBody, TruncatedBody, Throttle, ExpiredToken];
    kinds.into_iter().map(|kind| Fault { rate, ..Fault::new(kind) }).collect()
}

fn populate(world: &World, streams: Vec<StreamSpec>) {
    world.fake.populate(&Populate { groups: vec![GroupSpec { name: "g".into(), streams, ..GroupSpec::default() }] });
}

/// A stream of a day, settled long ago.
fn long(name: &str, events: u64) -> StreamSpec {
    let first = Some(now() - 2 * 86_400_000);
    StreamSpec { name: name.into(), events, first, step_ms: Some(86_400_000 / events as i64), ..StreamSpec::default() }
}

/// `count` streams of 50 events each, side by side in time.
fn small(count: u64) -> StreamSpec {
    let first = Some(now() - 86_400_000);
    StreamSpec {
        name: "s{}".into(),
        count: Some(count),
        events: 50,
        first,
        step_ms: Some(1_000),
        stagger_ms: 7,
        ..StreamSpec::default()
    }
}

/// A world whose calls take a while.
fn slow(mut plan: Plan) -> World {
    plan.latency_ms = 40;
    World::with(plan)
}

#[test]
fn a_long_stream_comes_by_both_calls_in_hardly_more_than_its_pages() {
    let mut world = slow(Plan { page_bytes: PAGE, ..Plan::default() });
    populate(&world, vec![long("long", 40_000)]);
    let (events, bytes) = world.fake.oracle_size("g", "long");
    let pages = (bytes + 25 * events).div_ceil(PAGE as u64);
    let mounted = world.mount(&["--rate", RATES]);
    world.fake.reset_calls();
    assert!(read(&mounted.file("g/long.log")).unwrap() == world.fake.oracle("g", "long"));
    let calls = reads(&world);
    println!("{calls} calls for {pages} pages: {:?}", world.fake.calls().by_call);
    assert!(world.fake.calls().of("FilterLogEvents") > 0, "one call alone");
    assert!(calls as f64 <= pages as f64 * 1.25, "{calls} calls for {pages} pages");
}

#[test]
fn long_streams_are_exact_on_bad_days() {
    let faults = bad_days(0.02);
    let plan =
        Plan { page_bytes: PAGE, empty_first: 0.3, empty_page: 0.1, partial_page: 0.2, faults, ..Plan::default() };
    let mut world = slow(plan);
    populate(&world, (0..3).map(|n| long(&format!("long{n}"), 20_000)).collect());
    let mounted = world.mount(&["--rate", RATES]);
    let files: Vec<_> = (0..3).map(|n| (format!("long{n}"), mounted.file(&format!("g/long{n}.log")))).collect();
    std::thread::scope(|scope| {
        for (name, file) in &files {
            let world = &world;
            scope.spawn(move || assert!(read(file).unwrap() == world.fake.oracle("g", name), "{name}"));
        }
    });
}

#[test]
fn where_one_call_is_denied_the_other_does_it_alone() {
    let faults = vec![Fault::new(FaultKind::AccessDenied).of("FilterLogEvents")];
    let mut world = slow(Plan { page_bytes: PAGE, faults, ..Plan::default() });
    populate(&world, vec![long("long", 20_000), small(8)]);
    let mounted = world.mount(&["--rate", RATES]);
    assert!(read(&mounted.file("g/long.log")).unwrap() == world.fake.oracle("g", "long"));
    for n in 0..8 {
        let name = format!("s{n:06}");
        assert!(read(&mounted.file(&format!("g/{name}.log"))).unwrap() == world.fake.oracle("g", &name), "{name}");
    }
}

/// What `grep -rc` prints of a folder, by file name.
fn grep(mounted: &Mounted, what: &str) -> BTreeMap<String, usize> {
    let lines = output(&format!("cd {}/g && grep -rc {what}", mounted.path().display()));
    let pair = |line: &str| line.rsplit_once(':').map(|(name, n)| (name.to_owned(), n.parse().unwrap()));
    lines.lines().filter_map(pair).collect()
}

#[test]
fn a_walk_through_a_cold_group_costs_few_calls() {
    const STREAMS: u64 = 300;
    let mut world = slow(Plan::default());
    populate(&world, vec![small(STREAMS)]);
    let mounted = world.mount(&[]);
    let found = grep(&mounted, "0");
    assert_eq!(found.len() as u64, STREAMS);
    assert!(found.values().all(|lines| *lines == 50), "{found:?}");
    let calls = reads(&world);
    println!("{calls} calls for {STREAMS} streams: {:?}", world.fake.calls().by_call);
    assert!(calls < STREAMS * 3 / 10, "{calls} calls: {:?}", world.fake.calls().by_call);
    for n in 0..STREAMS {
        let name = format!("s{n:06}");
        assert!(read(&mounted.file(&format!("g/{name}.log"))).unwrap() == world.fake.oracle("g", &name), "{name}");
    }
}

#[test]
fn a_few_large_streams_do_not_keep_the_small_ones_from_being_swept() {
    let mut world = slow(Plan { page_bytes: 128 << 10, ..Plan::default() });
    populate(&world, vec![small(200), long("large1", 40_000), long("large2", 40_000)]);
    let mounted = world.mount(&["--rate", RATES]);
    let found = grep(&mounted, "0");
    assert_eq!(found.len(), 202);
    println!("{:?}", world.fake.calls().by_call);
    for name in ["large1", "large2", "s000000", "s000117", "s000199"] {
        assert!(read(&mounted.file(&format!("g/{name}.log"))).unwrap() == world.fake.oracle("g", name), "{name}");
    }
    let small: usize = found.iter().filter(|(name, _)| name.starts_with('s')).map(|(_, lines)| lines).sum();
    assert_eq!(small, 200 * 50);
}

/// What a walk would open next is on its way, in the order in which it goes.
#[test]
fn large_streams_are_begun_before_the_walk_opens_them() {
    let mut world = slow(Plan { page_bytes: 128 << 10, ..Plan::default() });
    let mut streams = vec![small(20)];
    streams.extend((0..6).map(|n| long(&format!("large{n}"), 20_000)));
    populate(&world, streams);
    let mounted = world.mount(&["--rate", RATES]);
    assert_eq!(std::fs::read_dir(mounted.file("g")).unwrap().count(), 26);
    let names = |what: &str, count| (0..count).map(move |n| format!("{what}{n}")).collect::<Vec<_>>();
    let mut met = 0;
    for name in names("s00000", 10).into_iter().chain(names("large", 6)) {
        let named = |line: &CallLine| line.streams.contains(&name);
        met += u32::from(name.starts_with("large") && world.fake.call_log().iter().any(named));
        let text = read(&mounted.file(&format!("g/{name}.log"))).unwrap();
        assert!(text == world.fake.oracle("g", &name), "{name}");
        std::thread::sleep(Duration::from_millis(150));
    }
    assert!(met >= 4, "{met} of 6 were begun before");
}

#[test]
fn a_walk_is_exact_whatever_the_service_does() {
    let faults = bad_days(0.05);
    let plan = Plan {
        page_bytes: PAGE,
        scan_events: 700,
        empty_first: 0.3,
        empty_page: 0.2,
        partial_page: 0.3,
        faults,
        ..Plan::default()
    };
    let mut world = slow(plan);
    populate(&world, vec![small(120), long("large", 5_000)]);
    // Streams that grow, are hidden for a moment, or have nothing.
    world.fake.change(|plan| plan.hidden = Hidden { batch: 0.3, for_ms: Some(1_500), ..Hidden::default() });
    for n in 0..10 {
        world.put_history("g", &format!("young{n}"), &[]);
        (0..5).for_each(|i| world.put_now("g", &format!("young{n}"), &format!("line {i}")));
    }
    world.put_history("g", "empty", &[]);
    let mounted = world.mount(&["--rate", RATES, "--listing-ttl", "1s"]);
    grep(&mounted, "line");
    let names = (0..120).map(|n| format!("s{n:06}")).chain((0..10).map(|n| format!("young{n}")));
    for name in names.chain(["large".to_owned(), "empty".to_owned()]) {
        let file = mounted.file(&format!("g/{name}.log"));
        let wanted = lines_of(&world.fake.oracle("g", &name));
        let started = Instant::now();
        loop {
            let shown = lines_of(&read(&file).unwrap());
            if shown == wanted {
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{name}: {} of {}", shown.len(), wanted.len());
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

/// Lines in an order of their own: what was hidden stands behind what was shown before it.
fn lines_of(text: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    lines.sort();
    lines
}

#[test]
fn hundreds_of_followed_streams_are_polled_by_their_group() {
    const STREAMS: u64 = 250;
    let mut world = World::start();
    populate(&world, vec![small(STREAMS)]);
    let mounted = world.mount(&["--settle-after", "1s"]);
    output(&format!("cat {}/g/*.log | wc -c", mounted.path().display()));
    let held: Vec<_> =
        (0..STREAMS).map(|n| std::fs::File::open(mounted.file(&format!("g/s{n:06}.log"))).unwrap()).collect();
    std::thread::sleep(Duration::from_secs(2));
    world.fake.reset_calls();
    std::thread::sleep(Duration::from_secs(6));
    let log = world.fake.call_log();
    let named = log.iter().filter(|line| !line.streams.is_empty()).count();
    let all = log.iter().filter(|line| line.call == "FilterLogEvents").count();
    assert!((4..=9).contains(&all), "{all} calls in six seconds");
    assert_eq!(named, 0, "calls that name streams");
    // And they grow all the same.
    world.put_now("g", "s000123", "here");
    let file = mounted.file("g/s000123.log");
    let started = Instant::now();
    while !read(&file).unwrap().ends_with(b"here\n") {
        assert!(started.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(held);
}
