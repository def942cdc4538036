//! Space on the cache's disk, for `df`: answered from here, so that a dead network never freezes it.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Space in blocks of `block_size` bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct DiskSpace {
    pub(super) blocks: u64,
    pub(super) free: u64,
    pub(super) available: u64,
    pub(super) block_size: u32,
}

/// What the disk that holds `path` has.
pub(super) fn disk_space(path: &Path) -> io::Result<DiskSpace> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: an all-zero statvfs is a valid value of that plain C struct.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is a NUL-terminated string and `stat` a writable struct, both alive over the call.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let block_size = u32::try_from(stat.f_frsize).unwrap_or(4096);
    Ok(DiskSpace { blocks: stat.f_blocks, free: stat.f_bfree, available: stat.f_bavail, block_size })
}
