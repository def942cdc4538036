//! Downloads that go on later, and those ahead of readers.

use super::*;

#[tokio::test]
async fn a_download_nobody_waits_for_stops_and_goes_on_later() {
    let (_dir, room) = fresh_room();
    for i in 0..2_000 {
        room.fake.put("s", 1_000 + i as i64 / 7, &format!("line {i}"));
    }
    lock(&room.fake.0).latency = Duration::from_millis(20);
    let stream = room.listed("s");
    let interest = stream.download();
    let mut progress = stream.progress();
    while progress.borrow_and_update().commits < 2 {
        progress.changed().await.unwrap();
    }
    drop(interest);
    tokio::time::sleep(Duration::from_millis(150)).await;
    let calls = room.fake.calls();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(room.fake.calls(), calls, "stopped");
    let part = room.text(&stream);
    assert!(!part.is_empty() && part.len() < lines(0..2_000).len());
    assert!(!stream.row().unwrap().extent.complete);
    stream.bring_up_to_date(Wanted::Content).await.unwrap();
    assert_eq!(room.text(&stream), lines(0..2_000));
    assert!(room.fake.calls() - calls < 22, "went on from where it was");
    room.stop().await;
}

#[tokio::test]
async fn a_download_ahead_of_readers_is_joined_by_who_comes_and_fails_in_silence() {
    let (_dir, room) = fresh_room();
    for i in 0..2_000 {
        room.fake.put("s", 1_000 + i as i64 / 7, &format!("line {i}"));
    }
    lock(&room.fake.0).latency = Duration::from_millis(20);
    let stream = room.listed("s");
    let ahead = tokio::spawn({
        let stream = stream.clone();
        async move { first_copy::ahead_of_readers(&stream, Via::Filter).await }
    });
    let mut progress = stream.progress();
    while progress.borrow_and_update().commits < 2 {
        progress.changed().await.unwrap();
    }
    assert!(!*stream.awaited.borrow());
    let began = lock(&stream.downloads).since();
    let interest = stream.download();
    assert!(*stream.awaited.borrow() && lock(&stream.downloads).since() == began, "the same download");
    drop(interest);
    assert!(!*stream.awaited.borrow());
    stream.bring_up_to_date(Wanted::Content).await.unwrap();
    assert_eq!(room.text(&stream), lines(0..2_000));
    ahead.await.unwrap();
    room.fake.put("t", 1_000, "x");
    let other = room.listed("t");
    lock(&room.fake.0).failing = Some(SourceErrorKind::Credentials);
    first_copy::ahead_of_readers(&other, Via::Get).await;
    assert!(other.progress().borrow().failure.is_none() && !lock(&other.downloads).is_running());
    lock(&room.fake.0).failing = None;
    other.bring_up_to_date(Wanted::Content).await.unwrap();
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_ahead_is_asked_for_anew_once_a_reader_waits_for_it() {
    use crate::fetch::download::parallel::ask_ahead;
    use crate::fetch::stream::cursor::Cursor;
    let (_dir, room) = fresh_room();
    (0..10).for_each(|i| room.fake.put("s", 1_000 + i, "x"));
    let stream = room.listed("s");
    lock(&room.fake.0).latency = Duration::from_secs(3600);
    let (heads, head) = watch::channel(Some(6));
    let mut cursor = Cursor::new(Via::Get, None, Timestamp(2_000));
    let asked = tokio::spawn({
        let stream = stream.clone();
        async move { ask_ahead(&mut cursor, &stream, 7, head).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    lock(&room.fake.0).latency = Duration::from_millis(40);
    heads.send_replace(Some(7));
    assert_eq!(asked.await.unwrap().unwrap().events.len(), 10);
    assert_eq!(room.fake.calls(), 2);
    // No reader waits for this one: its failure is for the next head to meet.
    lock(&room.fake.0).failing = Some(SourceErrorKind::Throttled);
    let mut cursor = Cursor::new(Via::Get, None, Timestamp(2_000));
    assert!(ask_ahead(&mut cursor, &stream, 8, heads.subscribe()).await.is_err());
}
