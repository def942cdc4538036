//! How long streams are in formats other than the stored one, as was told: what they show has to be made to be measured, and a size that
//! a program was told must still be told after a restart.
//!
//! A size is written with the next commit, or with others of its kind by itself. It may be lost in a crash, never wrong: what it counts is
//! a pure function of committed events, and it is set after they are. A row proves itself, for a size that is too large would show bytes
//! that aren't there. Rows of streams that are gone stay; their numbers mean no other stream.

use super::{Catalogue, SIZES};
use crate::model::StreamId;
use crate::store::StoreError;
use crate::sync::lock;
use redb::WriteTransaction;
use std::collections::HashMap;
use std::sync::MutexGuard;

/// A stream's number and the format's.
type Key = (u64, u64);

/// So many of a stream's events take so many bytes in a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

/// Sizes that no commit has written yet.
pub(crate) type Sizes = HashMap<Key, Size>;

impl Catalogue {
    /// A size was told; kept in memory until the next commit. A shorter one than is known says nothing new.
    pub(crate) fn set_size(&self, id: StreamId, format: u64, size: Size) -> Result<(), StoreError> {
        if self.size(id, format)?.is_none_or(|known| known.bytes < size.bytes) {
            self.lock_sizes().insert((id.0, format), size);
        }
        Ok(())
    }

    /// The size that was told last.
    pub(crate) fn size(&self, id: StreamId, format: u64) -> Result<Option<Size>, StoreError> {
        let key = (id.0, format);
        if let Some(size) = self.lock_sizes().get(&key).copied() {
            return Ok(Some(size));
        }
        self.read(|tx| Ok(tx.open_table(SIZES)?.get(key)?.and_then(|row| proved(key, row.value()))))
    }

    /// Whether there are sizes that no commit has written yet.
    pub(crate) fn has_pending_sizes(&self) -> bool {
        !self.lock_sizes().is_empty()
    }

    pub(super) fn pending_sizes(&self) -> Sizes {
        self.lock_sizes().clone()
    }

    /// Forgets what is in the rows now, but not what was set meanwhile.
    pub(super) fn sizes_written(&self, written: &Sizes) {
        self.lock_sizes().retain(|key, size| written.get(key) != Some(size));
    }

    fn lock_sizes(&self) -> MutexGuard<'_, Sizes> {
        lock(&self.sizes)
    }
}

pub(super) fn write_sizes(tx: &WriteTransaction, sizes: &Sizes) -> Result<(), StoreError> {
    if sizes.is_empty() {
        return Ok(());
    }
    let mut table = tx.open_table(SIZES)?;
    for (key, size) in sizes {
        table.insert(*key, (size.events, size.bytes, proof(*key, *size)))?;
    }
    Ok(())
}

fn proved(key: Key, (events, bytes, crc): (u64, u64, u32)) -> Option<Size> {
    let size = Size { events, bytes };
    (crc == proof(key, size)).then_some(size)
}

fn proof((id, format): Key, size: Size) -> u32 {
    let words = [id, format, size.events, size.bytes].map(u64::to_le_bytes);
    crc32fast::hash(words.as_flattened())
}

#[cfg(test)]
mod tests {
    use super::super::{Opened, file_opener};
    use super::*;

    fn open(path: &std::path::Path) -> Catalogue {
        match Catalogue::open(file_opener(path).unwrap(), Box::new(|_| {})).unwrap() {
            Opened::Ready(catalogue) => catalogue,
            Opened::Foreign(what) => panic!("{what}"),
        }
    }

    #[test]
    fn sizes_are_kept_by_stream_and_format_and_only_grow() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalogue.redb");
        let (one, other) = (StreamId(16), StreamId(17));
        let small = Size { events: 1, bytes: 10 };
        let large = Size { events: 2, bytes: 30 };
        {
            let catalogue = open(&path);
            catalogue.set_size(one, 1, large).unwrap();
            catalogue.set_size(one, 2, small).unwrap();
            catalogue.set_size(one, 1, small).unwrap();
            assert!(catalogue.has_pending_sizes());
            catalogue.commit(&[]).unwrap();
            assert!(!catalogue.has_pending_sizes());
            catalogue.set_size(one, 1, large).unwrap();
            assert!(!catalogue.has_pending_sizes(), "told before, and written");
            catalogue.set_size(other, 1, small).unwrap();
            assert_eq!(catalogue.size(other, 1).unwrap(), Some(small), "before it is written, too");
        }
        let catalogue = open(&path);
        assert_eq!(catalogue.size(one, 1).unwrap(), Some(large));
        assert_eq!(catalogue.size(one, 2).unwrap(), Some(small));
        assert_eq!((catalogue.size(one, 3).unwrap(), catalogue.size(other, 1).unwrap()), (None, None));
    }

    #[test]
    fn a_catalogue_of_before_gets_the_table() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalogue.redb");
        drop(open(&path));
        {
            let db = super::super::open_file(&path, false).unwrap();
            let tx = db.begin_write().unwrap();
            assert!(tx.delete_table(SIZES).unwrap());
            tx.commit().unwrap();
        }
        let catalogue = open(&path);
        assert_eq!(catalogue.size(StreamId(16), 1).unwrap(), None);
        catalogue.set_size(StreamId(16), 1, Size { events: 1, bytes: 2 }).unwrap();
        catalogue.commit(&[]).unwrap();
    }

    #[test]
    fn a_row_that_is_not_what_was_written_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalogue.redb");
        let catalogue = open(&path);
        let size = Size { events: 1, bytes: 2 };
        let right = proof((16, 1), size);
        for (row, found) in [((1, 2, right), Some(size)), ((1, 3, right), None), ((2, 2, right), None)] {
            catalogue.write(|tx| Ok(tx.open_table(SIZES)?.insert((16, 1), row).map(drop)?)).unwrap();
            assert_eq!(catalogue.size(StreamId(16), 1).unwrap(), found);
        }
    }
}
