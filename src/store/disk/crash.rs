//! A disk in memory that forgets: what a power cut at the n-th sync would leave.
//!
//! Each file has live bytes and durable bytes. A sync, of a file or a folder or the catalogue, counts; at the `freeze_at`-th it fails and
//! nothing works from then on. [`CrashDisk::after_power_cut`] is the disk as the next start finds it.

use super::{Disk, DiskFile};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Clone, Debug, Default)]
struct Blob {
    live: Vec<u8>,
    durable: Vec<u8>,
    name_durable: bool,
}

#[derive(Debug, Default)]
struct World {
    files: HashMap<PathBuf, Blob>,
    /// Removed, but not yet for good: their folder wasn't synced.
    removed: HashMap<PathBuf, Blob>,
    syncs: u64,
    freeze_at: Option<u64>,
    frozen: bool,
    full: bool,
    fail_sync_of: Option<(PathBuf, u64)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct CrashDisk(Arc<Mutex<World>>);

#[derive(Debug)]
pub(crate) struct CrashFile(PathBuf, CrashDisk);

/// Whether unsynced bytes are lost or happen to be on the disk already: a crash may leave either.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unsynced {
    Lost,
    Kept,
    Torn,
}

impl CrashDisk {
    pub(crate) fn freeze_at(&self, sync: u64) {
        self.lock().freeze_at = Some(sync);
    }

    /// Whether the power is cut.
    pub(crate) fn is_frozen(&self) -> bool {
        self.lock().frozen
    }

    pub(crate) fn fill(&self, full: bool) {
        self.lock().full = full;
    }

    /// The n-th sync of this file from now on fails, and only that one.
    pub(crate) fn fail_nth_sync_of(&self, path: &Path, n: u64) {
        self.lock().fail_sync_of = Some((path.to_owned(), n));
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    pub(crate) fn after_power_cut(&self, unsynced: Unsynced) -> CrashDisk {
        let world = self.lock();
        let back = world.removed.iter().filter(|_| unsynced == Unsynced::Lost);
        let files = back
            .chain(&world.files)
            .filter(|(_, blob)| blob.name_durable || unsynced != Unsynced::Lost)
            .map(|(path, blob)| {
                let bytes = match unsynced {
                    Unsynced::Lost => blob.durable.clone(),
                    Unsynced::Kept => blob.live.clone(),
                    // The length made it, the last bytes did not.
                    Unsynced::Torn if blob.live.len() > blob.durable.len() => {
                        let mut bytes = blob.live.clone();
                        bytes[blob.durable.len()..].iter_mut().skip(1).for_each(|b| *b = 0);
                        bytes
                    }
                    Unsynced::Torn => blob.durable.clone(),
                };
                (path.clone(), Blob { live: bytes.clone(), durable: bytes, name_durable: true })
            })
            .collect();
        CrashDisk(Arc::new(Mutex::new(World { files, ..World::default() })))
    }

    pub(crate) fn file(&self, path: &Path) -> CrashFile {
        self.lock().files.entry(path.to_owned()).or_default();
        CrashFile(path.to_owned(), self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn sync_point(&self) -> io::Result<MutexGuard<'_, World>> {
        let mut world = self.alive()?;
        world.syncs += 1;
        if world.freeze_at.is_some_and(|at| world.syncs >= at) {
            world.frozen = true;
            return Err(io::Error::other("frozen"));
        }
        Ok(world)
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = self.lock();
        if world.frozen { Err(io::Error::other("frozen")) } else { Ok(world) }
    }
}

impl Disk for CrashDisk {
    fn make_dir(&self, _: &Path) -> io::Result<()> {
        self.alive().map(drop)
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        if !create && !self.alive()?.files.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        drop(self.alive()?);
        Ok(Arc::new(self.file(path)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.alive()?;
        if let Some(blob) = world.files.remove(path).filter(|blob| blob.name_durable) {
            world.removed.insert(path.to_owned(), blob);
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.sync_point()?;
        world.removed.retain(|p, _| p.parent() != Some(path));
        world.files.iter_mut().filter(|(p, _)| p.parent() == Some(path)).for_each(|(_, blob)| blob.name_durable = true);
        Ok(())
    }

    fn space(&self, _: &Path) -> Option<(u64, u64)> {
        None
    }
}

impl CrashFile {
    pub(crate) fn keep_name(&self) {
        if let Some(blob) = self.1.lock().files.get_mut(&self.0) {
            blob.name_durable = true;
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Blob, bool) -> io::Result<T>) -> io::Result<T> {
        let mut world = self.1.alive()?;
        let full = world.full;
        act(world.files.get_mut(&self.0).ok_or(io::ErrorKind::NotFound)?, full)
    }
}

impl DiskFile for CrashFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|blob, _| Ok(blob.live.len() as u64))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(|blob, _| {
            // As the kernel: nothing can be read anywhere.
            if buffer.is_empty() {
                return Ok(());
            }
            let from = offset as usize;
            let bytes = blob.live.get(from..from + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|blob, full| {
            let end = offset as usize + bytes.len();
            // A full disk takes half and then says so.
            let taken = if full && end > blob.live.len() { bytes.len() / 2 } else { bytes.len() };
            let end = offset as usize + taken;
            if blob.live.len() < end {
                blob.live.resize(end, 0);
            }
            blob.live[offset as usize..end].copy_from_slice(&bytes[..taken]);
            if taken == bytes.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
        })
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.1.sync_point()?;
        if let Some((path, left)) = &mut world.fail_sync_of
            && *path == self.0
        {
            *left -= 1;
            if *left == 0 {
                world.fail_sync_of = None;
                return Err(io::Error::other("sync failed"));
            }
        }
        let blob = world.files.get_mut(&self.0).ok_or(io::ErrorKind::NotFound)?;
        blob.durable = blob.live.clone();
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.with(|blob, full| {
            if full && len as usize > blob.live.len() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            blob.live.resize(len as usize, 0);
            Ok(())
        })
    }
}
