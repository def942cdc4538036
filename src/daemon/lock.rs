//! One daemon a cache: an advisory lock on CACHE/lock, which dies with its holder. The file says who holds it.

use super::Failure;
use crate::model::printable;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a holder whose mount is gone already may take to finish.
const FINISHING: Duration = Duration::from_secs(5);

/// The lock; held while it lives.
#[derive(Debug)]
pub(crate) struct CacheLock {
    _file: File,
}

/// Who holds the lock.
#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
    mountpoint: PathBuf,
}

impl CacheLock {
    /// Makes the folder (0700) if need be, and locks it for the mount at `mountpoint`. `is_mounted` tells whether the holder's
    /// mount is still there: one that was just unmounted is waited for.
    pub(crate) fn take(
        dir: &Path,
        mountpoint: &Path,
        is_mounted: impl Fn(&Path) -> bool,
    ) -> Result<CacheLock, Failure> {
        let shown = printable(&dir.to_string_lossy());
        let failed = |what: &str, error: std::io::Error| {
            Failure::new(format!("cache folder {shown}: {what}: {error}; give --cache-dir another folder"))
        };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| failed("can't be made", error))?;
        let owner = dir.metadata().map_err(|error| failed("can't be read", error))?.uid();
        // SAFETY: geteuid only reads this process's credentials.
        if owner != unsafe { libc::geteuid() } {
            return Err(Failure::new(format!(
                "cache folder {shown}: belongs to another user; give --cache-dir another folder"
            )));
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join("lock"))
            .map_err(|error| failed("can't be locked", error))?;
        let deadline = Instant::now() + FINISHING;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(failed("can't be locked", error)),
                Err(TryLockError::WouldBlock) => {}
            }
            let holder = read_holder(&mut file);
            let mounted = holder.as_ref().is_none_or(|holder| is_mounted(&holder.mountpoint));
            if mounted || Instant::now() > deadline {
                return Err(in_use(&shown, holder, mounted));
            }
            thread::sleep(Duration::from_millis(50));
        }
        write_holder(&mut file, mountpoint).map_err(|error| failed("can't be written", error))?;
        Ok(CacheLock { _file: file })
    }
}

fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(16 * 1024).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn write_holder(file: &mut File, mountpoint: &Path) -> std::io::Result<()> {
    let holder = Holder { pid: std::process::id(), mountpoint: mountpoint.to_owned() };
    // A path that isn't Unicode can't be written as JSON; the lock holds without its label.
    let text = serde_json::to_string(&holder).unwrap_or_default();
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())
}

fn in_use(dir: &str, holder: Option<Holder>, mounted: bool) -> Failure {
    let Some(Holder { pid, mountpoint }) = holder else {
        return Failure::new(format!(
            "cache folder {dir} is in use by another cwlogs-mount; give --cache-dir another folder"
        ));
    };
    let mountpoint = printable(&mountpoint.to_string_lossy());
    if mounted {
        Failure::new(format!(
            "cache folder {dir} is in use by process {pid}, mounted at {mountpoint}; unmount that first \
             (`cwlogs-mount --unmount {mountpoint}`) or give --cache-dir another folder"
        ))
    } else {
        Failure::new(format!(
            "cache folder {dir} is in use by process {pid}, which still serves files that were open when {mountpoint} was \
             unmounted; close them, or end it (`kill {pid}`)"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_second_daemon_is_refused_and_told_who_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("a/cache");
        let held = CacheLock::take(&cache, Path::new("/mnt/logs"), |_| true).unwrap();
        assert_eq!(cache.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let error = CacheLock::take(&cache, Path::new("/mnt/other"), |_| true).unwrap_err().to_string();
        assert!(error.contains("/mnt/logs") && error.contains(&std::process::id().to_string()), "{error}");
        drop(held);
        CacheLock::take(&cache, Path::new("/mnt/other"), |_| true).unwrap();
    }

    #[test]
    fn one_that_is_finishing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let held = CacheLock::take(dir.path(), Path::new("/mnt/logs"), |_| true).unwrap();
        let ends = thread::spawn(move || {
            thread::sleep(Duration::from_millis(150));
            drop(held);
        });
        CacheLock::take(dir.path(), Path::new("/mnt/logs"), |_| false).unwrap();
        ends.join().unwrap();
    }
}
