//! The catalogue on a disk that forgets.

use super::{CACHE, Opener};
use crate::store::disk::DiskFile;
use crate::store::disk::crash::{CrashDisk, CrashFile};
use redb::{Database, StorageBackend};
use std::path::Path;

impl StorageBackend for CrashFile {
    fn len(&self) -> Result<u64, std::io::Error> {
        DiskFile::len(self)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.truncate(len)
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.write_all_at(data, offset)
    }
}

/// Opens the catalogue on `disk`.
pub(crate) fn opener(disk: &CrashDisk, path: &Path) -> Opener {
    let (disk, path) = (disk.clone(), path.to_owned());
    Box::new(move || {
        let file = disk.file(&path);
        file.keep_name();
        Database::builder().set_cache_size(CACHE).create_with_backend(file)
    })
}

/// Makes a catalogue look like another version's.
pub(crate) fn forge_version(path: &Path) {
    let db = super::open_file(path, false).unwrap();
    let tx = db.begin_write().unwrap();
    tx.open_table(super::META).unwrap().insert("format", "0").unwrap();
    tx.commit().unwrap();
}
