//! Lookups by slug, before and after a group was listed.

use super::*;

/// A no is remembered for so long.
const NO_MORE: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_recent_slug_is_found_without_a_listing() {
    let room = Fixture::new();
    fill(&room.source, "/aws/x", 120);
    room.source.put_stream("/aws/x", "Odd/One", NOW.0);
    let id = room.listings.find_group("aws-x", Names::Slug).await.unwrap().unwrap().id;
    let row = room.listings.find_stream(id, "odd-one", Names::Slug).await.unwrap().unwrap();
    assert_eq!(row.stream.name, "Odd/One");
    assert_eq!(room.calls().1, 1, "the newest page");
    for name in ["HEAD", ".git", "a.b"] {
        assert!(room.listings.find_stream(id, name, Names::Slug).await.unwrap().is_none());
    }
    room.settle().await;
    assert_eq!(room.calls().1, 3, "no slugs: an exact lookup each of two, and no walk");
    assert!(room.listings.find_stream(id, "typo", Names::Slug).await.unwrap().is_none());
    assert_eq!(room.calls().1, 8, "may be one: three pages, and the first again since it took several");
    assert!(room.listings.find_stream(id, "a-typo", Names::Slug).await.unwrap().is_none());
    assert_eq!(room.calls().1, 9, "that was the whole listing");
    assert_eq!(room.streams(id).await.unwrap().len(), 121);
    room.past_ttl().await;
    room.source.put_stream("/aws/x", "New/One", NOW.0);
    let before = room.calls().1;
    assert!(room.listings.find_stream(id, "new-one", Names::Slug).await.unwrap().is_some());
    assert!(room.calls().1 <= before + 3, "the exact lookup, and the newest pages");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_has_costs_one_call() {
    let room = Fixture::new();
    fill(&room.source, "/small", 20);
    fill(&room.source, "/large", 120);
    let (small, large) = (room.group("/small").await, room.group("/large").await);
    // A slug in a group that was never listed costs the walk through it, once: one page of the small one, four of the large one.
    for (group, name, calls) in [(large, "HEAD", 1), (small, "a-typo", 1), (small, "typo", 2), (large, "typo", 1 + 4)] {
        let before = room.calls().1;
        assert!(room.listings.find_stream(group, name, Names::Slug).await.unwrap().is_none());
        room.settle().await;
        assert_eq!(room.calls().1, before + calls, "{name}");
    }
    for (group, name) in [(large, "Head"), (large, "tpyo"), (large, "another-typo"), (small, "tpyo"), (small, "a-tpyo")]
    {
        let before = room.calls().1;
        assert!(room.listings.find_stream(group, name, Names::Slug).await.unwrap().is_none());
        assert_eq!(room.calls().1, before + 1, "{name}");
    }
    room.settle().await;
}

/// 4,000 streams, the oldest two of which aren't found by their slugs as exact names.
fn fill_much(room: &Fixture) {
    room.source.put_stream("/g", "Application", NOW.0 - HOUR / 2 - 2);
    room.source.put_stream("/g", "Old/One", NOW.0 - HOUR / 2 - 1);
    for i in 0..4000 {
        room.source.put_stream("/g", &format!("s{i:04}"), NOW.0 - HOUR / 2 + i);
    }
}

impl Fixture {
    async fn finds(&self, group: GroupId, name: &str) -> Option<String> {
        self.listings.find_stream(group, name, Names::Slug).await.unwrap().map(|row| row.stream.name)
    }
}

#[tokio::test(start_paused = true)]
async fn a_slug_beyond_the_newest_page_is_found_in_a_group_never_listed() {
    let room = Fixture::new();
    fill(&room.source, "/g", 1000);
    room.source.put_stream("/g", "Application", NOW.0 - HOUR);
    room.source.put_stream("/g", "Old/One", NOW.0 - HOUR);
    let id = room.group("/g").await;
    assert_eq!(room.finds(id, "application").await.as_deref(), Some("Application"));
    assert_eq!(room.finds(id, "old-one").await.as_deref(), Some("Old/One"));
    assert!(room.calls().1 <= 1 + 21 + 1, "{:?}", room.calls());
    room.settle().await;
    let before = room.calls().1;
    assert_eq!(room.streams(id).await.unwrap().len(), 1002);
    assert_eq!(room.calls().1, before, "that walk was a whole listing");
}

#[tokio::test(start_paused = true)]
async fn a_walk_for_a_lookup_ends_after_fifty_pages_and_says_how_far_it_looked() {
    let room = Fixture::new();
    fill_much(&room);
    let id = room.group("/g").await;
    assert_eq!(room.finds(id, "old-one").await, None);
    assert_eq!(room.calls().1, 2 + 50, "the newest page, the exact lookup, the walk");
    let told = room.report.errors();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].error.subject(), "/g/old-one");
    assert!(told[0].error.cause().contains("through 2500 of its newest streams"), "{}", told[0]);
    // Once in ten minutes, and each name is said once.
    for (name, calls) in [("application", 1), ("old-one", 1), ("typo", 1)] {
        room.past_ttl().await;
        let before = room.calls().1;
        assert_eq!(room.finds(id, name).await, None);
        tokio::time::sleep(NO_MORE).await;
        assert_eq!(room.finds(id, name).await, None);
        assert!(room.calls().1 <= before + 2 + calls, "{name}: the newest page once, the exact lookup twice");
    }
    assert_eq!(room.report.errors().len(), 3);
    tokio::time::sleep(Duration::from_mins(10)).await;
    let before = room.calls().1;
    assert_eq!(room.finds(id, "old-one").await, None);
    assert_eq!(room.calls().1, before + 2 + 50);
    assert_eq!(room.streams(id).await.unwrap().len(), 4002);
    assert_eq!(room.finds(id, "old-one").await.as_deref(), Some("Old/One"));
    assert_eq!(room.finds(id, "application").await.as_deref(), Some("Application"));
}

