//! `less +F` on a terminal.

use super::numbered;
use crate::world::World;
use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A program on a terminal of its own, and what it wrote there.
struct Terminal {
    child: Child,
    text: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(mut command: Command) -> Terminal {
        let (mut ours, mut theirs) = (-1, -1);
        let size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: both numbers and the size are alive over the call; names and settings may be null.
        let made =
            unsafe { libc::openpty(&raw mut ours, &raw mut theirs, std::ptr::null_mut(), std::ptr::null(), &size) };
        assert_eq!(made, 0);
        // SAFETY: both were just opened and belong to nobody else.
        let (ours, theirs) = unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
        command
            .env("TERM", "xterm")
            .stdin(theirs.try_clone().unwrap())
            .stdout(theirs.try_clone().unwrap())
            .stderr(theirs);
        // SAFETY: setsid and ioctl are async-signal-safe and touch no memory of ours.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        // Its copies of the descriptors would keep the terminal open.
        drop(command);
        let text = Arc::new(Mutex::new(Vec::new()));
        let (collected, mut ours) = (text.clone(), ours);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = ours.read(&mut buffer) {
                collected.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Terminal { child, text }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }

    fn shows(&self, what: &str, time: Duration) -> bool {
        let started = Instant::now();
        while started.elapsed() < time {
            if self.text().contains(what) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// New lines appear below the old ones; of a file that was never fetched and of one that was.
#[test]
fn less_follows() {
    let mut world = World::start();
    for stream in ["cold", "whole"] {
        world.put_history("app", stream, &numbered("old ", 0..200));
    }
    let mounted = world.mount(&[]);
    crate::world::read(&mounted.file("app/whole.log")).unwrap();
    for stream in ["cold", "whole"] {
        let mut command = Command::new("less");
        command.arg("+F").arg(mounted.file(&format!("app/{stream}.log"))).env_remove("LESS").env("LESSHISTFILE", "-");
        let terminal = Terminal::start(command);
        assert!(terminal.shows("old 00199", Duration::from_secs(10)), "{stream}: {}", terminal.text());
        for i in 0..4 {
            let line = format!("{stream} fresh {i}");
            world.put_now("app", stream, &line);
            assert!(terminal.shows(&line, Duration::from_secs(6)), "{stream}: {line} missing: {}", terminal.text());
        }
        for i in 0..4 {
            assert_eq!(terminal.text().matches(&format!("{stream} fresh {i}")).count(), 1, "{stream}");
        }
    }
}
