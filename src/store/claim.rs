//! Whose the cache folder is: ours, empty and so free to take, or another program's, whose files must stay as they are.
//!
//! Ours is a folder with our mark, with a catalogue, or with index files of ours (versions before the mark wrote those alone). An empty
//! folder becomes ours. Everything else is refused before anything in it is made, changed or removed.

use super::index::{FILE_HEADER_MAX, Identity};
use super::rebuild::index_files;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

/// The file that makes a folder ours. Backup programs know it, too, and leave out what can be had again:
/// <https://bford.info/cachedir/>.
const MARK: &str = "CACHEDIR.TAG";
const MARK_TEXT: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This folder is the cache of cwlogs-mount. All in it can be fetched again: https://bford.info/cachedir/\n";
/// What every mark begins with, of whichever program, and what is in ours alone.
const SIGNATURE: &str = "Signature: 8a477f597d28d172789f06886806bc55";
const NAME: &str = "cache of cwlogs-mount";
/// What `mkfs` leaves in a file system of its own.
const OF_MKFS: &str = "lost+found";
/// What we make in the folder, and follow no link of.
const MADE: [&str; 7] = ["catalogue.redb", "catalogue.new", "catalogue.lost", "streams", "renditions", "lock", "log"];

/// Why a folder isn't taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A call failed.
    #[error("it can't be {0}: {1}")]
    Failed(&'static str, io::Error),
    /// Its owner can change what readers are shown.
    #[error("it belongs to another user")]
    Foreign,
    /// So can every user.
    #[error("everybody may write to it (`chmod 700` makes it private, if nobody else needs it)")]
    Open,
    /// It holds something that isn't ours.
    #[error("it is no cache of cwlogs-mount, and not empty: it holds {0:?}")]
    InUse(String),
    /// A link would lead out of it.
    #[error("{0:?} in it is a symbolic link; nothing in a cache folder is followed (the folder itself may be a link)")]
    Link(&'static str),
}

/// Makes the folder (0700) if it isn't there, and makes it ours if it may be. One that the group may write to is made private.
pub fn claim(dir: &Path) -> Result<(), Refused> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| Refused::Failed("made", error))?;
    let folder = File::open(dir).map_err(|error| Refused::Failed("read", error))?;
    wait_for_others(&folder);
    look(dir)?;
    let mode = folder.metadata().map_err(|error| Refused::Failed("read", error))?.mode();
    if mode & 0o020 != 0 {
        tracing::warn!(dir = %dir.display(), "the group could write to the cache folder; it is private now (0700)");
        folder
            .set_permissions(Permissions::from_mode(0o700))
            .map_err(|error| Refused::Failed("made private", error))?;
    }
    // On a full disk there is none; the next start makes it.
    if let Err(error) = make_mark(dir) {
        tracing::warn!(dir = %dir.display(), %error, "the cache folder could not be marked as such");
    }
    Ok(())
}

/// Of two that start at once, one may have made the mark and not yet written it. Some network file systems have no such lock.
fn wait_for_others(folder: &File) {
    for _ in 0..20 {
        match folder.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
            Ok(()) | Err(TryLockError::Error(_)) => return,
        }
    }
}

/// Whether [`claim`] would take a folder that is there. Changes nothing.
pub fn look(dir: &Path) -> Result<(), Refused> {
    let failed = |error| Refused::Failed("read", error);
    let found = dir.metadata().map_err(failed)?;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(Refused::Foreign);
    }
    if found.mode() & 0o002 != 0 {
        return Err(Refused::Open);
    }
    if let Some(other) = foreign_entry(dir).map_err(failed)?
        && !is_ours(dir).map_err(failed)?
    {
        return Err(Refused::InUse(other));
    }
    let is_link = |name: &&str| dir.join(name).symlink_metadata().is_ok_and(|found| found.is_symlink());
    MADE.into_iter().find(is_link).map_or(Ok(()), |name| Err(Refused::Link(name)))
}

