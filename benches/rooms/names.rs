//! Names of files from names of streams, and back.

use criterion::{Criterion, Throughput};
use cwlogs_mount::store::names;

pub(crate) fn bench(c: &mut Criterion) {
    let stream = |i: u64| match i % 3 {
        0 => format!("2026/11/{:02}/[$LATEST]{:032x}", i % 28 + 1, i.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        1 => format!("ecs/web-app/{:016x}{:016x}", i, !i),
        _ => format!("Überwachung {i} ünïcode ☃"),
    };
    let streams: Vec<String> = (0..300).map(stream).collect();
    let exact: Vec<String> = streams.iter().map(|name| names::exact_encode(name)).collect();
    let mut group = c.benchmark_group("names");
    group.throughput(Throughput::Elements(streams.len() as u64));
    let sum = |make: fn(&str) -> String| streams.iter().map(|name| make(name).len()).sum::<usize>();
    group.bench_function("slugs", |b| b.iter(|| sum(names::slug_of)));
    group.bench_function("slugs with their hash", |b| b.iter(|| sum(names::slug_with_hash)));
    group.bench_function("exact names", |b| b.iter(|| sum(names::exact_encode)));
    group.bench_function("exact names back", |b| {
        b.iter(|| exact.iter().filter_map(|name| names::exact_decode(name)).count());
    });
    group.finish();
}
