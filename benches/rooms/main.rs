//! What each room costs by itself, in memory and on this disk: no quotas, no latency, no mount. `cargo bench --bench rooms`.
//!
//! `benches/end_to_end` measures the whole.

mod index;
mod names;
mod page;
mod replay;
mod shown;
mod union;

// The merge is nobody's business but the fetch room's: its file is taken in here as it is, with the names that it looks for.
use cwlogs_mount::{model, store};
// Its tests come along, without their harness.
#[allow(dead_code, unused_imports)]
#[path = "../../src/fetch/stream/merge.rs"]
mod merge;

use criterion::{criterion_group, criterion_main};
use model::{LogEvent, LogGroup, LogStream, StreamId, Timestamp};
use std::sync::Arc;
use store::Store;

/// Events of a full page of 200-byte messages.
const PAGE: usize = 4639;

/// A page's worth of events that look like an application's, `step` ms apart from `first` on.
fn events(count: usize, first: i64, step: i64) -> Vec<LogEvent> {
    let line = |i: usize| {
        let text = format!(
            "{i:08} INFO handler finished request id={:016x} status=200 duration={}ms",
            i * 2_654_435_761,
            i % 97
        );
        format!("{text:x<200}")
    };
    let event = |i: usize| {
        let timestamp = Timestamp(first + i as i64 * step);
        LogEvent { timestamp, ingestion_time: Timestamp(timestamp.0 + 500), message: line(i) }
    };
    (0..count).map(event).collect()
}

/// A store in a folder that goes with it, and one stream.
fn store_of_one() -> (tempfile::TempDir, Arc<Store>, StreamId) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path()).expect("an empty store");
    let group = LogGroup {
        name: "app".into(),
        arn: String::new(),
        created: Timestamp(1),
        class: model::LogClass::Standard,
        retention_days: None,
        stored_bytes: 0,
    };
    let group = store.upsert_groups(&[group]).expect("a row")[0].id;
    let stream = LogStream {
        name: "big".into(),
        arn: String::new(),
        created: Timestamp(1),
        first_event: None,
        last_event: None,
        last_ingestion: None,
    };
    let stream = store.upsert_streams(group, &[stream]).expect("a row").rows[0].id;
    (folder, store, stream)
}

criterion_group!(rooms, page::bench, union::bench, index::bench, names::bench, shown::bench);
criterion_main!(rooms);
