//! Text taken away or damaged, indexes and catalogues lost: the right bytes again at their places, or a stream that begins anew; never a
//! wrong byte.
//!
//! `CWLOGS_CORRUPTIONS` sets the number of random corruptions, `CWLOGS_SEED` the first one's seed.

use super::*;
use std::fs;

const STREAMS: usize = 4;

/// Several blocks a stream, late and identical events among them.
fn history(stream: usize) -> Vec<LogEvent> {
    (0..900_i64)
        .map(|n| match n % 90 {
            50 => event(n - 400, format!("stream {stream} late {n}")),
            60..=62 => event(n - n % 90, "the same"),
            _ => event(n, format!("stream {stream} event {n} {}", "x".repeat(n as usize % 150))),
        })
        .collect()
}

async fn filled(dir: &Path) -> Arc<Store> {
    fill(Store::open(dir).unwrap()).await
}

async fn fill(store: Arc<Store>) -> Arc<Store> {
    for at in 0..STREAMS {
        let id = stream(&store, &format!("s{at}"));
        let events = history(at);
        let whole = Append { complete: true, ..append(id, events[..700].to_vec()) };
        store.append(vec![whole]).await.unwrap();
        store.append(vec![append(id, events[700..].to_vec())]).await.unwrap();
    }
    store
}

/// What fetching does about lost text, with a service that has all events; tells whether any of it counted as damage.
fn repair(store: &Store, id: StreamId, events: &[LogEvent]) -> Result<bool, StoreError> {
    let mut damage = false;
    while let Some(mut repair) = store.repair(id, 0, u64::MAX)? {
        damage |= repair.is_damage();
        let span = repair.span().unwrap();
        let mut shown: Vec<LogEvent> = events.iter().filter(|e| span.contains(e.timestamp)).cloned().collect();
        fastrand::Rng::with_seed(7).shuffle(&mut shown);
        for page in shown.chunks(100) {
            repair.take(page).unwrap();
        }
        assert_eq!((repair.missing(), repair.span()), (0, None), "the service shows all");
    }
    Ok(damage)
}

fn read(store: &Store, id: StreamId) -> Result<Vec<u8>, StoreError> {
    store.reader(id, &Format::Message)?.read_at(0, usize::MAX)
}

#[tokio::test]
async fn evicted_text_comes_back_to_its_places() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let ids: Vec<StreamId> = (0..STREAMS).map(|at| stream(&store, &format!("s{at}"))).collect();
    let open = store.reader(ids[1], &Format::Message).unwrap();
    // The catalogue alone is larger than that.
    store.set_limits(Limits { size: 1, min_free: MinFree::Bytes(0) });
    let before = store.used_bytes();
    store.make_room().await.unwrap();
    assert_eq!(store.evicted(), STREAMS as u64 - 1, "an open one stays");
    assert!(store.used_bytes() < before);
    store.set_limits(Limits::default());
    for (at, id) in ids.iter().enumerate() {
        let (_, path) = store.context.paths(*id, "text");
        assert_eq!(path.exists(), at == 1);
        let whole = expected(&Format::Message, &format!("s{at}"), &history(at));
        assert_eq!(store.stream(*id).unwrap().unwrap().extent.text_len, whole.len() as u64);
        if at != 1 {
            assert_eq!(read(&store, *id).unwrap_err().kind, StoreErrorKind::TextLost(*id));
            // It grows all the same, and what is new needs no repairing.
            let more = event(5_000, "y".repeat(70_000));
            store.append(vec![append(*id, vec![more.clone()])]).await.unwrap();
            let reader = store.reader(*id, &Format::Message).unwrap();
            assert!(reader.read_at(whole.len() as u64 + 60_000, 5).unwrap() == b"yyyyy");
            assert!(!repair(&store, *id, &history(at)).unwrap(), "it was taken away, not damaged");
            let whole = expected(&Format::Message, &format!("s{at}"), &[history(at), vec![more]].concat());
            assert!(read(&store, *id).unwrap() == whole);
        }
    }
    assert_eq!(open.read_at(0, usize::MAX).unwrap(), expected(&Format::Message, "s1", &history(1)));
    assert!(store.used_bytes() >= before, "what came back counts again");
}

