//! A start at an automount point, which lets one process group through and keeps everybody else waiting until the mount stands.

use crate::world::{World, detach, read};
use std::ffi::CString;
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

// <https://docs.kernel.org/filesystems/autofs.html>, <linux/auto_fs.h>.
const READY: libc::c_ulong = 0x9360;
const CATATONIC: libc::c_ulong = 0x9362;

/// An automount point of the kernel's, as systemd's automount units have. Taken away when dropped, though programs wait at it.
struct Automount {
    path: PathBuf,
    root: File,
    requests: PipeReader,
    _kernels: PipeWriter,
}

impl Automount {
    /// Lets this process's own group through.
    fn new(path: &Path) -> Automount {
        let (requests, kernels) = std::io::pipe().unwrap();
        // SAFETY: getpgrp only reads.
        let group = unsafe { libc::getpgrp() };
        let options = format!("fd={},pgrp={group},minproto=5,maxproto=5,direct", kernels.as_raw_fd());
        let text = |text: &str| CString::new(text).unwrap();
        let (source, kind, place, options) =
            (text("test"), text("autofs"), text(path.to_str().unwrap()), text(&options));
        // SAFETY: four NUL-terminated texts that live over the call.
        let mounted =
            unsafe { libc::mount(source.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) };
        assert_eq!(mounted, 0, "{}", std::io::Error::last_os_error());
        Automount { path: path.to_path_buf(), root: File::open(path).unwrap(), requests, _kernels: kernels }
    }

    /// Waits until a program comes to the point; what to answer it by.
    fn token(&mut self) -> u32 {
        let mut request = [0; 512];
        let len = self.requests.read(&mut request).unwrap();
        // A header of two numbers, and the token.
        assert!(len > 12);
        u32::from_ne_bytes(request[8..12].try_into().unwrap())
    }

    fn control(&self, what: libc::c_ulong, token: u32) -> libc::c_int {
        // SAFETY: the descriptor is open, and the argument a plain number.
        unsafe { libc::ioctl(self.root.as_raw_fd(), what, libc::c_ulong::from(token)) }
    }
}

impl Drop for Automount {
    fn drop(&mut self) {
        // Programs that still wait get an error.
        self.control(CATATONIC, 0);
        detach(&self.path);
        detach(&self.path);
    }
}

/// Waits for the end of `child`; kills it after `time`.
fn ends_within(child: &mut Child, time: Duration) -> bool {
    let began = Instant::now();
    while began.elapsed() < time {
        if let Some(status) = child.try_wait().unwrap() {
            return status.success();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    false
}

#[test]
fn at_an_automount_point_the_start_waits_for_nobody() {
    let world = World::start();
    world.put_history("g", "s", &["line".into()]);
    let path = world.folder().join("auto");
    std::fs::create_dir(&path).unwrap();
    let mut point = Automount::new(&path);
    let mut looks = Command::new("setsid");
    looks.args(["-w", "ls"]).arg(&path).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut looking = looks.spawn().unwrap();
    let token = point.token();
    let mut start = world.command();
    start.arg(&path).stdin(Stdio::null());
    // As systemd runs it: in the group that is let through, and for a limited time.
    let mut started = start.spawn().unwrap();
    assert!(ends_within(&mut started, Duration::from_secs(20)), "the start waits for its own mount");
    // The background process is in a group of its own by now, and whatever it looks at waits for this.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(point.control(READY, token), 0);
    assert!(ends_within(&mut looking, Duration::from_secs(10)), "who came first is let through");
    let mut listed = String::new();
    looking.stdout.take().unwrap().read_to_string(&mut listed).unwrap();
    assert_eq!(listed, "g\n");
    assert_eq!(read(&path.join("g/s.log")).unwrap(), b"line\n");
    let ended = world.command().arg("--unmount").arg(&path).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}
