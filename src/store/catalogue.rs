//! The catalogue: every group and stream met so far, in one transactional database file (redb).
//!
//! A row is changed only inside a write transaction that reads it first, so listings and the committer may change their own parts of it
//! without knowing of each other. Every commit also counts itself: when a commit fails, the database has to be opened again anyway (redb
//! refuses to write after a failure), and the count then tells whether the commit was kept.

mod error;
mod groups;
mod naming;
mod rows;
mod sizes;
mod streams;
mod tail;
mod used;

#[cfg(test)]
pub(crate) mod crash;
#[cfg(test)]
mod tests;

pub(crate) use rows::Place;
#[cfg(any(fuzzing, test))]
pub(crate) use rows::{any_rows, read_any as read_rows};
pub(crate) use sizes::Size;
pub(crate) use tail::Change;
pub(crate) use used::Adopted;

use super::disk::{Disk, RealDisk};
use super::row::Vouch;
use super::{StoreError, StoreErrorKind};
use crate::model::{GroupId, Timestamp};
use crate::sync::lock;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction,
};
use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The version of tables and rows; a catalogue of another one is set aside.
const FORMAT: u64 = 3;
/// The version before, which becomes this one when it is opened: its rows are read, and written anew as they change.
const BEFORE: u64 = 2;
/// Memory for the database's pages, in bytes.
const CACHE: usize = 32 << 20;
/// Largest catalogue whose pages are verified at each start, in bytes; it takes a few milliseconds a MiB. Of a larger one rows alone verify
/// themselves, when they are read.
pub(crate) const CHECKED: u64 = 16 << 20;
/// The first id: smaller ones are left to those who number other things beside rows.
const FIRST_ID: u64 = 16;
/// How long a failed database may take to be let go by its last user before it counts as stuck.
const LET_GO: Duration = Duration::from_secs(5);

/// The parent of groups, where streams have their group's id.
const ROOT: u64 = 0;

const META: TableDefinition<&str, &str> = TableDefinition::new("meta");
const COUNTERS: TableDefinition<(u64, u64), u64> = TableDefinition::new("counters");
const GROUPS: TableDefinition<u64, &[u8]> = TableDefinition::new("groups");
const STREAMS: TableDefinition<u64, &[u8]> = TableDefinition::new("streams");
/// (parent, hash of the exact name, id): a name's rows, the present generation only.
const NAMES: TableDefinition<(u64, u64, u64), ()> = TableDefinition::new("names");
/// (parent, slug) to the newest generation that has it, gone or not: what keeps slugs from ever changing hands.
const SLUGS: TableDefinition<(u64, &str), u64> = TableDefinition::new("slugs");
/// (parent, sequence) to id, gone rows left out.
const ORDER: TableDefinition<(u64, u64), u64> = TableDefinition::new("order");
/// (group, id) of streams that are complete and not gone.
const COMPLETE: TableDefinition<(u64, u64), ()> = TableDefinition::new("complete");
/// (stream, number) to events that aren't in the stream's files yet.
const TAILS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("tails");
/// Stream to (when it was last wanted, in ms since epoch; bytes of its text file), of those that have one.
const USED: TableDefinition<u64, (u64, u64)> = TableDefinition::new("used");

/// Stream to when its text was taken away (in ms since epoch), of those whose text isn't known to be whole again: bytes that it lacks are
/// no damage, and a crash may have left its file where it was.
const TAKEN: TableDefinition<u64, u64> = TableDefinition::new("taken");

/// (stream, format's number) to (events, bytes that they take in that format, checksum): sizes that were told.
const SIZES: TableDefinition<(u64, u64), (u64, u64, u32)> = TableDefinition::new("sizes");

/// Keys of [`COUNTERS`]; the second half is the parent of a sequence, else 0.
const NEXT_ID: (u64, u64) = (0, 0);
const COMMITS: (u64, u64) = (1, 0);
const BYTES: (u64, u64) = (2, 0);
const NEXT_SEQ: u64 = 3;

/// How to open the database file, again after a failure.
pub(crate) type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// Who is told that the catalogue isn't what was written.
pub(crate) type Lost = Box<dyn Fn(&str) + Send + Sync>;

/// What opening found.
// One a run, moved a few times.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Opened {
    /// A catalogue of this version, old or new.
    Ready(Catalogue),
    /// One that this program can't read.
    Foreign(String),
}

