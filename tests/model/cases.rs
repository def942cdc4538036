//! Histories that once failed, made shorter: what was lost stays found.

use super::harness::{Cut, run};
use super::ops::{Form, Hidden, History, Op, Put, Weather};
use crate::store::in_memory::{Failing, Unsynced};

fn calm() -> Weather {
    Weather { seed: 0, page: 1, empty: 0, short: 0, miss: 0, latency: 0, lag: 0, desert: 0, ahead: 0 }
}

fn put(slot: usize, stamps: &[i64], hidden: Hidden) -> Op {
    let batch = stamps.iter().map(|stamp| Put { stamp: *stamp, message: String::new() }).collect();
    Op::Put { slot, batch, hidden }
}

fn holds(weather: Weather, ops: Vec<Op>) {
    run(&History { weather, ops }, None).unwrap();
}

#[test]
fn late_events_behind_an_unfinished_download() {
    let long = Put { stamp: 500, message: "m".repeat(70_000) };
    let ops = vec![
        put(0, &[-500], Hidden::Nothing),
        put(0, &[-60_000], Hidden::All(60)),
        Op::Put { slot: 0, batch: vec![long], hidden: Hidden::Nothing },
        Op::List { searches: false },
        Op::Leave { slot: 0, commits: 1 },
        Op::Wait { ms: 130_000 },
        Op::Open { slot: 0 },
    ];
    holds(Weather { latency: 300, ..calm() }, ops);
}

#[test]
fn a_chain_of_checks_does_not_speak_for_a_download_in_two_parts() {
    let ops = vec![
        put(1, &[-500], Hidden::Nothing),
        Op::Open { slot: 1 },
        put(0, &[-500], Hidden::All(1)),
        put(0, &[0], Hidden::Nothing),
        Op::Leave { slot: 0, commits: 1 },
    ];
    holds(Weather { page: 1_000, latency: 300, ..calm() }, ops);
}

#[test]
fn what_is_not_settled_is_looked_at_again_in_a_group_too_large_for_one_check() {
    let ops = vec![
        put(0, &[-500; 3], Hidden::One(0, 1)),
        put(0, &[-500; 3], Hidden::All(70)),
        Op::Open { slot: 0 },
        Op::Wait { ms: 4_501 },
        Op::Open { slot: 0 },
    ];
    holds(calm(), ops);
}

#[test]
fn a_check_for_another_stream_serves_an_open_only_if_it_looked_as_far_back() {
    let ops = vec![
        put(1, &[-500], Hidden::Nothing),
        put(0, &[0], Hidden::All(60)),
        Op::Open { slot: 1 },
        Op::Delete { slot: 1 },
        Op::Watch { slot: 1 },
        Op::Wait { ms: 1_251 },
        Op::Unwatch,
        put(0, &[-162_275], Hidden::All(2)),
        Op::Open { slot: 0 },
        Op::Open { slot: 0 },
        put(1, &[-500], Hidden::Nothing),
        Op::Wait { ms: 735_804 },
        Op::Open { slot: 1 },
    ];
    // It hangs on milliseconds, and so on the latencies of this seed.
    holds(Weather { seed: 5_734_471_030_198_022_420, page: 3, latency: 300, ..calm() }, ops);
}

#[test]
fn an_open_ends_when_its_stream_is_replaced_meanwhile() {
    let ops = vec![
        put(0, &[-500; 5], Hidden::Nothing),
        Op::List { searches: false },
        Op::Wait { ms: 11_000 },
        Op::Begin { slot: 0 },
        Op::Remake { slot: 0 },
        put(0, &[-500; 5], Hidden::Nothing),
        Op::List { searches: false },
        Op::OpenAll,
    ];
    holds(Weather { latency: 300, ..calm() }, ops);
}