#[tokio::test]
async fn a_power_cut_in_an_eviction_is_no_damage() {
    let full = {
        let disk = CrashDisk::default();
        fill(on(&disk).unwrap()).await.close().await.unwrap();
        disk.after_power_cut(Unsynced::Lost)
    };
    let all = Limits { size: 1, ..Limits::default() };
    let mut cut = 0;
    loop {
        cut += 1;
        for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn] {
            let disk = full.after_power_cut(Unsynced::Kept);
            let store = on(&disk).unwrap();
            disk.freeze_at(disk.syncs() + cut);
            store.set_limits(all);
            let _ = store.make_room().await;
            drop(store);
            let cut_off = disk.is_frozen();
            let after = disk.after_power_cut(unsynced);
            let disk = after.after_power_cut(Unsynced::Kept);
            let store = on(&disk).unwrap();
            for at in 0..STREAMS {
                let (id, events) = (stream(&store, &format!("s{at}")), history(at));
                assert!(
                    !repair(&store, id, &events).unwrap(),
                    "cut {cut}, {unsynced:?}: stream {at} counts as damaged"
                );
                assert!(read(&store, id).unwrap() == expected(&Format::Message, "", &events));
            }
            // What the cut left behind isn't left for ever.
            let store = on(&after).unwrap();
            store.set_limits(all);
            store.make_room().await.unwrap();
            for at in 0..STREAMS {
                let (_, path) = store.context.paths(stream(&store, &format!("s{at}")), "text");
                assert!(after.open(&path, false).is_err(), "cut {cut}, {unsynced:?}: nobody counts {path:?}");
            }
            if !cut_off && unsynced == Unsynced::Torn {
                assert!(cut > 2, "it was never cut");
                return;
            }
        }
    }
}

#[tokio::test]
async fn what_was_taken_away_is_no_damage_until_it_is_whole_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let id = stream(&store, "a");
    // More blocks than are repaired together.
    let events: Vec<_> = (0..260).map(|n| event(n, "z".repeat(66_000 + n as usize))).collect();
    for event in &events {
        store.append(vec![append(id, vec![event.clone()])]).await.unwrap();
    }
    store.set_limits(Limits { size: 1, ..Limits::default() });
    store.make_room().await.unwrap();
    store.set_limits(Limits::default());
    assert!(!repair(&store, id, &events).unwrap());
    let (_, path) = store.context.paths(id, "text");
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    assert!(bytes == expected(&Format::Message, "a", &events));
    bytes[70_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(repair(&store, id, &events).unwrap(), "now it is the disk's doing");
}

#[tokio::test]
async fn what_the_service_has_no_more_is_told_and_the_rest_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let id = stream(&store, "s0");
    store.set_limits(Limits { size: 1, min_free: MinFree::Bytes(0) });
    store.make_room().await.unwrap();
    let events = history(0);
    let gone = events[10].clone();
    let mut repairing = store.repair(id, 0, 1).unwrap().unwrap();
    repairing.take(&events.iter().filter(|e| **e != gone).cloned().collect::<Vec<_>>()).unwrap();
    assert_eq!(repairing.missing(), 1);
    let (from, to) = repairing.first_incomplete().unwrap();
    assert_eq!(from, 0);
    repairing.keep().unwrap();
    drop(repairing);
    let reader = store.reader(id, &Format::Message).unwrap();
    assert_eq!(reader.read_at(0, 10).unwrap_err().kind, StoreErrorKind::TextLost(id));
    let whole = expected(&Format::Message, "s0", &events);
    assert!(reader.read_at(to, usize::MAX).unwrap() == whole[to as usize..]);
    let mut repairing = store.repair(id, 0, 1).unwrap().unwrap();
    assert_eq!(repairing.missing(), 1, "what was found was kept");
    repairing.take(&[gone]).unwrap();
    assert!(reader.read_at(0, usize::MAX).unwrap() == whole);
}

