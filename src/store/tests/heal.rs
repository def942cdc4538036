//! Streams on whose files the disk fails: they alone are refused, and their files are made anew with the same bytes at the same offsets.

use super::*;
use crate::store::disk::crash::Failing;
use crate::store::disk::{DiskFile, RealDisk};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

/// Big enough to go to files at once.
fn bulk(at: i64) -> Vec<LogEvent> {
    (0..600).map(|n| event(at + n, format!("event {n} of {at} {}", "x".repeat(200)))).collect()
}

/// Two streams with files; the service would show the same events again.
async fn two(store: &Store) -> (StreamId, StreamId) {
    let (sick, well) = (stream(store, "sick"), stream(store, "well"));
    store.append(vec![append(sick, bulk(0)), append(well, bulk(0))]).await.unwrap();
    (sick, well)
}

fn read(store: &Store, id: StreamId) -> Result<Vec<u8>, StoreError> {
    store.reader(id, &Format::Message)?.read_at(0, usize::MAX)
}

fn canonical(events: &[LogEvent]) -> Vec<u8> {
    expected(&Format::Message, "", events)
}

#[tokio::test]
async fn each_failure_of_one_file_refuses_that_stream_alone_and_can_be_healed() {
    for extension in ["text", "index"] {
        for failing in [Failing::Open, Failing::Write, Failing::Sync] {
            let disk = CrashDisk::default();
            let store = on(&disk).unwrap();
            let (sick, well) = two(&store).await;
            let path = store.context.paths(sick, extension).1;
            let reader = store.reader(sick, &Format::Message).unwrap();
            let before = reader.read_at(0, usize::MAX).unwrap();
            disk.fail(&path, Some(failing));
            let ends = store.append_each(vec![append(sick, bulk(1_000)), append(well, bulk(1_000))]).await.unwrap();
            let what = format!("{failing:?} of {extension}");
            assert_eq!(ends[0].as_ref().unwrap_err().kind, StoreErrorKind::Sick(sick), "{what}");
            assert_eq!(read(&store, well).unwrap(), canonical(&[bulk(0), bulk(1_000)].concat()), "{what}");
            assert_eq!(reader.read_at(0, usize::MAX).unwrap(), before, "{what}: what was shown stays");

            // A disk that fails on can't be copied from where it can't be opened.
            let healed = store.heal(sick).await;
            if let Err(error) = &healed {
                assert_eq!(error.kind, StoreErrorKind::Sick(sick), "{what}");
                disk.fail(&path, None);
                store.heal(sick).await.unwrap();
            }
            disk.fail(&path, None);
            store.append(vec![append(sick, bulk(2_000))]).await.unwrap();
            let after = canonical(&[bulk(0), bulk(2_000)].concat());
            match reader.read_at(0, usize::MAX) {
                Ok(bytes) => assert_eq!(bytes, after, "{what}"),
                // A text that could not be opened was not copied: it is fetched again.
                Err(error) => {
                    assert_eq!(error.kind, StoreErrorKind::TextLost(sick), "{what}");
                    while let Some(mut repair) = store.repair(sick, 0, u64::MAX).unwrap() {
                        assert!(!repair.is_damage(), "{what}");
                        repair.take(&[bulk(0), bulk(2_000)].concat()).unwrap();
                    }
                    assert_eq!(reader.read_at(0, usize::MAX).unwrap(), after, "{what}");
                }
            }
            drop((reader, store));
            let again = on(&disk.after_power_cut(Unsynced::Lost)).unwrap();
            assert_eq!(read(&again, sick).unwrap(), after, "{what}: durable");
        }
    }
}

#[tokio::test]
async fn a_full_disk_makes_nothing_sick() {
    let disk = CrashDisk::default();
    let store = on(&disk).unwrap();
    let (one, _) = two(&store).await;
    disk.fill(true);
    let ends = store.append_each(vec![append(one, bulk(1_000))]).await;
    let refused = ends.and_then(|ends| ends.into_iter().next().unwrap());
    assert_eq!(refused.unwrap_err().kind, StoreErrorKind::NoSpace);
    disk.fill(false);
    store.append(vec![append(one, bulk(1_000))]).await.unwrap();
    assert_eq!(read(&store, one).unwrap(), canonical(&[bulk(0), bulk(1_000)].concat()));
}

