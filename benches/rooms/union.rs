//! What of a page is new: counting it, and comparing it with nothing, with all of it stored, and with half.

use crate::merge::{Pass, missing, span_of};
use crate::{PAGE, events};
use criterion::{BatchSize, Criterion, Throughput};
use cwlogs_mount::store::{Counts, event_key};

pub(crate) fn bench(c: &mut Criterion) {
    let page = events(PAGE, 1_700_000_000_000, 7);
    let stored = |part: usize| {
        let mut counts = Counts::new();
        for event in page.iter().step_by(part) {
            *counts.entry(event_key(event)).or_default() += 1;
        }
        counts
    };
    let mut group = c.benchmark_group("merge");
    group.throughput(Throughput::Elements(PAGE as u64));
    group.bench_function("count a page", |b| {
        b.iter_batched(|| page.clone(), |page| Pass::default().page(page).len(), BatchSize::LargeInput);
    });
    for (name, counts) in [("nothing stored", Counts::new()), ("half stored", stored(2)), ("all stored", stored(1))] {
        group.bench_function(name, |b| {
            b.iter_batched(
                || (Pass::default().page(page.clone()), counts.clone()),
                |(page, mut counts)| (span_of(&page), missing(page, &mut counts).len()),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}
