//! Texts that the kernel reads by itself: at every moment the file holds committed text and nothing else.

use super::*;
use crate::store::writer::LIVE_MAX;

fn path_of(store: &Store, id: StreamId) -> std::path::PathBuf {
    store.context.paths(id, "text").1
}

/// A store with one stream of so many lines, all in its files.
async fn filed(dir: &Path, lines: usize) -> (Arc<Store>, StreamId) {
    let store = Store::open(dir).unwrap();
    let id = stream(&store, "a");
    let events = (0..lines).map(|i| event(i as i64, format!("line {i}"))).collect();
    store.append(vec![append(id, events)]).await.unwrap();
    store.close().await.unwrap();
    (store, id)
}

/// As the kernel sees such a file.
fn seen(passthrough: &Passthrough) -> Vec<u8> {
    use std::io::{Read, Seek};
    let mut file = std::fs::File::from(passthrough.descriptor().unwrap().try_clone_to_owned().unwrap());
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn what_was_verified_of_many_streams_with_live_rows_stays_verified() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("cache")).unwrap();
    let ids: Vec<_> = (0..200).map(|n| stream(&store, &format!("s{n}"))).collect();
    let events = || vec![event(1, "x".repeat(LIVE_MAX as usize))];
    store.append(ids.iter().map(|id| append(*id, events())).collect()).await.unwrap();
    store.append(ids.iter().map(|id| append(*id, vec![event(2, "in a live row")])).collect()).await.unwrap();
    let all = ids.iter().map(|id| text(&store, *id, &Format::Message)).collect::<Vec<_>>();
    for (id, all) in ids.iter().zip(&all) {
        let reader = store.reader(*id, &Format::Message).unwrap();
        assert_eq!(&seen(&reader.pass_through(untold()).unwrap().expect("it was verified")), all);
        assert_eq!(&text(&store, *id, &Format::Message), all);
    }
    store.append(ids.iter().map(|id| append(*id, vec![event(3, "and one")])).collect()).await.unwrap();
    for (id, all) in ids.iter().zip(&all) {
        assert_eq!(text(&store, *id, &Format::Message), [all, &b"and one\n"[..]].concat());
    }
}

#[tokio::test]
async fn only_a_verified_and_whole_text_is_lent() {
    let dir = tempfile::tempdir().unwrap();
    let (store, id) = filed(&dir.path().join("cache"), 100).await;
    let reader = store.reader(id, &Format::Message).unwrap();
    assert!(reader.pass_through(untold()).unwrap().is_none(), "nobody has verified it");
    let all = text(&store, id, &Format::Message);
    assert_eq!(seen(&reader.pass_through(untold()).unwrap().unwrap()), all);
    assert!(store.reader(id, &Format::JsonLines).unwrap().pass_through(untold()).unwrap().is_none(), "another format");
    store.append(vec![append(id, vec![event(200, "in a live row")])]).await.unwrap();
    let all = text(&store, id, &Format::Message);
    assert_eq!(seen(&reader.pass_through(untold()).unwrap().unwrap()), all, "the live row too");
    store.append(vec![append(id, vec![event(201, "in another")])]).await.unwrap();
    let all = text(&store, id, &Format::Message);
    assert_eq!(seen(&reader.pass_through(untold()).unwrap().unwrap()), all, "of which the file had the first");
    let file = std::fs::OpenOptions::new().append(true).open(path_of(&store, id)).unwrap();
    std::io::Write::write_all(&mut &file, b"never committed").unwrap();
    assert!(reader.pass_through(untold()).unwrap().is_none(), "left by a crash");
    store.append(vec![append(id, vec![event(202, "still")])]).await.unwrap();
    assert!(reader.pass_through(untold()).unwrap().is_none(), "and not what the live row says");
}

