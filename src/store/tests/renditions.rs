//! Streams shown in another format than the stored one.

use super::*;

#[tokio::test]
async fn a_rendition_is_in_step_when_the_text_moves() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let id = stream(&store, "a");
    let format = Format::parse("{log_group} {message}").unwrap();
    let mut events: Vec<_> = (0..2000).map(|n| event(n, format!("{n} {}", "w".repeat(400)))).collect();
    store.append(vec![append(id, events.clone())]).await.unwrap();
    let plain = store.reader(id, &Format::Message).unwrap();
    let shown = Arc::new(whole(&store, id, &format));
    assert_eq!(shown.len(), expected(&format, "a", &events).len() as u64);
    let mut watch = plain.subscribe();
    watch.mark_unchanged();
    let waiter = tokio::spawn({
        let shown = shown.clone();
        async move {
            watch.changed().await.unwrap();
            shown.len()
        }
    });
    events.push(event(3000, "one more\n"));
    store.append(vec![append(id, events[2000..].to_vec())]).await.unwrap();
    let whole = expected(&format, "a", &events);
    assert_eq!(waiter.await.unwrap(), whole.len() as u64);
    assert_eq!(shown.read_at(0, usize::MAX).unwrap(), whole);
}

#[tokio::test]
async fn a_rendition_that_can_not_be_extended_is_level_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let id = stream(&store, "a");
    store.append(vec![append(id, vec![event(1, "one")])]).await.unwrap();
    let json = whole(&store, id, &Format::JsonLines);
    let before = json.len();
    let keep = |bytes| store.set_limits(Limits { min_free: MinFree::Bytes(bytes), ..Limits::default() });
    keep(u64::MAX);
    // It goes into the catalogue, which has room.
    store.append(vec![append(id, vec![event(2, "two")])]).await.unwrap();
    assert_eq!((json.is_level(), json.len()), (false, before));
    let refused = json.make().unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::NoSpace);
    assert!(refused.message.contains("less free than --min-free keeps"), "{refused}");
    keep(0);
    assert!(json.make().unwrap() && json.is_level());
    store.append(vec![append(id, vec![event(3, "three")])]).await.unwrap();
    let events = [event(1, "one"), event(2, "two"), event(3, "three")];
    assert_eq!(json.read_at(0, usize::MAX).unwrap(), expected(&Format::JsonLines, "a", &events));
    assert!(json.is_level());
}

#[tokio::test]
async fn a_size_that_was_told_is_known_to_the_next_store() {
    let dir = tempfile::tempdir().unwrap();
    let (id, told);
    let size = |store: &Store, format: &Format| {
        let row = store.stream(stream(store, "a")).unwrap().unwrap();
        store.told_size(&row, format).unwrap()
    };
    {
        let store = Store::open(dir.path()).unwrap();
        id = stream(&store, "a");
        store.append(vec![append(id, vec![event(1, "one")])]).await.unwrap();
        let json = whole(&store, id, &Format::JsonLines);
        told = json.len();
        json.is_told().unwrap();
        assert_eq!(size(&store, &Format::JsonLines), None, "not read to its end");
        let complete = Append { stream: Some(id), complete: true, ..Append::default() };
        store.append(vec![complete]).await.unwrap();
        assert_eq!(size(&store, &Format::JsonLines), Some(told));
        store.write_sizes().await.unwrap();
    }
    let store = Store::open(dir.path()).unwrap();
    assert_eq!((size(&store, &Format::JsonLines), size(&store, &Format::Timestamped)), (Some(told), None));
    store.append(vec![append(id, vec![event(2, "two")])]).await.unwrap();
    assert_eq!(size(&store, &Format::JsonLines), Some(told), "until it is made again");
    let json = whole(&store, id, &Format::JsonLines);
    json.is_told().unwrap();
    let grown = json.len();
    store.close().await.unwrap();
    drop((json, store));
    assert_eq!(size(&Store::open(dir.path()).unwrap(), &Format::JsonLines), Some(grown));
}

#[tokio::test]
async fn renditions_that_nobody_reads_make_room_before_texts() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (a, b) = (stream(&store, "a"), stream(&store, "b"));
    let events: Vec<_> = (0..2000).map(|n| event(n, format!("{n} {}", "z".repeat(400)))).collect();
    store.append(vec![append(a, events.clone()), append(b, events)]).await.unwrap();
    let (unread, read) = (whole(&store, a, &Format::JsonLines), whole(&store, b, &Format::JsonLines));
    let of_each = unread.len();
    drop(unread);
    let used = store.used_bytes();
    store.set_limits(Limits { size: used - 1, ..Limits::default() });
    assert!(store.is_too_large());
    store.make_room().await.unwrap();
    assert_eq!((store.used_bytes(), store.evicted()), (used - of_each, 0));
    store.set_limits(Limits { size: used - of_each - 1, ..Limits::default() });
    store.make_room().await.unwrap();
    assert_eq!(store.evicted(), 1, "the text of the other; one that is read stays");
    assert_eq!(read.read_at(0, usize::MAX).unwrap().len() as u64, of_each);
}
