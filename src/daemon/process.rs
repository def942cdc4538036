//! What the process asks of the system for itself.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::os::fd::{AsRawFd, RawFd};

/// Points standard descriptors at /dev/null.
pub(crate) fn to_dev_null(descriptors: &[RawFd]) -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for &descriptor in descriptors {
        // SAFETY: dup2 of an open descriptor onto a standard one; nothing here owns the latter.
        if unsafe { libc::dup2(null.as_raw_fd(), descriptor) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Closes what the starting process left open besides the standard descriptors: somebody may wait for a pipe to close. To be called
/// before anything is opened here.
pub(crate) fn close_inherited() {
    // SAFETY: no descriptor above the standard ones has an owner in this process yet. A kernel without the call (before 5.9) leaves
    // them open, which is harmless.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

/// Every open stream takes descriptors: the soft limit becomes the hard one.
pub(crate) fn raise_open_files_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // A failure leaves the limit as it was, which is enough for a start.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// From here on no Ctrl-C, hang-up or SIGTERM ends this process: it is about to exit by itself.
pub(crate) fn outlive_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: SIG_IGN is a valid disposition for each of these and runs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Credentials live in this memory: no core dumps, no tracing by the same user. What it may read of others' /proc is unchanged.
pub(crate) fn keep_memory_private() {
    // It can't fail with this value.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Whether standard error is a terminal that is still there.
pub(crate) fn has_terminal() -> bool {
    io::stderr().is_terminal()
}
