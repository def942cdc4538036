use super::disk::crash::{CrashDisk, Unsynced};
use super::*;
use crate::render::render;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

mod damage;
mod heal;
mod passthrough;
mod renditions;

/// For a text that the kernel reads whose growth no test looks at.
fn untold() -> super::passthrough::opens::Grows {
    Arc::new(|| {})
}

fn event(at: i64, message: impl Into<String>) -> LogEvent {
    LogEvent { timestamp: Timestamp(at), ingestion_time: Timestamp(at + 10), message: message.into() }
}

fn append(stream: StreamId, events: Vec<LogEvent>) -> Append {
    Append { stream: Some(stream), events, ..Append::default() }
}

fn group(store: &Store) -> GroupId {
    try_group(store).unwrap()
}

fn try_group(store: &Store) -> Result<GroupId, StoreError> {
    let group = LogGroup {
        name: "/g".into(),
        arn: String::new(),
        created: Timestamp(1),
        class: Default::default(),
        retention_days: None,
        stored_bytes: 0,
    };
    Ok(store.upsert_groups(&[group])?[0].id)
}

fn stream(store: &Store, name: &str) -> StreamId {
    try_stream(store, name).unwrap()
}

fn try_stream(store: &Store, name: &str) -> Result<StreamId, StoreError> {
    let listed = LogStream {
        name: name.into(),
        arn: String::new(),
        created: Timestamp(1),
        first_event: None,
        last_event: None,
        last_ingestion: None,
    };
    Ok(store.upsert_streams(try_group(store)?, &[listed])?.rows[0].id)
}

/// A reader of all that is committed.
fn whole(store: &Store, id: StreamId, format: &Format) -> Reader {
    let reader = store.reader(id, format).unwrap();
    while !reader.make().unwrap() {}
    reader
}

fn text(store: &Store, id: StreamId, format: &Format) -> Vec<u8> {
    let reader = whole(store, id, format);
    reader.read_at(0, usize::MAX).unwrap()
}

fn expected(format: &Format, name: &str, events: &[LogEvent]) -> Vec<u8> {
    let mut out = Vec::new();
    events.iter().for_each(|e| render(format, "/g", name, e, &mut out));
    out
}

fn all_time() -> Span {
    Span { start: Timestamp(i64::MIN), end: Timestamp(i64::MAX) }
}

#[tokio::test]
async fn what_is_appended_is_read_and_watched() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("cache")).unwrap();
    let (a, b) = (stream(&store, "a"), stream(&store, "b"));
    let reader = store.reader(a, &Format::Message).unwrap();
    let json = whole(&store, a, &Format::JsonLines);
    let mut watch = reader.subscribe();
    assert_eq!((reader.len(), json.len()), (0, 0));
    let lengths = store
        .append(vec![append(a, vec![event(1, "x")]), append(b, vec![event(5, "yy\n")]), append(a, vec![event(2, "")])])
        .await
        .unwrap();
    assert_eq!(lengths, [2, 3, 3]);
    watch.changed().await.unwrap();
    assert_eq!(*watch.borrow(), 3);
    assert_eq!(reader.read_at(0, 100).unwrap(), b"x\n\n");
    assert_eq!(reader.read_at(1, 1).unwrap(), b"\n");
    assert_eq!(reader.read_at(3, 1).unwrap(), b"");
    assert_eq!(reader.read_at(99, 1).unwrap(), b"");
    let events = [event(1, "x"), event(2, "")];
    assert_eq!(json.read_at(0, 1000).unwrap(), expected(&Format::JsonLines, "a", &events));
    let row = store.stream(a).unwrap().unwrap().extent;
    assert_eq!((row.text_len, row.events, row.complete), (3, 2, false));
    assert_eq!(
        (row.oldest, row.newest, row.newest_ingestion),
        (Some(Timestamp(1)), Some(Timestamp(2)), Some(Timestamp(12)))
    );
    store
        .append(vec![Append { stream: Some(a), complete: true, settled_to: Some(Timestamp(4)), ..Append::default() }])
        .await
        .unwrap();
    let complete = store.complete_streams(group(&store), |_| true).unwrap();
    assert_eq!((complete.len(), complete[0].1.as_str(), complete[0].2.settled_to), (1, "a", Timestamp(4)));
}