/// The open catalogue.
pub(crate) struct Catalogue {
    opener: Opener,
    lost: Lost,
    /// Counts openings, so that of several users who meet the same failure one opens it again.
    db: RwLock<(u64, Option<Arc<Database>>)>,
    /// Chains of checks that no commit has written yet.
    vouches: Mutex<HashMap<u64, Vouch>>,
    /// When streams were last wanted, where no commit has written it yet.
    touched: Mutex<HashMap<u64, Timestamp>>,
    /// Sizes in other formats, where no commit has written them yet.
    sizes: Mutex<sizes::Sizes>,
    /// Counts changes of what listings show, by parent, since the catalogue was opened.
    changes: Mutex<BTreeMap<u64, u64>>,
}

/// The way to open the database file at `path`, after making it if it isn't there.
///
/// It is made beside its place and renamed when it is whole: a crash in between must not leave half a file where a catalogue is looked for.
pub(crate) fn file_opener(path: &Path) -> Result<Opener, StoreError> {
    if std::fs::symlink_metadata(path).is_err() {
        let new = path.with_extension("new");
        RealDisk.remove(&new).map_err(|e| StoreError::io("remove", &new, &e))?;
        let db = open_file(&new, true)?;
        make_tables(&db)?;
        db.close()?;
        std::fs::rename(&new, path).map_err(|e| StoreError::io("rename", &new, &e))?;
    }
    let path = path.to_owned();
    Ok(Box::new(move || open_file(&path, false)))
}

fn open_file(path: &Path, create: bool) -> Result<Database, DatabaseError> {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(create)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    Database::builder().set_cache_size(CACHE).create_with_backend(redb::backends::FileBackend::new(file)?)
}

/// Verifies a catalogue's pages, if it has at most `most` bytes.
///
/// A commit that was cut off isn't damage: the database goes back to the one before by itself.
pub(crate) fn check_file(path: &Path, most: u64) -> Result<(), StoreError> {
    let lost = |what: &str| StoreError::new(StoreErrorKind::CatalogueLost, format!("{}: {what}", path.display()));
    let check = || {
        let mut db = match open_file(path, false) {
            Ok(db) => db,
            // Not ours to judge: another version's is set aside.
            Err(DatabaseError::UpgradeRequired(_)) => return Ok(()),
            Err(e) => return Err(as_lost(e.into())),
        };
        // What opening it reads, here where a panic is survived.
        version(&db).map_err(as_lost)?;
        let small = std::fs::metadata(path).is_ok_and(|m| m.len() <= most);
        if small && !db.check_integrity().map_err(|e| as_lost(e.into()))? {
            return Err(lost("its pages aren't what was written"));
        }
        db.close().map_err(|e| as_lost(e.into()))
    };
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|_| Err(lost("its pages aren't what was written")))
}

/// A file that the database can't make sense of.
fn as_lost(error: StoreError) -> StoreError {
    match error.kind {
        StoreErrorKind::Damaged => StoreError { kind: StoreErrorKind::CatalogueLost, ..error },
        _ => error,
    }
}

impl Catalogue {
    /// Opens the catalogue, making its tables if it is new.
    ///
    /// `lost` is told when a page or row turns out not to be what was written.
    pub(crate) fn open(opener: Opener, lost: Lost) -> Result<Opened, StoreError> {
        let db = match opener() {
            Ok(db) => db,
            Err(DatabaseError::UpgradeRequired(version)) => {
                return Ok(Opened::Foreign(format!("database file format {version}")));
            }
            Err(e) => return Err(e.into()),
        };
        match version(&db)? {
            Version::Is(version) if version == FORMAT.to_string() => make_later_tables(&db)?,
            Version::Is(version) if version == BEFORE.to_string() => {
                make_later_tables(&db)?;
                raise_version(&db)?;
            }
            Version::Is(version) => return Ok(Opened::Foreign(format!("catalogue version {version:?}"))),
            Version::None => make_tables(&db)?,
            Version::Unreadable(what) => return Ok(Opened::Foreign(what)),
        }
        Ok(Opened::Ready(Catalogue {
            opener,
            lost,
            db: RwLock::new((0, Some(Arc::new(db)))),
            vouches: Mutex::default(),
            touched: Mutex::default(),
            sizes: Mutex::default(),
            changes: Mutex::default(),
        }))
    }

    /// Something that was read in the catalogue isn't what was written.
    pub(crate) fn is_lost(&self, why: &str) {
        (self.lost)(why);
    }

