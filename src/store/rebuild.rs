//! A catalogue that is lost or damaged is made again from the index files.
//!
//! What only the catalogue knew is lost with it: live rows that were in no file yet, and so the order in which the newest events were
//! shown. Therefore every stream begins a new generation, with a new number and inode, and keeps the text that it has; what is missing
//! is found when the stream is next opened, since nothing of it counts as settled. Only a stream whose index has the mark of one that was
//! read to its end is taken for more than a part; of the others the rest is downloaded once they are read. The old catalogue is set
//! aside.

use super::aside::set_aside;
use super::catalogue::{Adopted, Catalogue, Opened, Place, check_file, file_opener};
use super::index::{BLOCK_HEADER, BlockHead, FILE_HEADER_MAX, Identity};
use super::{StoreError, StoreErrorKind};
use crate::model::{LogClass, LogGroup, LogStream, Timestamp};
use crate::store::row::Extent;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Written when the catalogue turns out to be damaged while it is in use.
const MARKER: &str = "catalogue.lost";
const CATALOGUE: &str = "catalogue.redb";

/// An index file and what its sound beginning tells.
struct Found {
    path: PathBuf,
    identity: Identity,
    /// Bytes of its header.
    header: usize,
    place: Place,
    extent: Extent,
}

/// Notes that the catalogue is damaged, for the next start.
pub(crate) fn note(dir: &Path, why: &str) {
    tracing::error!(dir = %dir.display(), why, "the catalogue is damaged; mount again to have it rebuilt from the cached files");
    if let Err(error) = write_marker(dir, why) {
        tracing::warn!(dir = %dir.display(), %error, "that the catalogue is damaged could not be written down");
    }
}

fn write_marker(dir: &Path, why: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut options = fs::OpenOptions::new();
    let marker = options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = marker.open(dir.join(MARKER))?;
    file.write_all(why.as_bytes())?;
    file.sync_all()
}

/// Rebuilds the catalogue of `dir` if it is lost or damaged; tells why. One of more than `most` bytes isn't verified.
pub(crate) fn if_needed(dir: &Path, most: u64) -> Result<Option<String>, StoreError> {
    let Some(why) = reason(dir, most)? else { return Ok(None) };
    tracing::warn!(dir = %dir.display(), %why, "the catalogue is rebuilt from the cached files");
    write_marker(dir, &why).map_err(|e| StoreError::io("write", &dir.join(MARKER), &e))?;
    rebuild(dir)?;
    Ok(Some(why))
}

fn reason(dir: &Path, most: u64) -> Result<Option<String>, StoreError> {
    let (marker, catalogue) = (dir.join(MARKER), dir.join(CATALOGUE));
    if let Ok(why) = fs::read_to_string(&marker) {
        return Ok(Some(why));
    }
    if fs::symlink_metadata(&catalogue).is_err() {
        return Ok((!index_files(dir)?.is_empty()).then(|| format!("{} is missing", catalogue.display())));
    }
    match check_file(&catalogue, most) {
        Ok(()) => Ok(None),
        Err(StoreError { kind: StoreErrorKind::CatalogueLost, message }) => Ok(Some(message)),
        Err(other) => Err(other),
    }
}

fn rebuild(dir: &Path) -> Result<(), StoreError> {
    let (new, catalogue) = (dir.join("catalogue.rebuilt"), dir.join(CATALOGUE));
    let failed = |what: &str, path: &Path, e: &std::io::Error| StoreError::io(what, path, e);
    match fs::remove_file(&new) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed("remove", &new, &e)),
        _ => {}
    }
    {
        let Opened::Ready(rebuilt) = Catalogue::open(file_opener(&new)?, Box::new(|_| {}))? else {
            return Err(StoreError::new(StoreErrorKind::Refused, "a new catalogue is of another version"));
        };
        fill(dir, &rebuilt)?;
    }
    set_aside(dir, &[CATALOGUE], "damaged")?;
    fs::rename(&new, &catalogue).map_err(|e| failed("rename", &new, &e))?;
    let marker = dir.join(MARKER);
    fs::remove_file(&marker).map_err(|e| failed("remove", &marker, &e))?;
    let folder = fs::File::open(dir).and_then(|folder| folder.sync_all());
    folder.map_err(|e| failed("sync", dir, &e))
}

/// Takes all streams with a readable index into a new catalogue; other files of streams are removed.
fn fill(dir: &Path, catalogue: &Catalogue) -> Result<(), StoreError> {
    let mut found: BTreeMap<(String, i64), BTreeMap<String, Found>> = BTreeMap::new();
    let mut last = 0;
    for path in index_files(dir)? {
        last = last.max(number_of(&path).unwrap_or(0));
        let Some(one) = read_index(&path)? else {
            remove_stream(&path);
            continue;
        };
        let group = (one.identity.group.clone(), one.identity.group_created.0);
        let others = found.entry(group).or_default();
        // Of two generations the newer one is the stream; of two copies after a rebuild that was cut off, either.
        let newer = |old: &Found| {
            (one.identity.stream_created, one.identity.id) > (old.identity.stream_created, old.identity.id)
        };
        if others.get(&one.identity.stream).is_none_or(newer) {
            let name = one.identity.stream.clone();
            others.insert(name, one).iter().for_each(|old| remove_stream(&old.path));
        } else {
            remove_stream(&one.path);
        }
    }
    // Past every number that the lost catalogue may have given: an inode number is never used again.
    let seconds = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    catalogue.number_from((last + 1).max(seconds << 12))?;
    for ((name, created), streams) in found {
        let group = LogGroup {
            name,
            arn: String::new(),
            created: Timestamp(created),
            class: LogClass::Standard,
            retention_days: None,
            stored_bytes: 0,
        };
        let rows = catalogue.upsert_groups(&[group])?;
        let Some(group) = rows.first() else { continue };
        let mut streams: Vec<Found> = streams.into_values().collect();
        streams.sort_by_key(|one| one.identity.id);
        let listed: Vec<LogStream> = streams.iter().map(|one| stream_of(&one.identity)).collect();
        let rows = catalogue.upsert_streams(group.id, &listed)?.rows;
        let mut adopted = Vec::with_capacity(rows.len());
        for (one, row) in streams.into_iter().zip(rows) {
            adopted.push(move_files(dir, &one, row.id.0)?);
        }
        catalogue.adopt(&adopted)?;
    }
    Ok(())
}

