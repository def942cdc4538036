//! `--verify`: what settling can't see is named, fetched, and then equal.

use crate::support::fake_cloudwatch::{Fault, FaultKind};
use crate::world::{World, now, read};
use std::process::Output;
use std::time::Duration;

const HOUR: i64 = 3_600_000;
const SETTLE: [&str; 4] = ["--settle-after", "1s", "--late-window", "1s"];

/// Runs `--verify` on the world's cache.
fn verify(world: &World, arguments: &[&str]) -> Output {
    world.command().args(SETTLE).arg("--verify").args(arguments).output().unwrap()
}

/// Its lines, and its exit status as wanted.
#[track_caller]
fn told(output: &Output, status: i32) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{text}{errors}");
    text
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    assert!(text.lines().any(|line| parts.iter().all(|part| line.contains(part))), "{parts:?} in:\n{text}");
}

fn hour_name(hour: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(hour * HOUR).unwrap();
    at.strftime("%Y-%m-%dT%H:%MZ").to_string()
}

/// The middle of the hour so many days ago.
fn days_ago(days: i64) -> i64 {
    (now() / HOUR - 24 * days) * HOUR + HOUR / 2
}

/// A stream with three days of events, read and settled.
fn settled() -> World {
    let mut world = World::start();
    for days in (1..=3).rev() {
        let at = days_ago(days);
        let lines: Vec<String> = (0..100).map(|i| format!("day {days} line {i}")).collect();
        let events: Vec<(i64, &str)> = lines.iter().zip(at..).map(|(line, at)| (at, line.as_str())).collect();
        world.fake.put("/app/web", "2026/[x]1", &events);
    }
    let mounted = world.mount(&SETTLE);
    read(&mounted.file("app-web/2026-x-1.log")).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    read(&mounted.file("app-web/2026-x-1.log")).unwrap();
    mounted.unmount();
    world
}

/// Old events arrive in a stream that is also written normally, so that no listing tells of them.
fn backfill(world: &mut World) -> String {
    let at = days_ago(2);
    world.fake.put("/app/web", "2026/[x]1", &[(at + 50, "late one"), (at + 50, "late one"), (at + 70, "late two")]);
    world.put_now("/app/web", "2026/[x]1", "a normal one");
    std::thread::sleep(Duration::from_millis(20));
    let mounted = world.mount(&SETTLE);
    let text = String::from_utf8(read(&mounted.file("app-web/2026-x-1.log")).expect("read")).unwrap();
    assert!(text.contains("a normal one") && !text.contains("late"), "something else finds backfill");
    mounted.unmount();
    world.fake.reset_calls();
    hour_name(at / HOUR)
}

/// As `backfill`, of events that no read shows.
fn backfill_hidden(world: &World) -> String {
    let at = days_ago(2);
    world.fake.put("/app/web", "2026/[x]1", &[(at + 50, "late one"), (at + 50, "late one"), (at + 70, "late two")]);
    hour_name(at / HOUR)
}

