//! Listings of empty pages, and listings that fail while there is a copy to show.

use super::*;
use crate::error::ErrorKind;
use crate::fetch::stream::stale::Copied;

#[tokio::test(start_paused = true)]
async fn some_empty_pages_hide_nothing_and_prove_nothing() {
    let room = Fixture::new();
    fill(&room.source, "/g/a", 60);
    room.source.empty_pages(10);
    assert_eq!(room.groups().await.unwrap(), ["/g/a"]);
    let group = room.group("/g/a").await;
    assert!(room.listings.find_stream(group, "s007", Names::Exact).await.unwrap().is_some());
    assert_eq!(room.streams(group).await.unwrap().len(), 60);
    // What a walk doesn't meet is asked for by its name.
    room.source.put_stream("/g/a", "s060", NOW.0);
    assert!(room.listings.find_stream(group, "s060", Names::Exact).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_listing_of_empty_pages_alone_ends() {
    let room = Fixture::new();
    fill(&room.source, "/g/a", 60);
    room.source.empty_pages(u64::MAX);
    let error = room.groups().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(room.calls().0 <= 25, "{:?}", room.calls());
    room.source.empty_pages(0);
    room.settle().await;
    let group = room.group("/g/a").await;
    room.source.empty_pages(u64::MAX);
    assert_eq!(room.streams(group).await.unwrap_err().kind(), ErrorKind::TimedOut);
    let before = room.calls();
    let unknown = room.listings.find_stream(group, "s007", Names::Exact).await;
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::TimedOut, "no answer is no no");
    assert!(room.calls().1 - before.1 <= 45);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_is_shown_from_the_copy_is_told_until_it_is_read_again() {
    let room = Fixture::new();
    fill(&room.source, "/g/a", 3);
    room.groups().await.unwrap();
    let group = room.group("/g/a").await;
    room.streams(group).await.unwrap();
    assert!(room.listings.shared.stale.all().is_empty());
    room.past_ttl().await;
    room.source.fail_always(Some(SourceErrorKind::Denied));
    assert_eq!(room.groups().await.unwrap().len(), 1);
    assert_eq!(room.streams(group).await.unwrap().len(), 3);
    room.settle().await;
    let stale = |listing| room.listings.shared.stale.get(Copied::Listing(listing)).map(|stale| stale.error.kind());
    assert_eq!((stale(None), stale(Some(group))), (Some(ErrorKind::Denied), Some(ErrorKind::Denied)));
    room.source.fail_always(None);
    room.past_ttl().await;
    room.groups().await.unwrap();
    room.streams(group).await.unwrap();
    room.settle().await;
    assert_eq!((stale(None), stale(Some(group))), (None, None));
}
