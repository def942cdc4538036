//! Streams over a real store and a service in memory with the real one's pages, tokens and ends.

use super::*;
use crate::clock::{Clock, ServiceClock, SystemClock};
use crate::fetch::download::first_copy;
use crate::fetch::service::client::Service;
use crate::fetch::settings::{FetchSettings, Selection};
use crate::fetch::shared::{Last, Wanted};
use crate::fetch::stream::via::Via;
use crate::fetch::tail::Tail;
use crate::model::{LogEvent, LogGroup, LogStream, Timestamp};
use crate::source::{Call, DescribeGroups, DescribeStreams, LogSource, Page, Quotas, SourceError, SourceErrorKind};
use crate::store::{Store, StoreError};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

mod aged;
mod backlog;
mod downloads;
mod several;

/// Events a page unless a test wants the service's own 10,000.
const PAGE: usize = 100;

#[derive(Default)]
struct Scene {
    streams: BTreeMap<String, Vec<LogEvent>>,
    calls: HashMap<Call, usize>,
    /// The next so many GetLogEvents answers are empty ends, whatever there is.
    blind: usize,
    failing: Option<SourceErrorKind>,
    latency: Duration,
    /// FilterLogEvents takes so much longer.
    slow_filter: Duration,
    forget_tokens: bool,
    /// FilterLogEvents refuses every token.
    refuse_tokens: bool,
    page: Option<usize>,
    /// Every other page of FilterLogEvents is empty, the first of them first.
    gaps: bool,
}

#[derive(Default)]
struct Fake(Mutex<Scene>);

impl Fake {
    fn put(&self, stream: &str, at: i64, message: &str) {
        let mut scene = lock(&self.0);
        let events = scene.streams.entry(stream.to_string()).or_default();
        let event =
            LogEvent { timestamp: Timestamp(at), ingestion_time: Timestamp(at + 1), message: message.to_string() };
        let place = events.partition_point(|e| e.timestamp <= event.timestamp);
        events.insert(place, event);
    }

    fn calls(&self) -> usize {
        lock(&self.0).calls.values().sum()
    }

    async fn enter(&self, call: Call) -> Result<(), SourceError> {
        let (latency, failing) = {
            let mut scene = lock(&self.0);
            *scene.calls.entry(call).or_default() += 1;
            (scene.latency, scene.failing)
        };
        tokio::time::sleep(latency).await;
        failing.map_or(Ok(()), |kind| Err(SourceError { kind, call, message: "scripted".into() }))
    }
}

fn refused(kind: SourceErrorKind, call: Call) -> SourceError {
    SourceError { kind, call, message: "refused".into() }
}

#[async_trait]
impl LogSource for Fake {
    async fn describe_log_groups(&self, _: DescribeGroups) -> Result<Page<LogGroup>, SourceError> {
        Ok(Page { items: Vec::new(), next: None })
    }

    async fn describe_log_streams(&self, _: DescribeStreams) -> Result<Page<LogStream>, SourceError> {
        Ok(Page { items: Vec::new(), next: None })
    }

    async fn get_log_events(&self, request: GetEvents) -> Result<EventPage, SourceError> {
        self.enter(Call::GetLogEvents).await?;
        let mut scene = lock(&self.0);
        if scene.blind > 0 {
            scene.blind -= 1;
            let at = request.token.unwrap_or_else(|| "f0".into());
            return Ok(EventPage { events: Vec::new(), forward: at.clone(), backward: at });
        }
        if scene.forget_tokens && request.token.is_some() {
            scene.forget_tokens = false;
            return Err(refused(SourceErrorKind::InvalidToken, Call::GetLogEvents));
        }
        let all =
            scene.streams.get(&request.stream).ok_or_else(|| refused(SourceErrorKind::NotFound, Call::GetLogEvents))?;
        let within: Vec<LogEvent> = all
            .iter()
            .filter(|e| request.start.is_none_or(|s| e.timestamp >= s) && request.end.is_none_or(|s| e.timestamp < s))
            .cloned()
            .collect();
        let size = scene.page.unwrap_or(PAGE).min(request.limit.unwrap_or(10_000) as usize);
        // A token is a place between events.
        let place = request.token.as_deref().map(|t| t[1..].parse::<usize>().unwrap());
        let (from, to) = match (place, request.from_head, request.token.as_deref().map(|t| &t[..1])) {
            (Some(at), _, Some("b")) => (at.saturating_sub(size), at),
            (Some(at), _, _) => (at.min(within.len()), (at + size).min(within.len())),
            (None, true, _) => (0, size.min(within.len())),
            (None, false, _) => (within.len().saturating_sub(size), within.len()),
        };
        Ok(EventPage { events: within[from..to].to_vec(), forward: format!("f{to}"), backward: format!("b{from}") })
    }

