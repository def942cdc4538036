//! Real inotify, and files that don't exist yet.

use super::{TAILS, display, numbered, shown_after};
use crate::world::{Listener, World};
use std::time::Duration;

/// Longer than it takes until a watch is noticed.
const NOTICED: Duration = Duration::from_secs(6);

/// A file that nobody has open raises IN_MODIFY when it grows, and a folder IN_CREATE when there is a new stream.
#[test]
fn growth_and_new_streams_raise_events() {
    let mut world = World::start();
    world.put_history("app", "s", &numbered("old ", 0..5));
    let mounted = world.mount(&["--listing-ttl", "2s"]);
    let path = mounted.file("app/s.log");
    crate::world::read(&path).unwrap();
    let file = Listener::start(&format!("inotifywait -q -m -e modify --format %e {}", path.display()));
    let folder = Listener::start(&format!("inotifywait -q -m -e create --format '%e %f' {}", display(&mounted, "app")));
    std::thread::sleep(NOTICED);
    assert!(file.lines().is_empty());
    for i in 0..3 {
        world.put_now("app", "s", &format!("new {i}"));
        let events = file.wait_for(i + 1, Duration::from_secs(5));
        assert_eq!(events.len(), i + 1, "no event of growth {i}");
        assert_eq!(events[i].1, "MODIFY");
    }
    world.put_now("app", "later", "first");
    let events = folder.wait_for(1, Duration::from_secs(10));
    assert_eq!(events.iter().map(|(_, e)| e.as_str()).collect::<Vec<_>>(), ["CREATE later.log"]);
    assert_eq!(crate::world::read(&mounted.file("app/later.log")).unwrap(), b"first\n");
    assert_eq!(crate::world::read(&path).unwrap(), world.fake.oracle("app", "s"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(folder.lines().len(), 1, "a name is new once");
}

/// `tail -F` of names that aren't there yet, in a group that was never listed, shows the streams whole when they come to be.
/// GNU and busybox look for the name again; uutils waits for the folder to tell.
#[test]
fn a_tail_waits_for_a_new_stream() {
    let mut world = World::start();
    world.put_history("app", "other", &numbered("old ", 0..5));
    let mounted = world.mount(&["--listing-ttl", "2s"]);
    let tails: Vec<Listener> = TAILS
        .iter()
        .enumerate()
        .map(|(i, tail)| Listener::start(&format!("{tail} -F {}", display(&mounted, &format!("app/s{i}.log")))))
        .collect();
    std::thread::sleep(NOTICED);
    for (i, tail) in TAILS.iter().enumerate() {
        for line in ["first", "second"] {
            world.put_now("app", &format!("s{i}"), &format!("{line} of {tail}"));
        }
    }
    for (i, (tail, listener)) in TAILS.iter().zip(&tails).enumerate() {
        let lines = shown_after(listener, 2, Duration::from_secs(20));
        assert_eq!(lines, [format!("first of {tail}"), format!("second of {tail}")], "{tail}");
        world.put_now("app", &format!("s{i}"), "third");
        assert_eq!(shown_after(listener, 3, Duration::from_secs(5)).len(), 3, "{tail} goes on");
    }
}