#[tokio::test]
async fn bulk_goes_to_private_files_and_close_moves_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let id = stream(&store, "a");
    let mut events: Vec<_> = (0..600).map(|n| event(n, format!("{n} {}", "z".repeat(200)))).collect();
    events.insert(0, event(0, "small"));
    store.append(vec![append(id, events[..1].to_vec())]).await.unwrap();
    let (folder, path) = store.context.paths(id, "text");
    assert!(!path.exists());
    store.append(vec![append(id, events[1..].to_vec())]).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), expected(&Format::Message, "a", &events));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
    events.push(event(9000, "last"));
    store.append(vec![append(id, events[601..].to_vec())]).await.unwrap();
    assert_eq!(text(&store, id, &Format::Message), expected(&Format::Message, "a", &events));
    store.close().await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), expected(&Format::Message, "a", &events));
    assert_eq!(text(&store, id, &Format::Timestamped), expected(&Format::Timestamped, "a", &events));
    assert!(store.used_bytes() > std::fs::metadata(&path).unwrap().len());
    let near_end = Span { start: Timestamp(599), end: Timestamp(9001) };
    let counts = store.counts(id, near_end).unwrap();
    assert_eq!(counts.len(), 2);
    assert_eq!(counts[&event_key(&events[601])], 1);
    assert_eq!(store.oldest_ingested_since(id, all_time(), Timestamp(605)).unwrap(), Some(Timestamp(595)));
    assert_eq!(store.oldest_ingested_since(id, all_time(), Timestamp(9011)).unwrap(), None);
}

#[tokio::test]
async fn bytes_beyond_the_committed_length_are_cut_and_short_files_told() {
    let dir = tempfile::tempdir().unwrap();
    let big = event(1, "b".repeat(70_000));
    let id;
    {
        let store = Store::open(dir.path()).unwrap();
        id = stream(&store, "a");
        store.append(vec![append(id, vec![big.clone()])]).await.unwrap();
    }
    let path = {
        let store = Store::open(dir.path()).unwrap();
        let (_, path) = store.context.paths(id, "text");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"never committed");
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(text(&store, id, &Format::Message).len(), 70_001);
        store.append(vec![append(id, vec![big.clone()])]).await.unwrap();
        assert_eq!(text(&store, id, &Format::Message), expected(&Format::Message, "a", &[big.clone(), big.clone()]));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 140_002);
        path
    };
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(10).unwrap();
    let index = path.with_extension("index");
    let blocks = std::fs::read(&index).unwrap();
    std::fs::write(&index, &blocks[..blocks.len() - 1]).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let other = stream(&store, "b");
    let (bad, good) =
        tokio::join!(store.append(vec![append(id, vec![big.clone()])]), store.append(vec![append(other, vec![big])]));
    assert_eq!(bad.unwrap_err().kind, StoreErrorKind::IndexLost(id));
    good.unwrap();
    std::fs::write(&index, &blocks).unwrap();
    let reader = store.reader(id, &Format::Message).unwrap();
    assert_eq!(reader.read_at(0, 100).unwrap_err().kind, StoreErrorKind::TextLost(id));
    let missing = store.append(vec![append(StreamId(999), vec![])]).await;
    assert_eq!(missing.unwrap_err().kind, StoreErrorKind::Missing);
}

#[tokio::test]
async fn a_damaged_index_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (a, b) = (stream(&store, "a"), stream(&store, "b"));
    let big = event(1, "b".repeat(70_000));
    store.append(vec![append(a, vec![big.clone()]), append(b, vec![big])]).await.unwrap();
    let (path_a, path_b) = (store.context.paths(a, "index").1, store.context.paths(b, "index").1);
    std::fs::copy(&path_a, &path_b).unwrap();
    assert!(store.counts(b, all_time()).unwrap_err().message.contains("another stream"));
    let mut bytes = std::fs::read(&path_a).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path_a, bytes).unwrap();
    assert!(store.counts(a, all_time()).unwrap_err().message.contains("checksum"));
}

#[tokio::test]
async fn another_version_or_account_is_never_misread() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Store::open(dir.path()).unwrap();
        stream(&store, "a");
        store.claim_account("111").unwrap();
        store.claim_account("111").unwrap();
        assert_eq!(store.claim_account("222").unwrap_err().kind, StoreErrorKind::Refused);
        assert_eq!(Store::open(dir.path()).err().unwrap().kind, StoreErrorKind::Refused);
    }
    {
        assert_eq!(Store::open(dir.path()).unwrap().claim_account("222").unwrap_err().kind, StoreErrorKind::Refused);
    }
    catalogue::crash::forge_version(&dir.path().join("catalogue.redb"));
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.groups_after(0, 10).unwrap(), []);
    store.claim_account("222").unwrap();
    assert!(dir.path().join("catalogue.redb.old-1").exists());
    assert!(dir.path().join("streams.old-1").exists());
}

