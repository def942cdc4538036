//! The pages of one stream, by either event call, from a moment on.
//!
//! A [`Cursor`] hides what differs: GetLogEvents ends where a token comes back as it was sent, FilterLogEvents where none comes back,
//! and its end is inclusive. An old or unknown token begins the read again at the whole millisecond of what it saw last.

use super::fault::Fault;
use super::service::Weight;
use super::stream::Stream;
use crate::model::{LogEvent, Timestamp};
use crate::source::{FilterEvents, GetEvents};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often a read starts again from its position because of an old token, without a page in between.
pub(super) const TOKEN_TRIES: u32 = 3;

/// By which call a stream is read. Their quotas are separate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Get,
    Filter,
}

/// Where a read stands.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    via: Via,
    start: Option<Timestamp>,
    end: Timestamp,
    token: Option<String>,
    newest: Option<Timestamp>,
    /// It goes on where a read by another call ended.
    anew: bool,
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
}

impl Cursor {
    /// From `start` (inclusive, a whole millisecond; `None` is the head) to `end` (exclusive).
    pub(crate) fn new(via: Via, start: Option<Timestamp>, end: Timestamp) -> Cursor {
        Cursor { via, start, end, token: None, newest: start, anew: false }
    }

    /// By which call it reads.
    pub(crate) fn via(&self) -> Via {
        self.via
    }

    /// The same read by another call, from what it saw last.
    pub(crate) fn by(self, via: Via) -> Cursor {
        Cursor { anew: true, ..Cursor::new(via, self.newest, self.end) }
    }

    /// The next page; `calls` counts the requests.
    pub(crate) async fn next(
        &mut self,
        stream: &Arc<Stream>,
        weight: Weight,
        calls: Option<&AtomicU64>,
    ) -> Result<Taken, Fault> {
        let mut tries = 0;
        loop {
            if let Some(calls) = calls {
                calls.fetch_add(1, Ordering::Relaxed);
            }
            match self.ask(stream, weight).await {
                Err(fault) if fault.is_invalid_token() && self.token.is_some() && tries < TOKEN_TRIES => {
                    tries += 1;
                    self.token = None;
                    self.start = self.newest;
                }
                Err(fault) => return Err(fault),
                Ok((events, token)) => {
                    let ended = match self.via {
                        Via::Get => token == self.token,
                        Via::Filter => token.is_none(),
                    };
                    self.token = token;
                    self.newest = events.iter().map(|event| event.timestamp).chain(self.newest).max();
                    let restarted = std::mem::take(&mut self.anew) || tries > 0;
                    return Ok(Taken { events, ended, restarted });
                }
            }
        }
    }

    async fn ask(&self, stream: &Arc<Stream>, weight: Weight) -> Result<(Vec<LogEvent>, Option<String>), Fault> {
        match self.via {
            Via::Get => {
                let (start, end, token) = (self.start, Some(self.end), self.token.clone());
                let page = stream.home.get(weight, GetEvents { start, end, token, ..stream.request() }).await?;
                Ok((page.events, Some(page.forward)))
            }
            Via::Filter => {
                let request = FilterEvents {
                    group: stream.group.name.clone(),
                    streams: vec![stream.name.clone()],
                    start: self.start,
                    end: Some(Timestamp(self.end.0.saturating_sub(1))),
                    token: self.token.clone(),
                    limit: None,
                };
                let page = stream.home.filter(weight, request).await?;
                Ok((page.events.into_iter().map(|(_, event)| event).collect(), page.next))
            }
        }
    }
}