#[tokio::test]
async fn the_least_recently_used_goes_first_and_what_retention_takes_last() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let mut listed = store.group(group(&store)).unwrap().unwrap().group;
    // All events are of 1970: past any retention.
    listed.retention_days = Some(1);
    let ids: Vec<StreamId> = (0..STREAMS).map(|at| stream(&store, &format!("s{at}"))).collect();
    std::thread::sleep(std::time::Duration::from_millis(5));
    for at in [2, 0, 3] {
        drop(store.reader(ids[at], &Format::Message).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let order = |store: &Store| store.context.catalogue.uses().unwrap().iter().map(|u| u.id).collect::<Vec<_>>();
    assert_eq!(order(&store), [ids[1], ids[2], ids[0], ids[3]]);
    assert!(store.context.catalogue.uses().unwrap().iter().all(|u| !u.at_risk));
    store.upsert_groups(&[listed]).unwrap();
    assert!(store.context.catalogue.uses().unwrap().iter().all(|u| u.at_risk));
    store.append(vec![append(ids[1], vec![event(6_000, "z".repeat(70_000))])]).await.unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(order(&store), [ids[2], ids[0], ids[3], ids[1]], "over a restart too");
}

/// One random thing that happens to the folder of a closed store; tells what.
fn corrupt(dir: &Path, rng: &mut fastrand::Rng) -> String {
    let mut files: Vec<std::path::PathBuf> = Vec::new();
    for folder in fs::read_dir(dir.join("streams")).unwrap() {
        files.extend(fs::read_dir(folder.unwrap().path()).unwrap().map(|f| f.unwrap().path()));
    }
    files.sort();
    let catalogue = dir.join("catalogue.redb");
    let one = if rng.u8(0..4) == 0 { catalogue } else { rng.choice(&files).unwrap().clone() };
    let bytes = fs::read(&one).unwrap();
    let what = match rng.u8(0..8) {
        0 => {
            fs::remove_file(&one).unwrap();
            "removed".to_owned()
        }
        1 => {
            let len = rng.usize(0..bytes.len());
            fs::write(&one, &bytes[..len]).unwrap();
            format!("cut to {len} of {}", bytes.len())
        }
        2 if !one.ends_with("catalogue.redb") => {
            let kind = one.extension().unwrap();
            let others: Vec<_> = files.iter().filter(|f| f.extension() == Some(kind) && **f != one).collect();
            let other = rng.choice(others).unwrap();
            let theirs = fs::read(other).unwrap();
            fs::write(&one, theirs).unwrap();
            fs::write(other, &bytes).unwrap();
            format!("swapped with {}", other.display())
        }
        flips => {
            let mut bytes = bytes;
            let mut at = 0;
            for _ in 0..1 + flips % 3 {
                at = rng.usize(0..bytes.len());
                bytes[at] ^= 1 << rng.u8(0..8);
            }
            fs::write(&one, &bytes).unwrap();
            format!("flipped at {at} of {}", bytes.len())
        }
    };
    format!("{} {what}", one.display())
}

#[derive(Debug, Default)]
struct Outcomes {
    untouched: u32,
    repaired: u32,
    anew: u32,
    rebuilt: u32,
}

/// Opens a store after a corruption and reads everything, repairing as fetching does.
fn survive(dir: &Path, what: &str, outcomes: &mut Outcomes) {
    let store = Store::open(dir).unwrap_or_else(|error| panic!("{what}: {error}"));
    let rebuilt = store.rebuilt().is_some();
    let (mut repaired, mut anew) = (false, false);
    for at in 0..STREAMS {
        let events = history(at);
        let whole = expected(&Format::Message, &format!("s{at}"), &events);
        let mut id = stream(&store, &format!("s{at}"));
        for attempt in 0.. {
            assert!(attempt < 4, "{what}: stream {at} never ends");
            match read(&store, id) {
                Ok(text) => {
                    let extent = store.stream(id).unwrap().unwrap().extent;
                    let lost = rebuilt || attempt > 0 || extent.events == 0;
                    assert!(whole.starts_with(&text), "{what}: stream {at} has wrong bytes");
                    assert!(lost || text.len() == whole.len(), "{what}: stream {at} lost text and doesn't know");
                    anew |= text.is_empty();
                    break;
                }
                Err(StoreError { kind: StoreErrorKind::TextLost(_), .. }) => {
                    repaired = true;
                    match repair(&store, id, &events) {
                        Ok(_) => {}
                        Err(StoreError { kind: StoreErrorKind::IndexLost(_), .. }) => {
                            id = store.renew_stream(id).unwrap().unwrap();
                        }
                        Err(other) => panic!("{what}: {other}"),
                    }
                }
                Err(StoreError { kind: StoreErrorKind::IndexLost(_), .. }) => {
                    let new = store.renew_stream(id).unwrap().unwrap();
                    assert_ne!(new, id, "a new generation has a new inode");
                    id = new;
                }
                Err(other) => panic!("{what}: stream {at}: {other}"),
            }
        }
    }
    match (rebuilt, anew, repaired) {
        (true, _, _) => outcomes.rebuilt += 1,
        (_, true, _) => outcomes.anew += 1,
        (_, _, true) => outcomes.repaired += 1,
        _ => outcomes.untouched += 1,
    }
}

#[test]
fn a_corrupted_folder_never_shows_a_wrong_byte() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let template = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let store = filled(template.path()).await;
        store.close().await.unwrap();
    });
    let first = number("CWLOGS_SEED").unwrap_or_else(|| fastrand::u64(..));
    let mut outcomes = Outcomes::default();
    // What the database says when it meets nonsense is expected here, and long.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let survived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for seed in (0..number("CWLOGS_CORRUPTIONS").unwrap_or(60)).map(|n| first.wrapping_add(n)) {
            let dir = tempfile::tempdir().unwrap();
            copy(template.path(), dir.path());
            let mut rng = fastrand::Rng::with_seed(seed);
            let what = format!("seed {seed}: {}", corrupt(dir.path(), &mut rng));
            survive(dir.path(), &what, &mut outcomes);
            // The next start has nothing left to find out.
            let again = Store::open(dir.path()).unwrap_or_else(|error| panic!("{what}: again: {error}"));
            assert!(again.rebuilt().is_none(), "{what}: rebuilt twice");
        }
    }));
    std::panic::set_hook(hook);
    println!("corruptions: {outcomes:?}");
    if let Err(panic) = survived {
        let what = panic.downcast_ref::<String>().cloned();
        panic!("first seed {first}: {}", what.unwrap_or_else(|| "an assertion failed".to_owned()));
    }
}