#[test]
fn a_full_disk_takes_no_copy_away() {
    let long = |stamp, length| Put { stamp, message: "m".repeat(length) };
    let long_put = |slot, lengths: &[usize]| {
        let batch = lengths.iter().map(|length| long(-500, *length)).collect();
        Op::Put { slot, batch, hidden: Hidden::Nothing }
    };
    let ops = vec![
        put(0, &[-500, 0], Hidden::Nothing),
        Op::List { searches: false },
        Op::Open { slot: 0 },
        Op::Fill { full: true },
        long_put(1, &[30_000, 30_000]),
        long_put(2, &[30_000, 30_000]),
        long_put(5, &[30_000, 30_000]),
        Op::OpenAll,
        Op::Read { slot: 0, part: 0, size: 100 },
        long_put(0, &[30_000]),
        long_put(1, &[1_000, 1_000, 1_000]),
        Op::Wait { ms: 6_000 },
        Op::OpenAll,
        Op::Fill { full: false },
        Op::Wait { ms: 6_000 },
        Op::OpenAll,
    ];
    for page in [1, 2, 1_000] {
        holds(Weather { page, ..calm() }, ops.clone());
    }
}

#[test]
fn a_power_cut_in_an_eviction_is_no_damage() {
    let ops = vec![
        put(0, &[-500, 0], Hidden::Nothing),
        Op::Open { slot: 0 },
        // Into its files.
        Op::Restart,
        Op::Evict,
        Op::Open { slot: 0 },
    ];
    let history = History { weather: calm(), ops };
    for at in 1..=run(&history, None).unwrap() {
        for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn] {
            let cut = Some(Cut { at, unsynced });
            run(&history, cut).unwrap_or_else(|what| panic!("cut at {at}, {unsynced:?}: {what}"));
        }
    }
}

/// That the stream was gone couldn't be written down, so it was followed a second time. As generated: shorter ones fill no disk in the
/// right moment.
#[test]
fn a_follower_of_a_stream_that_was_gone_does_not_count_for_the_next_one() {
    super::every(500_286, 1, 1..=60, |history| run(history, None).map(drop));
}

/// The listing lags, so that it tells of a later event first.
#[test]
fn what_lies_behind_empty_pages_is_missing_only_where_that_is_told() {
    let ops = vec![
        Op::Begin { slot: 1 },
        put(0, &[-500], Hidden::Nothing),
        put(1, &[-500], Hidden::Nothing),
        put(1, &[-1_000], Hidden::Nothing),
        put(0, &[-500], Hidden::Nothing),
        Op::Open { slot: 0 },
        Op::Open { slot: 1 },
    ];
    let weather = Weather { seed: 4_142_360_511_309_225_834, page: 1, latency: 300, lag: 3_600, desert: 400, ..calm() };
    holds(weather, ops);
}

#[test]
fn a_stream_that_can_not_be_moved_is_healed_though_nothing_comes_for_it() {
    let ops = vec![
        put(1, &[-500], Hidden::Nothing),
        Op::List { searches: false },
        Op::Fail { slot: 1, text: false, failing: Failing::Write },
        Op::Open { slot: 1 },
        Op::MoveQuiet,
    ];
    holds(calm(), ops);
}

#[test]
fn what_was_passed_over_is_looked_at_again_though_each_open_meets_it() {
    let ops = vec![
        put(0, &[-500], Hidden::Nothing),
        Op::Wait { ms: 27_000 },
        put(2, &[0], Hidden::Nothing),
        put(0, &[-27_501], Hidden::Nothing),
        put(5, &[-500], Hidden::Nothing),
    ];
    holds(Weather { seed: 46_439_317_791_632_970, page: 1, lag: 60, desert: 10, ..calm() }, ops);
}

#[test]
fn a_stream_begun_anew_leaves_nothing_damaged() {
    let ops = vec![
        put(0, &[-500], Hidden::Nothing),
        put(1, &[-500], Hidden::Nothing),
        Op::List { searches: true },
        Op::Wait { ms: 961 },
        Op::MoveQuiet,
        Op::PutAgain { slot: 0 },
        Op::Open { slot: 0 },
        Op::Fail { slot: 0, text: false, failing: Failing::Open },
        put(0, &[-500], Hidden::Nothing),
        Op::MoveQuiet,
        Op::Wait { ms: 7_001 },
    ];
    holds(calm(), ops);
}

#[test]
fn after_a_suspend_nothing_counts_that_was_read_or_under_way_before_it() {
    let ops = vec![
        put(1, &[-500], Hidden::Nothing),
        Op::Watch { slot: 1 },
        put(0, &[-500], Hidden::Nothing),
        Op::List { searches: false },
        Op::Wait { ms: 1_000 },
        Op::Open { slot: 1 },
        Op::Begin { slot: 0 },
        put(0, &[-500], Hidden::Nothing),
        Op::Remake { slot: 1 },
        Op::Suspend { seconds: 15 },
        Op::Open { slot: 0 },
        put(1, &[-500], Hidden::Nothing),
    ];
    holds(Weather { seed: 112_950_731_143_088_078, page: 4, ..calm() }, ops);
}

