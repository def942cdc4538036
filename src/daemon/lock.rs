//! One daemon a cache: an advisory lock on CACHE/lock, which dies with its holder. The file says who holds it.

use super::Failure;
use crate::model::printable;
use crate::store::claim::claim;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
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

/// What the lock is taken for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose<'a> {
    /// A mount at this place.
    Mount(&'a Path),
    /// `--verify`.
    Verify,
}

/// Who holds the lock.
#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
    /// `None`: it verifies.
    mountpoint: Option<PathBuf>,
}

impl CacheLock {
    /// Makes the folder ours if it may be (see [`claim`]), and locks it. `is_mounted` tells whether the holder's
    /// mount is still there: one that was just unmounted is waited for.
    pub(crate) fn take(
        dir: &Path,
        purpose: Purpose<'_>,
        is_mounted: impl Fn(&Path) -> bool,
    ) -> Result<CacheLock, Failure> {
        let shown = printable(&dir.to_string_lossy());
        let failed = |what: &str, error: std::io::Error| {
            Failure::new(format!("cache folder {shown}: {what}: {error}; give --cache-dir another folder"))
        };
        claim(dir).map_err(|refused| {
            Failure::new(format!("cache folder {shown}: {refused}; give --cache-dir another folder"))
        })?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
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
            let place = holder.as_ref().and_then(|holder| holder.mountpoint.as_deref());
            let mounted = place.is_none_or(&is_mounted);
            if mounted || Instant::now() > deadline {
                return Err(in_use(&shown, holder, mounted, purpose));
            }
            thread::sleep(Duration::from_millis(50));
        }
        write_holder(&mut file, purpose).map_err(|error| failed("can't be written", error))?;
        Ok(CacheLock { _file: file })
    }
}

fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(16 * 1024).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn write_holder(file: &mut File, purpose: Purpose<'_>) -> std::io::Result<()> {
    let mountpoint = match purpose {
        Purpose::Mount(path) => Some(path.to_owned()),
        Purpose::Verify => None,
    };
    let holder = Holder { pid: std::process::id(), mountpoint };
    // A path that isn't Unicode can't be written as JSON; the lock holds without its label.
    let text = serde_json::to_string(&holder).unwrap_or_default();
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())
}

fn in_use(dir: &str, holder: Option<Holder>, mounted: bool, purpose: Purpose<'_>) -> Failure {
    // Another folder is a way out for a mount; it would be the wrong one to verify.
    let (otherwise, again) = match purpose {
        Purpose::Mount(_) => ("; give --cache-dir another folder", " or give --cache-dir another folder"),
        Purpose::Verify => ("; end it and verify then", ", verify, and mount again"),
    };
    let Some(Holder { pid, mountpoint }) = holder else {
        return Failure::new(format!("cache folder {dir} is in use by another cwlogs-mount{otherwise}"));
    };
    let Some(mountpoint) = mountpoint else {
        return Failure::new(format!(
            "cache folder {dir} is in use by process {pid}, which verifies it; wait for its end"
        ));
    };
    let mountpoint = printable(&mountpoint.to_string_lossy());
    if mounted {
        Failure::new(format!(
            "cache folder {dir} is in use by process {pid}, mounted at {mountpoint}; unmount that first \
             (`cwlogs-mount --unmount {mountpoint}`){again}"
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
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_second_daemon_is_refused_and_told_who_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("a/cache");
        let held = CacheLock::take(&cache, Purpose::Mount(Path::new("/mnt/logs")), |_| true).unwrap();
        assert_eq!(cache.metadata().unwrap().mode() & 0o777, 0o700);
        let error = CacheLock::take(&cache, Purpose::Mount(Path::new("/mnt/other")), |_| true).unwrap_err().to_string();
        assert!(error.contains("/mnt/logs") && error.contains(&std::process::id().to_string()), "{error}");
        drop(held);
        CacheLock::take(&cache, Purpose::Mount(Path::new("/mnt/other")), |_| true).unwrap();
    }

    #[test]
    fn one_that_is_finishing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let held = CacheLock::take(dir.path(), Purpose::Mount(Path::new("/mnt/logs")), |_| true).unwrap();
        let ends = thread::spawn(move || {
            thread::sleep(Duration::from_millis(150));
            drop(held);
        });
        CacheLock::take(dir.path(), Purpose::Mount(Path::new("/mnt/logs")), |_| false).unwrap();
        ends.join().unwrap();
    }
}
