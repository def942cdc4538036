//! The disk as the store uses it: a handful of calls behind a trait, so that tests can put a disk there that loses what wasn't synced.
//!
//! Nothing is durable before `sync`, and a new file's name not before `sync_dir`. Files are made 0600 and folders 0700; a symbolic link
//! in a file's place is refused.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Where the text and index files are.
pub(crate) trait Disk: Send + Sync + 'static {
    /// Makes a folder; fine if it is there.
    fn make_dir(&self, path: &Path) -> io::Result<()>;
    /// Opens a file to read and write, making it first if `create`.
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>>;
    /// Takes a file away; fine if it isn't there.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name in its folder, in place of the file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Bytes that are free to us where this folder is, and bytes in all; `None` where that can't be told.
    fn space(&self, path: &Path) -> Option<(u64, u64)>;
}

/// One open file.
pub(crate) trait DiskFile: Send + Sync + 'static {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Fills `buffer` from `offset`; a shorter file is an error.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes content and length durable.
    fn sync(&self) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// What the kernel knows it by, if it does.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// The system's file system.
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(path)?;
        Ok(Arc::new(file))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn space(&self, path: &Path) -> Option<(u64, u64)> {
        let stat = rustix::fs::statvfs(path).ok()?;
        let unit = stat.f_frsize;
        Some((stat.f_bavail.saturating_mul(unit), stat.f_blocks.saturating_mul(unit)))
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        self.metadata().map(|m| m.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

#[cfg(test)]
pub(crate) mod crash;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_private_and_links_refused() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("a/b");
        RealDisk.make_dir(&sub).unwrap();
        RealDisk.make_dir(&sub).unwrap();
        RealDisk.open(&sub.join("f"), true).unwrap().write_all_at(b"x", 0).unwrap();
        assert_eq!(std::fs::metadata(&sub).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::metadata(sub.join("f")).unwrap().permissions().mode() & 0o777, 0o600);
        std::os::unix::fs::symlink(sub.join("f"), sub.join("l")).unwrap();
        assert!(RealDisk.open(&sub.join("l"), true).is_err());
        RealDisk.remove(&sub.join("none")).unwrap();
    }
}