#[tokio::test]
async fn a_lent_text_grows_by_what_is_committed_and_in_one_order() {
    let dir = tempfile::tempdir().unwrap();
    let (store, id) = filed(&dir.path().join("cache"), 100).await;
    text(&store, id, &Format::Message);
    let reader = store.reader(id, &Format::Message).unwrap();
    let passthrough = reader.pass_through(untold()).unwrap().unwrap();
    let mut shown = seen(&passthrough);
    let large = "x".repeat(LIVE_MAX as usize);
    for (number, message) in ["small", &large, "small again", &large, &large, "last"].into_iter().enumerate() {
        let at = 1000 + number as i64;
        store.append(vec![append(id, vec![event(at, message)])]).await.unwrap();
        let now = seen(&passthrough);
        assert!(now.starts_with(&shown) && now.len() == shown.len() + message.len() + 1, "append {number}");
        assert_eq!(now.len() as u64, reader.len());
        assert_eq!(now, text(&store, id, &Format::Message));
        shown = now;
    }
    store.close().await.unwrap();
    assert_eq!(seen(&passthrough), shown, "a move of live rows to the file shows nothing and takes nothing");
    drop((passthrough, reader));
    drop(store);
    let store = Store::open(&dir.path().join("cache")).unwrap();
    assert_eq!(text(&store, id, &Format::Message), shown);
}

#[tokio::test]
async fn who_lent_a_text_is_told_before_it_grows() {
    let dir = tempfile::tempdir().unwrap();
    let (store, id) = filed(&dir.path().join("cache"), 100).await;
    text(&store, id, &Format::Message);
    let reader = store.reader(id, &Format::Message).unwrap();
    let path = path_of(&store, id);
    let told = Arc::new(Mutex::new(Vec::new()));
    let grows = {
        let told = Arc::clone(&told);
        Arc::new(move || told.lock().unwrap().push(std::fs::metadata(&path).unwrap().len()))
    };
    let passthrough = reader.pass_through(grows).unwrap().unwrap();
    let mut lengths = Vec::new();
    for number in 0..3 {
        lengths.push(passthrough.len().unwrap());
        store.append(vec![append(id, vec![event(1000 + number, "new")])]).await.unwrap();
    }
    assert_eq!(*told.lock().unwrap(), lengths, "once each, while the file was as it had been");
    assert!(passthrough.len().unwrap() > lengths[2]);
    drop(passthrough);
    store.append(vec![append(id, vec![event(2000, "later")])]).await.unwrap();
    assert_eq!(told.lock().unwrap().len(), 3, "nobody has it any more");
}

#[tokio::test]
async fn what_is_lent_survives_a_kill_as_it_was_shown() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let (store, id) = filed(&cache, 100).await;
    text(&store, id, &Format::Message);
    let reader = store.reader(id, &Format::Message).unwrap();
    let passthrough = reader.pass_through(untold()).unwrap().unwrap();
    store.append(vec![append(id, vec![event(1000, "shown")])]).await.unwrap();
    let shown = seen(&passthrough);
    drop((passthrough, reader));
    // Dropped without a clean stop: the row is in the catalogue, its bytes are in the file too.
    drop(store);
    let store = Store::open(&cache).unwrap();
    assert_eq!(text(&store, id, &Format::Message), shown);
    store.append(vec![append(id, vec![event(1001, "y".repeat(LIVE_MAX as usize))])]).await.unwrap();
    assert!(text(&store, id, &Format::Message).starts_with(&shown));
}

#[tokio::test]
async fn an_append_that_fails_leaves_a_lent_text_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (store, id) = filed(&dir.path().join("cache"), 100).await;
    text(&store, id, &Format::Message);
    let reader = store.reader(id, &Format::Message).unwrap();
    let passthrough = reader.pass_through(untold()).unwrap().unwrap();
    store.append(vec![append(id, vec![event(1000, "a live row")])]).await.unwrap();
    let shown = seen(&passthrough);
    let large = append(id, vec![event(1001, "z".repeat(LIVE_MAX as usize))]);
    store.is_sick(id);
    assert_eq!(store.append(vec![large]).await.unwrap_err().kind, StoreErrorKind::Sick(id));
    assert_eq!(seen(&passthrough), shown);
    assert_eq!(reader.len(), shown.len() as u64);
}
