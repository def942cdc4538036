//! Random histories of writers, a weak service, readers, crashes and restarts, run against the real store and fetch.
//!
//! `CWLOGS_MODEL_CASES` says how many histories are run, `CWLOGS_MODEL_CUTS` of how many the power is cut at every sync, and
//! `CWLOGS_MODEL_SEED` with which of them to begin: a failure prints it. Each history has a seed of its own, one after the other, so
//! that a failed one is run again alone by its seed and one case; `CWLOGS_MODEL_TRACE` then tells its steps and the service's answers.

mod cases;
mod harness;
mod machine;
mod ops;
mod oracle;
mod reference;
mod source;

use crate::store::in_memory::Unsynced;
use harness::{Cut, Verdict, run};
use ops::{History, history};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::ops::RangeInclusive;

/// Histories of a plain test run.
const CASES: u64 = 150;
/// Histories that are cut at every sync in a plain test run.
const CUTS: u64 = 3;
/// How long a failed history is made shorter, in ms.
const SHRINK: u32 = 60_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn first_seed() -> u64 {
    number("CWLOGS_MODEL_SEED").unwrap_or_else(|| fastrand::Rng::new().u64(0..1 << 32))
}

/// Runs the history of each seed from `first` on; panics with the shortest one that fails.
fn every(first: u64, cases: u64, ops: RangeInclusive<usize>, holds: impl Fn(&History) -> Verdict) {
    for seed in (first..).take(usize::try_from(cases).unwrap()) {
        let config = Config {
            failure_persistence: None,
            max_shrink_time: if *source::TRACED { 1 } else { SHRINK },
            max_shrink_iters: u32::MAX,
            ..Config::default()
        };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        let strategy = history(ops.clone());
        let tree = proptest::strategy::Strategy::new_tree(&strategy, &mut runner).unwrap();
        let ran = runner.run_one(tree, |history| holds(&history).map_err(TestCaseError::fail));
        if let Err(TestError::Fail(what, history)) = ran {
            panic!("the history of CWLOGS_MODEL_SEED={seed} fails, made shorter: {what}\n{history:?}");
        }
    }
}

#[test]
fn whatever_happens_files_only_grow_and_hold_what_was_accepted() {
    every(first_seed(), number("CWLOGS_MODEL_CASES").unwrap_or(CASES), 1..=60, |history| run(history, None).map(drop));
}

#[test]
fn a_power_cut_at_any_sync_takes_nothing_back() {
    every(first_seed(), number("CWLOGS_MODEL_CUTS").unwrap_or(CUTS), 5..=25, |history| {
        let syncs = run(history, None)?;
        for at in 1..=syncs {
            let unsynced = [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn][at as usize % 3];
            run(history, Some(Cut { at, unsynced }))
                .map_err(|what| format!("cut at sync {at}, {unsynced:?}: {what}"))?;
        }
        Ok(())
    });
}
