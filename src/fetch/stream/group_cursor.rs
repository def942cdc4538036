//! The pages of several streams of a group in one read, by FilterLogEvents: all of them, or up to a hundred by name.
//!
//! Every read of several streams goes through a [`GroupCursor`]: polls, checks, late re-reads and reads ahead. What the service does with
//! pages is met here once: an old token, a page too large to take, pages that come empty without an end, and writers that stamp ahead or
//! outrun the reader. Callers keep what is theirs: how many pages a read is worth, and what becomes of the events.

use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::stream::cursor::EMPTY_RUN;
use crate::fetch::stream::merge::{Counted, Pass};
use crate::fetch::stream::page::{is_half_full, is_over};
use crate::fetch::stream::position::Position;
use crate::fetch::stream::state::{Group, Streams};
use crate::model::{LogEvent, Timestamp};
use crate::source::FilterEvents;
use std::collections::HashMap;

/// Where a read of several streams stands.
pub(crate) struct GroupCursor {
    /// Exact name.
    group: String,
    /// Exact names; all, if empty.
    names: Vec<String>,
    /// Inclusive.
    end: Option<Timestamp>,
    /// When the read began, by the service's clock at the latest.
    began: Timestamp,
    position: Position,
    passes: HashMap<String, Pass>,
    pages_ahead: u32,
}

/// One page.
#[derive(Debug, Default)]
pub(crate) struct GroupPage {
    /// Each stream's events by its exact name, in the service's order, counted in the read's pass.
    pub(crate) by_stream: HashMap<String, Vec<Counted>>,
    /// So many they are.
    pub(crate) events: usize,
    /// Timestamp of the last one.
    pub(crate) last: Option<Timestamp>,
    /// More than half of what a page can hold.
    pub(crate) half_full: bool,
    /// The service says that there is no more.
    pub(crate) ended: bool,
    /// All that was there when the read began has been shown: it ended, or came past that moment.
    pub(crate) is_over: bool,
    /// Nothing but empty pages has come for a while, though more are to follow.
    pub(crate) is_barren: bool,
}

impl GroupPage {
    /// Puts another page behind this one: the two are one then.
    pub(crate) fn append(&mut self, next: GroupPage) {
        for (name, events) in next.by_stream {
            self.by_stream.entry(name).or_default().extend(events);
        }
        *self = GroupPage {
            by_stream: std::mem::take(&mut self.by_stream),
            events: self.events + next.events,
            last: next.last.or(self.last),
            half_full: self.half_full || next.half_full,
            ended: next.ended,
            is_over: next.is_over,
            is_barren: next.is_barren,
        };
    }
}

impl GroupCursor {
    /// A read of `names` (all of the group, if empty) from `start` (`None` is the beginning) to `end` (inclusive; `None` is whatever
    /// there is), which begins at `began`.
    pub(crate) fn new(
        group: &Group,
        names: Vec<String>,
        start: Option<Timestamp>,
        end: Option<Timestamp>,
        began: Timestamp,
    ) -> GroupCursor {
        let (group, position) = (group.name.clone(), Position::at(start));
        GroupCursor { group, names, end, began, position, passes: HashMap::new(), pages_ahead: 0 }
    }

    /// The newest event seen, or where it began.
    pub(crate) fn newest(&self) -> Option<Timestamp> {
        self.position.newest()
    }

    /// Events of a page at most, if pages were too large to take.
    pub(crate) fn limit(&self) -> Option<u32> {
        self.position.limit
    }

    /// The next page. An old token begins the read again, unless it comes no further by that; any other failure is the caller's.
    pub(crate) async fn next(&mut self, streams: &Streams, priority: Priority) -> Result<GroupPage, Fault> {
        loop {
            let mut request = FilterEvents {
                group: self.group.clone(),
                streams: self.names.clone(),
                start: self.position.start,
                end: self.end,
                token: self.position.token.clone(),
                limit: self.position.limit,
            };
            let answer = streams.filter(priority, &mut request).await;
            self.position.limit = request.limit;
            match answer {
                Err(fault) if self.position.begins_again(&fault) => self.passes.clear(),
                Err(fault) => return Err(fault),
                Ok(page) => return Ok(self.take(page.events, page.next)),
            }
        }
    }

    fn take(&mut self, events: Vec<(String, LogEvent)>, token: Option<String>) -> GroupPage {
        let all = || events.iter().map(|(_, event)| event);
        let newest = all().map(|event| event.timestamp).max();
        let ended = token.is_none();
        self.position.advance(newest, token);
        let mut page = GroupPage {
            events: events.len(),
            last: all().next_back().map(|event| event.timestamp),
            half_full: is_half_full(all()),
            ended,
            is_over: is_over(all(), self.began, &mut self.pages_ahead) || ended,
            is_barren: !ended && self.position.empties() >= EMPTY_RUN,
            ..GroupPage::default()
        };
        // What pages of many streams leave to be remembered is that of a page, however many streams there are.
        if let Some(least) = all().map(|event| event.timestamp).min() {
            self.passes.retain(|_, pass| pass.forget_before(least));
        }
        let mut by_stream: HashMap<String, Vec<LogEvent>> = HashMap::new();
        for (name, event) in events {
            match by_stream.get_mut(&name) {
                Some(events) => events.push(event),
                None => drop(by_stream.insert(name, vec![event])),
            }
        }
        for (name, events) in by_stream {
            let counted = self.passes.entry(name.clone()).or_default().page(events);
            page.by_stream.insert(name, counted);
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor() -> GroupCursor {
        GroupCursor {
            group: "g".to_owned(),
            names: Vec::new(),
            end: None,
            began: Timestamp(1_000_000),
            position: Position::at(None),
            passes: HashMap::new(),
            pages_ahead: 0,
        }
    }

    fn events(stamps: impl IntoIterator<Item = (u64, i64)>) -> Vec<(String, LogEvent)> {
        let event = |at| LogEvent { timestamp: Timestamp(at), ingestion_time: Timestamp(at), message: "x".to_owned() };
        stamps.into_iter().map(|(stream, at)| (format!("s{stream}"), event(at))).collect()
    }

    #[test]
    fn counts_go_on_over_pages_and_take_no_more_than_a_page() {
        let mut cursor = cursor();
        for page in 0..20 {
            let first = page * 100;
            let taken = cursor.take(events((0..100).map(|i| (first + i, (first + i) as i64))), Some("t".to_owned()));
            assert_eq!(
                (taken.events, taken.by_stream.len(), taken.last),
                (100, 100, Some(Timestamp(first as i64 + 99)))
            );
            assert!(cursor.passes.len() <= 100, "{}", cursor.passes.len());
        }
        let again = cursor.take(events([(1_999, 1_999)]), None);
        let counted = &again.by_stream["s1999"];
        assert!(crate::fetch::stream::merge::is_any_missing(counted, &[(counted[0].key(), 1)].into()), "the second");
        assert!(again.ended && again.is_over);
    }

    #[test]
    fn two_pages_as_one_are_as_the_last_one_ended() {
        let mut cursor = cursor();
        let mut first = cursor.take(events([(1, 10), (2, 11)]), Some("t".to_owned()));
        first.append(cursor.take(events([(2, 12)]), None));
        assert_eq!((first.events, first.last, first.ended), (3, Some(Timestamp(12)), true));
        assert_eq!((first.by_stream["s1"].len(), first.by_stream["s2"].len()), (1, 2));
    }
}
