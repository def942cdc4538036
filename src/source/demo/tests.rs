use super::*;
use crate::clock::ManualClock;
use std::collections::BTreeSet;

const EPOCH: Timestamp = Timestamp(1_795_392_000_000);

fn demo() -> (Demo, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(EPOCH));
    (Demo::new(EPOCH, clock.clone()), clock)
}

async fn streams_of(demo: &Demo, group: &str) -> Vec<LogStream> {
    let mut request = DescribeStreams { group: group.into(), ..DescribeStreams::default() };
    let mut streams = Vec::new();
    loop {
        let page = demo.describe_log_streams(request.clone()).await.unwrap();
        assert!(page.items.len() <= 50);
        streams.extend(page.items);
        match page.next {
            Some(token) => request.token = Some(token),
            None => return streams,
        }
    }
}

async fn groups_of(demo: &Demo) -> Vec<LogGroup> {
    demo.describe_log_groups(DescribeGroups::default()).await.unwrap().items
}

/// Everything by forward tokens, and the number of calls.
async fn forward(demo: &Demo, mut request: GetEvents) -> (Vec<LogEvent>, u32) {
    request.from_head = true;
    let (mut events, mut calls) = (Vec::new(), 0);
    loop {
        let page = demo.get_log_events(request.clone()).await.unwrap();
        calls += 1;
        events.extend(page.events);
        if request.token.as_ref() == Some(&page.forward) {
            return (events, calls);
        }
        request.token = Some(page.forward);
    }
}

async fn backward(demo: &Demo, mut request: GetEvents) -> Vec<LogEvent> {
    request.from_head = false;
    let mut events = Vec::new();
    loop {
        let page = demo.get_log_events(request.clone()).await.unwrap();
        events.splice(0..0, page.events);
        if request.token.as_ref() == Some(&page.backward) {
            return events;
        }
        request.token = Some(page.backward);
    }
}

async fn filtered(demo: &Demo, mut request: FilterEvents) -> Vec<(String, LogEvent)> {
    let mut events = Vec::new();
    loop {
        let page = demo.filter_log_events(request.clone()).await.unwrap();
        assert_eq!(page.events.is_empty(), page.next.is_none(), "only an empty page ends it");
        events.extend(page.events);
        match page.next {
            Some(token) => request.token = Some(token),
            None => return events,
        }
    }
}

fn get(group: &str, stream: &str) -> GetEvents {
    GetEvents { group: group.into(), stream: stream.into(), ..GetEvents::default() }
}

#[tokio::test]
async fn two_demos_of_one_epoch_agree() {
    let (one, _) = demo();
    let (other, _) = demo();
    assert_eq!(groups_of(&one).await, groups_of(&other).await);
    for group in groups_of(&one).await {
        let streams = streams_of(&one, &group.name).await;
        assert_eq!(streams, streams_of(&other, &group.name).await);
        let stream = &streams[0].name;
        let request = GetEvents { limit: Some(300), from_head: true, ..get(&group.name, stream) };
        let (a, b) = (one.get_log_events(request.clone()).await.unwrap(), other.get_log_events(request).await.unwrap());
        assert_eq!(a.events, b.events);
        assert!(!a.events.is_empty(), "{}/{stream}", group.name);
    }
}

#[tokio::test]
async fn groups_are_asked_for_by_a_piece_of_their_names() {
    let (demo, _) = demo();
    let like = |pattern: &str| DescribeGroups { pattern: Some(pattern.into()), ..DescribeGroups::default() };
    let found = demo.describe_log_groups(like("lambda/check")).await.unwrap().items;
    assert_eq!(found.iter().map(|group| group.name.as_str()).collect::<Vec<_>>(), ["/aws/lambda/checkout"]);
    assert!(demo.describe_log_groups(like("Checkout")).await.unwrap().items.is_empty(), "case counts");
    let both = DescribeGroups { prefix: Some("/aws".into()), ..like("check") };
    assert_eq!(demo.describe_log_groups(both).await.unwrap_err().kind, SourceErrorKind::Invalid);
}

