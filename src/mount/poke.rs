//! The thread that makes calls on our own mount, so that inotify watchers hear of growth and of new names: a change that the
//! daemon makes known by notifications raises no event, a system call through the mount does.

use super::gate::Gate;
use crate::tree::{Ino, Tree};
use fuser::{INodeNo, Notifier};
use std::collections::HashMap;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Something that watchers must hear of.
pub(super) enum Poke {
    /// A file has grown.
    Grown(Ino),
    /// A folder has a new file.
    Made(Ino, OsString),
}

/// How soon a call that found its inode busy is tried again.
const RETRY: Duration = Duration::from_millis(10);
/// How often a name that somebody else's lookup has made known meanwhile is forgotten and made again.
const REMAKES: u32 = 5;
/// For how long a new name is tried.
const GIVE_UP: Duration = Duration::from_secs(30);

struct Made {
    parent: Ino,
    name: OsString,
    since: Instant,
}

/// Makes the calls until the mount is gone.
pub(super) fn run(tree: &Tree, mountpoint: &Path, gate: &Gate, notifier: &Notifier, pokes: &Receiver<Poke>) {
    let mut mount = MountRoot::new(mountpoint.to_path_buf());
    let interval = tree.settings().poke_interval;
    let mut due: HashMap<Ino, Instant> = HashMap::new();
    let mut last: HashMap<Ino, Instant> = HashMap::new();
    let mut made: Vec<Made> = Vec::new();
    loop {
        let now = Instant::now();
        let wait =
            if made.is_empty() { due.values().min().map(|at| at.saturating_duration_since(now)) } else { Some(RETRY) };
        let next = match wait {
            None => pokes.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(wait) => pokes.recv_timeout(wait),
        };
        match next {
            Ok(Poke::Grown(ino)) => {
                // At most once an interval a file, and always once after its last growth.
                let at = last.get(&ino).map_or_else(Instant::now, |last| *last + interval);
                due.entry(ino).or_insert(at);
            }
            Ok(Poke::Made(parent, name)) => made.push(Made { parent, name, since: Instant::now() }),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        let ready: Vec<Ino> = due.iter().filter(|(_, at)| **at <= now).map(|(ino, _)| *ino).collect();
        for ino in ready {
            if !tree.is_quiet(ino) {
                due.insert(ino, now + RETRY);
                continue;
            }
            due.remove(&ino);
            last.insert(ino, now);
            if let Some(path) = tree.path(ino) {
                let _passage = gate.enter(ino);
                report(mount.touch(&path), &path);
            }
        }
        if last.len() > 4096 {
            last.retain(|_, at| at.elapsed() < interval);
        }
        made.retain(|new| {
            if new.since.elapsed() > GIVE_UP {
                return false;
            }
            if !tree.is_quiet(new.parent) {
                return true;
            }
            if let Some(folder) = tree.path(new.parent)
                && tree.expect_name(new.parent, &new.name)
            {
                let path = folder.join(&new.name);
                let mut made = mount.make(&path);
                // A lookup has brought the name already: only a name that comes into being raises an event.
                for _ in 0..REMAKES {
                    if !matches!(&made, Err(error) if error.kind() == io::ErrorKind::AlreadyExists) {
                        break;
                    }
                    made = notifier.inval_entry(INodeNo(new.parent.0), &new.name).and_then(|()| mount.make(&path));
                }
                report(made, &path);
                tree.expected(new.parent, &new.name);
            }
            false
        });
    }
}

fn report(result: io::Result<()>, path: &Path) {
    if let Err(error) = result {
        tracing::debug!(path = %path.display(), %error, "watchers not told");
    }
}

/// The mount's root, opened for each call alone: a descriptor kept open would make every unmount from outside busy.
struct MountRoot {
    path: PathBuf,
    device: Option<libc::dev_t>,
}

impl MountRoot {
    fn new(path: PathBuf) -> MountRoot {
        MountRoot { path, device: None }
    }

    /// The root, if our mount is still what is at the path.
    fn open(&mut self) -> io::Result<OwnedFd> {
        let path = CString::new(self.path.as_os_str().as_bytes())?;
        // SAFETY: `path` is a NUL-terminated string that lives over the call.
        let fd = unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and belongs to nobody else.
        let root = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: an all-zero stat is a valid value of that plain C struct.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: `root` is open and `stat` writable over the call.
        if unsafe { libc::fstat(root.as_raw_fd(), &raw mut stat) } != 0 {
            return Err(io::Error::last_os_error());
        }
        if *self.device.get_or_insert(stat.st_dev) != stat.st_dev {
            return Err(io::Error::new(io::ErrorKind::NotFound, "something else is mounted here"));
        }
        Ok(root)
    }

    /// Raises IN_MODIFY: a new modification time alone.
    fn touch(&mut self, path: &Path) -> io::Result<()> {
        let root = self.open()?;
        let path = CString::new(path.as_os_str().as_bytes())?;
        let omit = libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT };
        let now = libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW };
        let times = [omit, now];
        // SAFETY: `root` is open, `path` NUL-terminated and `times` two timespecs, all alive over the call.
        let result = unsafe { libc::utimensat(root.as_raw_fd(), path.as_ptr(), times.as_ptr(), 0) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Raises IN_CREATE.
    fn make(&mut self, path: &Path) -> io::Result<()> {
        let root = self.open()?;
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: `root` is open and `path` NUL-terminated, both alive over the call.
        let result = unsafe { libc::mknodat(root.as_raw_fd(), path.as_ptr(), libc::S_IFREG | 0o644, 0) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
