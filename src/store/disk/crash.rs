//! A disk in memory that forgets: what a power cut at the n-th sync would leave. And one that fails on single files.
//!
//! Each file has live bytes and durable bytes, each folder live and durable names. A sync, of a file or a folder or the catalogue, counts;
//! at the `freeze_at`-th it fails and nothing works from then on. [`CrashDisk::after_power_cut`] is the disk as the next start finds it.

use super::{Disk, DiskFile};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Clone, Debug, Default)]
struct Blob {
    live: Vec<u8>,
    durable: Vec<u8>,
}

/// What a file system calls an inode: a file whatever its name.
type Number = u64;

#[derive(Debug, Default)]
struct World {
    blobs: HashMap<Number, Blob>,
    names: HashMap<PathBuf, Number>,
    durable_names: HashMap<PathBuf, Number>,
    syncs: u64,
    freeze_at: Option<u64>,
    frozen: bool,
    full: bool,
    fail_sync_of: Option<(PathBuf, u64)>,
    /// Bytes that are free, if that is told.
    free: Option<u64>,
    /// Calls that fail, by the name under which their file was opened.
    faults: HashMap<PathBuf, Failing>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct CrashDisk(Arc<Mutex<World>>);

#[derive(Debug)]
pub(crate) struct CrashFile {
    path: PathBuf,
    number: Number,
    disk: CrashDisk,
}

/// Whether unsynced bytes are lost or happen to be on the disk already: a crash may leave either.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unsynced {
    Lost,
    Kept,
    Torn,
}

/// A call on a file that fails with EIO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failing {
    Open,
    Read,
    Write,
    Sync,
    Remove,
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

    /// So many bytes are told to be free from now on.
    pub(crate) fn leave_free(&self, bytes: u64) {
        self.lock().free = Some(bytes);
    }

    /// The n-th sync of this file from now on fails, and only that one.
    pub(crate) fn fail_nth_sync_of(&self, path: &Path, n: u64) {
        self.lock().fail_sync_of = Some((path.to_owned(), n));
    }

    /// Calls of this kind on this file fail from now on; `None`: it is sound again.
    pub(crate) fn fail(&self, path: &Path, failing: Option<Failing>) {
        let mut world = self.lock();
        match failing {
            Some(failing) => drop(world.faults.insert(path.to_owned(), failing)),
            None => drop(world.faults.remove(path)),
        }
    }

    /// Every file is sound again.
    pub(crate) fn fail_nowhere(&self) {
        self.lock().faults.clear();
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    pub(crate) fn after_power_cut(&self, unsynced: Unsynced) -> CrashDisk {
        let world = self.lock();
        let names = if unsynced == Unsynced::Lost { &world.durable_names } else { &world.names };
        let blob = |number: &Number| {
            let blob = world.blobs.get(number).cloned().unwrap_or_default();
            let bytes = match unsynced {
                Unsynced::Lost => blob.durable,
                Unsynced::Kept => blob.live,
                // The length made it, the last bytes did not.
                Unsynced::Torn if blob.live.len() > blob.durable.len() => {
                    let mut bytes = blob.live;
                    bytes[blob.durable.len()..].iter_mut().skip(1).for_each(|b| *b = 0);
                    bytes
                }
                Unsynced::Torn => blob.durable,
            };
            (*number, Blob { live: bytes.clone(), durable: bytes })
        };
        let blobs = names.values().map(blob).collect();
        let (names, durable_names) = (names.clone(), names.clone());
        CrashDisk(Arc::new(Mutex::new(World { blobs, names, durable_names, ..World::default() })))
    }

    /// The file of this name, made if it isn't there.
    pub(crate) fn file(&self, path: &Path) -> CrashFile {
        let mut world = self.lock();
        let next = world.blobs.keys().max().map_or(1, |last| last + 1);
        let number = *world.names.entry(path.to_owned()).or_insert(next);
        world.blobs.entry(number).or_default();
        drop(world);
        CrashFile { path: path.to_owned(), number, disk: self.clone() }
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

impl World {
    fn sound(&self, path: &Path, call: Failing) -> io::Result<()> {
        match self.faults.get(path) {
            Some(failing) if *failing == call => Err(io::Error::from_raw_os_error(libc::EIO)),
            _ => Ok(()),
        }
    }
}

impl Disk for CrashDisk {
    fn make_dir(&self, _: &Path) -> io::Result<()> {
        self.alive().map(drop)
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        {
            let world = self.alive()?;
            world.sound(path, Failing::Open)?;
            if !create && !world.names.contains_key(path) {
                return Err(io::ErrorKind::NotFound.into());
            }
        }
        Ok(Arc::new(self.file(path)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.alive()?;
        world.sound(path, Failing::Remove)?;
        world.names.remove(path);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.alive()?;
        let number = world.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        world.names.insert(to.to_owned(), number);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.sync_point()?;
        let World { names, durable_names, .. } = &mut *world;
        durable_names.retain(|name, _| name.parent() != Some(path));
        let here = names.iter().filter(|(name, _)| name.parent() == Some(path));
        durable_names.extend(here.map(|(name, number)| (name.clone(), *number)));
        Ok(())
    }

    fn space(&self, _: &Path) -> Option<(u64, u64)> {
        Some((self.lock().free?, u64::MAX))
    }
}

impl CrashFile {
    pub(crate) fn keep_name(&self) {
        self.disk.lock().durable_names.insert(self.path.clone(), self.number);
    }

    fn with<T>(&self, call: Failing, act: impl FnOnce(&mut Blob, bool) -> io::Result<T>) -> io::Result<T> {
        let mut world = self.disk.alive()?;
        world.sound(&self.path, call)?;
        let full = world.full;
        act(world.blobs.get_mut(&self.number).ok_or(io::ErrorKind::NotFound)?, full)
    }
}

impl DiskFile for CrashFile {
    fn len(&self) -> io::Result<u64> {
        // A file's length is known without reading it.
        self.with(Failing::Open, |blob, _| Ok(blob.live.len() as u64))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(Failing::Read, |blob, _| {
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
        self.with(Failing::Write, |blob, full| {
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
        let mut world = self.disk.sync_point()?;
        world.sound(&self.path, Failing::Sync)?;
        if let Some((path, left)) = &mut world.fail_sync_of
            && *path == self.path
        {
            *left -= 1;
            if *left == 0 {
                world.fail_sync_of = None;
                return Err(io::Error::other("sync failed"));
            }
        }
        let blob = world.blobs.get_mut(&self.number).ok_or(io::ErrorKind::NotFound)?;
        blob.durable = blob.live.clone();
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.with(Failing::Write, |blob, full| {
            if full && len as usize > blob.live.len() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            blob.live.resize(len as usize, 0);
            Ok(())
        })
    }
}
