//! What `--verify` asks of this room: who is still there, what the service counts, and a range read again.
//!
//! Counts come from Logs Insights. What it can't count, or isn't allowed to, is read again page by page, which proves more: it
//! compares each event. Either way nothing enters the copy but by `commit`: a union, never a replacement.

use crate::error::{Error, ErrorKind};
use crate::fetch::Fetch;
use crate::fetch::freshness::one_stream;
use crate::fetch::listing::selection;
use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::settings::Selection;
use crate::fetch::stream::drain::{Drained, Read, drain};
use crate::fetch::stream::hourly_counts::HourlyCounts;
use crate::fetch::stream::state::Stream;
use crate::fetch::stream::watermark::{Trust, edge};
use crate::model::{GroupId, Hours, Span, Timestamp};
use crate::source::{CountEvents, Counted, SourceErrorKind};
use crate::store::row::{GroupRow, StreamRow};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Hours that one query counts at most: its answer has a row for each, and 10,000 rows are the service's limit.
const WINDOW_HOURS: i64 = 9_600;
/// Pauses between looks at a query: the first, and the longest.
const FIRST_LOOK: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long one query may run before the stream is read again instead.
const QUERY_TIME: Duration = Duration::from_secs(300);

/// The service's count of a stream's events, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Count {
    /// Events by the hour.
    Hours(Hours),
    /// Insights doesn't answer for this group: not allowed, or not there.
    Refused(String),
    /// It doesn't answer for this stream or this time.
    Failed(String),
}

impl Fetch {
    /// The group as the service lists it now; `None` if it doesn't. Where listing isn't allowed, as it is known.
    pub async fn look_up_group(&self, id: GroupId) -> Result<Option<GroupRow>, Error> {
        let unknown = || Error::new(ErrorKind::NotFound, format!("group {}", id.0), "it isn't in the catalogue");
        let known = self.shared.store.group(id).map_err(|e| Fault::Store(e).about(&format!("group {}", id.0)))?;
        let known = known.ok_or_else(unknown)?;
        match self.listings.exact_group(Priority::Waiting, &known.group.name).await {
            Err(error) if error.kind() == ErrorKind::Denied => Ok(Some(known)),
            other => Ok(other?.filter(|row| row.id == id)),
        }
    }

    /// The stream of this exact name as the service lists it now; `None` if it doesn't.
    pub async fn look_up_stream(&self, group: &GroupRow, name: &str) -> Result<Option<StreamRow>, Error> {
        match self.listings.exact_stream(Priority::Waiting, group, name, false).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            other => other,
        }
    }
}

impl Selection {
    /// Whether a group and a stream of these exact names are selected, whatever their times.
    pub fn names(&self, group: &str, stream: &str) -> bool {
        selection::shows_group(self, group)
            && (self.streams.is_empty() || self.streams.iter().any(|name| name == stream))
    }
}

impl Stream {
    /// Reads what isn't settled, or isn't before `settled`, up to now: after it, only the range before `settled` is left to prove.
    pub async fn catch_up(self: &Arc<Self>, settled: Timestamp) -> Result<(), Error> {
        self.check_class()?;
        let settle_after = self.streams.shared.settings.borrow().settle_after;
        let trust = Trust::of(&self.streams.shared.clock);
        let from = edge(&self.row()?.extent, self.group.chain(trust), settle_after, trust).min(settled);
        let waits = Arc::new(());
        let read = one_stream::read_from(self.clone(), Priority::Waiting, from, Arc::downgrade(&waits)).await;
        read.map_err(|fault| fault.about(&self.subject))
    }

    /// Reads a range again, drained, and commits what is missing; what the service showed, by the hour.
    pub async fn read_again(self: &Arc<Self>, span: Span) -> Result<Hours, Error> {
        let hours = Mutex::new(HourlyCounts::default());
        let read = Read {
            stream: self,
            priority: Priority::Waiting,
            start: Some(span.start),
            end: span.end,
            read_to: None,
            only_complete: true,
            barren: 0,
            calls: None,
            hours: Some(&hours),
        };
        match drain(read, &|| true).await {
            Ok(Drained::Stuck(_)) => Err(Fault::Empties.about(&self.subject)),
            Ok(_) => Ok(hours.into_inner().unwrap_or_else(PoisonError::into_inner).hours()),
            Err(fault) if fault.is_not_found() => {
                self.is_gone();
                Err(self.not_found())
            }
            Err(fault) => Err(fault.about(&self.subject)),
        }
    }

    /// What the service counts in a range of whole hours. Trouble with the network or the credentials is an error.
    pub async fn count(self: &Arc<Self>, span: Span) -> Result<Count, Error> {
        let mut hours = Hours::new();
        let (mut from, end) = (span.start.hour(), span.end.hour());
        while from < end {
            let until = end.min(from + WINDOW_HOURS);
            let window = Span { start: Timestamp::of_hour(from), end: Timestamp::of_hour(until) };
            match self.count_window(window).await {
                Ok(Counted::Done(counted)) => hours.extend(counted.range(from..until).map(|(h, n)| (*h, *n))),
                Ok(Counted::Failed(why)) => return Ok(Count::Failed(why)),
                Ok(Counted::Running) => return Ok(Count::Failed("the query takes too long".into())),
                Err(Fault::Source(error)) => {
                    let why = format!("{}: {}", error.call.name(), error.message);
                    return match error.kind {
                        SourceErrorKind::Denied | SourceErrorKind::Unsupported => Ok(Count::Refused(why)),
                        SourceErrorKind::Invalid | SourceErrorKind::InvalidToken | SourceErrorKind::NotFound => {
                            Ok(Count::Failed(why))
                        }
                        SourceErrorKind::Throttled
                        | SourceErrorKind::Unavailable
                        | SourceErrorKind::Network
                        | SourceErrorKind::Timeout
                        | SourceErrorKind::Credentials
                        | SourceErrorKind::Undecodable
                        | SourceErrorKind::TooLarge => Err(Fault::Source(error).about(&self.subject)),
                    };
                }
                Err(fault) => return Err(fault.about(&self.subject)),
            }
            from = until;
        }
        Ok(Count::Hours(hours))
    }

    async fn count_window(&self, window: Span) -> Result<Counted, Fault> {
        let service = &self.streams.shared.service;
        let request = CountEvents {
            group: self.group.name.clone(),
            stream: self.name.clone(),
            start: window.start,
            end: window.end,
        };
        let query = service.start_count(Priority::Waiting, request).await?;
        let deadline = Instant::now() + QUERY_TIME;
        let mut pause = FIRST_LOOK;
        loop {
            sleep(pause).await;
            let counted = service.count_results(Priority::Waiting, &query).await?;
            if counted != Counted::Running || Instant::now() > deadline {
                return Ok(counted);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
