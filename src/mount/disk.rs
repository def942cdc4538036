//! Space on the cache's disk, for `df`: answered from here, so that neither a dead network nor a disk that stands still freezes it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How long a disk may take to answer, before what it said last is told.
const PATIENCE: Duration = Duration::from_millis(200);

/// Space in blocks of `block_size` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DiskSpace {
    pub(super) blocks: u64,
    pub(super) free: u64,
    pub(super) available: u64,
    pub(super) block_size: u32,
}

/// Before the disk has said anything.
const UNKNOWN: DiskSpace = DiskSpace { blocks: 0, free: 0, available: 0, block_size: 4096 };

/// The disk that holds a folder, asked by one thread at a time, which may be left behind.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    is_asked: AtomicBool,
    /// What it said last.
    said: watch::Sender<DiskSpace>,
}

impl Disk {
    pub(super) fn of(folder: &Path) -> Arc<Disk> {
        Arc::new(Disk {
            folder: folder.to_owned(),
            is_asked: AtomicBool::new(false),
            said: watch::Sender::new(UNKNOWN),
        })
    }

    /// What it has now; if it doesn't answer, what it had.
    pub(super) async fn space(self: Arc<Self>) -> DiskSpace {
        let mut said = self.said.subscribe();
        if !self.is_asked.swap(true, Ordering::AcqRel) {
            let disk = self.clone();
            let asking = std::thread::Builder::new().name("disk-space".to_owned()).spawn(move || {
                let space = disk_space(&disk.folder);
                disk.is_asked.store(false, Ordering::Release);
                // Sent as it was, too: an asker waits.
                disk.said.send_modify(|said| *said = space.unwrap_or(*said));
            });
            if asking.is_err() {
                self.is_asked.store(false, Ordering::Release);
            }
        }
        let _ = tokio::time::timeout(PATIENCE, said.changed()).await;
        *self.said.borrow()
    }
}

/// What the disk that holds `path` has.
fn disk_space(path: &Path) -> io::Result<DiskSpace> {
    let stat = rustix::fs::statvfs(path)?;
    let block_size = u32::try_from(stat.f_frsize).unwrap_or(4096);
    Ok(DiskSpace { blocks: stat.f_blocks, free: stat.f_bfree, available: stat.f_bavail, block_size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_disk_that_does_not_answer_has_what_it_had() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::of(dir.path());
        let space = disk.clone().space().await;
        assert!(space.blocks > 0);
        // As if a thread were asking.
        disk.is_asked.store(true, Ordering::Release);
        let asked = disk.clone().space().await;
        assert_eq!(asked.blocks, space.blocks);
    }
}