/// What the mount shows, and what the service has, each sorted.
fn both(world: &mut World) -> (Vec<String>, Vec<String>) {
    let mounted = world.mount(&SETTLE);
    let shown = read(&mounted.file("app-web/2026-x-1.log")).unwrap();
    mounted.unmount();
    let sorted = |bytes: Vec<u8>| {
        let mut lines: Vec<String> = String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    (sorted(shown), sorted(world.fake.oracle("/app/web", "2026/[x]1")))
}

#[test]
fn backfill_that_nothing_else_finds_is_named_and_fetched() {
    let mut world = settled();
    let hour = backfill(&mut world);
    let first = told(&verify(&world, &["/app/*"]), 0);
    has(&first, &["DIFFERS", "/app/web/2026/[x]1", &hour, "cached 100, service 103"]);
    has(&first, &["fetched", "3 events"]);
    has(&first, &["1 stream: 1 equal now; 3 events were missing and fetched"]);
    assert!(!first.contains("STAYS"), "{first}");
    assert_eq!(world.fake.calls().of("StartQuery"), 1);
    let given = world.fake.calls().events;
    assert!(given <= 103 + 2, "{given} events were read for one hour that differs");
    let second = told(&verify(&world, &["app-web/2026-x-1.log"]), 0);
    has(&second, &["equal", "303 events in 3 hours"]);
    assert!(!second.contains("DIFFERS"), "{second}");
    let (shown, accepted) = both(&mut world);
    assert_eq!(shown, accepted);
}

#[test]
fn a_full_read_proves_the_same() {
    let mut world = settled();
    let hour = backfill(&mut world);
    let first = told(&verify(&world, &["--reread"]), 0);
    has(&first, &["DIFFERS", &hour, "cached 100, service 103"]);
    assert_eq!(world.fake.calls().of("StartQuery"), 0);
    has(&told(&verify(&world, &["--reread"]), 0), &["equal", "303 events"]);
    let (shown, accepted) = both(&mut world);
    assert_eq!(shown, accepted);
}

#[test]
fn where_insights_is_refused_the_stream_is_read_again() {
    let mut world = settled();
    let hour = backfill(&mut world);
    for (call, kind) in [("StartQuery", FaultKind::AccessDenied), ("GetQueryResults", FaultKind::AccessDenied)] {
        world.fake.change(|plan| plan.faults = vec![Fault::new(kind).of(call)]);
        let text = told(&verify(&world, &[]), 0);
        has(&text, &["note", call, "is read again instead"]);
        if call == "StartQuery" {
            has(&text, &["DIFFERS", &hour]);
        } else {
            has(&text, &["equal", "303 events"]);
        }
    }
    let (shown, accepted) = both(&mut world);
    assert_eq!(shown, accepted);
}

#[test]
fn what_can_not_be_fetched_stays_named_and_fails() {
    let world = settled();
    // Insights counts what reads don't show.
    world.fake.change(|plan| plan.hidden.event = 1.0);
    let hour = backfill_hidden(&world);
    let text = told(&verify(&world, &["--since", "3days"]), 1);
    has(&text, &["DIFFERS", &hour, "cached 100, service 103"]);
    has(&text, &["STAYS", &hour, "cached 100, service 103"]);
    has(&text, &["1 still different"]);
    // Hours before `--since` aren't looked at.
    has(&told(&verify(&world, &["--since", "30h"]), 0), &["equal", "100 events in 1 hour"]);
    world.fake.release();
    has(&told(&verify(&world, &[]), 0), &["fetched", "3 events"]);
}

#[test]
fn what_the_service_no_longer_has_is_no_failure() {
    let mut world = settled();
    world.fake.put("/app/web", "other", &[(days_ago(1), "of another stream")]);
    let mounted = world.mount(&SETTLE);
    read(&mounted.file("app-web/other.log")).unwrap();
    mounted.unmount();
    let client = crate::support::client::Client::new(&world.fake.url());
    let retention = serde_json::json!({ "logGroupName": "/app/web", "retentionInDays": 1 });
    client.call("PutRetentionPolicy", retention).unwrap();
    world.fake.change(|plan| plan.enforce_retention = true);
    let arguments = serde_json::json!({ "logGroupName": "/app/web", "logStreamName": "other" });
    client.call("DeleteLogStream", arguments).unwrap();
    for arguments in [&[][..], &["--reread"]] {
        let text = told(&verify(&world, arguments), 0);
        has(&text, &["removed", "/app/web/2026/[x]1", "retention"]);
        assert!(!text.contains("DIFFERS"), "{text}");
        if arguments.is_empty() {
            has(&text, &["gone", "/app/web/other"]);
        }
    }
    client.call("DeleteLogGroup", serde_json::json!({ "logGroupName": "/app/web" })).unwrap();
    has(&told(&verify(&world, &[]), 0), &["gone", "/app/web/2026/[x]1", "300 events"]);
}

#[test]
fn a_cache_in_use_or_a_name_that_nothing_has_fails_with_what_to_do() {
    let mut world = settled();
    has(&told(&verify(&world, &["/app/wbe/*"]), 1), &["nothing that is cached has such a name"]);
    let mounted = world.mount(&SETTLE);
    let output = verify(&world, &[]);
    told(&output, 1);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.lines().count(), 1, "{text}");
    has(&text, &["in use by process", "--unmount", "verify, and mount again"]);
    mounted.unmount();
    let usage = world.command().args(["--reread", "x"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
    let usage = world.command().args(["--verify", "--check"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn an_outage_fails_in_time() {
    let mut world = settled();
    backfill(&mut world);
    world.fake.network_down(Duration::from_secs(60));
    let began = std::time::Instant::now();
    let text = told(&verify(&world, &[]), 1);
    has(&text, &["FAILED", "/app/web/2026/[x]1"]);
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
}
