//! Reads of simulated streams by windows: whatever the density and whatever comes first, all comes once and in order.

use super::*;
use proptest::prelude::*;

/// Events of a stream, and how many a page holds.
struct Service {
    events: Vec<LogEvent>,
    page: usize,
}

fn event(at: i64, n: usize) -> LogEvent {
    LogEvent { timestamp: Timestamp(at), ingestion_time: Timestamp(at), message: format!("{n:0200}") }
}

/// Where a reader of a window stands in `events`.
struct Reader {
    id: Id,
    at: usize,
}

impl Service {
    fn of(times: impl IntoIterator<Item = i64>, page: usize) -> Service {
        let mut times: Vec<i64> = times.into_iter().collect();
        times.sort_unstable();
        Service { events: times.iter().enumerate().map(|(n, at)| event(*at, n)).collect(), page }
    }

    fn seek(&self, from: Option<Timestamp>) -> usize {
        self.events.partition_point(|event| from.is_some_and(|from| event.timestamp < from))
    }

    fn pages(&self) -> usize {
        self.events.len().div_ceil(self.page)
    }

    /// Reads all with `side_by_side` readers; `pick` says whose page comes next and how much of it. (text in order, calls).
    fn read(
        &self,
        end: i64,
        side_by_side: usize,
        mut pick: impl FnMut(usize) -> (usize, usize),
    ) -> (Vec<String>, usize) {
        let horizon = self.events.last().map(|event| event.timestamp);
        let mut windows = Windows::new(None, Timestamp(end), Timestamp(end), horizon);
        let mut readers = vec![Reader { id: 0, at: 0 }];
        let (mut out, mut calls) = (Vec::new(), 0);
        while !windows.is_over() {
            if !readers.is_empty() {
                let (which, part) = pick(readers.len());
                let which = which % readers.len();
                let reader = &mut readers[which];
                let until = (reader.at + (self.page * part.clamp(1, 100) / 100).max(1)).min(self.events.len());
                let ended = reader.at == self.events.len();
                let events = self.events[reader.at..until].to_vec();
                reader.at = until;
                calls += 1;
                windows.take(reader.id, Taken { events, ended, restarted: false, stuck: false }, side_by_side);
            }
            readers.retain(|reader| windows.is_read(reader.id));
            while readers.len() < side_by_side
                && let Some((id, from)) = windows.begin(side_by_side)
            {
                readers.push(Reader { id, at: self.seek(from) });
            }
            out.extend(windows.pop(4).into_iter().map(|counted| counted.event.message));
        }
        assert_eq!((windows.held(), windows.reading()), (0, 0));
        (out, calls)
    }

    fn all(&self) -> Vec<String> {
        self.events.iter().map(|event| event.message.clone()).collect()
    }
}

/// Turn by turn, whole pages.
fn in_turn() -> impl FnMut(usize) -> (usize, usize) {
    let mut turn = 0;
    move |_| {
        turn += 1;
        (turn, 100)
    }
}

#[test]
fn an_even_stream_costs_few_calls_more_than_its_pages() {
    let service = Service::of((0..110 * 50).map(|i| i * 40), 50);
    for readers in [1, 2, 3, 5, 9] {
        let (out, calls) = service.read(10_000_000, readers, in_turn());
        assert!(out == service.all(), "{readers}");
        assert!(calls as f64 <= service.pages() as f64 * 1.12, "{readers}: {calls} of {}", service.pages());
    }
}

#[test]
fn so_does_one_with_nearly_all_in_a_hundredth_of_the_time() {
    let total = 110 * 50;
    for place in [0.0, 0.3, 0.5, 0.9] {
        let range = 10_000_000.0;
        let (dense, sparse) = (total * 9 / 10, total / 10);
        let burst = (0..dense).map(|i| (range * (place + 0.01 * i as f64 / dense as f64)) as i64);
        let rest = (0..sparse).map(|i| (range * i as f64 / sparse as f64) as i64);
        let service = Service::of(burst.chain(rest), 50);
        for readers in [2, 3, 9] {
            let (out, calls) = service.read(20_000_000, readers, in_turn());
            assert!(out == service.all(), "{place} {readers}");
            let most = if readers > 3 { 1.3 } else { 1.14 };
            assert!(calls as f64 <= service.pages() as f64 * most, "{place} {readers}: {calls} of {}", service.pages());
        }
    }
}

#[test]
fn what_came_late_in_the_read_is_in_no_window_twice() {
    // A page begins again at the whole millisecond of what was seen last.
    let mut windows = Windows::new(None, Timestamp(1_000), Timestamp(1_000), None);
    let first = vec![event(1, 1), event(2, 2), event(2, 3)];
    windows.take(0, Taken { events: first, ended: false, restarted: false, stuck: false }, 1);
    let again = vec![event(2, 2), event(2, 3), event(2, 4)];
    windows.take(0, Taken { events: again, ended: true, restarted: true, stuck: false }, 1);
    let mut stored = crate::store::Counts::new();
    let events = crate::fetch::stream::merge::missing(windows.pop(9), &mut stored);
    let numbers: Vec<usize> = events.iter().map(|event| event.message.parse().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert!(windows.is_over());
}

proptest! {
    #[test]
    fn all_comes_once_and_in_order(
        clusters in prop::collection::vec((0i64..100_000, 0i64..3_000, 0usize..400), 0..6),
        readers in 1usize..10,
        page in 1usize..60,
        picks in prop::collection::vec((0usize..10, 0usize..101), 1..64),
    ) {
        let times = clusters.iter().flat_map(|(at, width, n)| (0..*n).map(move |i| at + width * i as i64 / *n as i64));
        let service = Service::of(times, page);
        let mut turn = 0;
        let (out, _) = service.read(200_000, readers, |_| { turn += 1; picks[turn % picks.len()] });
        prop_assert!(out == service.all());
    }
}
