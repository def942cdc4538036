//! What came while polls could not ask: more than a page, and older than they usually look.

use super::*;
use crate::fetch::follow::poll::{How, Outcome, Target, poll};
use crate::fetch::shared::Last;
use crate::fetch::stream::tail_buffer::TailBuffer;
use crate::fetch::tail::Tail;

const MINUTE: i64 = 60_000;

/// A copy and a tail, whose last poll that was answered was 25 minutes ago, and a page of 40 events.
struct Missed {
    copy: Arc<Stream>,
    tailed: Arc<Stream>,
    tail: Arc<Tail>,
    began: i64,
}

impl Missed {
    async fn new(room: &Fixture) -> Missed {
        // No poll but the test's own.
        room.streams.shared.settings.send_modify(|settings| Arc::make_mut(settings).poll_interval = Duration::MAX / 64);
        let began = now() - 30 * MINUTE;
        for name in ["copy", "tail"] {
            room.fake.put(name, began, "line 0");
        }
        let (copy, tailed) = (room.listed("copy"), room.listed("tail"));
        copy.bring_up_to_date(Wanted::Content).await.unwrap();
        let tail = tailed.last(Last::Lines(20)).await.unwrap();
        for i in 1..200 {
            for name in ["copy", "tail"] {
                room.fake.put(name, began + 5 * MINUTE + i * 5_000, &format!("line {i}"));
            }
        }
        lock(&room.fake.0).page = Some(40);
        Missed { copy, tailed, tail, began }
    }

    fn targets(&self, asked: Timestamp) -> Vec<Target> {
        let of = |stream: &Arc<Stream>, tails: Vec<Arc<TailBuffer>>| Target {
            stream: stream.clone(),
            extent: stream.row().unwrap().extent,
            start: Timestamp(self.began - 5_000),
            newest: Some(Timestamp(self.began)),
            asked,
            tails,
            deep: false,
            quiet: 3,
        };
        vec![of(&self.copy, Vec::new()), of(&self.tailed, vec![self.tail.buffer.clone()])]
    }

    fn asked(&self) -> Timestamp {
        Timestamp(self.began + 5 * MINUTE)
    }

    async fn poll(&self, room: &Fixture, targets: Vec<Target>) -> Outcome {
        let now = room.streams.shared.clock.now();
        let how = How { priority: Priority::Following, now, reach: None, drain: false, try_whole: true };
        poll(room.streams.clone(), self.copy.group.clone(), targets, how).await
    }

    fn tailed(&self) -> String {
        String::from_utf8(self.tail.read_at(0, 1 << 20)).unwrap()
    }
}

#[tokio::test]
async fn it_comes_whole_and_in_order_with_the_first_poll_of_several() {
    for gaps in [false, true] {
        let (_dir, room) = fresh_room();
        let missed = Missed::new(&room).await;
        lock(&room.fake.0).gaps = gaps;
        let outcome = missed.poll(&room, missed.targets(missed.asked())).await;
        assert!(outcome.fault.is_none());
        assert_eq!(room.text(&missed.copy), lines(0..200));
        assert_eq!(missed.tailed(), lines(0..200));
        room.stop().await;
    }
}

#[tokio::test]
async fn a_poll_of_one_claims_no_more_than_its_page_has_shown() {
    let (_dir, room) = fresh_room();
    let missed = Missed::new(&room).await;
    let target = missed.targets(missed.asked()).swap_remove(1);
    let before = missed.tail.buffer.asked();
    let outcome = missed.poll(&room, vec![Target { quiet: 0, ..target }]).await;
    let shown = Timestamp(missed.began + 5 * MINUTE + 39 * 5_000);
    assert_eq!(outcome.asked, [(missed.tailed.id(), shown)], "of 200 it has shown 40");
    assert_eq!(missed.tailed(), lines(0..40));
    assert_eq!(missed.tail.buffer.asked(), before.max(shown), "a tail has a moment of its own");
    room.stop().await;
}

#[tokio::test]
async fn nothing_is_claimed_of_what_was_not_asked_for() {
    let (_dir, room) = fresh_room();
    let missed = Missed::new(&room).await;
    lock(&room.fake.0).failing = Some(SourceErrorKind::Denied);
    let outcome = missed.poll(&room, missed.targets(missed.asked())).await;
    assert!(outcome.asked.is_empty() && outcome.fault.is_some());
    room.stop().await;
}

#[tokio::test]
async fn it_ends_where_it_began_though_each_page_brings_what_came_since_the_last() {
    let (_dir, room) = fresh_room();
    let missed = Missed::new(&room).await;
    lock(&room.fake.0).latency = Duration::from_millis(20);
    let fake = room.fake.clone();
    let busy = tokio::spawn(async move {
        loop {
            fake.put("copy", now(), "busy");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    let before = room.fake.calls();
    let outcome = missed.poll(&room, missed.targets(missed.asked())).await;
    busy.abort();
    assert!(outcome.fault.is_none());
    let calls = room.fake.calls() - before;
    assert!((10..=14).contains(&calls), "{calls} calls for 398 events in pages of 40");
    assert!(room.text(&missed.copy).starts_with(&lines(0..200)));
    assert_eq!(missed.tailed(), lines(0..200));
    room.stop().await;
}