    async fn filter_log_events(&self, request: FilterEvents) -> Result<FilterPage, SourceError> {
        self.enter(Call::FilterLogEvents).await?;
        let slow = lock(&self.0).slow_filter;
        tokio::time::sleep(slow).await;
        let mut scene = lock(&self.0);
        if (scene.forget_tokens || scene.refuse_tokens) && request.token.is_some() {
            scene.forget_tokens = false;
            return Err(refused(SourceErrorKind::InvalidToken, Call::FilterLogEvents));
        }
        let mut within: Vec<(String, LogEvent)> = scene
            .streams
            .iter()
            .filter(|(name, _)| request.streams.is_empty() || request.streams.contains(name))
            .flat_map(|(name, events)| events.iter().map(move |e| (name.clone(), e.clone())))
            .filter(|(_, e)| {
                request.start.is_none_or(|s| e.timestamp >= s) && request.end.is_none_or(|s| e.timestamp <= s)
            })
            .collect();
        within.sort_by_key(|(_, e)| e.timestamp);
        if scene.gaps && request.token.as_ref().is_none_or(|token| !token.starts_with('g')) {
            return Ok(FilterPage {
                events: Vec::new(),
                next: Some(format!("g{}", request.token.unwrap_or("0".into()))),
            });
        }
        let from: usize = request.token.map_or(0, |t| t.trim_start_matches('g').parse().unwrap());
        let to = (from + scene.page.unwrap_or(PAGE)).min(within.len());
        // One small page comes with a token too; its page is empty and has none.
        let next = (from < to).then(|| to.to_string());
        Ok(FilterPage { events: within[from..to].to_vec(), next })
    }

    fn quotas(&self) -> Quotas {
        Quotas::all(1e4)
    }

    fn region(&self) -> String {
        "us-east-1".into()
    }
}

/// Learns names, and takes every row for current.
struct Learnt(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Lister for Learnt {
    fn learn(&self, _: GroupId, names: Vec<String>) {
        lock(&self.0).extend(names);
    }

    fn is_current(&self, _: GroupId, _: StreamId) -> bool {
        true
    }

    async fn renew(&self, _: GroupId) -> Result<(), StoreError> {
        Ok(())
    }
}

struct Fixture {
    fake: Arc<Fake>,
    store: Arc<Store>,
    streams: Arc<Streams>,
    group: GroupId,
    learnt: Arc<Mutex<Vec<String>>>,
    news: Receiver<News>,
}

fn settings(fake: &Fake) -> FetchSettings {
    FetchSettings {
        selection: Selection::default(),
        poll_interval: Duration::from_millis(100),
        late_window: Duration::from_secs(300),
        settle_after: Duration::from_secs(900),
        listing_ttl: Duration::from_secs(10),
        quotas: fake.quotas(),
        patience: Duration::from_secs(2),
    }
}

fn room(store: Arc<Store>, fake: Arc<Fake>) -> Fixture {
    let settings = settings(&fake);
    let stopping = tokio_util::sync::CancellationToken::new();
    let report = Arc::new(Report::default());
    let service = Service::new(fake.clone(), report.clone(), &settings.quotas, settings.patience, stopping.clone());
    let (sender, news) = tokio::sync::mpsc::channel(crate::fetch::shared::MOST_NEWS);
    let group = LogGroup {
        name: "/g".into(),
        arn: String::new(),
        created: Timestamp(1),
        class: LogClass::Standard,
        retention_days: None,
        stored_bytes: 0,
    };
    let group = store.upsert_groups(&[group]).unwrap()[0].id;
    let shared = Arc::new(Shared {
        service,
        store: store.clone(),
        clock: ServiceClock::new(Arc::new(SystemClock)),
        settings: watch::Sender::new(Arc::new(settings)),
        stale: Default::default(),
        news: sender,
        tasks: tokio_util::task::TaskTracker::new(),
        stopping,
    });
    let learnt = Arc::new(Mutex::new(Vec::new()));
    let lister = Arc::new(Learnt(learnt.clone()));
    let streams = Streams::new(shared, report, lister);
    Fixture { fake, store, streams, group, learnt, news }
}

fn fresh_room() -> (tempfile::TempDir, Fixture) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, room(store, Arc::default()))
}

