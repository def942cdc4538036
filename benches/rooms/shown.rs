//! What a file shows of a page, in each format.

use crate::{PAGE, events};
use criterion::{Criterion, Throughput};
use cwlogs_mount::render::{Format, render};

pub(crate) fn bench(c: &mut Criterion) {
    let page = events(PAGE, 1_700_000_000_000, 7);
    let template = Format::parse("{timestamp} {log_stream}: {message}").expect("a template");
    let formats = [
        ("message", Format::Message),
        ("timestamped", Format::Timestamped),
        ("template", template),
        ("json lines", Format::JsonLines),
    ];
    let mut group = c.benchmark_group("render");
    group.throughput(Throughput::Bytes(page.iter().map(|e| e.message.len() as u64).sum()));
    for (name, format) in formats {
        let mut out = Vec::new();
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                page.iter().for_each(|event| render(&format, "app", "big", event, &mut out));
                out.len()
            });
        });
    }
    group.finish();
}