    /// The account that was claimed, after claiming it if none was.
    pub(crate) fn claim(&self, account: &str) -> Result<String, StoreError> {
        let claimed = |found: Option<redb::AccessGuard<'_, &str>>| found.map(|v| v.value().to_owned());
        if let Some(owner) = self.read(|tx| Ok(claimed(tx.open_table(META)?.get("account")?)))? {
            return Ok(owner);
        }
        self.write(|tx| {
            let mut meta = tx.open_table(META)?;
            if let Some(owner) = claimed(meta.get("account")?) {
                return Ok(owner);
            }
            meta.insert("account", account)?;
            Ok(account.to_owned())
        })
    }

    /// Bytes in text and index files, by the committed lengths.
    pub(crate) fn file_bytes(&self) -> Result<u64, StoreError> {
        self.read(|tx| Ok(tx.open_table(COUNTERS)?.get(BYTES)?.map_or(0, |v| v.value())))
    }

    fn read<T>(&self, act: impl Fn(&ReadTransaction) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.guarded(|| {
            let (age, db) = self.db()?;
            let look = |db: &Database| act(&db.begin_read()?);
            match look(&db) {
                // After a failed write the database answers no request until it is opened again.
                Err(StoreError { kind: StoreErrorKind::Damaged | StoreErrorKind::NoSpace, .. }) => {
                    drop(db);
                    self.reopen(age)?;
                    look(&self.db()?.1)
                }
                done => done,
            }
        })
    }

    /// Runs `act` on a file that may hold anything: a page that isn't what was written may make the database panic.
    fn guarded<T>(&self, act: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let result = catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| {
            Err(StoreError::new(StoreErrorKind::CatalogueLost, "the catalogue: a page isn't what was written"))
        });
        if let Err(StoreError { kind: StoreErrorKind::CatalogueLost, message }) = &result {
            (self.lost)(message);
        }
        result
    }

    /// Runs `act` and commits what it did, durably; nothing is kept if it fails.
    fn write<T>(&self, act: impl Fn(&WriteTransaction) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.guarded(|| self.write_unguarded(act))
    }

    fn write_unguarded<T>(&self, act: impl Fn(&WriteTransaction) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let (age, db) = self.db()?;
        let (mut age, mut db) = (age, db);
        let mut tx = match db.begin_write() {
            Ok(tx) => tx,
            Err(_) => {
                drop(db);
                self.reopen(age)?;
                (age, db) = self.db()?;
                db.begin_write()?
            }
        };
        tx.set_quick_repair(true);
        let acted = act(&tx).and_then(|value| {
            let mut counters = tx.open_table(COUNTERS)?;
            let number = counters.get(COMMITS)?.map_or(0, |v| v.value()) + 1;
            counters.insert(COMMITS, number)?;
            Ok((value, number))
        });
        let (value, number) = match acted {
            Ok(acted) => acted,
            Err(failure) => {
                drop(tx);
                drop(db);
                // After a failure of the disk the database refuses reads too.
                if matches!(failure.kind, StoreErrorKind::NoSpace | StoreErrorKind::Damaged) {
                    let _ = self.reopen(age);
                }
                return Err(failure);
            }
        };
        let Err(failure) = tx.commit() else { return Ok(value) };
        drop(db);
        let failure = StoreError::from(failure);
        if self.reopen(age).is_err() {
            return Err(failure);
        }
        let kept = self.read(|tx| Ok(tx.open_table(COUNTERS)?.get(COMMITS)?.map_or(0, |v| v.value())));
        // Others may have committed since: a number past ours can only stand on ours if it was kept, so only equality is proof.
        match kept {
            Ok(kept) if kept == number => Ok(value),
            _ => Err(failure),
        }
    }

    fn db(&self) -> Result<(u64, Arc<Database>), StoreError> {
        {
            let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
            if let (age, Some(db)) = &*db {
                return Ok((*age, Arc::clone(db)));
            }
        }
        let age = self.db.read().unwrap_or_else(PoisonError::into_inner).0;
        self.reopen(age)?;
        match &*self.db.read().unwrap_or_else(PoisonError::into_inner) {
            (age, Some(db)) => Ok((*age, Arc::clone(db))),
            (_, None) => Err(StoreError::new(StoreErrorKind::Damaged, "the catalogue could not be opened again")),
        }
    }

    /// Closes the database that was opened as number `age` and opens it again, unless another caller did.
    fn reopen(&self, age: u64) -> Result<(), StoreError> {
        // Held while the file is opened: no reader has anything to read before that.
        let mut slot = self.db.write().unwrap_or_else(PoisonError::into_inner);
        if slot.0 != age && slot.1.is_some() {
            return Ok(());
        }
        if let Some(mut db) = slot.1.take() {
            let since = Instant::now();
            loop {
                match Arc::try_unwrap(db) {
                    Ok(last) => {
                        // It failed already; that closing says so again is no news.
                        let _ = last.close();
                        break;
                    }
                    Err(shared) if since.elapsed() < LET_GO => {
                        db = shared;
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Err(shared) => {
                        slot.1 = Some(shared);
                        return Err(StoreError::new(StoreErrorKind::Damaged, "the failed catalogue is still in use"));
                    }
                }
            }
        }
        slot.1 = Some(Arc::new((self.opener)()?));
        slot.0 += 1;
        Ok(())
    }

    /// Something that a listing of `parent` shows may have changed. Called after the commit: who lists between the two sees the
    /// new rows under the old number, which costs a listing more and hides nothing.
    fn listing_changed(&self, parent: u64) {
        *lock(&self.changes).entry(parent).or_default() += 1;
    }

    /// A number that is another one once something has changed that a listing of this group (`None`: of the groups) shows.
    pub(crate) fn listing_version(&self, group: Option<GroupId>) -> u64 {
        let parent = group.map_or(ROOT, |id| id.0);
        lock(&self.changes).get(&parent).copied().unwrap_or(0)
    }

    fn lock_touched(&self) -> MutexGuard<'_, HashMap<u64, Timestamp>> {
        lock(&self.touched)
    }

    fn lock_vouches(&self) -> MutexGuard<'_, HashMap<u64, Vouch>> {
        lock(&self.vouches)
    }
}