impl Fixture {
    /// Known to the listing, which tells of its events unless it lags.
    fn listed(&self, name: &str) -> Arc<Stream> {
        lock(&self.fake.0).streams.entry(name.into()).or_default();
        let (first, last) = {
            let scene = lock(&self.fake.0);
            let events = &scene.streams[name];
            (events.first().map(|e| e.timestamp), events.last().map(|e| e.timestamp))
        };
        let told = LogStream {
            name: name.into(),
            arn: String::new(),
            created: Timestamp(1),
            first_event: first,
            last_event: last,
            last_ingestion: None,
        };
        let id = self.store.upsert_streams(self.group, &[told]).unwrap().rows[0].id;
        self.streams.stream(id).unwrap()
    }

    fn text(&self, stream: &Stream) -> String {
        let reader = self.store.reader(stream.id, &crate::render::Format::Message).unwrap();
        String::from_utf8(reader.read_at(0, reader.len() as usize).unwrap()).unwrap()
    }

    async fn stop(&self) {
        self.streams.shared.stopping.cancel();
        self.streams.shared.tasks.close();
        tokio::time::timeout(Duration::from_secs(3), self.streams.shared.tasks.wait()).await.expect("tasks end");
    }
}

fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|i| format!("line {i}\n")).collect()
}

fn now() -> i64 {
    SystemClock.now().0
}