#[test]
fn a_check_that_begins_in_a_desert_goes_on_at_what_is_known_to_be_there() {
    let ops = vec![
        put(0, &[-500], Hidden::Nothing),
        Op::Watch { slot: 0 },
        put(1, &[-120_000], Hidden::Nothing),
        Op::List { searches: false },
        Op::Wait { ms: 180_000 },
        Op::Open { slot: 1 },
        Op::Restart,
        put(1, &[0], Hidden::Nothing),
    ];
    holds(Weather { page: 1, desert: 10, ..calm() }, ops);
}

#[test]
fn what_a_full_disk_keeps_from_a_follower_is_told_until_it_was_read_again() {
    let event = |message: &str| Put { stamp: -500, message: message.into() };
    let batch = vec![event(&"m".repeat(16_290)), event(""), event("")];
    let ops = vec![
        Op::Put { slot: 0, batch, hidden: Hidden::All(1) },
        Op::Open { slot: 0 },
        Op::Fill { full: true },
        Op::Wait { ms: 901 },
        put(0, &[0], Hidden::Nothing),
        Op::Suspend { seconds: 147 },
        Op::Watch { slot: 0 },
        Op::Wait { ms: 151_001 },
    ];
    holds(calm(), ops);
}

#[test]
fn a_stream_first_opened_at_the_end_is_looked_at_once_more() {
    let ops = vec![
        put(0, &[-500], Hidden::Nothing),
        Op::Lookup { slot: 0, form: Form::Slug },
        put(2, &[-500], Hidden::Nothing),
        put(0, &[-500], Hidden::Nothing),
        put(5, &[-500], Hidden::Nothing),
        Op::Begin { slot: 0 },
        put(1, &[-500], Hidden::Nothing),
        Op::Wait { ms: 7_000 },
        put(1, &[-7501], Hidden::Nothing),
        put(0, &[-500], Hidden::Nothing),
    ];
    holds(Weather { seed: 52_253_208_503_910_126, page: 1, lag: 60, desert: 10, ..calm() }, ops);
}

#[test]
fn nothing_is_put_behind_old_events_while_a_full_disk_keeps_listings_out() {
    let ops = vec![
        put(1, &[-500], Hidden::Nothing),
        Op::Watch { slot: 1 },
        Op::List { searches: false },
        put(0, &[0], Hidden::Nothing),
        Op::Release,
        put(0, &[-500], Hidden::All(1)),
        Op::Open { slot: 0 },
        Op::Open { slot: 1 },
        Op::Remake { slot: 1 },
        Op::Restart,
        Op::Suspend { seconds: 15 },
        put(1, &[-500], Hidden::Nothing),
        Op::Fill { full: true },
        Op::Open { slot: 0 },
    ];
    holds(Weather { seed: 7_907_901_066_469_901, page: 1_000, latency: 300, desert: 5, ..calm() }, ops);
}

#[test]
fn a_check_of_a_large_group_speaks_for_no_stream_that_it_did_not_read_late_events_of() {
    let ops = vec![
        put(1, &[-500], Hidden::All(72)),
        put(0, &[0, -500], Hidden::All(72)),
        Op::Watch { slot: 1 },
        Op::Open { slot: 1 },
        put(0, &[69641], Hidden::Nothing),
        Op::Begin { slot: 0 },
        Op::Restart,
        put(1, &[-500], Hidden::All(70)),
        put(1, &[-1000, -1000], Hidden::Nothing),
        Op::Open { slot: 0 },
        Op::Wait { ms: 4_132 },
        Op::Open { slot: 0 },
        Op::Release,
        Op::Wait { ms: 59_517 },
        Op::Open { slot: 0 },
        Op::Begin { slot: 0 },
        Op::Open { slot: 1 },
    ];
    holds(Weather { seed: 3_818_670_328_405_989_897, page: 1, empty: 16, latency: 300, lag: 60, ..calm() }, ops);
}
