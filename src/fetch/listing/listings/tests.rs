//! Listings and lookups over a scripted source and a real store.

use super::*;
use crate::clock::{ManualClock, ServiceClock};
use crate::fetch::scripted::{ScriptedSource, settings};
use crate::fetch::service::client::Service;
use crate::fetch::settings::{Selection, Since};
use crate::fetch::shared::News;
use crate::source::{Call, LogSource, SourceErrorKind};
use crate::store::names::Names;
use tokio::sync::mpsc::Receiver;
use tokio_util::task::TaskTracker;

const TTL: Duration = Duration::from_secs(10);
const HOUR: i64 = 3_600_000;
const NOW: Timestamp = Timestamp(1_000_000 * HOUR);

mod endless;
mod lookups;

struct Fixture {
    source: Arc<ScriptedSource>,
    listings: Arc<Listings>,
    news: Receiver<News>,
    clock: Arc<ManualClock>,
    report: Arc<Report>,
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::with(Selection::default())
    }

    fn with(selection: Selection) -> Fixture {
        Fixture::over(Arc::default(), selection, tempfile::tempdir().unwrap())
    }

    fn over(source: Arc<ScriptedSource>, selection: Selection, dir: tempfile::TempDir) -> Fixture {
        let quotas = source.quotas();
        let settings = FetchSettings { selection, listing_ttl: TTL, quotas, ..settings() };
        let stopping = CancellationToken::new();
        let dynamic: Arc<dyn LogSource> = Arc::<ScriptedSource>::clone(&source);
        let report = Arc::<Report>::default();
        let service = Service::new(dynamic, report.clone(), &quotas, settings.patience, stopping.clone());
        let (sender, news) = tokio::sync::mpsc::channel(crate::fetch::shared::MOST_NEWS);
        let clock = Arc::new(ManualClock::new(NOW));
        let shared = Arc::new(Shared {
            service,
            store: Store::open(dir.path()).unwrap(),
            clock: ServiceClock::new(Arc::<ManualClock>::clone(&clock)),
            settings: watch::Sender::new(Arc::new(settings)),
            stale: Default::default(),
            news: sender,
            tasks: TaskTracker::new(),
            stopping,
        });
        Fixture { source, listings: Listings::new(shared, report.clone()), news, clock, report, dir }
    }

    /// The same service and cache after a restart.
    async fn restart(self) -> Fixture {
        let Fixture { source, listings, dir, .. } = self;
        listings.shared.stopping.cancel();
        listings.shared.tasks.close();
        listings.shared.tasks.wait().await;
        listings.shared.store.close().await.unwrap();
        drop(listings);
        Fixture::over(source, Selection::default(), dir)
    }

    fn calls(&self) -> (usize, usize) {
        (self.source.calls(Call::DescribeLogGroups), self.source.calls(Call::DescribeLogStreams))
    }

    async fn groups(&self) -> Result<Vec<String>, Error> {
        let (mut names, mut seq) = (Vec::new(), 0);
        loop {
            let rows = self.listings.groups_after(seq, 30).await?;
            let Some(last) = rows.last() else { return Ok(names) };
            seq = last.seq;
            names.extend(rows.into_iter().map(|row| row.group.name));
        }
    }

    async fn streams(&self, group: GroupId) -> Result<Vec<String>, Error> {
        let (mut names, mut seq) = (Vec::new(), 0);
        loop {
            let rows = self.listings.streams_after(group, seq, 30).await?;
            let Some(last) = rows.last() else { return Ok(names) };
            seq = last.seq;
            names.extend(rows.into_iter().map(|row| row.stream.name));
        }
    }

    async fn group(&self, name: &str) -> GroupId {
        self.listings.find_group(&name.replace('/', "%2F"), Names::Slug).await.unwrap().unwrap().id
    }

    fn told(&mut self) -> Vec<News> {
        std::iter::from_fn(|| self.news.try_recv().ok()).collect()
    }

    /// Lets background runs end, without time to live going by.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(3)).await;
    }

    async fn past_ttl(&self) {
        tokio::time::sleep(TTL).await;
    }
}

/// Streams `s000`…, the last one written last.
fn fill(source: &ScriptedSource, group: &str, streams: i64) {
    for i in 0..streams {
        source.put_stream(group, &format!("s{i:03}"), NOW.0 - HOUR / 2 + i);
    }
}

