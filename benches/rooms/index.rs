//! Looking into the index of a stream of 100 MB: a second of it, and an hour of it.

use crate::{PAGE, events, store_of_one};
use criterion::Criterion;
use cwlogs_mount::model::{Span, Timestamp};
use cwlogs_mount::store::Append;

const PAGES: usize = 108;
const FIRST: i64 = 1_700_000_000_000;
const STEP: i64 = 40;

pub(crate) fn bench(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (_folder, store, id) = store_of_one();
    let all = events(PAGE * PAGES, FIRST, STEP);
    for page in all.chunks(PAGE) {
        let append = Append { stream: Some(id), events: page.to_vec(), ..Append::default() };
        runtime.block_on(store.append(vec![append])).expect("room");
    }
    let middle = FIRST + (PAGE * PAGES / 2) as i64 * STEP;
    let span = |ms: i64| Span { start: Timestamp(middle), end: Timestamp(middle + ms) };
    let mut group = c.benchmark_group("index");
    for (name, ms) in [("a second", 1_000), ("an hour", 3_600_000)] {
        group.bench_function(format!("counts of {name}"), |b| {
            b.iter(|| store.counts(id, span(ms)).expect("an index").len());
        });
        group.bench_function(format!("hours of {name}"), |b| {
            b.iter(|| store.hours(id, span(ms)).expect("an index").len())
        });
    }
    group.bench_function("oldest ingested since, nothing is", |b| {
        b.iter(|| store.oldest_ingested_since(id, span(3_600_000), Timestamp(i64::MAX)).expect("an index"));
    });
    group.finish();
}