async fn eventually(what: &str, check: impl Fn() -> bool) {
    for _ in 0..300 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn an_unknown_stream_is_downloaded_and_then_asked_for_by_group() {
    let (_dir, room) = fresh_room();
    for i in 0..250 {
        room.fake.put("s", 1_000 + i as i64 / 7, &format!("line {i}"));
    }
    let stream = room.listed("s");
    assert!(!stream.serves_now(Wanted::Size));
    stream.bring_up_to_date(Wanted::Content).await.unwrap();
    assert_eq!(room.text(&stream), lines(0..250));
    assert!(stream.progress().borrow().complete);
    assert!(stream.serves_now(Wanted::Size), "just read");
    assert!(!stream.serves_now(Wanted::Content), "its reader has had that");
    let calls = room.fake.calls();
    stream.bring_up_to_date(Wanted::Size).await.unwrap();
    assert_eq!(room.fake.calls(), calls, "fresh: no call");
    tokio::time::sleep(Duration::from_millis(120)).await;
    room.fake.put("s", now(), "line 250");
    room.fake.put("other", now(), "x");
    stream.bring_up_to_date(Wanted::Content).await.unwrap();
    assert_eq!(room.text(&stream), lines(0..251));
    assert_eq!(*lock(&room.learnt), ["other"]);
    room.stop().await;
}

#[tokio::test]
async fn an_empty_answer_that_the_listing_contradicts_is_asked_again() {
    let (_dir, room) = fresh_room();
    room.fake.put("s", 1_000, "line 0");
    let stream = room.listed("s");
    lock(&room.fake.0).blind = 2;
    stream.bring_up_to_date(Wanted::Content).await.unwrap();
    assert_eq!(room.text(&stream), lines(0..1));
    room.stop().await;
}

#[tokio::test]
async fn an_old_token_starts_again_from_the_position() {
    let (_dir, room) = fresh_room();
    for i in 0..350 {
        room.fake.put("s", 1_000 + i as i64 / 7, &format!("line {i}"));
    }
    let stream = room.listed("s");
    lock(&room.fake.0).forget_tokens = true;
    stream.bring_up_to_date(Wanted::Content).await.unwrap();
    assert_eq!(room.text(&stream), lines(0..350));
    room.stop().await;
}

#[tokio::test]
async fn refusals_reach_who_waits_and_cached_copies_are_shown_anyway() {
    let (_dir, mut room) = fresh_room();
    room.fake.put("s", 1_000, "line 0");
    let stream = room.listed("s");
    lock(&room.fake.0).failing = Some(SourceErrorKind::Credentials);
    let error = stream.bring_up_to_date(Wanted::Content).await.unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::Denied, "/g/s"));
    lock(&room.fake.0).failing = None;
    stream.bring_up_to_date(Wanted::Content).await.unwrap();
    tokio::time::sleep(Duration::from_millis(120)).await;
    lock(&room.fake.0).failing = Some(SourceErrorKind::Credentials);
    stream.bring_up_to_date(Wanted::Content).await.unwrap();
    let calls = room.fake.calls();
    stream.bring_up_to_date(Wanted::Content).await.unwrap();
    assert_eq!(room.fake.calls(), calls, "a moment ago it failed");
    assert!(stream.progress().borrow().failure.is_some());
    let stale = room.streams.shared.stale.get(Copied::Stream(stream.id())).expect("it is told");
    assert_eq!((stale.error.kind(), stale.error.subject()), (ErrorKind::Denied, "/g/s"));
    lock(&room.fake.0).failing = None;
    let ghost = room.listed("ghost");
    lock(&room.fake.0).streams.remove("ghost");
    assert_eq!(ghost.bring_up_to_date(Wanted::Content).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(matches!(room.news.recv().await, Some(News::Gone(_, id)) if id == ghost.id()));
    room.stop().await;
}

#[tokio::test]
async fn cached_streams_cost_a_check_an_interval_after_a_restart() {
    let (dir, room) = fresh_room();
    let mut ids = Vec::new();
    for i in 0..300 {
        let name = format!("s{i:04}");
        room.fake.put(&name, 1_000 + i, "line 0");
        let stream = room.listed(&name);
        stream.bring_up_to_date(Wanted::Content).await.unwrap();
        ids.push(stream.id());
    }
    room.stop().await;
    room.streams.save_vouches();
    room.store.close().await.unwrap();
    let fake = room.fake.clone();
    drop(room);
    let again = super::tests::room(Store::open(dir.path()).unwrap(), fake);
    let calls = again.fake.calls();
    let began = std::time::Instant::now();
    for id in ids {
        again.streams.stream(id).unwrap().bring_up_to_date(Wanted::Content).await.unwrap();
    }
    let intervals = began.elapsed().as_millis() as usize / 100 + 1;
    let calls = again.fake.calls() - calls;
    assert!(calls <= 2 * intervals + 1, "{calls} calls in {intervals} intervals");
    again.stop().await;
}

