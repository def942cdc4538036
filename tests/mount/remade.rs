//! A stream that is deleted and made again under its name: two files, never one with the events of both.

use crate::support::client::Client;
use crate::world::{Listener, World, output, read};
use serde_json::json;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// Beyond the listing's time to live, and past the moment at which a deleted stream reads as empty.
const LATER: Duration = Duration::from_millis(1_500);

fn remake(world: &World, stream: &str, line: &str) {
    let name = json!({ "logGroupName": "g", "logStreamName": stream });
    Client::new(&world.fake.url()).call("DeleteLogStream", name).unwrap();
    // The creation time is what tells them apart.
    std::thread::sleep(Duration::from_millis(20));
    world.put_now("g", stream, line);
}

#[test]
fn read_by_name_without_a_listing_it_is_another_file() {
    let mut world = World::start();
    for stream in ["s", "other"] {
        world.put_history("g", stream, &["old 1".into(), "old 2".into()]);
    }
    let mounted = world.mount(&["--listing-ttl", "1s", "--poll-interval", "200ms"]);
    let file = mounted.file("g/s.log");
    assert_eq!(read(&file).unwrap(), b"old 1\nold 2\n");
    let old = std::fs::metadata(&file).unwrap().ino();
    std::thread::sleep(LATER);
    remake(&world, "s", "new 1");
    let mut shown = Vec::new();
    for _ in 0..20 {
        // One that was looked up before may find that its file is another one by now.
        let text = output(&format!("cat {} 2>/dev/null || true", file.display()));
        assert!(!(text.contains("old") && text.contains("new")), "mixed: {text}");
        shown.push(text);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(shown.last().unwrap(), "new 1\n", "{shown:?}");
    assert_ne!(std::fs::metadata(&file).unwrap().ino(), old);
    assert_eq!(read(&mounted.file("g/other.log")).unwrap(), b"old 1\nold 2\n");
}

#[test]
fn a_tail_of_the_old_one_gets_nothing_of_the_new_one() {
    let mut world = World::start();
    world.put_history("g", "s", &["old 1".into()]);
    let mounted = world.mount(&["--listing-ttl", "1s", "--poll-interval", "200ms"]);
    let path = mounted.file("g/s.log");
    let descriptor = Listener::start(&format!("tail -n +1 -f {}", path.display()));
    let name = Listener::start(&format!("tail -n +1 -F {}", path.display()));
    for tail in [&descriptor, &name] {
        assert_eq!(tail.wait_for(1, Duration::from_secs(10)).len(), 1);
    }
    std::thread::sleep(LATER);
    remake(&world, "s", "new 1");
    let lines = |tail: &Listener| tail.lines().into_iter().map(|(_, line)| line).collect::<Vec<_>>();
    name.wait_for(2, Duration::from_secs(20));
    assert_eq!(lines(&name), ["old 1", "new 1"], "by name it goes on with the new file");
    assert_eq!(lines(&descriptor), ["old 1"]);
}

#[test]
fn while_it_stays_the_same_stream_new_events_cost_a_listing_page_a_time_to_live() {
    let mut world = World::start();
    world.put_history("g", "s", &["first".into()]);
    let mounted = world.mount(&["--listing-ttl", "1h", "--poll-interval", "100ms"]);
    let file = mounted.file("g/s.log");
    read(&file).unwrap();
    world.fake.reset_calls();
    let tail = Listener::start(&format!("tail -n +1 -f {}", file.display()));
    for i in 0..5 {
        world.put_now("g", "s", &format!("line {i}"));
        std::thread::sleep(Duration::from_millis(250));
    }
    assert_eq!(tail.wait_for(6, Duration::from_secs(10)).len(), 6);
    assert!(world.fake.calls().of("DescribeLogStreams") <= 1, "{:?}", world.fake.calls());
}
