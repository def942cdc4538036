//! The pages of one stream, by either event call, from a moment on.
//!
//! A [`Cursor`] hides what differs: GetLogEvents ends where a token comes back as it was sent, FilterLogEvents where none comes back,
//! and its end is inclusive. An old or unknown token begins the read again at the whole millisecond of what it saw last. A call that the
//! group refuses is left for the other one, and so is one that gives empty pages only; for both give the same events.

use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::service::refusals::is_refusal;
use crate::fetch::stream::position::Position;
use crate::fetch::stream::state::Stream;
use crate::fetch::stream::via::Via;
use crate::model::{LogEvent, Timestamp};
use crate::source::{FilterEvents, GetEvents};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Empty pages in a row after which the other call is tried; after twice as many a read is stuck. The service gives some now and then;
/// where events have expired it may give them for as long as it is asked.
pub(crate) const EMPTY_RUN: u32 = 10;
/// How often a read goes over to the other call because one is refused.
const SWITCHES: u32 = 2;

/// Where a read stands.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    via: Via,
    /// Exclusive.
    end: Option<Timestamp>,
    position: Position,
    /// The next page is the first of a new pass.
    anew: bool,
    /// How often it went over to the other call because of a refusal.
    switches: u32,
}

/// One page.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// In the service's order; may be empty anywhere.
    pub(crate) events: Vec<LogEvent>,
    /// The service says that there is no more.
    pub(crate) ended: bool,
    /// The read began again: this page is the first of a new pass.
    pub(crate) restarted: bool,
    /// Nothing but empty pages has come for a while, by either call.
    pub(crate) stuck: bool,
}

impl Cursor {
    /// From `start` (inclusive, a whole millisecond; `None` is the head) to `end` (exclusive).
    pub(crate) fn new(via: Via, start: Option<Timestamp>, end: Timestamp) -> Cursor {
        Cursor { end: Some(end), ..Cursor::onwards(via, start) }
    }

    /// From `start` on, without an end.
    pub(crate) fn onwards(via: Via, start: Option<Timestamp>) -> Cursor {
        Cursor { via, end: None, position: Position::at(start), anew: false, switches: 0 }
    }

    /// By which call it reads.
    pub(crate) fn via(&self) -> Via {
        self.via
    }

    /// The newest event seen, or where it began.
    pub(crate) fn newest(&self) -> Option<Timestamp> {
        self.position.newest()
    }

    /// How many empty pages came in a row.
    pub(crate) fn empties(&self) -> u32 {
        self.position.empties()
    }

    /// Events of a page at most, if pages were too large to take.
    pub(crate) fn limit(&self) -> Option<u32> {
        self.position.limit
    }

    /// The same read by another call, from what it saw last.
    pub(crate) fn by(self, via: Via) -> Cursor {
        Cursor { via, anew: true, position: self.position.anew(), ..self }
    }

    fn switch(&mut self) {
        let via = self.via.other();
        *self = std::mem::replace(self, Cursor::onwards(via, None)).by(via);
    }

    /// The next page; `calls` counts the requests.
    pub(crate) async fn next(
        &mut self,
        stream: &Arc<Stream>,
        priority: Priority,
        calls: Option<&AtomicU64>,
    ) -> Result<Taken, Fault> {
        loop {
            if let Some(calls) = calls {
                calls.fetch_add(1, Ordering::Relaxed);
            }
            match self.ask(stream, priority).await {
                Err(fault) if self.position.begins_again(&fault) => self.anew = true,
                Err(fault) if self.may_switch(stream, &fault) => {
                    self.switches += 1;
                    self.switch();
                }
                Err(fault) => return Err(fault),
                Ok((events, token)) => {
                    let ended = match self.via {
                        Via::Get => token == self.position.token,
                        Via::Filter => token.is_none(),
                    };
                    self.position.advance(events.iter().map(|event| event.timestamp).max(), token);
                    let restarted = std::mem::take(&mut self.anew);
                    let stuck = !ended && self.empties() >= 2 * EMPTY_RUN;
                    if !ended && self.empties() == EMPTY_RUN && stream.may(self.via.other()) {
                        self.switch();
                    }
                    return Ok(Taken { events, ended, restarted, stuck });
                }
            }
        }
    }

    /// Whether the group refuses the call, and may answer the other one.
    fn may_switch(&self, stream: &Stream, fault: &Fault) -> bool {
        matches!(fault, Fault::Source(error) if is_refusal(error.kind))
            && self.switches < SWITCHES
            && stream.may(self.via.other())
    }

    async fn ask(
        &mut self,
        stream: &Arc<Stream>,
        priority: Priority,
    ) -> Result<(Vec<LogEvent>, Option<String>), Fault> {
        match self.via {
            Via::Get => {
                let Position { start, token, limit, .. } = self.position.clone();
                let mut request = GetEvents { start, end: self.end, token, limit, ..stream.request() };
                let page = stream.streams.get(priority, &mut request).await?;
                self.position.limit = request.limit;
                Ok((page.events, Some(page.forward)))
            }
            Via::Filter => {
                let mut request = FilterEvents {
                    group: stream.group.name.clone(),
                    streams: vec![stream.name.clone()],
                    start: self.position.start,
                    end: self.end.map(|end| Timestamp(end.0.saturating_sub(1))),
                    token: self.position.token.clone(),
                    limit: self.position.limit,
                };
                let page = stream.streams.filter(priority, &mut request).await?;
                self.position.limit = request.limit;
                Ok((page.events.into_iter().map(|(_, event)| event).collect(), page.next))
            }
        }
    }
}