#[tokio::test]
async fn concurrent_appends_keep_each_streams_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let ids: Vec<_> = (0..8).map(|n| stream(&store, &format!("s{n}"))).collect();
    let tasks: Vec<_> = ids
        .iter()
        .map(|id| {
            let (store, id) = (Arc::clone(&store), *id);
            tokio::spawn(async move {
                for n in 0..20 {
                    store.append(vec![append(id, vec![event(n, format!("{n}"))])]).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let events: Vec<_> = (0..20).map(|n| event(n, format!("{n}"))).collect();
    for id in ids {
        assert_eq!(text(&store, id, &Format::Message), expected(&Format::Message, "", &events));
    }
}

fn on(disk: &CrashDisk) -> Result<Arc<Store>, StoreError> {
    let dir = Path::new("/cache");
    Store::open_with(dir, Arc::new(disk.clone()), None, || {
        Ok(catalogue::crash::opener(disk, &dir.join("catalogue.redb")))
    })
}

#[tokio::test]
async fn rows_move_into_files_once_they_have_come_to_rest() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let ids: Vec<_> = (0..40).map(|n| stream(&store, &format!("s{n}"))).collect();
    let events: Vec<_> = (0..3).map(|n| event(n, format!("line {n}"))).collect();
    for event in &events {
        store.append(ids.iter().map(|id| append(*id, vec![event.clone()])).collect()).await.unwrap();
    }
    let is_filed = |id: StreamId| store.context.paths(id, "text").1.exists();
    let with_rows = || store.context.catalogue.streams_with_tails(0, 100).unwrap();
    store.move_quiet_rows().await.unwrap();
    assert_eq!(with_rows(), ids, "they may not have come to rest");
    let (busy, quiet) = ids.split_at(1);
    store.append(vec![append(busy[0], vec![event(9, "more")])]).await.unwrap();
    let reader = store.reader(quiet[0], &Format::Message).unwrap();
    store.move_quiet_rows().await.unwrap();
    assert_eq!(with_rows(), busy);
    assert!(quiet.iter().all(|id| is_filed(*id)) && !is_filed(busy[0]));
    assert_eq!(reader.read_at(0, 100).unwrap(), expected(&Format::Message, "", &events));
    for id in quiet {
        assert_eq!(text(&store, *id, &Format::Message), expected(&Format::Message, "", &events));
    }
    for _ in 0..2 {
        store.move_quiet_rows().await.unwrap();
    }
    assert!(with_rows().is_empty());
}

#[tokio::test]
async fn a_disk_that_is_too_full_leaves_rows_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let id = stream(&store, "a");
    store.append(vec![append(id, vec![event(1, "x")])]).await.unwrap();
    store.set_limits(Limits { min_free: MinFree::Bytes(u64::MAX), ..Limits::default() });
    for _ in 0..3 {
        store.move_quiet_rows().await.unwrap();
    }
    assert_eq!(store.context.catalogue.streams_with_tails(0, 100).unwrap(), [id]);
    assert_eq!(text(&store, id, &Format::Message), b"x\n");
}

#[tokio::test]
async fn a_full_disk_fails_the_append_and_leaves_all_as_it_was() {
    let disk = CrashDisk::default();
    let store = on(&disk).unwrap();
    let id = stream(&store, "a");
    let small = event(1, "small");
    let big = event(2, "b".repeat(100_000));
    store.append(vec![append(id, vec![small.clone()])]).await.unwrap();
    let reader = store.reader(id, &Format::Message).unwrap();
    disk.fill(true);
    let error = store.append(vec![append(id, vec![big.clone()])]).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::NoSpace, "{error}");
    assert_eq!(reader.read_at(0, 100).unwrap(), b"small\n");
    disk.fill(false);
    assert_eq!(store.append(vec![append(id, vec![big.clone()])]).await.unwrap(), [100_007]);
    assert_eq!(reader.read_at(0, usize::MAX).unwrap(), expected(&Format::Message, "a", &[small, big]));
}

#[tokio::test]
async fn a_stream_whose_sync_fails_takes_nothing_more_until_the_next_start() {
    let disk = CrashDisk::default();
    let store = on(&disk).unwrap();
    let (a, b) = (stream(&store, "a"), stream(&store, "b"));
    let big = || vec![event(2, "b".repeat(100_000))];
    store.append(vec![append(a, big()), append(b, big())]).await.unwrap();
    disk.fail_nth_sync_of(&store.context.paths(a, "text").1, 1);
    assert_eq!(store.append(vec![append(a, big())]).await.unwrap_err().kind, StoreErrorKind::Sick(a));
    assert_eq!(store.append(vec![append(a, vec![])]).await.unwrap_err().kind, StoreErrorKind::Sick(a));
    assert_eq!(store.append(vec![append(b, big())]).await.unwrap(), [200_002]);
    assert_eq!(text(&store, a, &Format::Message).len(), 100_001);
    drop(store);
    assert_eq!(on(&disk).unwrap().append(vec![append(a, big())]).await.unwrap(), [200_002]);
}

#[tokio::test]
async fn a_commit_that_fails_is_taken_back_or_kept_but_never_half() {
    for (failing, size) in [(1, 10), (2, 10), (1, 90_000), (2, 90_000)] {
        let disk = CrashDisk::default();
        let store = on(&disk).unwrap();
        let id = stream(&store, "a");
        let (one, two, three) = (event(1, "one"), event(2, "x".repeat(size)), event(3, "three"));
        store.append(vec![append(id, vec![one.clone()])]).await.unwrap();
        let reader = store.reader(id, &Format::Message).unwrap();
        disk.fail_nth_sync_of(Path::new("/cache/catalogue.redb"), failing);
        let kept = store.append(vec![append(id, vec![two.clone()])]).await.is_ok();
        let mut events = vec![one];
        events.extend(kept.then_some(two));
        assert_eq!(text(&store, id, &Format::Message), expected(&Format::Message, "a", &events), "{failing} {size}");
        store.append(vec![append(id, vec![three.clone()])]).await.unwrap();
        events.push(three);
        assert_eq!(reader.read_at(0, usize::MAX).unwrap(), expected(&Format::Message, "a", &events));
        assert_eq!(text(&store, id, &Format::JsonLines), expected(&Format::JsonLines, "a", &events));
        assert_eq!(store.stream(id).unwrap().unwrap().extent.events, events.len() as u64);
    }
}

/// What was acknowledged before the disk froze, by stream, and what was under way then.
type Acknowledged = BTreeMap<&'static str, (Vec<LogEvent>, Vec<LogEvent>)>;

async fn workload(disk: &CrashDisk) -> Acknowledged {
    let mut done = Acknowledged::new();
    let Ok(store) = on(disk) else { return done };
    let steps: [&[(&'static str, usize)]; 6] = [
        &[("a", 10), ("b", 10)],
        &[("a", 40_000)],
        &[("a", 40_000), ("b", 5)],
        &[("b", 90_000), ("c", 70_000)],
        &[("a", 1)],
        &[("a", 80_000), ("c", 3)],
    ];
    for (number, step) in steps.iter().enumerate() {
        let mut batch = Vec::new();
        for (name, size) in *step {
            let Ok(id) = try_stream(&store, name) else { return done };
            let events = vec![event(number as i64, "x".repeat(*size)), event(1, format!("{number}\n"))];
            done.entry(name).or_default().1 = events.clone();
            batch.push(append(id, events));
        }
        if store.append(batch).await.is_err() {
            return done;
        }
        for (name, _) in *step {
            let (kept, doing) = done.entry(name).or_default();
            kept.append(doing);
        }
        if number == 2 {
            // The second finds what was added before the first at rest.
            for _ in 0..2 {
                if store.move_quiet_rows().await.is_err() {
                    return done;
                }
            }
        }
    }
    let _ = store.close().await;
    done
}

#[tokio::test]
async fn a_power_cut_at_any_sync_loses_nothing_that_was_acknowledged() {
    // The catalogue's first making is apart: on the real disk it is renamed into its place when it is whole.
    let fresh = || {
        let disk = CrashDisk::default();
        drop(on(&disk).unwrap());
        disk
    };
    let whole = fresh();
    let first = whole.syncs() + 1;
    workload(&whole).await;
    for freeze_at in first..=whole.syncs() + 1 {
        let disk = fresh();
        disk.freeze_at(freeze_at);
        let done = workload(&disk).await;
        for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn] {
            let disk = disk.after_power_cut(unsynced);
            let store = on(&disk).unwrap_or_else(|e| panic!("frozen at {freeze_at}, {unsynced:?}: {e}"));
            for (name, (kept, doing)) in &done {
                let found = store.stream_by_name(group(&store), name).unwrap();
                let Some(row) = found else {
                    assert!(kept.is_empty(), "frozen at {freeze_at}, {unsynced:?}: {name} is lost");
                    continue;
                };
                let shown = text(&store, row.id, &Format::Message);
                let without = expected(&Format::Message, name, kept);
                let with = expected(&Format::Message, name, &[kept.clone(), doing.clone()].concat());
                assert!(shown == without || shown == with, "frozen at {freeze_at}, {unsynced:?}: {name} differs");
                let json = text(&store, row.id, &Format::JsonLines);
                let events = if shown == with { [kept.clone(), doing.clone()].concat() } else { kept.clone() };
                assert_eq!(json, expected(&Format::JsonLines, name, &events));
                let more = event(99, "y".repeat(70_000));
                store.append(vec![append(row.id, vec![more.clone()])]).await.unwrap();
                let after = [events, vec![more]].concat();
                assert_eq!(text(&store, row.id, &Format::Message), expected(&Format::Message, name, &after));
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Append(Vec<(usize, Vec<(i64, String)>)>),
    Restart,
    Close,
    MoveQuiet,
}

fn op() -> impl Strategy<Value = Op> {
    let message = prop_oneof![
        4 => "[a-z\n\u{0}é]{0,8}",
        1 => (1usize..70_000).prop_map(|n| "m".repeat(n)),
    ];
    let events = proptest::collection::vec((0i64..20, message), 0..6);
    prop_oneof![
        6 => proptest::collection::vec((0usize..3, events), 0..4).prop_map(Op::Append),
        1 => Just(Op::Restart),
        1 => Just(Op::Close),
        2 => Just(Op::MoveQuiet),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_store_is_a_vec_of_events_that_outlives_it(ops in proptest::collection::vec(op(), 1..10)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let names = ["a", "b", "c"];
        let ids: Vec<_> = names.iter().map(|n| stream(&store, n)).collect();
        let mut model: Vec<Vec<LogEvent>> = vec![Vec::new(); 3];
        for op in ops {
            match op {
                Op::Append(batch) => {
                    let batch: Vec<_> = batch.into_iter().map(|(at, events)| {
                        let events: Vec<_> = events.into_iter().map(|(t, m)| event(t, m)).collect();
                        model[at].extend(events.iter().cloned());
                        append(ids[at], events)
                    }).collect();
                    runtime.block_on(store.append(batch)).unwrap();
                }
                Op::Restart => {
                    drop(store);
                    store = Store::open(dir.path()).unwrap();
                }
                Op::Close => runtime.block_on(store.close()).unwrap(),
                Op::MoveQuiet => runtime.block_on(store.move_quiet_rows()).unwrap(),
            }
            for (at, events) in model.iter().enumerate() {
                let whole = expected(&Format::Message, names[at], events);
                let reader = store.reader(ids[at], &Format::Message).unwrap();
                prop_assert_eq!(reader.len(), whole.len() as u64);
                prop_assert!(reader.read_at(0, usize::MAX).unwrap() == whole);
                let middle = whole.len() / 2;
                let part = reader.read_at(middle as u64, 9).unwrap();
                prop_assert_eq!(&part[..], &whole[middle..(middle + 9).min(whole.len())]);
                prop_assert!(text(&store, ids[at], &Format::JsonLines) == expected(&Format::JsonLines, names[at], events));
                let mut counts = Counts::new();
                let span = Span { start: Timestamp(3), end: Timestamp(12) };
                events.iter().filter(|e| span.contains(e.timestamp)).for_each(|e| *counts.entry(event_key(e)).or_default() += 1);
                prop_assert_eq!(store.counts(ids[at], span).unwrap(), counts);
                let oldest = events.iter().filter(|e| span.contains(e.timestamp) && e.ingestion_time.0 >= 17).map(|e| e.timestamp).min();
                prop_assert_eq!(store.oldest_ingested_since(ids[at], span, Timestamp(17)).unwrap(), oldest);
                prop_assert_eq!(store.stream(ids[at]).unwrap().unwrap().extent.events, events.len() as u64);
            }
        }
    }
}