#[tokio::test]
async fn what_there_is() {
    let (demo, _) = demo();
    let names: Vec<_> = groups_of(&demo).await.into_iter().map(|g| g.name).collect();
    assert!(names.is_sorted());
    for name in &names {
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_/#".contains(&b)), "{name}");
        let streams = streams_of(&demo, name).await;
        let distinct: BTreeSet<_> = streams.iter().map(|s| &s.name).collect();
        assert_eq!(distinct.len(), streams.len(), "{name}");
        for stream in &streams {
            let length = stream.name.chars().count();
            assert!((1..=512).contains(&length) && !stream.name.contains([':', '*']), "{:?}", stream.name);
        }
        assert!(streams.is_sorted_by(|a, b| a.last_event >= b.last_event), "{name}");
    }
    assert_eq!(streams_of(&demo, "batch/nightly").await.len(), 1000);
    let empty = streams_of(&demo, "app/orders").await.into_iter().find(|s| s.name == "never-written").unwrap();
    assert_eq!((empty.first_event, empty.last_event), (None, None));
}

#[tokio::test]
async fn the_big_stream_is_about_20_mb() {
    let (demo, _) = demo();
    let (events, _) = forward(&demo, get("audit/trail", "export-full")).await;
    let bytes: usize = events.iter().map(|e| e.message.len() + 1).sum();
    assert!((18_000_000..24_000_000).contains(&bytes), "{bytes}");
    assert!(events.is_sorted_by_key(|e| e.timestamp));
}

#[tokio::test]
async fn small_pages_add_up_to_one_big_page() {
    let (demo, _) = demo();
    let request = get("app/orders", "orders-archive-1");
    let (whole, calls) = forward(&demo, request.clone()).await;
    assert_eq!((whole.len(), calls), (400, 3), "two calls more than the one page");
    let (small, calls) = forward(&demo, GetEvents { limit: Some(50), ..request.clone() }).await;
    assert_eq!((&small, calls), (&whole, 10));
    assert_eq!(backward(&demo, GetEvents { limit: Some(7), ..request.clone() }).await, whole);
    let newest = demo.get_log_events(GetEvents { limit: Some(10), ..request }).await.unwrap();
    assert_eq!(newest.events, whole[390..]);
    let (none, calls) = forward(&demo, get("app/orders", "never-written")).await;
    assert_eq!((none.len(), calls), (0, 2));
}

#[tokio::test]
async fn windows_end_exclusively_by_stream_and_inclusively_by_group() {
    let (demo, _) = demo();
    let request = get("app/orders", "orders-archive-1");
    let (whole, _) = forward(&demo, request.clone()).await;
    let (start, end) = (whole[10].timestamp, whole[20].timestamp);
    let window = GetEvents { start: Some(start), end: Some(end), ..request.clone() };
    assert_eq!(forward(&demo, window.clone()).await.0, whole[10..20]);
    assert_eq!(backward(&demo, window.clone()).await, whole[10..20]);
    assert!(forward(&demo, GetEvents { end: Some(start), ..window }).await.0.is_empty());
    let filter = FilterEvents {
        group: request.group,
        streams: vec![request.stream],
        start: Some(start),
        end: Some(end),
        ..FilterEvents::default()
    };
    let both: Vec<_> = filtered(&demo, filter).await.into_iter().map(|(_, event)| event).collect();
    assert_eq!(both, whole[10..=20]);
}

#[tokio::test]
async fn a_group_is_its_streams_merged() {
    let (demo, _) = demo();
    let group = "batch/nightly";
    let request = FilterEvents { group: group.into(), ..FilterEvents::default() };
    let whole = filtered(&demo, request.clone()).await;
    assert!(whole.is_sorted_by_key(|(_, event)| event.timestamp));
    assert_eq!(filtered(&demo, FilterEvents { limit: Some(997), ..request }).await, whole);
    let mut count = 0;
    for stream in streams_of(&demo, group).await.iter().step_by(97) {
        let (events, _) = forward(&demo, get(group, &stream.name)).await;
        let mine: Vec<_> = whole.iter().filter(|(name, _)| *name == stream.name).map(|(_, e)| e.clone()).collect();
        assert_eq!(mine, events);
        count += 1;
    }
    assert!(count > 10);
}

