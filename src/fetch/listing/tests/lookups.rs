//! Lookups by slug, before and after a group was listed.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_recent_slug_is_found_without_a_listing() {
    let room = Room::new();
    fill(&room.source, "/aws/x", 120);
    room.source.put_stream("/aws/x", "Odd/One", NOW.0);
    let id = room.listings.find_group("aws-x", Names::Slug).await.unwrap().unwrap().id;
    let row = room.listings.find_stream(id, "odd-one", Names::Slug).await.unwrap().unwrap();
    assert_eq!(row.stream.name, "Odd/One");
    assert_eq!(room.calls().1, 1, "the newest page");
    for name in ["typo", "a-typo", "HEAD", ".git"] {
        assert!(room.listings.find_stream(id, name, Names::Slug).await.unwrap().is_none());
    }
    room.settle().await;
    assert_eq!(room.calls().1, 4, "the newest page not again, and no walk");
    assert_eq!(room.streams(id).await.unwrap().len(), 121);
    room.past_ttl().await;
    room.source.put_stream("/aws/x", "New/One", NOW.0);
    let before = room.calls().1;
    assert!(room.listings.find_stream(id, "new-one", Names::Slug).await.unwrap().is_some());
    assert!(room.calls().1 <= before + 3, "the exact lookup, and the newest pages");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_has_costs_one_call() {
    let room = Room::new();
    fill(&room.source, "/small", 20);
    fill(&room.source, "/large", 120);
    let (small, large) = (room.group("/small").await, room.group("/large").await);
    for (group, name) in [(large, "HEAD"), (large, "typo"), (small, "a-typo"), (small, "typo")] {
        let before = room.calls().1;
        assert!(room.listings.find_stream(group, name, Names::Slug).await.unwrap().is_none());
        room.settle().await;
        assert_eq!(room.calls().1, before + 1, "{name}");
    }
    let before = room.calls().1;
    assert!(room.listings.find_stream(large, "a-typo", Names::Slug).await.unwrap().is_none());
    assert_eq!(room.calls().1, before + 2, "once in a time to live: the newest page of many, and the exact lookup");
}

#[tokio::test(start_paused = true)]
async fn concurrent_lookups_in_a_group_never_listed_share_its_newest_page() {
    let room = Room::new();
    fill(&room.source, "/g", 120);
    let id = room.group("/g").await;
    room.source.latency(Duration::from_millis(100));
    let mut lookups = tokio::task::JoinSet::new();
    for i in 0..20 {
        let listings = Arc::clone(&room.listings);
        lookups.spawn(async move { listings.find_stream(id, &format!("ty-po{i}"), Names::Slug).await.unwrap() });
    }
    assert!(lookups.join_all().await.iter().all(Option::is_none));
    assert_eq!(room.calls().1, 21);
    room.source.fail_always(Some(SourceErrorKind::Denied));
    room.past_ttl().await;
    assert!(room.listings.find_stream(id, "an-other", Names::Slug).await.is_err(), "trouble is no no");
}

#[tokio::test(start_paused = true)]
async fn a_slug_with_a_hash_is_found_for_every_stream() {
    let room = Room::new();
    fill(&room.source, "/g", 500);
    let id = room.group("/g").await;
    let name = crate::store::names::slug_with_hash("s000");
    assert_eq!(room.listings.find_stream(id, &name, Names::Slug).await.unwrap().unwrap().stream.name, "s000");
}

#[tokio::test(start_paused = true)]
async fn a_lookup_does_not_wait_for_a_long_walk() {
    let room = Room::new();
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
