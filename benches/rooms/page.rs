//! A full page: from the HTTP answer to events, from events to the store, and both.

use crate::{PAGE, events, replay, store_of_one};
use criterion::{BatchSize, Criterion, Throughput};
use cwlogs_mount::clock::{ServiceClock, SystemClock};
use cwlogs_mount::model::LogEvent;
use cwlogs_mount::source::cloudwatch::{CloudWatch, ConnectOptions};
use cwlogs_mount::source::{FilterEvents, GetEvents, LogSource};
use cwlogs_mount::store::Append;
use serde_json::json;
use std::sync::Arc;

fn answer(events: &[LogEvent], filtered: bool) -> String {
    let event = |(i, e): (usize, &LogEvent)| {
        let mut value = json!({"timestamp": e.timestamp.0, "message": e.message, "ingestionTime": e.ingestion_time.0});
        if filtered {
            value["logStreamName"] = "big".into();
            value["eventId"] = format!("{i:056}").into();
        }
        value
    };
    let events: Vec<_> = events.iter().enumerate().map(event).collect();
    let page = if filtered {
        json!({"events": events, "searchedLogStreams": [], "nextToken": "Bx1"})
    } else {
        json!({"events": events, "nextForwardToken": "f/1/s", "nextBackwardToken": "b/0/s"})
    };
    page.to_string()
}

pub(crate) fn bench(c: &mut Criterion) {
    // One thread, so that what is measured is work and not how cores share it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // SAFETY: nothing else runs yet in this process that looks at the environment.
    unsafe {
        std::env::set_var("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE");
        std::env::set_var("AWS_SECRET_ACCESS_KEY", "secret");
    }
    let connect = |url: String| {
        let options =
            ConnectOptions { region: Some("us-east-2".into()), endpoint_url: Some(url), ..Default::default() };
        runtime.block_on(CloudWatch::connect(options, ServiceClock::new(Arc::new(SystemClock)))).expect("a client")
    };
    let page = events(PAGE, 1_700_000_000_000, 7);
    let text: usize = page.iter().map(|e| e.message.len() + 1).sum();
    let one = connect(replay::start(answer(&page, false)));
    let many = connect(replay::start(answer(&page, true)));
    let get = || GetEvents { group: "app".into(), stream: "big".into(), from_head: true, ..GetEvents::default() };
    let filter = || FilterEvents { group: "app".into(), streams: vec!["big".into()], ..FilterEvents::default() };

    let mut group = c.benchmark_group("page");
    group.throughput(Throughput::Bytes(text as u64)).sample_size(30);
    group.bench_function("GetLogEvents to events", |b| {
        b.iter(|| runtime.block_on(one.get_log_events(get())).expect("a page").events.len());
    });
    group.bench_function("FilterLogEvents to events", |b| {
        b.iter(|| runtime.block_on(many.filter_log_events(filter())).expect("a page").events.len());
    });
    let (_folder, store, id) = store_of_one();
    let append = |events| vec![Append { stream: Some(id), events, ..Append::default() }];
    group.bench_function("events to committed store", |b| {
        b.iter_batched(
            || page.clone(),
            |page| runtime.block_on(store.append(append(page))).expect("room"),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("GetLogEvents to committed store", |b| {
        b.iter(|| {
            runtime.block_on(async {
                let page = one.get_log_events(get()).await.expect("a page");
                store.append(append(page.events)).await.expect("room")
            })
        });
    });
    group.finish();
}
