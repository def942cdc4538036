//! Parts of streams in which nothing but empty pages came. Plain state; `freshness::expired` goes by it.

use crate::model::{StreamId, Timestamp};
use crate::sync::lock;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// How long a part that gave nothing but empty pages isn't asked for again, the first time; then twice as long …
const LEFT_ALONE: Duration = Duration::from_secs(600);
/// … and at most.
const LONGEST: Duration = Duration::from_hours(6);
/// Streams that are remembered.
const MOST: usize = 4_096;

/// The empty parts of streams, as far as they were met lately.
#[derive(Debug, Default)]
pub(crate) struct Deserts(Mutex<HashMap<StreamId, Desert>>);

/// The empty part of one stream.
#[derive(Clone, Copy, Debug)]
struct Desert {
    /// Nothing came up to here, though the service says that more follows.
    end: Timestamp,
    /// When it was last met: it is left alone for a while.
    met: Instant,
    /// When it is looked at again, and how long after that the next time.
    look: Instant,
    rest: Duration,
}

impl Desert {
    pub(crate) fn is_left_alone(&self) -> bool {
        self.met.elapsed() < LEFT_ALONE
    }
}

impl Deserts {
    /// Nothing came up to `end`, again perhaps.
    pub(crate) fn note(&self, id: StreamId, end: Timestamp) {
        let (mut deserts, met) = (lock(&self.0), Instant::now());
        if let Some(desert) = deserts.get_mut(&id) {
            (desert.end, desert.met) = (end, met);
            return;
        }
        if deserts.len() >= MOST {
            deserts.retain(|_, desert| desert.is_left_alone());
        }
        if deserts.len() < MOST {
            deserts.insert(id, Desert { end, met, look: met + LEFT_ALONE, rest: LEFT_ALONE });
        }
    }

    /// Where a read that would begin at `from` begins instead.
    pub(crate) fn passed(&self, id: StreamId, from: Option<Timestamp>) -> Option<Timestamp> {
        let desert = *lock(&self.0).get(&id)?;
        (desert.is_left_alone() && from.is_none_or(|from| from < desert.end)).then_some(desert.end)
    }

    /// Where what was passed over ends, if it may be looked at again now; the next time is later. `oldest` is known to be there.
    pub(crate) fn may_look(&self, id: StreamId, oldest: Timestamp) -> Option<Timestamp> {
        let mut deserts = lock(&self.0);
        let Some(desert) = deserts.get_mut(&id) else {
            // An earlier run met it.
            drop(deserts);
            self.note(id, oldest);
            return Some(oldest);
        };
        if Instant::now() < desert.look {
            return None;
        }
        desert.rest = (desert.rest * 2).min(LONGEST);
        desert.look = Instant::now() + desert.rest;
        Some(desert.end.max(oldest))
    }

    /// Something came, or all did.
    pub(crate) fn forget(&self, id: StreamId) {
        lock(&self.0).remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_gave_nothing_is_left_alone_for_a_while_and_then_for_longer() {
        let (deserts, id) = (Deserts::default(), StreamId(17));
        assert_eq!(deserts.passed(id, None), None);
        deserts.note(id, Timestamp(50));
        assert_eq!(deserts.passed(id, None), Some(Timestamp(50)));
        assert_eq!(deserts.passed(id, Some(Timestamp(50))), None, "it begins behind it");
        assert_eq!(deserts.may_look(id, Timestamp(40)), None);
        tokio::time::advance(LEFT_ALONE).await;
        assert_eq!(deserts.passed(id, None), None);
        deserts.note(id, Timestamp(60));
        assert_eq!(deserts.may_look(id, Timestamp(40)), Some(Timestamp(60)), "that it was met again puts no look off");
        tokio::time::advance(LEFT_ALONE).await;
        assert_eq!(deserts.may_look(id, Timestamp(40)), None);
        tokio::time::advance(LEFT_ALONE).await;
        assert_eq!(deserts.may_look(id, Timestamp(40)), Some(Timestamp(60)));
        deserts.forget(id);
        assert_eq!(deserts.passed(id, None), None);
    }
}