fn stream_of(identity: &Identity) -> LogStream {
    LogStream {
        name: identity.stream.clone(),
        arn: String::new(),
        created: identity.stream_created,
        first_event: None,
        last_event: None,
        last_ingestion: None,
    }
}

/// Gives a stream's files the name and the header of its new number.
fn move_files(dir: &Path, one: &Found, id: u64) -> Result<Adopted, StoreError> {
    let folder = dir.join("streams").join(format!("{:02x}", id & 0xff));
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|e| StoreError::io("make", &folder, &e))?;
    let (index, text) = (folder.join(format!("{id}.index")), folder.join(format!("{id}.text")));
    let bytes = fs::read(&one.path).map_err(|e| StoreError::io("read", &one.path, &e))?;
    let sound = bytes.get(one.header..one.place.index as usize).unwrap_or_default();
    let mut new = Identity { id, ..one.identity.clone() }.encode();
    let place = Place { index: (new.len() + sound.len()) as u64, ..one.place };
    new.extend_from_slice(sound);
    write_file(&index, &new).map_err(|e| StoreError::io("write", &index, &e))?;
    let old_text = one.path.with_extension("text");
    let text_len = match fs::rename(&old_text, &text) {
        Ok(()) => place.text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
        Err(e) => return Err(StoreError::io("rename", &old_text, &e)),
    };
    fs::remove_file(&one.path).map_err(|e| StoreError::io("remove", &one.path, &e))?;
    Ok(Adopted { id, place, extent: one.extent, text_on_disk: text_len })
}

fn write_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let mut options = fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Files of a stream that are of no use any more. One that stays is only in the way.
fn remove_stream(index: &Path) {
    for path in [index.with_extension("text"), index.to_owned()] {
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "a file of no use could not be removed");
        }
    }
}

fn number_of(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// All index files under `dir`; what isn't named like one is left alone.
pub(crate) fn index_files(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let streams = dir.join("streams");
    let mut found = Vec::new();
    let folders = match fs::read_dir(&streams) {
        Ok(folders) => folders,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(StoreError::io("read", &streams, &e)),
    };
    for folder in folders.flatten().filter(|folder| folder.file_type().is_ok_and(|kind| kind.is_dir())) {
        let files = fs::read_dir(folder.path()).map_err(|e| StoreError::io("read", &folder.path(), &e))?;
        let paths = files.flatten().filter(|file| file.file_type().is_ok_and(|kind| kind.is_file())).map(|f| f.path());
        found.extend(paths.filter(|path| path.extension().is_some_and(|e| e == "index") && number_of(path).is_some()));
    }
    found.sort();
    Ok(found)
}

/// What an index file holds up to its first unreadable block; `None` if not even its header can be read.
fn read_index(path: &Path) -> Result<Option<Found>, StoreError> {
    let failed = |e: std::io::Error| StoreError::io("read", path, &e);
    let mut file = fs::File::open(path).map_err(failed)?;
    let mut head = Vec::new();
    file.by_ref().take(FILE_HEADER_MAX as u64).read_to_end(&mut head).map_err(failed)?;
    let Some((identity, header)) = Identity::decode(&head) else { return Ok(None) };
    let mut bytes = head.split_off(header);
    file.read_to_end(&mut bytes).map_err(failed)?;
    let mut place = Place { index: header as u64, ..Place::default() };
    let mut extent = Extent::default();
    let mut rest = bytes.as_slice();
    while let Some(block) = BlockHead::decode(rest) {
        let Some(payload) = rest.get(BLOCK_HEADER..BLOCK_HEADER + block.payload_len as usize) else { break };
        if block.entries(payload).is_none() {
            break;
        }
        rest = &rest[BLOCK_HEADER + payload.len()..];
        place.index += (BLOCK_HEADER + payload.len()) as u64;
        if block.is_mark() {
            (extent.complete, place.marked) = (true, true);
            continue;
        }
        place.text += block.text_len;
        place.events += u64::from(block.events);
        extent.oldest = Some(extent.oldest.map_or(block.least, |oldest: Timestamp| oldest.min(block.least)));
        extent.newest = extent.newest.max(Some(block.greatest));
        extent.newest_ingestion = extent.newest_ingestion.max(Some(block.greatest_ingestion));
    }
    if place.events == 0 {
        return Ok(None);
    }
    (extent.text_len, extent.events) = (place.text, place.events);
    Ok(Some(Found { path: path.to_owned(), identity, header, place, extent }))
}
