//! A daemon that is stopped for a while (SIGSTOP, a frozen cgroup): its readers' patience isn't used up by that.

use crate::support::fake_cloudwatch::{Fault, FaultKind};
use crate::world::{Mounted, World, shell};
use std::time::{Duration, Instant};

/// Longer than a reader's patience.
const STOP: Duration = Duration::from_secs(45);

fn stop(mounted: &Mounted, time: Duration) {
    mounted.signal(libc::SIGSTOP);
    std::thread::sleep(time);
    mounted.signal(libc::SIGCONT);
}

#[test]
fn who_waits_over_a_stop_is_served_after_it() {
    let mut world = World::start();
    for stream in ["cold", "cached"] {
        world.put_history("g", stream, &["first".into()]);
    }
    let mounted = world.mount(&[]);
    let path = |stream: &str| mounted.file(&format!("g/{stream}.log")).display().to_string();
    assert!(shell(&format!("cat {}", path("cached"))).status.success());
    world.put_now("g", "cached", "second");
    std::thread::sleep(Duration::from_millis(1_100));
    world.latency(Duration::from_secs(3));
    std::thread::scope(|scope| {
        let cats: Vec<_> = ["cold", "cached", "cold"]
            .map(|stream| {
                let script = format!("cat {}", path(stream));
                scope.spawn(move || shell(&script))
            })
            .into();
        std::thread::sleep(Duration::from_millis(500));
        stop(&mounted, STOP);
        world.latency(Duration::ZERO);
        let went_on = Instant::now();
        for (cat, expected) in cats.into_iter().zip(["first\n", "first\nsecond\n", "first\n"]) {
            let output = cat.join().unwrap();
            let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{errors}");
            assert_eq!(text, expected, "{errors}");
        }
        assert!(went_on.elapsed() < Duration::from_secs(15), "{:?}", went_on.elapsed());
    });
}

#[test]
fn stops_in_a_row_end_a_wait_for_a_service_that_is_silent() {
    let mut world = World::start();
    world.put_history("g", "cold", &["first".into()]);
    world.fake.change(|plan| plan.faults = vec![Fault::new(FaultKind::Hang).of("GetLogEvents")]);
    let mounted = world.mount(&[]);
    let script = format!("cat {}", mounted.file("g/cold.log").display());
    std::thread::scope(|scope| {
        let cat = scope.spawn(|| (shell(&script), Instant::now()));
        std::thread::sleep(Duration::from_millis(500));
        let began = Instant::now();
        for _ in 0..20 {
            stop(&mounted, Duration::from_millis(3_500));
            std::thread::sleep(Duration::from_millis(100));
        }
        let (output, ended) = cat.join().unwrap();
        assert!(!output.status.success());
        // Its patience, one grace, and what the stops leave it to notice that.
        assert!(ended - began < Duration::from_secs(75), "{:?}", ended - began);
    });
}