#[tokio::test]
async fn a_catalogue_too_large_to_be_verified_is_rebuilt_where_it_can_not_even_be_opened() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await.close().await.unwrap();
    let path = dir.path().join("catalogue.redb");
    let mut bytes = fs::read(&path).unwrap();
    // A table's types are named beside its root; the database expects them to be text.
    let named = |bytes: &[u8]| bytes.windows(4).position(|four| four == b"&str");
    while let Some(at) = named(&bytes) {
        bytes[at..at + 4].fill(0xff);
    }
    fs::write(&path, &bytes).unwrap();
    let store = Store::open_proving(dir.path(), 0).unwrap();
    assert!(store.rebuilt().is_some());
    for at in 0..STREAMS {
        let id = stream(&store, &format!("s{at}"));
        assert!(expected(&Format::Message, "", &history(at)) == read(&store, id).unwrap());
    }
}

#[tokio::test]
async fn a_start_that_died_has_the_next_one_prove_a_large_catalogue_too() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await.close().await.unwrap();
    let path = dir.path().join("catalogue.redb");
    let mut bytes = fs::read(&path).unwrap();
    // The group's name, in its row: nothing that a start reads.
    while let Some(at) = bytes.windows(2).position(|two| two == b"/g") {
        bytes[at] = b'?';
    }
    fs::write(&path, &bytes).unwrap();
    let store = Store::open_proving(dir.path(), 0).unwrap();
    assert!(store.rebuilt().is_none());
    drop(store);
    let opening = dir.path().join("catalogue.opening");
    assert!(!opening.exists(), "that start was lived through");
    fs::write(&opening, "").unwrap();
    assert!(Store::open_proving(dir.path(), 0).unwrap().rebuilt().is_some());
    assert!(!opening.exists());
}

#[tokio::test]
async fn a_process_that_panicked_has_the_next_start_prove_a_large_catalogue_too() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await.close().await.unwrap();
    let path = dir.path().join("catalogue.redb");
    let mut bytes = fs::read(&path).unwrap();
    while let Some(at) = bytes.windows(2).position(|two| two == b"/g") {
        bytes[at] = b'?';
    }
    fs::write(&path, &bytes).unwrap();
    Store::suspect_catalogue(dir.path());
    assert!(Store::open_proving(dir.path(), 0).unwrap().rebuilt().is_some());
    assert!(Store::open_proving(dir.path(), 0).unwrap().rebuilt().is_none());
}

#[tokio::test]
async fn what_was_set_aside_counts_and_goes_before_any_text() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await.close().await.unwrap();
    fs::remove_file(dir.path().join("catalogue.redb")).unwrap();
    fs::write(dir.path().join("catalogue.redb"), vec![b'?'; 1 << 20]).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(store.rebuilt().is_some());
    let aside = dir.path().join("catalogue.redb.damaged-1");
    assert!(aside.exists());
    let used = store.used_bytes();
    store.set_limits(Limits { size: used - 1, min_free: MinFree::Bytes(0) });
    store.make_room().await.unwrap();
    assert!(!aside.exists());
    assert!(store.used_bytes() <= used - (1 << 20));
    assert_eq!(store.evicted(), 0);
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}