#[tokio::test]
async fn live_rows_of_a_sick_stream_stay_where_they_are() {
    let disk = CrashDisk::default();
    let store = on(&disk).unwrap();
    let (sick, well) = two(&store).await;
    store
        .append(vec![append(sick, vec![event(5_000, "a row")]), append(well, vec![event(5_000, "a row")])])
        .await
        .unwrap();
    disk.fail(&store.context.paths(sick, "text").1, Some(Failing::Sync));
    store.close().await.unwrap();
    assert_eq!(store.sick(), [sick]);
    disk.fail_nowhere();
    assert_eq!(read(&store, sick).unwrap(), canonical(&[bulk(0), vec![event(5_000, "a row")]].concat()));
    store.heal(sick).await.unwrap();
    store.close().await.unwrap();
    assert!(store.context.catalogue.streams_with_tails(0, 10).unwrap().is_empty());
}

#[tokio::test]
async fn of_a_stream_that_was_begun_anew_nothing_is_left_that_could_be_damaged() {
    let disk = CrashDisk::default();
    let store = on(&disk).unwrap();
    let (old, _) = two(&store).await;
    store.append(vec![append(old, vec![event(5_000, "a row")])]).await.unwrap();
    let new = store.renew_stream(old).unwrap().unwrap();
    store.close().await.unwrap();
    drop(store);
    let store = on(&disk).unwrap();
    assert_eq!((read(&store, old).unwrap(), read(&store, new).unwrap()), (Vec::new(), Vec::new()));
    assert!(store.stream(old).unwrap().unwrap().gone);
}

#[tokio::test]
async fn a_text_that_the_kernel_reads_grows_for_it_after_the_files_were_exchanged() {
    use std::io::{Read, Seek};
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("cache")).unwrap();
    let id = stream(&store, "a");
    store.append(vec![append(id, bulk(0))]).await.unwrap();
    let reader = store.reader(id, &Format::Message).unwrap();
    reader.read_at(0, usize::MAX).unwrap();
    let passthrough = reader.pass_through(untold()).unwrap().unwrap();
    let seen = || {
        let mut file = std::fs::File::from(passthrough.descriptor().unwrap().try_clone_to_owned().unwrap());
        file.rewind().unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    };
    store.is_sick(id);
    store.heal(id).await.unwrap();
    store.append(vec![append(id, bulk(1_000))]).await.unwrap();
    store.append(vec![append(id, bulk(2_000))]).await.unwrap();
    let all = canonical(&[bulk(0), bulk(1_000), bulk(2_000)].concat());
    assert_eq!(seen(), all);
    assert_eq!(reader.read_at(0, usize::MAX).unwrap(), all);
    assert!(reader.pass_through(untold()).unwrap().is_none(), "another file than the one that is lent");
    drop(passthrough);
    store.close().await.unwrap();
    assert_eq!(reader.read_at(0, usize::MAX).unwrap(), all);
    assert!(reader.pass_through(untold()).unwrap().is_some());
}

#[tokio::test]
async fn a_power_cut_while_files_are_exchanged_takes_nothing_back() {
    for at in 1..12 {
        for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn] {
            let disk = CrashDisk::default();
            let store = on(&disk).unwrap();
            let (sick, _) = two(&store).await;
            // One block is bad, so that the copy has a hole.
            disk.file(&store.context.paths(sick, "text").1).write_all_at(b"?", 30_000).unwrap();
            store.is_sick(sick);
            disk.freeze_at(disk.syncs() + at);
            let healed = store.heal(sick).await;
            drop(store);
            let again = on(&disk.after_power_cut(unsynced)).unwrap();
            while let Some(mut repair) = again.repair(sick, 0, u64::MAX).unwrap() {
                repair.take(&bulk(0)).unwrap();
            }
            assert_eq!(read(&again, sick).unwrap(), canonical(&bulk(0)), "at {at}, {unsynced:?}, {healed:?}");
        }
    }
}

/// The system's disk, on which writes to one file fail with an errno.
#[derive(Clone, Default)]
struct Unwritable(Arc<Mutex<Option<(PathBuf, i32)>>>);

struct UnwritableFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    disk: Unwritable,
}

impl Unwritable {
    fn fail(&self, fault: Option<(PathBuf, i32)>) {
        *self.0.lock().unwrap() = fault;
    }

    fn open(&self, dir: &Path) -> Arc<Store> {
        RealDisk.make_dir(dir).unwrap();
        let path = dir.join("catalogue.redb");
        Store::open_with(dir, Arc::new(self.clone()), None, || catalogue::file_opener(&path)).unwrap()
    }
}

impl Disk for Unwritable {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.make_dir(path)
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = RealDisk.open(path, create)?;
        Ok(Arc::new(UnwritableFile { file, path: path.to_owned(), disk: self.clone() }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }

    fn space(&self, path: &Path) -> Option<(u64, u64)> {
        RealDisk.space(path)
    }
}

impl DiskFile for UnwritableFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match &*self.disk.0.lock().unwrap() {
            Some((path, errno)) if *path == self.path => Err(io::Error::from_raw_os_error(*errno)),
            _ => self.file.write_all_at(bytes, offset),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.descriptor()
    }
}

