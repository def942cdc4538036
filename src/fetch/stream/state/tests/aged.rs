//! Edges that a clock set which may have been wrong: of an earlier version, or before any answer told the service's time.

use super::*;
use crate::fetch::freshness::untrusted;
use crate::model::LogEvent;
use crate::store::Append;

const MINUTE: i64 = 60_000;

/// A stream that was read whole by a machine whose clock was an hour ahead, and two events that came since.
async fn misled(room: &Fixture, name: &str) -> (Arc<Stream>, i64) {
    let now = SystemClock.now().0;
    let first = LogEvent {
        timestamp: Timestamp(now - 30 * MINUTE),
        ingestion_time: Timestamp(now - 30 * MINUTE),
        message: "first".into(),
    };
    room.fake.put(name, first.timestamp.0, "first");
    let stream = room.listed(name);
    let append = Append {
        stream: Some(stream.id),
        events: vec![first],
        complete: true,
        settled_to: Some(Timestamp(now + 45 * MINUTE)),
        settled_by_service: false,
        doubted: None,
        read_to: Some(Timestamp(now + 60 * MINUTE)),
    };
    room.store.append(vec![append]).await.unwrap();
    room.fake.put(name, now - 20 * MINUTE, "second");
    room.fake.put(name, now - MINUTE, "third");
    (room.streams.stream(stream.id).unwrap(), now)
}

fn hear(room: &Fixture) {
    let clock = &room.streams.shared.clock;
    let now = clock.machine().now();
    let since_boot = clock.machine().since_boot();
    clock.heard(Timestamp(now.0 - now.0.rem_euclid(1000)), since_boot, since_boot);
}

#[tokio::test]
async fn an_open_reads_from_the_newest_event_on() {
    let (_dir, room) = fresh_room();
    let (stream, now) = misled(&room, "a").await;
    hear(&room);
    stream.bring_up_to_date(Wanted::Content).await.unwrap();
    assert_eq!(room.text(&stream), "first\nsecond\nthird\n");
    let extent = stream.row().unwrap().extent;
    assert!(extent.settled_by_service && extent.settled_to.0 <= now, "it has an edge that holds: {extent:?}");
    room.stop().await;
}

#[tokio::test]
async fn all_are_read_once_more_in_the_idle_share_once_the_clock_is_known() {
    let (_dir, room) = fresh_room();
    let mut streams = Vec::new();
    for name in ["a", "b", "c"] {
        streams.push(misled(&room, name).await.0);
    }
    let run = tokio::spawn(untrusted::run(room.streams.clone()));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(room.fake.calls(), 0, "nothing is known of the service's clock");
    hear(&room);
    tokio::time::timeout(Duration::from_secs(10), run).await.unwrap().unwrap();
    for stream in &streams {
        assert_eq!(room.text(stream), "first\nsecond\nthird\n");
    }
    assert!(room.fake.calls() <= 4, "all by one read: {} calls", room.fake.calls());
    assert_eq!(room.streams.aged.left(), 0);
    let calls = room.fake.calls();
    untrusted::run(room.streams.clone()).await;
    assert_eq!(room.fake.calls(), calls, "and no more");
    room.stop().await;
}
