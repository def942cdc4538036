//! The newest errors that readers met. A ring: what repeats at once is counted, not stored again.

use crate::error::Error;
use crate::model::Timestamp;
use crate::sync::lock;
use std::collections::VecDeque;
use std::sync::Mutex;

/// How many errors are kept.
pub const KEPT: usize = 100;

/// One error, or several equal ones in a row.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it was met, last.
    pub at: Timestamp,
    /// How often in a row.
    pub count: u64,
    /// The error; its subject and cause are printable.
    pub error: Error,
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.at, self.error)?;
        if self.count > 1 { write!(f, " ({} times)", self.count) } else { Ok(()) }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Errors(Mutex<VecDeque<Entry>>);

impl Errors {
    pub(crate) fn push(&self, error: &Error, at: Timestamp) {
        // A panic elsewhere can't leave a ring of finished entries half-written.
        let mut ring = lock(&self.0);
        if let Some(last) = ring.back_mut()
            && (last.error.kind(), last.error.subject(), last.error.cause())
                == (error.kind(), error.subject(), error.cause())
        {
            last.at = at;
            last.count += 1;
            return;
        }
        if ring.len() == KEPT {
            ring.pop_front();
        }
        ring.push_back(Entry { at, count: 1, error: error.clone() });
    }

    pub(crate) fn newest_first(&self) -> Vec<Entry> {
        lock(&self.0).iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn error(subject: &str) -> Error {
        Error::new(ErrorKind::Denied, subject, "no permission")
    }

    #[test]
    fn the_newest_are_kept() {
        let errors = Errors::default();
        for i in 0..KEPT as i64 + 5 {
            errors.push(&error(&format!("stream {i}")), Timestamp(i));
        }
        let kept = errors.newest_first();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept[0].error.subject(), "stream 104");
        assert_eq!(kept[KEPT - 1].error.subject(), "stream 5");
    }

    #[test]
    fn what_repeats_is_counted() {
        let errors = Errors::default();
        for i in 0..3 {
            errors.push(&error("a"), Timestamp(i));
        }
        errors.push(&error("b"), Timestamp(3));
        errors.push(&error("a"), Timestamp(4));
        let kept = errors.newest_first();
        assert_eq!(kept.len(), 3);
        assert_eq!((kept[2].count, kept[2].at), (3, Timestamp(2)));
    }
}