#[tokio::test]
async fn streams_grow_with_the_clock() {
    let (demo, clock) = demo();
    let request = get("/ecs/storefront", &streams_of(&demo, "/ecs/storefront").await[0].name);
    let (before, _) = forward(&demo, request.clone()).await;
    let last = GetEvents { token: Some("f/0/0/s".into()), ..request.clone() };
    assert_eq!(demo.get_log_events(last).await.unwrap_err().kind, SourceErrorKind::InvalidToken);

    let mut token = None;
    loop {
        let page =
            demo.get_log_events(GetEvents { from_head: true, token: token.clone(), ..request.clone() }).await.unwrap();
        let end = token.as_ref() == Some(&page.forward);
        token = Some(page.forward);
        if end {
            break;
        }
    }
    clock.set(EPOCH + std::time::Duration::from_secs(60));
    let page = demo.get_log_events(GetEvents { from_head: true, token, ..request.clone() }).await.unwrap();
    assert!((50..200).contains(&page.events.len()), "{}", page.events.len());
    let (after, _) = forward(&demo, request).await;
    assert_eq!(after, [before, page.events].concat());
}

#[tokio::test]
async fn a_filter_token_goes_on_where_it_stood() {
    let (demo, clock) = demo();
    let request = FilterEvents { group: "nginx/access".into(), start: Some(EPOCH), ..FilterEvents::default() };
    clock.set(EPOCH + std::time::Duration::from_secs(10));
    let first = demo.filter_log_events(request.clone()).await.unwrap();
    clock.set(EPOCH + std::time::Duration::from_secs(20));
    let rest = filtered(&demo, FilterEvents { token: first.next, ..request.clone() }).await;
    assert_eq!(filtered(&demo, request).await, [first.events, rest].concat());
}

#[tokio::test]
async fn a_stream_is_born_each_minute() {
    let (demo, clock) = demo();
    let group = "/aws/lambda/checkout";
    let before = streams_of(&demo, group).await;
    clock.set(EPOCH + std::time::Duration::from_secs(150));
    let after = streams_of(&demo, group).await;
    assert_eq!(after.len(), before.len() + 2);
    let newest = after.iter().max_by_key(|s| s.created).unwrap();
    assert_eq!(newest.created, EPOCH + std::time::Duration::from_secs(120));
    assert!(newest.name.contains("/[$LATEST]"), "{}", newest.name);
    let by_name =
        DescribeStreams { group: group.into(), prefix: Some(newest.name.clone()), ..DescribeStreams::default() };
    assert_eq!(demo.describe_log_streams(by_name).await.unwrap().items, std::slice::from_ref(newest));
    clock.set(EPOCH);
    assert_eq!(streams_of(&demo, group).await, before);
}

#[tokio::test]
async fn refusals() {
    let (demo, _) = demo();
    let kind = |error: SourceError| error.kind;
    let nothing = demo.get_log_events(get("no/such", "x")).await.unwrap_err();
    assert_eq!(kind(nothing), SourceErrorKind::NotFound);
    let nothing = demo.get_log_events(get("app/orders", "x")).await.unwrap_err();
    assert_eq!(kind(nothing), SourceErrorKind::NotFound);
    let limit = GetEvents { limit: Some(10_001), ..get("app/orders", "orders-1") };
    assert_eq!(kind(demo.get_log_events(limit).await.unwrap_err()), SourceErrorKind::Invalid);
    let many =
        FilterEvents { group: "app/orders".into(), streams: vec!["orders-1".into(); 101], ..FilterEvents::default() };
    assert_eq!(kind(demo.filter_log_events(many).await.unwrap_err()), SourceErrorKind::Invalid);
    let token = FilterEvents { group: "app/orders".into(), token: Some("x".into()), ..FilterEvents::default() };
    assert_eq!(kind(demo.filter_log_events(token).await.unwrap_err()), SourceErrorKind::InvalidToken);
}

#[tokio::test]
async fn hours_are_counted_as_they_are_read() {
    let (demo, _) = demo();
    for group in groups_of(&demo).await {
        for stream in streams_of(&demo, &group.name).await.into_iter().take(2) {
            let day = Timestamp(EPOCH.0 - 24 * 3_600_000);
            let request = CountEvents {
                group: group.name.clone(),
                stream: stream.name.clone(),
                start: day,
                end: Timestamp::of_hour(EPOCH.hour() + 1),
            };
            let query = demo.start_count(request).await.unwrap();
            let mut expected = crate::model::Hours::new();
            for event in forward(&demo, GetEvents { start: Some(day), ..get(&group.name, &stream.name) }).await.0 {
                *expected.entry(event.timestamp.hour()).or_default() += 1;
            }
            assert_eq!(demo.count_results(query).await.unwrap(), Counted::Done(expected), "{}", stream.name);
        }
    }
    assert!(demo.count_results("nonsense".into()).await.is_err());
}