/// A row that can't be written to the file that the kernel reads is committed, and nobody may hear of it: so the append says that it
/// failed, or old bytes would count as all there is.
#[tokio::test]
async fn what_can_not_be_written_for_the_kernel_is_refused_until_it_is_shown() {
    for (errno, is_sick) in [(libc::EIO, true), (libc::ENOSPC, false)] {
        let dir = tempfile::tempdir().unwrap();
        let disk = Unwritable::default();
        let store = disk.open(&dir.path().join("cache"));
        let (id, well) = two(&store).await;
        let reader = store.reader(id, &Format::Message).unwrap();
        reader.read_at(0, usize::MAX).unwrap();
        let passthrough = reader.pass_through(untold()).unwrap().unwrap();
        let before = reader.len();
        disk.fail(Some((store.context.paths(id, "text").1, errno)));
        let row = |of| append(of, vec![event(5_000, "a row")]);
        let ends = store.append_each(vec![row(id), row(well)]).await.unwrap();
        let kind = ends[0].as_ref().unwrap_err().kind;
        assert_eq!(kind, if is_sick { StoreErrorKind::Sick(id) } else { StoreErrorKind::NoSpace });
        assert!(ends[1].is_ok());
        assert_eq!((reader.len(), store.is_unshown(id), store.is_unshown(well)), (before, true, false));
        assert_eq!(store.sick(), if is_sick { vec![id] } else { Vec::new() });

        // It fails again, and is said again.
        match is_sick {
            true => assert_eq!(store.heal(id).await.unwrap_err().kind, StoreErrorKind::Sick(id)),
            false => assert!(store.append(vec![append(id, Vec::new())]).await.is_err()),
        }
        disk.fail(None);
        match is_sick {
            true => store.heal(id).await.unwrap(),
            false => drop(store.append(vec![append(id, Vec::new())]).await.unwrap()),
        }
        assert!(!store.is_unshown(id) && store.sick().is_empty());
        let all = canonical(&[bulk(0), vec![event(5_000, "a row")]].concat());
        assert_eq!(reader.read_at(0, usize::MAX).unwrap(), all);
        drop(passthrough);
        assert_eq!(read(&store, id).unwrap(), all);
    }
}

#[tokio::test]
async fn what_the_kernel_could_not_be_shown_is_shown_once_it_has_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Unwritable::default();
    let store = disk.open(&dir.path().join("cache"));
    let (id, _) = two(&store).await;
    let reader = store.reader(id, &Format::Message).unwrap();
    reader.read_at(0, usize::MAX).unwrap();
    let passthrough = reader.pass_through(untold()).unwrap().unwrap();
    disk.fail(Some((store.context.paths(id, "text").1, libc::ENOSPC)));
    store.append(vec![append(id, vec![event(5_000, "a row")])]).await.unwrap_err();
    drop(passthrough);
    assert!(!store.is_unshown(id));
    assert_eq!(reader.read_at(0, usize::MAX).unwrap(), canonical(&[bulk(0), vec![event(5_000, "a row")]].concat()));
}

#[tokio::test]
async fn a_disk_that_fails_while_text_is_mended_makes_that_stream_sick() {
    for failing in [Failing::Read, Failing::Write, Failing::Open] {
        let disk = CrashDisk::default();
        let store = on(&disk).unwrap();
        let (id, _) = two(&store).await;
        let path = store.context.paths(id, "text").1;
        disk.file(&path).write_all_at(b"?", 30_000).unwrap();
        disk.fail(&path, Some(failing));
        let repaired = store.repair(id, 0, u64::MAX).and_then(|repair| repair.unwrap().take(&bulk(0)));
        assert_eq!(repaired.unwrap_err().kind, StoreErrorKind::Sick(id), "{failing:?}");
    }
}

/// What can't be taken away to make room is no reason to refuse what is written for others.
#[tokio::test]
async fn a_text_that_can_not_be_removed_holds_up_no_other_stream() {
    let disk = CrashDisk::default();
    let store = on(&disk).unwrap();
    let (stuck, _) = two(&store).await;
    disk.fail(&store.context.paths(stuck, "text").1, Some(Failing::Remove));
    disk.leave_free(9);
    store.set_limits(Limits { min_free: MinFree::Bytes(10), ..Limits::default() });
    let third = stream(&store, "third");
    let refused = store.append(vec![append(third, bulk(0))]).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::NoSpace, "{refused}");
    assert!(store.sick().is_empty());
}
