//! Streams whose old events have expired: the service may give one empty page after the other before what is left.

use crate::support::client::Client;
use crate::world::{World, now, output, read};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

const DAY: i64 = 86_400_000;
/// What was seen of one stream in half a minute.
const PAGES: u64 = 730;

/// A group that keeps a day, with a stream of old and new events, one of old ones alone, and one that nothing is wrong with.
fn world() -> World {
    let world = World::start();
    let old: Vec<String> = (0..50).map(|i| format!("old {i}")).collect();
    let events = |lines: &[String], at: i64| -> Vec<(i64, String)> {
        lines.iter().zip(0..).map(|(line, i)| (at + i, line.clone())).collect()
    };
    let put = |stream: &str, events: Vec<(i64, String)>| {
        let events: Vec<(i64, &str)> = events.iter().map(|(at, line)| (*at, line.as_str())).collect();
        world.fake.put("g", stream, &events);
    };
    for stream in ["both", "expired"] {
        put(stream, events(&old, now() - 3 * DAY));
    }
    for stream in ["both", "new"] {
        put(stream, events(&[format!("new of {stream}")], now() - 3_600_000));
    }
    let retention = json!({ "logGroupName": "g", "retentionInDays": 1 });
    Client::new(&world.fake.url()).call("PutRetentionPolicy", retention).unwrap();
    world.fake.change(|plan| (plan.enforce_retention, plan.expired_pages) = (true, PAGES));
    world
}

fn stale(file: &Path) -> String {
    output(&format!("getfattr --absolute-names --only-values -n user.cwlogs.stale {} 2>&1 || true", file.display()))
}

#[test]
fn what_is_left_is_shown_soon_and_told() {
    let mut world = world();
    let mounted = world.mount(&[]);
    for _ in 0..2 {
        world.fake.reset_calls();
        let began = Instant::now();
        assert_eq!(output(&format!("cat {}", mounted.file("g/both.log").display())), "new of both\n");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        let calls = world.fake.calls();
        assert!(calls.of("GetLogEvents") + calls.of("FilterLogEvents") < 80, "{calls:?}");
        std::thread::sleep(Duration::from_millis(1_100));
    }
    let told = stale(&mounted.file("g/both.log"));
    assert!(told.contains("empty pages"), "{told}");
}

#[test]
fn a_file_is_empty_only_where_the_listing_says_so_too() {
    let mut world = world();
    let mounted = world.mount(&[]);
    assert_eq!(read(&mounted.file("g/expired.log")).unwrap(), b"", "the listing tells of nothing that is kept");
    mounted.unmount();
    // No retention that the listing tells of: then it should all be there.
    let mut world = World::start();
    world.fake.put("g", "hidden", &[(now() - 3 * DAY, "old")]);
    world.fake.change(|plan| {
        plan.expired_pages = u64::MAX;
        plan.faults.clear();
    });
    let mounted = world.mount(&[]);
    let shown = read(&mounted.file("g/hidden.log"));
    let shown = shown.map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(shown.as_ref().is_ok_and(|text| text == "old\n") || shown.is_err(), "{shown:?}");
}

#[test]
fn neighbours_and_complete_copies_go_on() {
    let mut world = world();
    world.fake.change(|plan| plan.expired_pages = 0);
    let mounted = world.mount(&[]);
    let file = |name: &str| mounted.file(&format!("g/{name}.log"));
    for name in ["both", "expired", "new"] {
        read(&file(name)).unwrap();
    }
    let whole = read(&file("both")).unwrap();
    world.fake.change(|plan| plan.expired_pages = PAGES);
    for round in 0..3 {
        for name in ["both", "new"] {
            world.put_now("g", name, &format!("round {round}"));
        }
        std::thread::sleep(Duration::from_millis(1_200));
        let began = Instant::now();
        for name in ["both", "new", "expired"] {
            let shown = String::from_utf8(read(&file(name)).unwrap()).unwrap();
            assert!(name == "expired" || shown.ends_with(&format!("round {round}\n")), "{name}: {shown}");
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    assert!(read(&file("both")).unwrap().starts_with(&whole), "no byte moves");
}
