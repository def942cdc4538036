//! How old what an open shows may be.

use crate::world::{World, output, read};
use std::time::Duration;

#[test]
fn an_open_shows_what_was_there_a_second_before_whatever_the_poll_interval() {
    let mut world = World::start();
    world.put_history("g", "s", &["first".into()]);
    let mounted = world.mount(&["--poll-interval", "5m"]);
    let file = mounted.file("g/s.log");
    let mut expected = String::from("first\n");
    assert_eq!(read(&file).unwrap(), expected.as_bytes());
    for i in 0..3 {
        world.put_now("g", "s", &format!("line {i}"));
        std::thread::sleep(Duration::from_millis(1_100));
        expected.push_str(&format!("line {i}\n"));
        assert_eq!(String::from_utf8(read(&file).unwrap()).unwrap(), expected);
    }
}

#[test]
fn an_open_right_after_another_shows_what_came_in_between() {
    let mut world = World::start();
    world.put_history("g", "s", &["first".into()]);
    let mounted = world.mount(&["--poll-interval", "5m"]);
    let file = mounted.file("g/s.log");
    let mut expected = String::from("first\n");
    assert_eq!(read(&file).unwrap(), expected.as_bytes());
    for i in 0..20 {
        world.put_now("g", "s", &format!("line {i}"));
        expected.push_str(&format!("line {i}\n"));
        assert_eq!(String::from_utf8(read(&file).unwrap()).unwrap(), expected, "open {i}");
    }
}

#[test]
fn two_hundred_cached_files_cost_two_calls() {
    let mut world = World::start();
    for i in 0..200 {
        world.put_history("g", &format!("s{i:03}"), &[format!("line of {i}")]);
    }
    let mounted = world.mount(&["--poll-interval", "5m"]);
    let folder = mounted.file("g").display().to_string();
    assert_eq!(output(&format!("cat {folder}/*.log | wc -l")).trim(), "200");
    std::thread::sleep(Duration::from_millis(1_100));
    world.fake.reset_calls();
    assert_eq!(output(&format!("cat {folder}/*.log | wc -l")).trim(), "200");
    let calls = world.fake.calls();
    assert!(calls.of("GetLogEvents") + calls.of("FilterLogEvents") <= 2, "{calls:?}");
}
