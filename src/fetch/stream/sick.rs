//! Which streams the disk failed on, and when their files are made anew. Plain state; `repair::files` does it.

use crate::model::StreamId;
use crate::store::StoreError;
use crate::sync::lock;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// How long after a failure the files are made anew; doubled with each failure …
const FIRST: Duration = Duration::from_secs(1);
/// … up to this.
const LONGEST: Duration = Duration::from_secs(600);

/// Sick streams.
#[derive(Debug, Default)]
pub(crate) struct Healer {
    cases: Mutex<Cases>,
}

#[derive(Debug, Default)]
struct Cases {
    sick: BTreeMap<StreamId, Case>,
    running: bool,
}

#[derive(Clone, Debug)]
struct Case {
    error: StoreError,
    due: Instant,
    failures: u32,
}

impl Healer {
    /// Why a stream takes nothing now.
    pub(crate) fn sickness(&self, id: StreamId) -> Option<StoreError> {
        lock(&self.cases).sick.get(&id).map(|case| case.error.clone())
    }

    /// How many are sick.
    pub(crate) fn count(&self) -> usize {
        lock(&self.cases).sick.len()
    }

    /// Notes a case; tells whether it is news, and whether a task must be started for it.
    pub(crate) fn admit(&self, id: StreamId, error: &StoreError) -> (bool, bool) {
        let mut cases = lock(&self.cases);
        let is_news = !cases.sick.contains_key(&id);
        let due = Instant::now() + FIRST;
        cases.sick.entry(id).or_insert_with(|| Case { error: error.clone(), due, failures: 0 });
        (is_news, !std::mem::replace(&mut cases.running, true))
    }

    /// The next case and when it is due; `None` ends the task.
    pub(crate) fn next(&self) -> Option<(StreamId, Instant, u32)> {
        let mut cases = lock(&self.cases);
        let next = cases.sick.iter().min_by_key(|(_, case)| case.due).map(|(id, case)| (*id, case.due, case.failures));
        cases.running = next.is_some();
        next
    }

    pub(crate) fn healed(&self, id: StreamId) {
        lock(&self.cases).sick.remove(&id);
    }

    pub(crate) fn failed(&self, id: StreamId, error: StoreError) {
        if let Some(case) = lock(&self.cases).sick.get_mut(&id) {
            case.failures = case.failures.saturating_add(1);
            case.due = Instant::now() + pause(case.failures);
            case.error = error;
        }
    }
}

/// How long after so many failures it is tried again.
fn pause(failures: u32) -> Duration {
    FIRST.saturating_mul(1 << failures.min(20)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_tried_later_and_later() {
        let pauses: Vec<u64> = [1, 2, 9, 10, 40].map(|failures| pause(failures).as_secs()).to_vec();
        assert_eq!(pauses, [2, 4, 512, 600, 600]);
    }
}
