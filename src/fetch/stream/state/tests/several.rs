//! What the service does with pages of several streams, run against each that reads them so.

use super::*;
use crate::fetch::follow::poll::{How, Target, poll};
use crate::fetch::freshness::check::{Members, sweep};
use crate::fetch::listing::progress::Folder;
use crate::fetch::readahead::prefetch;

/// Each way in which several streams are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// Checks, late re-reads and reads of what an unknown clock settled.
    Check,
    Poll,
    ReadAhead,
    /// A read ahead that begins before the group is listed.
    FirstPages,
}

const READERS: [Reader; 4] = [Reader::Check, Reader::Poll, Reader::ReadAhead, Reader::FirstPages];

/// Two streams of 175 events each, which `reader` has yet to read, and one that the catalogue doesn't know.
async fn scene(reader: Reader) -> (tempfile::TempDir, Fixture, [Arc<Stream>; 2]) {
    let (dir, room) = fresh_room();
    for name in ["s", "t"] {
        room.fake.put(name, 1_000, "line 0");
    }
    let streams = [room.listed("s"), room.listed("t")];
    if matches!(reader, Reader::Check | Reader::Poll) {
        for stream in &streams {
            stream.bring_up_to_date(Wanted::Content).await.unwrap();
        }
    }
    for i in 1..175 {
        ["s", "t"].iter().for_each(|name| room.fake.put(name, 1_000 + i as i64 / 7, &format!("line {i}")));
    }
    room.fake.put("unknown", 1_005, "x");
    (dir, room, streams)
}

impl Reader {
    /// Reads both to their ends, or as far as it comes.
    async fn read(self, room: &Fixture, streams: &[Arc<Stream>; 2]) -> Result<(), Fault> {
        let group = streams[0].group.clone();
        let rows = streams.iter().map(|stream| (stream.id, stream.name.clone(), stream.row().unwrap().extent));
        match self {
            Reader::Check => {
                let (members, now) = (Members::of(rows.collect()), room.streams.shared.clock.moment());
                let priority = Priority::Background;
                let read = sweep(&room.streams, &group, &members, &[], Timestamp(0), now, priority, usize::MAX).await?;
                assert!(read.drained, "to its end");
            }
            Reader::Poll => {
                let target = |stream: &Arc<Stream>| Target {
                    stream: stream.clone(),
                    extent: stream.row().unwrap().extent,
                    start: Timestamp(0),
                    newest: Some(Timestamp(1_000)),
                    asked: Timestamp(1_000),
                    tails: Vec::new(),
                    deep: false,
                    quiet: 0,
                };
                let targets = streams.iter().map(target).collect();
                let priority = Priority::Following;
                let how = How { priority, now: Timestamp(now()), reach: None, drain: true, try_whole: false };
                if let Some(fault) = poll(room.streams.clone(), group, targets, how).await.fault {
                    return Err(fault);
                }
            }
            Reader::ReadAhead => {
                streams.iter().for_each(|stream| prefetch::opened_cold(stream));
                self.wait(room, &group).await?;
            }
            Reader::FirstPages => {
                let folder = Arc::new(Folder::new(false));
                let listing = folder.begin(|_| true).expect("none is under way");
                prefetch::searched(&room.streams, &group, folder.subscribe());
                let stopping = &room.streams.shared.stopping;
                eventually("first pages were read", || room.fake.calls() > 2 || stopping.is_cancelled()).await;
                listing.done();
                self.wait(room, &group).await?;
            }
        }
        Ok(())
    }

    /// Waits for a read in the background.
    async fn wait(self, room: &Fixture, group: &Group) -> Result<(), Fault> {
        eventually("the read ahead ends", || !group.access_pattern.is_swept()).await;
        if room.streams.shared.stopping.is_cancelled() { Err(Fault::Stopping) } else { Ok(()) }
    }
}

/// Both texts, in order of the streams.
fn texts(room: &Fixture, streams: &[Arc<Stream>; 2]) -> [String; 2] {
    [room.text(&streams[0]), room.text(&streams[1])]
}

#[tokio::test]
async fn an_old_token_keeps_none_from_the_end() {
    for reader in READERS {
        let (_dir, room, streams) = scene(reader).await;
        lock(&room.fake.0).forget_tokens = true;
        reader.read(&room, &streams).await.unwrap();
        assert!(!lock(&room.fake.0).forget_tokens, "{reader:?} met it");
        assert_eq!(texts(&room, &streams), [lines(0..175), lines(0..175)], "{reader:?}");
        room.stop().await;
    }
}

#[tokio::test]
async fn tokens_that_are_always_refused_end_a_read_soon() {
    for reader in READERS {
        let (_dir, room, streams) = scene(reader).await;
        // More than a page within one millisecond, behind which no token leads.
        (0..2 * PAGE).for_each(|i| room.fake.put("s", 2_000, &format!("more {i}")));
        lock(&room.fake.0).refuse_tokens = true;
        let calls = room.fake.calls();
        let read = reader.read(&room, &streams).await;
        let is_alone = matches!(reader, Reader::Check | Reader::Poll);
        assert_eq!(read.is_err(), is_alone, "{reader:?}: a read ahead fails in silence");
        assert!(room.fake.calls() - calls < 30, "{reader:?}");
        assert!(room.text(&streams[0]).starts_with(&lines(0..175)), "{reader:?}: what came before it is kept");
        room.stop().await;
    }
}

#[tokio::test]
async fn empty_pages_are_no_end() {
    for reader in READERS {
        let (_dir, room, streams) = scene(reader).await;
        lock(&room.fake.0).gaps = true;
        let read = reader.read(&room, &streams).await;
        read.unwrap();
        if reader == Reader::Poll {
            // A poll that nothing is known to lie behind ends at an empty page; the next one goes on.
            assert!(lines(0..175).starts_with(&room.text(&streams[0])), "nothing is missing in the middle");
        } else {
            assert_eq!(texts(&room, &streams), [lines(0..175), lines(0..175)], "{reader:?}");
        }
        room.stop().await;
    }
}

#[tokio::test]
async fn an_unknown_name_is_told_where_the_group_is_looked_at_and_stays_out_of_all_else() {
    for reader in READERS {
        let (_dir, room, streams) = scene(reader).await;
        reader.read(&room, &streams).await.unwrap();
        assert_eq!(texts(&room, &streams), [lines(0..175), lines(0..175)], "{reader:?}");
        let told: &[&str] = if reader == Reader::Check { &["unknown"] } else { &[] };
        assert_eq!(*lock(&room.learnt), told, "{reader:?}");
        room.stop().await;
    }
}

#[tokio::test]
async fn a_stop_ends_each_at_once() {
    for reader in READERS {
        let (_dir, room, streams) = scene(reader).await;
        lock(&room.fake.0).latency = Duration::from_secs(30);
        let stopping = room.streams.shared.stopping.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            stopping.cancel();
        });
        let read = tokio::time::timeout(Duration::from_secs(3), reader.read(&room, &streams));
        assert!(matches!(read.await.expect("it ends"), Err(Fault::Stopping)), "{reader:?}");
        room.stop().await;
    }
}
