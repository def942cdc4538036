//! Calls on our own mount, made by a thread that doesn't hold the FUSE device.
//!
//! A request that the daemon has taken and not answered is waited for beyond SIGKILL, and the kernel gives it up only once
//! nobody has the device open. A killed daemon has it open for as long as one of its threads lives: one that waits for the
//! daemon itself would keep the process, the mount and whoever reads it for ever. So this thread has a table of descriptors
//! of its own, an empty one.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// What to do, with which path.
type Call = (fn(&mut MountRoot, &Path) -> io::Result<libc::dev_t>, PathBuf);
/// A call and the way back for what came of it: the mount's device.
type Request = (Call, SyncSender<io::Result<libc::dev_t>>);

/// The way to the thread, which ends when nobody has it any more.
#[derive(Clone)]
pub(super) struct Calls(Sender<Request>);

impl Calls {
    /// Starts the thread; tells its id, by which its requests are known.
    pub(super) fn start(mountpoint: &Path) -> Result<(Calls, u32), String> {
        let (calls_in, calls) = channel();
        let (id_in, id) = sync_channel(1);
        let root = MountRoot::new(mountpoint.to_path_buf());
        super::spawn("calls", move || {
            if let Err(error) = leave_descriptors() {
                tracing::warn!(%error, "a killed daemon may leave a frozen mount on this system");
            }
            // SAFETY: gettid has no preconditions.
            let _ = id_in.send(unsafe { libc::gettid() } as u32);
            run(root, &calls);
        })?;
        Ok((Calls(calls_in), id.recv().unwrap_or(0)))
    }

    /// Raises IN_MODIFY: a new modification time alone. Paths are relative to the mount's root.
    pub(super) fn touch(&self, path: &Path) -> io::Result<()> {
        self.ask((MountRoot::touch, path.to_path_buf())).map(drop)
    }

    /// Raises IN_CREATE.
    pub(super) fn make(&self, path: &Path) -> io::Result<()> {
        self.ask((MountRoot::make, path.to_path_buf())).map(drop)
    }

    /// The mount's device.
    pub(super) fn device(&self) -> io::Result<libc::dev_t> {
        self.ask((|root, _| root.open().map(|(_, device)| device), PathBuf::new()))
    }

    fn ask(&self, call: Call) -> io::Result<libc::dev_t> {
        let (reply, answer) = sync_channel(1);
        let over = || io::Error::new(io::ErrorKind::BrokenPipe, "the thread has ended");
        self.0.send((call, reply)).map_err(|_| over())?;
        answer.recv().map_err(|_| over())?
    }
}

fn run(mut root: MountRoot, calls: &Receiver<Request>) {
    while let Ok(((act, path), reply)) = calls.recv() {
        // Who doesn't wait any more doesn't want to know.
        let _ = reply.send(act(&mut root, &path));
    }
}

/// Gives the calling thread a table of descriptors of its own, and nothing in it: the standard streams too may be pipes at
/// whose other end somebody waits for us to let go.
fn leave_descriptors() -> io::Result<()> {
    // SAFETY: only this thread loses descriptors, and it owns none.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 0u32, u32::MAX, libc::CLOSE_RANGE_UNSHARE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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

    /// The root and its device, if our mount is still what is at the path.
    fn open(&mut self) -> io::Result<(OwnedFd, libc::dev_t)> {
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
        Ok((root, stat.st_dev))
    }

    fn touch(&mut self, path: &Path) -> io::Result<libc::dev_t> {
        let (root, device) = self.open()?;
        let path = CString::new(path.as_os_str().as_bytes())?;
        let omit = libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT };
        let now = libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW };
        let times = [omit, now];
        // SAFETY: `root` is open, `path` NUL-terminated and `times` two timespecs, all alive over the call.
        let result = unsafe { libc::utimensat(root.as_raw_fd(), path.as_ptr(), times.as_ptr(), 0) };
        if result == 0 { Ok(device) } else { Err(io::Error::last_os_error()) }
    }

    fn make(&mut self, path: &Path) -> io::Result<libc::dev_t> {
        let (root, device) = self.open()?;
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: `root` is open and `path` NUL-terminated, both alive over the call.
        let result = unsafe { libc::mknodat(root.as_raw_fd(), path.as_ptr(), libc::S_IFREG | 0o644, 0) };
        if result == 0 { Ok(device) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn the_thread_holds_no_descriptor_of_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let held = File::open(dir.path()).unwrap();
        let (calls, thread) = Calls::start(dir.path()).unwrap();
        calls.make(Path::new("made")).unwrap();
        calls.touch(Path::new("made")).unwrap();
        calls.device().unwrap();
        let open = |thread: i32| {
            let entries = std::fs::read_dir(format!("/proc/self/task/{thread}/fd")).unwrap();
            entries.map(|e| e.unwrap().file_name().to_str().unwrap().parse::<i32>().unwrap()).collect::<Vec<_>>()
        };
        assert!(open(thread as i32).is_empty());
        // SAFETY: gettid has no preconditions.
        let own = unsafe { libc::gettid() };
        assert!(open(own).contains(&held.as_raw_fd()), "and takes none from them");
    }
}