/// What a database says of its tables' version.
enum Version {
    Is(String),
    /// It is new.
    None,
    Unreadable(String),
}

fn version(db: &Database) -> Result<Version, StoreError> {
    let tx = db.begin_read()?;
    // Looked for here, made later; nothing else is read at a start.
    let _ = (tx.open_table(TAKEN), tx.open_table(SIZES));
    match tx.open_table(META) {
        Ok(meta) => Ok(Version::Is(meta.get("format")?.map(|v| v.value().to_owned()).unwrap_or_default())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(Version::None),
        Err(e) => Ok(Version::Unreadable(e.to_string())),
    }
}

/// Makes every table and writes the version last.
fn make_tables(db: &Database) -> Result<(), StoreError> {
    let mut tx = db.begin_write()?;
    tx.set_quick_repair(true);
    tx.open_table(COUNTERS)?.insert(NEXT_ID, FIRST_ID)?;
    tx.open_table(GROUPS)?;
    tx.open_table(STREAMS)?;
    tx.open_table(NAMES)?;
    tx.open_table(SLUGS)?;
    tx.open_table(ORDER)?;
    tx.open_table(COMPLETE)?;
    tx.open_table(TAILS)?;
    tx.open_table(USED)?;
    tx.open_table(TAKEN)?;
    tx.open_table(SIZES)?;
    tx.open_table(META)?.insert("format", FORMAT.to_string().as_str())?;
    tx.commit()?;
    Ok(())
}

/// Says that rows may be of this version from now on: an earlier program must not take them for damaged.
fn raise_version(db: &Database) -> Result<(), StoreError> {
    let mut tx = db.begin_write()?;
    tx.set_quick_repair(true);
    tx.open_table(META)?.insert("format", FORMAT.to_string().as_str())?;
    tx.commit()?;
    Ok(())
}

/// Makes the tables that the first catalogues of this version don't have.
fn make_later_tables(db: &Database) -> Result<(), StoreError> {
    let are_there = {
        let tx = db.begin_read()?;
        is_there(tx.open_table(TAKEN))? && is_there(tx.open_table(SIZES))?
    };
    if are_there {
        return Ok(());
    }
    let mut tx = db.begin_write()?;
    tx.set_quick_repair(true);
    tx.open_table(TAKEN)?;
    tx.open_table(SIZES)?;
    tx.commit()?;
    Ok(())
}

fn is_there<T>(table: Result<T, redb::TableError>) -> Result<bool, StoreError> {
    match table {
        Ok(_) => Ok(true),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Takes the next number of a counter.
fn take_number(counters: &mut Table<'_, (u64, u64), u64>, key: (u64, u64), first: u64) -> Result<u64, StoreError> {
    let number = counters.get(key)?.map_or(first, |v| v.value());
    counters.insert(key, number + 1)?;
    Ok(number)
}