/// Something in the folder that an empty one wouldn't have.
fn foreign_entry(dir: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // A start that was killed may have left the mark without its text.
        let is_begun = || entry.file_name() == MARK && entry.metadata().is_ok_and(|found| found.len() == 0);
        if entry.file_name() != OF_MKFS && !is_begun() {
            return Ok(Some(entry.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

fn is_ours(dir: &Path) -> io::Result<bool> {
    if read_mark(dir).is_some_and(|text| text.contains(NAME)) {
        return Ok(true);
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let is_catalogue = entry.file_name().to_string_lossy().starts_with("catalogue.redb");
        if is_catalogue && entry.file_type()?.is_file() {
            return Ok(true);
        }
    }
    if !dir.join("streams").symlink_metadata().is_ok_and(|found| found.is_dir()) {
        return Ok(false);
    }
    let indexes = index_files(dir).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(indexes.iter().any(|path| has_header(path).unwrap_or(false)))
}

fn has_header(path: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    File::open(path)?.take(FILE_HEADER_MAX as u64).read_to_end(&mut head)?;
    Ok(Identity::decode(&head).is_some())
}

/// The mark's text, if it is one.
fn read_mark(dir: &Path) -> Option<String> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(dir.join(MARK)).ok()?;
    let mut text = String::new();
    file.take(4096).read_to_string(&mut text).ok()?;
    text.starts_with(SIGNATURE).then_some(text)
}

/// Writes the mark, unless there is one, of whatever program.
fn make_mark(dir: &Path) -> io::Result<()> {
    if read_mark(dir).is_some() {
        return Ok(());
    }
    let mut options = OpenOptions::new();
    let mark = options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = mark.open(dir.join(MARK))?;
    if file.metadata()?.len() > 0 {
        return Ok(());
    }
    file.write_all(MARK_TEXT.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use std::os::unix::fs::symlink;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_empty_folder_is_taken_and_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let (new, disk) = (dir.path().join("a/b"), dir.path().join("disk"));
        fs::create_dir_all(disk.join(OF_MKFS)).unwrap();
        for folder in [&new, &disk] {
            claim(folder).unwrap();
            fs::write(folder.join("lock"), "").unwrap();
            claim(folder).unwrap();
            assert!(fs::read_to_string(folder.join(MARK)).unwrap().starts_with(SIGNATURE));
        }
        assert_eq!(new.metadata().unwrap().mode() & 0o777, 0o700);
        // A start was killed before the mark had its text.
        fs::remove_file(new.join("lock")).unwrap();
        fs::write(new.join(MARK), "").unwrap();
        claim(&new).unwrap();
        assert_eq!(fs::read_to_string(new.join(MARK)).unwrap(), MARK_TEXT);
    }

    #[test]
    fn a_folder_in_use_stays_as_it_is() {
        for name in ["renditions/mine", "streams/00/7.index", "lock", "log", "notes.txt", MARK] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, format!("{SIGNATURE}\nof another program")).unwrap();
            let before = names(dir.path());
            assert!(matches!(claim(dir.path()), Err(Refused::InUse(_))), "{name}");
            assert_eq!(names(dir.path()), before);
            assert!(fs::read_to_string(&file).unwrap().ends_with("of another program"));
        }
    }

    #[test]
    fn a_cache_without_a_mark_is_ours() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path()).unwrap());
        assert!(!names(dir.path()).contains(&MARK.to_owned()));
        claim(dir.path()).unwrap();
        fs::remove_file(dir.path().join(MARK)).unwrap();
        let old = dir.path().join("catalogue.redb.old-1");
        fs::rename(dir.path().join("catalogue.redb"), old).unwrap();
        claim(dir.path()).unwrap();
    }

    #[test]
    fn a_cache_that_others_may_write_to_is_made_private_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let chmod = |mode| fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
        let mode = || dir.path().metadata().unwrap().mode() & 0o7777;
        chmod(0o777);
        assert!(matches!(claim(dir.path()), Err(Refused::Open)));
        assert!(mode() == 0o777 && names(dir.path()).is_empty());
        chmod(0o775);
        claim(dir.path()).unwrap();
        assert_eq!(mode(), 0o700);
        chmod(0o777);
        assert!(matches!(claim(dir.path()), Err(Refused::Open)), "ours as well: what is in it may be anybody's");
    }

    #[test]
    fn no_link_is_followed_but_the_folders_own() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, link, other) = (dir.path().join("cache"), dir.path().join("link"), dir.path().join("other"));
        for folder in [&cache, &other] {
            fs::create_dir(folder).unwrap();
        }
        symlink(&cache, &link).unwrap();
        claim(&link).unwrap();
        for name in ["streams", "renditions", "lock"] {
            symlink(&other, cache.join(name)).unwrap();
            assert!(matches!(claim(&link), Err(Refused::Link(found)) if found == name));
            fs::remove_file(cache.join(name)).unwrap();
        }
        claim(&link).unwrap();
        assert!(names(&other).is_empty());
    }
}