#[tokio::test(start_paused = true)]
async fn a_walk_for_a_lookup_ends_in_time() {
    let room = Fixture::new();
    fill_much(&room);
    let id = room.group("/g").await;
    room.source.latency(Duration::from_millis(400));
    let start = Instant::now();
    assert_eq!(room.finds(id, "application").await, None);
    assert!(start.elapsed() <= Duration::from_secs(5), "{:?}", start.elapsed());
    let before = room.calls().1;
    assert!((9..=12).contains(&before), "{before}");
    assert!(room.report.errors()[0].error.cause().contains("through 500 of"), "{:?}", room.report.errors());
    room.settle().await;
    assert_eq!(room.calls().1, before, "and it doesn't go on");
}

#[tokio::test(start_paused = true)]
async fn a_walk_for_a_lookup_goes_on_for_a_program_that_lists() {
    let room = Fixture::new();
    fill_much(&room);
    let id = room.group("/g").await;
    room.source.latency(Duration::from_millis(100));
    let listings = Arc::clone(&room.listings);
    let lookup = tokio::spawn(async move { listings.find_stream(id, "application", Names::Slug).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(room.streams(id).await.unwrap().len(), 4002);
    assert!(room.calls().1 <= 1 + 81 + 1, "one walk for both: {:?}", room.calls());
    assert!(lookup.await.unwrap().unwrap().is_none(), "it didn't wait for all of it");
    assert!(room.report.errors().is_empty());
    assert_eq!(room.finds(id, "application").await.as_deref(), Some("Application"));
}

#[tokio::test(start_paused = true)]
async fn trouble_in_a_walk_for_a_lookup_is_no_no() {
    let room = Fixture::new();
    fill_much(&room);
    let id = room.group("/g").await;
    room.source.latency(Duration::from_millis(100));
    for hangs in [true, false] {
        let listings = Arc::clone(&room.listings);
        let lookup = tokio::spawn(async move { listings.find_stream(id, "application", Names::Slug).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        if hangs {
            room.source.hang(true);
            assert_eq!(lookup.await.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
            room.source.hang(false);
        } else {
            room.source.fail_always(Some(SourceErrorKind::Denied));
            assert_eq!(lookup.await.unwrap().unwrap_err().kind(), ErrorKind::Denied);
        }
        room.settle().await;
    }
    assert!(room.report.errors().is_empty());
}

#[tokio::test(start_paused = true)]
async fn concurrent_lookups_in_a_group_never_listed_share_its_newest_page() {
    let room = Fixture::new();
    fill(&room.source, "/g", 120);
    let id = room.group("/g").await;
    room.source.latency(Duration::from_millis(100));
    let mut lookups = tokio::task::JoinSet::new();
    for i in 0..20 {
        let listings = Arc::clone(&room.listings);
        lookups.spawn(async move { listings.find_stream(id, &format!("ty-po{i}"), Names::Slug).await.unwrap() });
    }
    assert!(lookups.join_all().await.iter().all(Option::is_none));
    assert_eq!(room.calls().1, 1 + 20 + 4, "the newest page, an exact lookup each, and one walk");
    room.source.fail_always(Some(SourceErrorKind::Denied));
    room.past_ttl().await;
    assert!(room.listings.find_stream(id, "an-other", Names::Slug).await.is_err(), "trouble is no no");
}

#[tokio::test(start_paused = true)]
async fn a_slug_with_a_hash_is_found_for_every_stream() {
    let room = Fixture::new();
    fill(&room.source, "/g", 500);
    let id = room.group("/g").await;
    let name = crate::store::names::slug_with_hash("s000");
    assert_eq!(room.listings.find_stream(id, &name, Names::Slug).await.unwrap().unwrap().stream.name, "s000");
}

#[tokio::test(start_paused = true)]
async fn a_lookup_does_not_wait_for_a_long_walk() {
    let room = Fixture::new();
    for i in 0..2000 {
        room.source.put_stream("/g", &format!("s{i:04}"), NOW.0 - HOUR / 2 + i);
    }
    let id = room.group("/g").await;
    room.source.latency(Duration::from_secs(1));
    room.listings.touch_listing(Some(id));
    let start = Instant::now();
    assert!(room.listings.find_stream(id, "nobody", Names::Slug).await.unwrap().is_none());
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    let hashed = room.listings.find_stream(id, "nobody~0123abcd", Names::Slug).await;
    assert_eq!(hashed.unwrap_err().kind(), ErrorKind::TimedOut, "not a no before the walk's end");
    assert_eq!(room.streams(id).await.unwrap().len(), 2000, "and the walk goes on");
}

impl Fixture {
    async fn finds_group(&self, name: &str) -> Option<String> {
        self.listings.find_group(name, Names::Slug).await.unwrap().map(|row| row.group.name)
    }

    /// Calls for groups that asking for a name costs.
    async fn group_calls(&self, name: &str) -> usize {
        let before = self.calls().0;
        assert_eq!(self.finds_group(name).await, None, "{name}");
        self.calls().0 - before
    }
}

fn put_groups(room: &Fixture, count: usize) {
    for i in 0..count {
        room.source.put_group(&format!("/svc/g{i:04}"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_made_after_the_root_was_listed_is_found_by_its_slug() {
    let room = Fixture::new();
    put_groups(&room, 199);
    room.groups().await.unwrap();
    assert_eq!(room.group_calls("new-group").await, 1, "the listing is young: an exact lookup");
    room.source.put_group("/New/Group", 1);
    assert_eq!(room.group_calls("new-group").await, 0, "the no is remembered");
    room.past_ttl().await;
    assert_eq!(room.finds_group("new-group").await.as_deref(), Some("/New/Group"));
    room.settle().await;
    assert_eq!(room.calls().0, 4 + 1 + (1 + 4), "the exact lookup, and four pages");
    let hashed = crate::store::names::slug_with_hash("/Other/Group");
    for name in ["typo", "a-typo", hashed.as_str()] {
        assert!(room.group_calls(name).await <= 1, "once in a time to live: {name}");
    }
    room.past_ttl().await;
    for name in [".git", "@all", "100%", ""] {
        assert_eq!(room.group_calls(name).await, 0, "{name}");
    }
    assert_eq!(room.group_calls("HEAD").await, 1, "no slug, but it may be an exact name");
    room.source.put_group("/Other/Group", 1);
    assert_eq!(room.finds_group(&hashed).await.as_deref(), Some("/Other/Group"));
}

#[tokio::test(start_paused = true)]
async fn among_many_groups_a_new_one_is_found_by_a_piece_of_its_slug() {
    let room = Fixture::new();
    put_groups(&room, 201);
    room.groups().await.unwrap();
    room.past_ttl().await;
    room.source.put_group("/svc/Checkout-worker_1", 1);
    let before = room.calls().0;
    assert_eq!(room.finds_group("svc-checkout-worker-1").await, None, "the longest piece has a capital");
    assert_eq!(room.calls().0, before + 2);
    room.source.put_group("/svc/New/payments_1", 1);
    assert_eq!(room.finds_group("svc-new-payments-1").await.as_deref(), Some("/svc/New/payments_1"));
    assert_eq!(room.calls().0, before + 4, "an exact lookup, and one by pattern");
    let hashed = crate::store::names::slug_with_hash("/svc/New/refunds");
    room.source.put_group("/svc/New/refunds", 1);
    assert_eq!(room.finds_group(&hashed).await.as_deref(), Some("/svc/New/refunds"));

    assert_eq!(room.group_calls("svc-typo").await, 2);
    tokio::time::sleep(NO_MORE).await;
    assert_eq!(room.group_calls("svc-typo").await, 1, "once in a time to live for a slug");
    for name in [".git", "@all", "100%"] {
        assert_eq!(room.group_calls(name).await, 0, "{name}");
    }
    assert_eq!(room.group_calls("HEAD").await, 1);

    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(room.finds_group("svc-checkout-worker-1").await.as_deref(), Some("/svc/Checkout-worker_1"));
    room.settle().await;
    let before = room.calls().0;
    for i in 0..10 {
        room.past_ttl().await;
        assert_eq!(room.group_calls(&format!("svc-typo{i}")).await, 2);
    }
    assert_eq!(room.calls().0, before + 20, "a whole listing at most each five minutes");
}

#[tokio::test(start_paused = true)]
async fn among_many_groups_known_from_before_a_lookup_waits_for_no_whole_listing() {
    let room = Fixture::new();
    put_groups(&room, 600);
    room.groups().await.unwrap();
    room.source.put_group("/svc/brand/new", 1);
    let room = room.restart().await;
    room.source.latency(Duration::from_secs(1));
    let start = Instant::now();
    assert_eq!(room.finds_group("svc-brand-new").await.as_deref(), Some("/svc/brand/new"));
    assert_eq!(room.finds_group("svc-g0599").await.as_deref(), Some("/svc/g0599"));
    assert_eq!(room.finds_group("svc-zzz").await, None);
    assert!(start.elapsed() < Duration::from_secs(2 + 5), "{:?}", start.elapsed());
    room.source.put_group("/svc/zzZ", 1);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(room.finds_group("svc-zzz").await.as_deref(), Some("/svc/zzZ"), "the listing went on");
}

#[tokio::test(start_paused = true)]
async fn trouble_with_a_new_group_is_no_no() {
    for groups in [100, 600] {
        let room = Fixture::new();
        put_groups(&room, groups);
        room.groups().await.unwrap();
        room.past_ttl().await;
        // The exact lookup is answered, the next call isn't.
        room.source.fail_after(1, SourceErrorKind::Denied);
        let error = room.listings.find_group("svc-typo", Names::Slug).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{groups}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lookup_does_not_wait_for_the_checks_of_groups_that_are_gone() {
    let room = Fixture::new();
    put_groups(&room, 150);
    let mut settings = FetchSettings::clone(&room.listings.settings());
    settings.listing_ttl = Duration::ZERO;
    room.listings.shared.settings.send_replace(Arc::new(settings));
    room.groups().await.unwrap();
    room.settle().await;
    for i in 0..140 {
        room.source.delete_group(&format!("/svc/g{i:04}"));
    }
    room.source.latency(Duration::from_millis(200));
    let start = Instant::now();
    assert_eq!(room.finds_group("svc-typo").await, None);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

/// Names for which no question of their own is asked.
#[tokio::test(start_paused = true)]
async fn a_listing_answers_for_many_names_and_denies_none_unseen() {
    let room = Fixture::new();
    fill(&room.source, "/g", 120);
    let id = room.group("/g").await;
    let asks = async |name: &str| room.listings.listed_stream(id, name, Names::Slug).await;
    assert_eq!(asks("s000").await.unwrap().unwrap().stream.name, "s000", "the last one listed");
    assert!(asks("absent").await.unwrap().is_none());
    assert_eq!(room.calls().1, 4, "one listing for both: three pages, and the first again since it took several");
    room.past_ttl().await;
    room.source.put_stream("/g", "new", NOW.0);
    assert!(asks("new").await.unwrap().is_some());
    room.past_ttl().await;
    room.source.fail_always(Some(SourceErrorKind::Denied));
    assert_eq!(asks("newer").await.unwrap_err().kind(), ErrorKind::Denied, "trouble is no no");
    assert!(asks("new").await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_listing_answers_for_many_groups() {
    let room = Fixture::new();
    for i in 0..120 {
        room.source.put_group(&format!("/g/{i:03}"), 1);
    }
    let asks = async |name: &str| room.listings.listed_group(name, Names::Slug).await;
    assert!(asks("g-119").await.unwrap().is_some());
    assert!(asks("absent").await.unwrap().is_none());
    assert_eq!(room.calls(), (3, 0), "one listing for both");
}
