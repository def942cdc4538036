//! Text that was evicted or damaged is fetched again, into the places that its index knows.
//!
//! What is missing is read span by span, from the block that a reader waits for on. A block that stays incomplete after [`TRIES`] reads
//! is an error of its own; the others are served. Where the index itself is lost, or the service has let go of the events, the stream
//! begins anew: a new row, a new inode, and the old one is gone.

use crate::error::{Error, ErrorKind};
use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::shared::News;
use crate::fetch::stream::cursor::Cursor;
use crate::fetch::stream::state::{Stream, Streams};
use crate::fetch::stream::via::Via;
use crate::model::{LogEvent, Span, StreamId, printable};
use crate::store::{Repair, StoreError};
use std::sync::Arc;
use std::time::Duration;

/// Reads of the same span, before what is still missing counts as lost.
const TRIES: u32 = 5;
/// Pause before the second read; each later one is twice as long. An answer may lack an event for a moment.
const PAUSE: Duration = Duration::from_millis(100);

impl Stream {
    /// Makes `size` bytes of text at `offset` what was committed, fetching them again if they aren't. Waits for a repair
    /// of this stream that is under way.
    pub async fn repair(self: &Arc<Self>, offset: u64, size: u64) -> Result<(), Error> {
        self.repair_as(Priority::Waiting, offset, size).await
    }

    /// The same where no reader waits.
    pub(crate) async fn repair_as(self: &Arc<Self>, priority: Priority, offset: u64, size: u64) -> Result<(), Error> {
        let _repairing = self.repairing.lock().await;
        loop {
            let (store, id) = (self.streams.shared.store.clone(), self.id);
            let found = tokio::task::spawn_blocking(move || store.repair(id, offset, size)).await;
            let repair = match found.map_err(|_| Fault::Died.about(&self.subject))? {
                Ok(None) => return Ok(()),
                Ok(Some(repair)) => repair,
                Err(error) => return Err(self.lost(error).await),
            };
            if repair.is_damage() && repair.missing() > 0 {
                let what = format!("{} bytes of its copy are damaged and are fetched again", repair.bytes());
                self.streams.report.error(&Error::new(ErrorKind::TextLost, &self.subject, what));
            }
            tracing::info!(stream = %printable(&self.subject), bytes = repair.bytes(), "text is fetched again");
            self.fill(repair, priority, offset, size).await?;
        }
    }

    /// The error of a store operation about this stream; if its index is lost the stream begins anew, and if its files fail they are made
    /// anew.
    pub async fn lost(self: &Arc<Self>, error: StoreError) -> Error {
        self.streams.failed_on(&error).await;
        Fault::Store(error).about(&self.subject)
    }

    async fn fill(
        self: &Arc<Self>,
        mut repair: Repair,
        priority: Priority,
        offset: u64,
        size: u64,
    ) -> Result<(), Error> {
        let mut pause = PAUSE;
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            let Some(span) = repair.span() else { return Ok(()) };
            repair = self.read_span(repair, priority, span).await?;
        }
        let missing = repair.missing();
        let Some((from, to)) = repair.first_incomplete() else { return Ok(()) };
        let oldest = repair.span().map(|span| span.start);
        let kept = tokio::task::spawn_blocking(move || repair.keep()).await;
        if let Err(error) = kept.map_err(|_| Fault::Died.about(&self.subject))? {
            return Err(self.lost(error).await);
        }
        if from >= offset.saturating_add(size) {
            // No reader has asked for that part yet.
            return Ok(());
        }
        let what = format!(
            "bytes {from} to {to} of its copy are damaged, and the service doesn't show {missing} of their events any more"
        );
        let error = Error::new(ErrorKind::Damaged, &self.subject, what);
        self.streams.report.error(&error);
        if oldest.is_some_and(|oldest| self.is_past_retention(oldest)) {
            self.streams.renew(self.id).await;
        }
        Err(error)
    }

    /// Reads a span once, until nothing is missing or there is no more. An empty page is no progress.
    async fn read_span(self: &Arc<Self>, mut repair: Repair, priority: Priority, span: Span) -> Result<Repair, Error> {
        let mut cursor = Cursor::new(Via::Get, Some(span.start), span.end);
        loop {
            let page = match cursor.next(self, priority, None).await {
                Err(fault) if fault.is_invalid_token() => return Ok(repair),
                Err(fault) if fault.is_not_found() => {
                    self.is_gone();
                    return Err(self.not_found());
                }
                other => other.map_err(|fault| fault.about(&self.subject))?,
            };
            let (ended, stuck) = (page.ended, page.stuck);
            if !page.events.is_empty() {
                repair = self.take(repair, page.events).await?;
                self.progress.send_modify(|p| p.commits += 1);
            }
            if repair.span().is_none() || ended || stuck {
                return Ok(repair);
            }
        }
    }

    async fn take(self: &Arc<Self>, mut repair: Repair, events: Vec<LogEvent>) -> Result<Repair, Error> {
        let taken = tokio::task::spawn_blocking(move || repair.take(&events).map(|()| repair)).await;
        match taken.map_err(|_| Fault::Died.about(&self.subject))? {
            Ok(repair) => Ok(repair),
            Err(error) => Err(self.lost(error).await),
        }
    }
}

impl Streams {
    /// Ends a stream whose order of events isn't known any more, and begins it anew.
    pub(crate) async fn renew(&self, id: StreamId) {
        let store = self.shared.store.clone();
        let renewed = tokio::task::spawn_blocking(move || {
            let row = store.stream(id)?;
            Ok::<_, StoreError>(row.zip(store.renew_stream(id)?))
        });
        match renewed.await {
            Ok(Ok(Some((old, new)))) => {
                let what = "its copy was damaged beyond repair and is fetched anew, under a new inode";
                self.report.error(&Error::new(ErrorKind::IndexLost, &old.stream.name, what));
                // The tree may be gone already during a stop.
                let _ = self.shared.news.send(News::Replaced(old.group, id, new)).await;
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a damaged stream could not be begun anew"),
            Err(_) => tracing::warn!("a damaged stream could not be begun anew"),
        }
    }
}
