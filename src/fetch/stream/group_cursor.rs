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
