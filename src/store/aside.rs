//! What was set aside: a damaged catalogue as `*.damaged-N`, what another version left as `*.old-N`.
//!
//! These files aren't read any more; they are kept for a person who wants to know what happened. They count in the budget, and go before any
//! text does.

use super::StoreError;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

/// Renames `names` in `dir`, in this order, to the first number that is free for all of them. One that isn't there is left out.
pub(crate) fn set_aside(dir: &Path, names: &[&str], why: &str) -> Result<u32, StoreError> {
    let aside = |name: &str, n: u32| dir.join(format!("{name}.{why}-{n}"));
    let free = (1..).find(|n| names.iter().all(|name| fs::symlink_metadata(aside(name, *n)).is_err())).unwrap_or(1);
    for name in names {
        let path = dir.join(name);
        match fs::rename(&path, aside(name, free)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(StoreError::io("set aside", &path, &e)),
            _ => {}
        }
    }
    Ok(free)
}

/// Bytes that lie aside in `dir`.
pub(crate) fn bytes(dir: &Path) -> io::Result<u64> {
    found(dir)?.iter().map(|path| bytes_under(path)).sum()
}

/// Takes away all that lies aside in `dir`.
pub(crate) fn remove(dir: &Path) -> io::Result<()> {
    for path in found(dir)? {
        if fs::symlink_metadata(&path)?.is_dir() {
            fs::remove_dir_all(&path)?;
        } else {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn found(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_aside) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn is_aside(name: &str) -> bool {
    let numbered = |why: &str| {
        name.split_once(why).is_some_and(|(what, n)| {
            matches!(what, "catalogue.redb" | "streams") && !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())
        })
    };
    numbered(".damaged-") || numbered(".old-")
}

fn bytes_under(path: &Path) -> io::Result<u64> {
    let meta: Metadata = fs::symlink_metadata(path)?;
    if !meta.is_dir() {
        return Ok(meta.len());
    }
    fs::read_dir(path)?.map(|entry| bytes_under(&entry?.path())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_set_aside_is_counted_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("streams/0a")).unwrap();
        fs::write(path("streams/0a/1.text"), [0; 10]).unwrap();
        fs::write(path("catalogue.redb"), [0; 100]).unwrap();
        assert_eq!(set_aside(dir.path(), &["streams", "catalogue.redb"], "old").unwrap(), 1);
        fs::write(path("catalogue.redb"), [0; 1000]).unwrap();
        assert_eq!(set_aside(dir.path(), &["streams", "catalogue.redb"], "old").unwrap(), 2);
        fs::write(path("catalogue.redb"), [0; 5]).unwrap();
        assert_eq!(set_aside(dir.path(), &["catalogue.redb"], "damaged").unwrap(), 1);
        for others in ["catalogue.redb", "streams.older-1", "mine.old-1", "catalogue.redb.old-", "log"] {
            fs::write(path(others), [0; 7]).unwrap();
        }
        assert_eq!(bytes(dir.path()).unwrap(), 10 + 100 + 1000 + 5);
        remove(dir.path()).unwrap();
        assert_eq!(bytes(dir.path()).unwrap(), 0);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 5, "the others stay");
    }
}