#[tokio::test(start_paused = true)]
async fn the_root_is_listed_once_in_its_time_to_live() {
    let mut room = Fixture::new();
    for i in 0..120 {
        room.source.put_group(&format!("/g/{i:03}"), 1);
    }
    let names = room.groups().await.unwrap();
    assert_eq!(names.len(), 120);
    assert_eq!(room.calls(), (3, 0));
    assert!(room.told().is_empty(), "nothing is news in a catalogue that was empty");
    assert_eq!(room.groups().await.unwrap(), names);
    assert_eq!(room.calls(), (3, 0));

    room.source.put_group("/g/000a", 2);
    room.source.delete_group("/g/007");
    room.past_ttl().await;
    room.groups().await.unwrap();
    room.settle().await;
    assert_eq!(room.calls(), (7, 0), "three pages, and one exact lookup of the one not met");
    assert!(matches!(room.told()[..], [News::NewGroup(_)]));
    let names = room.groups().await.unwrap();
    assert_eq!(names.last().map(String::as_str), Some("/g/000a"), "later names follow at the end");
    assert_eq!(names.len(), 120);
    assert!(!names.contains(&"/g/007".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn the_root_shows_what_the_selection_says() {
    let mut patterns = globset::GlobSetBuilder::new();
    patterns.add(globset::Glob::new("*-prod").unwrap());
    let room = Fixture::with(Selection {
        group_prefixes: vec!["/b".into(), "/a".into(), "/a/x".into()],
        group_patterns: patterns.build().unwrap(),
        ..Default::default()
    });
    for name in ["/a/x-prod", "/a/y-test", "/b-prod", "/c-prod"] {
        room.source.put_group(name, 1);
    }
    assert_eq!(room.groups().await.unwrap(), ["/a/x-prod", "/b-prod"]);
    assert_eq!(room.calls().0, 2);
    assert!(room.listings.find_group("%2Fc-prod", Names::Slug).await.unwrap().is_none());
    assert_eq!(room.calls().0, 2, "what isn't selected isn't asked for");
}

#[tokio::test(start_paused = true)]
async fn a_first_listing_shows_pages_as_they_come() {
    let room = Fixture::new();
    fill(&room.source, "/g", 170);
    let id = room.group("/g").await;
    room.source.latency(Duration::from_secs(1));
    let start = Instant::now();
    let first = room.listings.streams_after(id, 0, 1000).await.unwrap();
    assert_eq!((first.len(), first[0].stream.name.as_str()), (50, "s169"));
    assert!(start.elapsed() < Duration::from_millis(1100));
    assert_eq!(room.streams(id).await.unwrap().len(), 170);
    assert_eq!(room.calls().1, 5, "four pages, and the head once more since it took several");
    assert_eq!(room.streams(id).await.unwrap().len(), 170);
    room.listings.touch_listing(Some(id));
    assert_eq!(room.calls().1, 5);
}

#[tokio::test(start_paused = true)]
async fn a_walk_goes_on_when_the_reader_leaves() {
    let room = Fixture::new();
    fill(&room.source, "/g", 170);
    let id = room.group("/g").await;
    room.source.latency(Duration::from_secs(1));
    let left = tokio::time::timeout(Duration::from_millis(10), room.listings.streams_after(id, 0, 10)).await;
    assert!(left.is_err());
    room.source.latency(Duration::ZERO);
    room.settle().await;
    assert_eq!(room.streams(id).await.unwrap().len(), 170);
}

#[tokio::test(start_paused = true)]
async fn ls_shows_a_stream_made_since_and_tells_of_it() {
    let mut room = Fixture::new();
    fill(&room.source, "/g", 120);
    let id = room.group("/g").await;
    room.streams(id).await.unwrap();
    assert!(room.told().is_empty());
    room.source.put_stream("/g", "new", NOW.0);
    room.past_ttl().await;
    let before = room.calls().1;
    let names = room.streams(id).await.unwrap();
    assert_eq!(names.last().map(String::as_str), Some("new"));
    assert_eq!(room.calls().1, before + 2, "a page that brought one, and one that brought nothing new");
    assert!(matches!(room.told()[..], [News::NewStream(group, _)] if group == id));
}

#[tokio::test(start_paused = true)]
async fn a_failed_first_walk_is_an_error_at_the_end_of_its_rows_and_the_next_one_heals_it() {
    let room = Fixture::new();
    fill(&room.source, "/g", 120);
    let id = room.group("/g").await;
    room.source.latency(Duration::from_millis(100));
    let rows = room.listings.streams_after(id, 0, 1000).await.unwrap();
    room.source.fail_always(Some(SourceErrorKind::Denied));
    let mut seq = rows.last().unwrap().seq;
    let error = loop {
        match room.listings.streams_after(id, seq, 1000).await {
            // The page that was in flight.
            Ok(rows) => seq = rows.last().expect("no end before the error").seq,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Denied);
    room.settle().await;
    let error = room.listings.streams_after(id, seq, 1000).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "an end that isn't one would cut the listing short");
    room.source.fail_always(None);
    assert_eq!(room.streams(id).await.unwrap().len(), 120);
}

#[tokio::test(start_paused = true)]
async fn without_a_network_what_is_known_is_shown_in_bounded_time() {
    let room = Fixture::new();
    fill(&room.source, "/g", 60);
    let id = room.group("/g").await;
    room.groups().await.unwrap();
    room.streams(id).await.unwrap();
    room.settle().await;
    let room = room.restart().await;
    room.source.fail_always(Some(SourceErrorKind::Network));
    let start = Instant::now();
    assert_eq!(room.groups().await.unwrap(), ["/g"]);
    assert_eq!(room.streams(id).await.unwrap().len(), 60);
    assert!(start.elapsed() <= Duration::from_millis(4100), "{:?}", start.elapsed());
    assert!(room.listings.find_stream(id, "s007", Names::Slug).await.unwrap().is_some());
    let error = room.listings.find_stream(id, "nobody", Names::Slug).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn lookups_of_what_is_known_cost_nothing_and_of_nobody_one_call() {
    let room = Fixture::new();
    fill(&room.source, "/aws/x", 120);
    room.groups().await.unwrap();
    let id = room.listings.find_group("aws-x", Names::Slug).await.unwrap().unwrap().id;
    room.streams(id).await.unwrap();
    let before = room.calls();
    assert!(room.listings.find_stream(id, "s003", Names::Slug).await.unwrap().is_some());
    assert!(room.listings.find_stream(id, ".git", Names::Slug).await.unwrap().is_none());
    assert!(room.listings.find_group(".git", Names::Slug).await.unwrap().is_none());
    assert!(room.listings.find_stream(id, "a:b", Names::Slug).await.unwrap().is_none());
    assert_eq!(room.calls(), before);
    for _ in 0..5 {
        assert!(room.listings.find_stream(id, "nobody", Names::Slug).await.unwrap().is_none());
        assert!(room.listings.find_group("HEAD", Names::Slug).await.unwrap().is_none());
    }
    assert_eq!(room.calls(), (before.0 + 1, before.1 + 1), "and the no is remembered");
    tokio::time::sleep(Duration::from_secs(1)).await;
    room.source.put_stream("/aws/x", "nobody", NOW.0);
    assert!(room.listings.find_stream(id, "nobody", Names::Slug).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn concurrent_lookups_share_one_call() {
    let room = Fixture::new();
    fill(&room.source, "/g", 3);
    let id = room.group("/g").await;
    room.source.latency(Duration::from_millis(100));
    let mut lookups = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let listings = Arc::clone(&room.listings);
        lookups.spawn(async move { listings.find_stream(id, "s001", Names::Slug).await.unwrap().unwrap().id });
    }
    let ids: std::collections::HashSet<_> = lookups.join_all().await.into_iter().collect();
    assert_eq!((ids.len(), room.calls().1), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn another_selection_is_listed_anew() {
    let room = Fixture::with(Selection { group_prefixes: vec!["/a".into()], ..Default::default() });
    room.source.put_group("/a", 1);
    room.source.put_group("/b", 1);
    assert_eq!(room.groups().await.unwrap(), ["/a"]);
    let mut settings = FetchSettings::clone(&room.listings.settings());
    settings.selection = Selection::default();
    room.listings.shared.settings.send_replace(Arc::new(settings));
    room.listings.reconfigured();
    assert_eq!(room.groups().await.unwrap(), ["/a", "/b"]);
}

#[tokio::test(start_paused = true)]
async fn a_group_made_again_is_another_one() {
    let mut room = Fixture::new();
    fill(&room.source, "/g", 3);
    room.groups().await.unwrap();
    let old = room.group("/g").await;
    room.streams(old).await.unwrap();
    room.source.delete_group("/g");
    room.source.put_group("/g", 2);
    room.past_ttl().await;
    room.groups().await.unwrap();
    assert_eq!(room.groups().await.unwrap(), ["/g"]);
    let new = room.group("/g").await;
    assert_ne!(old, new);
    assert!(matches!(room.told()[..], [News::NewGroup(id)] if id == new));
    assert!(room.streams(new).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn trouble_is_never_a_no_and_never_longer_than_five_seconds() {
    let room = Fixture::new();
    fill(&room.source, "/g", 3);
    let id = room.group("/g").await;
    room.streams(id).await.unwrap();
    room.source.fail_always(Some(SourceErrorKind::Throttled));
    let start = Instant::now();
    assert!(room.listings.find_stream(id, "nobody", Names::Slug).await.is_err());
    assert!(room.listings.find_group("nobody", Names::Slug).await.is_err());
    assert!(start.elapsed() <= Duration::from_millis(10_100));
}

#[tokio::test(start_paused = true)]
async fn named_streams_are_looked_up_and_never_walked() {
    let room =
        Fixture::with(Selection { streams: vec!["s005".into(), "nope".into(), "s002".into()], ..Default::default() });
    fill(&room.source, "/g", 200);
    let id = room.group("/g").await;
    assert_eq!(room.streams(id).await.unwrap(), ["s005", "s002"]);
    assert_eq!(room.calls().1, 3);
    assert!(room.listings.find_stream(id, "s007", Names::Slug).await.unwrap().is_none());
    assert_eq!(room.calls().1, 3);
}

#[tokio::test(start_paused = true)]
async fn since_hides_old_streams_and_ends_the_walk_early() {
    let since = Some(Since::Ago(Duration::from_hours(2)));
    let room = Fixture::with(Selection { since, ..Default::default() });
    for i in 0..500 {
        room.source.put_stream("/g", &format!("old{i:03}"), NOW.0 - 10 * HOUR + i);
    }
    fill(&room.source, "/g", 20);
    let id = room.group("/g").await;
    assert_eq!(room.streams(id).await.unwrap().len(), 20);
    assert!(room.calls().1 <= 4, "{:?}", room.calls());
    assert!(
        room.listings.folder(id).unwrap().0.walked_at.is_none(),
        "part of a listing isn't the whole for later mounts"
    );
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_gone_is_forgotten() {
    let room = Fixture::new();
    fill(&room.source, "/g", 3);
    room.groups().await.unwrap();
    let id = room.group("/g").await;
    room.source.delete_group("/g");
    assert_eq!(room.streams(id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(room.listings.find_group("g", Names::Slug).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn streams_made_again_and_gone_are_told() {
    let mut room = Fixture::new();
    fill(&room.source, "/g", 60);
    let id = room.group("/g").await;
    room.streams(id).await.unwrap();
    room.source.put_stream("/g", "s059", NOW.0);
    room.past_ttl().await;
    room.streams(id).await.unwrap();
    assert!(matches!(room.told()[..], [News::Replaced(..)]));
    room.source.delete_stream("/g", "s001");
    room.clock.set(NOW + Duration::from_hours(1));
    tokio::time::sleep(Duration::from_hours(1)).await;
    room.streams(id).await.unwrap();
    room.settle().await;
    assert!(matches!(room.told()[..], [News::Gone(..)]), "a whole walk once an hour, and an exact lookup");
    assert_eq!(room.streams(id).await.unwrap().len(), 59);
}

#[tokio::test(start_paused = true)]
async fn names_in_answers_are_learnt() {
    let mut room = Fixture::new();
    fill(&room.source, "/g", 3);
    let id = room.group("/g").await;
    room.streams(id).await.unwrap();
    let before = room.calls().1;
    room.source.put_stream("/g", "new", NOW.0);
    for _ in 0..5 {
        room.listings.learn_streams(id, ["new".to_owned(), "s001".to_owned(), "ghost".to_owned()]);
        room.settle().await;
    }
    assert!(room.listings.shared.store.stream_by_name(id, "new").unwrap().is_some());
    assert!(matches!(room.told()[..], [News::NewStream(..)]));
    assert!(room.calls().1 <= before + 3, "one each, and the ghost once more after the time to live");
}

#[tokio::test(start_paused = true)]
async fn a_watched_group_is_kept_fresh_and_no_other() {
    let mut room = Fixture::new();
    fill(&room.source, "/g", 60);
    let id = room.group("/g").await;
    room.streams(id).await.unwrap();
    let before = room.calls().1;
    let (watch, other) = (room.listings.watch_group(id), room.listings.watch_group(id));
    drop(other);
    tokio::time::sleep(TTL * 3 + TTL / 2).await;
    assert_eq!(room.calls().1, before + 3);
    room.source.put_stream("/g", "new", NOW.0);
    tokio::time::sleep(TTL).await;
    assert!(matches!(room.told()[..], [News::NewStream(..)]));
    drop(watch);
    let before = room.calls().1;
    tokio::time::sleep(TTL * 10).await;
    assert_eq!(room.calls().1, before, "nobody watches, no calls");
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_every_wait() {
    let room = Fixture::new();
    fill(&room.source, "/g", 3);
    let id = room.group("/g").await;
    room.source.hang(true);
    let listings = Arc::clone(&room.listings);
    let listing = tokio::spawn(async move { listings.streams_after(id, 0, 10).await });
    let listings = Arc::clone(&room.listings);
    let lookup = tokio::spawn(async move { listings.find_stream(id, "nobody", Names::Slug).await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    room.listings.shared.stopping.cancel();
    assert_eq!(listing.await.unwrap().unwrap_err().kind(), ErrorKind::Stopping);
    assert_eq!(lookup.await.unwrap().unwrap_err().kind(), ErrorKind::Stopping);
}
