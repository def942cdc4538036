//! Streams on whose files the disk fails: they alone are refused, and their files are made anew with the same bytes at the same offsets.

use super::*;
use crate::store::disk::DiskFile;
use crate::store::disk::crash::Failing;

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
            let path = store.room.paths(sick, extension).1;
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
                    while let Some(mut mend) = store.mend(sick, 0, u64::MAX).unwrap() {
                        assert!(!mend.is_damage(), "{what}");
                        mend.take(&[bulk(0), bulk(2_000)].concat()).unwrap();
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
    disk.fail(&store.room.paths(sick, "text").1, Some(Failing::Sync));
    store.close().await.unwrap();
    assert_eq!(store.sick(), [sick]);
    disk.fail_nowhere();
    assert_eq!(read(&store, sick).unwrap(), canonical(&[bulk(0), vec![event(5_000, "a row")]].concat()));
    store.heal(sick).await.unwrap();
    store.close().await.unwrap();
    assert!(store.room.catalogue.streams_with_tails(0, 10).unwrap().is_empty());
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
    let lent = reader.lend().unwrap().unwrap();
    let seen = || {
        let mut file = std::fs::File::from(lent.descriptor().unwrap().try_clone_to_owned().unwrap());
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
    assert!(reader.lend().unwrap().is_none(), "another file than the one that is lent");
    drop(lent);
    store.close().await.unwrap();
    assert_eq!(reader.read_at(0, usize::MAX).unwrap(), all);
    assert!(reader.lend().unwrap().is_some());
}

#[tokio::test]
async fn a_power_cut_while_files_are_exchanged_takes_nothing_back() {
    for at in 1..12 {
        for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn] {
            let disk = CrashDisk::default();
            let store = on(&disk).unwrap();
            let (sick, _) = two(&store).await;
            // One block is bad, so that the copy has a hole.
            disk.file(&store.room.paths(sick, "text").1).write_all_at(b"?", 30_000).unwrap();
            store.is_sick(sick);
            disk.freeze_at(disk.syncs() + at);
            let healed = store.heal(sick).await;
            drop(store);
            let again = on(&disk.after_power_cut(unsynced)).unwrap();
            while let Some(mut mend) = again.mend(sick, 0, u64::MAX).unwrap() {
                mend.take(&bulk(0)).unwrap();
            }
            assert_eq!(read(&again, sick).unwrap(), canonical(&bulk(0)), "at {at}, {unsynced:?}, {healed:?}");
        }
    }
}