#[tokio::test]
async fn followed_streams_show_each_event_once() {
    let (_dir, room) = fresh_room();
    lock(&room.fake.0).page = Some(10_000);
    let streams: Vec<_> = ["a", "b", "c"].map(|name| room.listed(name)).into();
    for stream in &streams {
        stream.bring_up_to_date(Wanted::Content).await.unwrap();
    }
    let follows: Vec<_> = streams.iter().map(|s| s.follow()).collect();
    for i in 0..60 {
        for name in ["a", "b", "c"] {
            room.fake.put(name, now(), &format!("line {i}"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for stream in &streams {
        eventually("all lines", || room.text(stream) == lines(0..60)).await;
    }
    drop(follows);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let calls = room.fake.calls();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(room.fake.calls(), calls, "nothing followed, no calls");
    assert!(streams[0].streams.shared.tasks.is_empty());
    room.stop().await;
}

#[tokio::test]
async fn streams_followed_slowly_are_polled_seldom_and_hold_up_no_open_one() {
    let (_dir, room) = fresh_room();
    let streams: Vec<_> = ["open", "a", "b"].map(|name| room.listed(name)).into();
    for stream in &streams {
        stream.bring_up_to_date(Wanted::Content).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    lock(&room.fake.0).slow_filter = Duration::from_secs(1);
    let count = |call| lock(&room.fake.0).calls.get(&call).copied().unwrap_or(0);
    let (gets, filters) = (count(Call::GetLogEvents), count(Call::FilterLogEvents));
    let slow: Vec<_> = streams[1..].iter().map(|stream| stream.follow_slowly()).collect();
    let open = streams[0].follow();
    for name in ["open", "a", "b"] {
        room.fake.put(name, now(), "line 0");
    }
    eventually("what is open is polled", || room.text(&streams[0]) == lines(0..1)).await;
    assert_eq!(room.text(&streams[1]), "", "the others' poll is under way");
    for stream in &streams[1..] {
        eventually("what is followed slowly grows", || room.text(stream) == lines(0..1)).await;
    }
    let (gets, polls) = (count(Call::GetLogEvents) - gets, count(Call::FilterLogEvents) - filters);
    assert_eq!(polls, 1);
    assert!(gets >= 5, "{gets} polls of the open one in a second");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(count(Call::FilterLogEvents) - filters, 1, "not for some seconds");
    drop((slow, open));
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(streams[0].streams.shared.tasks.is_empty());
    room.stop().await;
}

#[tokio::test]
async fn the_end_of_a_huge_stream_is_had_at_once_and_followed() {
    let (_dir, room) = fresh_room();
    lock(&room.fake.0).page = Some(10_000);
    let start = now() - 100_000;
    for i in 0..5_000 {
        room.fake.put("s", start + i as i64, &format!("line {i}"));
    }
    let stream = room.listed("s");
    let tail = stream.last(Last::Lines(20)).await.unwrap();
    assert!(room.fake.calls() <= 4);
    let text = |s: &Tail| String::from_utf8(s.read_at(0, usize::MAX)).unwrap();
    assert_eq!(text(&tail), lines(4_980..5_000));
    for i in 5_000..5_030 {
        room.fake.put("s", now(), &format!("line {i}"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    eventually("new lines", || text(&tail) == lines(4_980..5_030)).await;
    assert!(!stream.row().unwrap().extent.complete);
    assert_eq!(room.text(&stream), "", "nothing else is downloaded");
    stream.bring_up_to_date(Wanted::Content).await.unwrap();
    assert_eq!(room.text(&stream), lines(0..5_030));
    room.fake.put("s", now(), "line 5030");
    eventually("both", || text(&tail) == lines(4_980..5_031) && room.text(&stream) == lines(0..5_031)).await;
    drop(tail);
    let none = stream.last(Last::Lines(0)).await.unwrap();
    assert!(none.is_empty());
    drop(none);
    room.stop().await;
}

#[tokio::test]
async fn a_tail_of_the_end_gets_nothing_before_what_a_download_read_first() {
    use crate::fetch::stream::commit::{Batch, commit_one};
    use crate::fetch::stream::merge::Pass;
    let (_dir, room) = fresh_room();
    let start = now() - 400_000;
    (0..10).for_each(|i| room.fake.put("s", start + i, &format!("line {i}")));
    let stream = room.listed("s");
    let tail = stream.last(Last::Lines(20)).await.unwrap();
    // The polls' answers come after all of this.
    lock(&room.fake.0).latency = Duration::from_millis(500);
    tokio::time::sleep(Duration::from_millis(50)).await;
    (10..14).for_each(|i| room.fake.put("s", start + 20_000 * i, &format!("line {i}")));
    let batch = |range: std::ops::Range<i64>| {
        let events = range.map(|i| {
            let at = if i < 10 { start + i } else { start + 20_000 * i };
            LogEvent { timestamp: Timestamp(at), ingestion_time: Timestamp(now()), message: format!("line {i}") }
        });
        Batch::events(stream.clone(), Pass::default().page(events.collect()), false)
    };
    let whole = Batch { complete: true, ..batch(0..12) };
    commit_one(&stream.streams, whole).await.unwrap();
    commit_one(&stream.streams, batch(12..14)).await.unwrap();
    let text = |s: &Tail| String::from_utf8(s.read_at(0, usize::MAX)).unwrap();
    assert_eq!(text(&tail), lines(0..10), "what lies between is still missing");
    eventually("all of them in order", || text(&tail) == lines(0..14)).await;
    drop(tail);
    room.stop().await;
}

#[tokio::test]
async fn backfill_is_found_by_the_listing() {
    let (_dir, room) = fresh_room();
    room.fake.put("s", now() - 7_200_000, "line 0");
    let stream = room.listed("s");
    stream.bring_up_to_date(Wanted::Content).await.unwrap();
    tokio::time::sleep(Duration::from_millis(120)).await;
    room.fake.put("s", now() - 86_400_000, "line 1");
    let mut told = stream.row().unwrap().stream;
    told.last_ingestion = Some(Timestamp(now()));
    tokio::time::sleep(Duration::from_millis(5)).await;
    room.store.upsert_streams(room.group, &[told]).unwrap();
    stream.bring_up_to_date(Wanted::Content).await.unwrap();
    assert_eq!(room.text(&stream), lines(0..2));
    room.stop().await;
}

#[tokio::test]
async fn a_busy_group_is_checked_by_names() {
    let (_dir, room) = fresh_room();
    let quiet: Vec<_> = (0..30).map(|i| format!("quiet{i:02}")).collect();
    for name in &quiet {
        room.fake.put(name, 1_000, "line 0");
        room.listed(name).bring_up_to_date(Wanted::Content).await.unwrap();
    }
    let busy = room.listed("busy");
    for i in 0..2_000 {
        room.fake.put("busy", now() - 800_000 + i as i64 * 400, &format!("line {i}"));
    }
    tokio::time::sleep(Duration::from_millis(120)).await;
    room.fake.put("quiet03", now(), "line 1");
    let calls = room.fake.calls();
    for name in &quiet {
        let id = room.store.stream_by_name(room.group, name).unwrap().unwrap().id;
        let stream = room.streams.stream(id).unwrap();
        stream.bring_up_to_date(Wanted::Content).await.unwrap();
        assert_eq!(room.text(&stream), lines(0..if name == "quiet03" { 2 } else { 1 }));
    }
    assert!(room.fake.calls() - calls < 20, "{} calls", room.fake.calls() - calls);
    assert_eq!(room.text(&busy), "", "unknown streams' events are not kept");
    room.stop().await;
}

#[tokio::test]
async fn many_opens_at_once_share_a_check() {
    let (_dir, room) = fresh_room();
    let stream = room.listed("s");
    stream.bring_up_to_date(Wanted::Content).await.unwrap();
    tokio::time::sleep(Duration::from_millis(120)).await;
    lock(&room.fake.0).latency = Duration::from_millis(10);
    let calls = room.fake.calls();
    let opens: Vec<_> = (0..50)
        .map(|_| {
            let stream = stream.clone();
            tokio::spawn(async move { stream.bring_up_to_date(Wanted::Content).await })
        })
        .collect();
    for open in opens {
        open.await.unwrap().unwrap();
    }
    assert!(room.fake.calls() - calls <= 2);
    room.stop().await;
}

#[tokio::test]
async fn an_open_that_another_read_serves_before_its_check_begins_hears_of_it() {
    let (_dir, room) = fresh_room();
    let stream = room.listed("s");
    stream.bring_up_to_date(Wanted::Content).await.unwrap();
    tokio::time::sleep(Duration::from_millis(120)).await;
    let open = stream.bring_up_to_date(Wanted::Content);
    tokio::pin!(open);
    // It waits by now, and the check that it asked for hasn't begun.
    tokio::select! {
        biased;
        _ = &mut open => panic!("it needs no check"),
        () = std::future::ready(()) => {}
    }
    stream.was_read(tokio::time::Instant::now());
    tokio::time::timeout(Duration::from_secs(5), open).await.expect("nobody told it").unwrap();
    room.stop().await;
}
