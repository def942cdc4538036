//! Where a read that goes page by page stands, and where it begins again. Pure.
//!
//! The service refuses a page token now and then: each is good for a day, and some not for so long
//! (<https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html>). The read then begins again at the
//! whole millisecond up to which its pages have shown all, so that nothing is missed; what it sees twice is known by its counts.

use crate::fetch::service::fault::Fault;
use crate::model::Timestamp;

/// How often a read begins again because of a refused token before it comes further.
pub(crate) const TOKEN_TRIES: u32 = 3;

/// Where a read stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Position {
    /// Where the service is asked to begin; `None` is the beginning.
    pub(crate) start: Option<Timestamp>,
    /// What the next page is asked for with; `None` asks for the first one from `start` on.
    pub(crate) token: Option<String>,
    /// Events of a page at most, once one was too large to take.
    pub(crate) limit: Option<u32>,
    /// The newest event seen, or where the read began.
    newest: Option<Timestamp>,
    /// How often it began again since it came further.
    tries: u32,
    /// Empty pages in a row.
    empties: u32,
}

impl Position {
    /// Before the first page from `start` on.
    pub(crate) fn at(start: Option<Timestamp>) -> Position {
        Position { start, newest: start, ..Position::default() }
    }

    /// The same read by another call, which has tokens of its own.
    pub(crate) fn anew(self) -> Position {
        Position { start: self.newest, token: None, ..self }
    }

    /// The newest event seen, or where the read began.
    pub(crate) fn newest(&self) -> Option<Timestamp> {
        self.newest
    }

    /// Empty pages in a row.
    pub(crate) fn empties(&self) -> u32 {
        self.empties
    }

    /// Whether a failure was that of an old token: then the read begins again, and the next page is the first of a new pass. A read that
    /// comes no further by it fails with the failure.
    pub(crate) fn begins_again(&mut self, fault: &Fault) -> bool {
        let again = fault.is_invalid_token() && self.token.is_some() && self.tries < TOKEN_TRIES;
        if again {
            self.tries += 1;
            self.token = None;
            self.start = self.newest;
        }
        again
    }

    /// A page has come, whose newest event is `newest`; the next one is asked for with `token`.
    pub(crate) fn advance(&mut self, newest: Option<Timestamp>, token: Option<String>) {
        self.token = token;
        self.empties = if newest.is_none() { self.empties + 1 } else { 0 };
        if newest > self.newest {
            self.newest = newest;
            self.tries = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Call, SourceError, SourceErrorKind};

    fn fault(kind: SourceErrorKind) -> Fault {
        Fault::Source(SourceError { kind, call: Call::FilterLogEvents, message: String::new() })
    }

    fn token() -> Option<String> {
        Some("t".to_owned())
    }

    #[test]
    fn a_refused_token_begins_again_at_the_newest_event_and_not_for_ever() {
        let old = fault(SourceErrorKind::InvalidToken);
        let mut position = Position::at(None);
        assert!(!position.begins_again(&old), "no token was sent");
        for at in [5, 9] {
            position.advance(Some(Timestamp(at)), token());
            for _ in 0..TOKEN_TRIES {
                assert!(position.begins_again(&old));
                assert_eq!((position.start, position.token.clone()), (Some(Timestamp(at)), None));
                position.advance(Some(Timestamp(at)), token());
            }
            assert!(!position.begins_again(&old), "it came no further");
        }
        assert!(!Position { tries: 0, ..position }.begins_again(&fault(SourceErrorKind::Denied)));
    }

    #[test]
    fn empty_pages_are_counted_until_one_has_events() {
        let mut position = Position::at(Some(Timestamp(7)));
        (0..3).for_each(|_| position.advance(None, token()));
        assert_eq!((position.empties(), position.newest()), (3, Some(Timestamp(7))));
        position.advance(Some(Timestamp(3)), None);
        assert_eq!((position.empties(), position.newest()), (0, Some(Timestamp(7))), "never back");
    }
}
