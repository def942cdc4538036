//! How far the kernel reads ahead in files that it reads through us.
//!
//! FUSE caps what the session asks for at the system's default of 128 KiB; past that, only the mount's entry in sysfs helps, which root
//! may write. Measured: larger requests are fewer, and beyond this nothing is gained.

use std::fs;

/// In KiB.
const READ_AHEAD: u32 = 1024;

/// Raises it for the mount that is `device`, where that is allowed.
pub(super) fn raise(device: libc::dev_t) {
    let path = format!("/sys/class/bdi/{}:{}/read_ahead_kb", libc::major(device), libc::minor(device));
    if let Err(error) = fs::write(&path, READ_AHEAD.to_string()) {
        tracing::debug!(path, %error, "the read-ahead stays as it is");
    }
}
