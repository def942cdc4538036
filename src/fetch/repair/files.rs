//! Streams on whose files the disk failed: their files are made anew, later and later while that fails, one after the other.
//!
//! Such a stream takes nothing more, so a program that opens it is told so; the others of its group have nothing to do with it. Once its files
//! are new it goes on where it was: same inode, same offsets, and what the old files had lost is fetched again. An index that can't be
//! read even so is lost, and with it the order of events: then the stream begins anew, under another inode.

use crate::error::{Error, ErrorKind};
use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::stream::state::{Stream, Streams};
use crate::model::StreamId;
use crate::render::Format;
use crate::store::{StoreError, StoreErrorKind};
use std::sync::Arc;

/// After so many failures, which take a minute, an index that can't be read counts as lost.
const INDEX_TRIES: u32 = 6;

impl Streams {
    /// An operation of the store failed on one stream: what must follow from that follows.
    pub(crate) async fn failed_on(self: &Arc<Self>, error: &StoreError) {
        match error.kind {
            StoreErrorKind::IndexLost(id) => {
                tracing::warn!(%error, "the stream is fetched anew, under a new inode");
                self.renew(id).await;
            }
            StoreErrorKind::Sick(id) => self.is_sick(id, error),
            _ => {}
        }
    }

    /// The same of whatever ended a transfer.
    pub(crate) async fn failed_by(self: &Arc<Self>, fault: &Fault) {
        if let Fault::Store(error) = fault {
            self.failed_on(error).await;
        }
    }

    /// Has streams healed whose files failed where nothing was fetched for them.
    pub(crate) fn heal_sick(self: &Arc<Self>) {
        for id in self.shared.store.sick() {
            let error = StoreError::new(StoreErrorKind::Sick(id), "the disk failed on its files");
            self.is_sick(id, &error);
        }
    }

    fn is_sick(self: &Arc<Self>, id: StreamId, error: &StoreError) {
        self.shared.store.is_sick(id);
        let (is_news, must_start) = self.healer.admit(id, error);
        if is_news {
            let subject = self.stream(id).map_or_else(|_| format!("stream {}", id.0), |stream| stream.subject.clone());
            self.report.error(&Error::new(ErrorKind::Sick, subject, &error.message));
        }
        if must_start {
            self.shared.tasks.spawn(run(self.clone()));
        }
    }
}

/// Heals until nothing is sick.
async fn run(streams: Arc<Streams>) {
    while let Some((id, due, failures)) = streams.healer.next() {
        tokio::select! {
            () = streams.shared.stopping.cancelled() => return,
            // Those that come meanwhile are due later than this one.
            () = tokio::time::sleep_until(due) => {}
        }
        match heal(&streams, id, failures).await {
            Ok(healed) => {
                streams.healer.healed(id);
                // Others don't wait for that.
                if let Some(stream) = healed {
                    streams.shared.tasks.spawn(async move { fetch_what_is_missing(&stream).await });
                }
            }
            Err(error) => {
                tracing::warn!(stream = id.0, %error, "its files could not be made anew");
                streams.healer.failed(id, error);
            }
        }
    }
}

/// Gives the stream back whose files are new; `None` if it needs none any more.
async fn heal(streams: &Arc<Streams>, id: StreamId, failures: u32) -> Result<Option<Arc<Stream>>, StoreError> {
    // What isn't in the catalogue any more needs no files.
    let Ok(stream) = streams.stream(id) else { return Ok(None) };
    let healed = {
        let _repairing = stream.repairing.lock().await;
        streams.shared.store.heal(id).await
    };
    match healed {
        Ok(()) => {
            tracing::info!(stream = %crate::model::printable(&stream.subject), "the files of its copy are new");
            Ok(Some(stream))
        }
        Err(error) if matches!(error.kind, StoreErrorKind::IndexLost(_)) || is_index_lost(&stream, failures) => {
            tracing::warn!(stream = id.0, %error, "the stream is fetched anew, under a new inode");
            streams.renew(id).await;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether the index still can't be read after so many tries. That this process lacks descriptors, or its disk room, says nothing of it.
fn is_index_lost(stream: &Stream, failures: u32) -> bool {
    let store = &stream.streams.shared.store;
    let verified = || store.reader(stream.id, &Format::Message).and_then(|reader| reader.verify_index());
    failures + 1 >= INDEX_TRIES
        && verified().is_err_and(|error| matches!(error.kind, StoreErrorKind::IndexLost(_) | StoreErrorKind::Sick(_)))
}

/// What the old files had lost; who reads it before that has it fetched at once.
async fn fetch_what_is_missing(stream: &Arc<Stream>) {
    if let Err(error) = stream.repair_as(Priority::Background, 0, u64::MAX).await {
        tracing::debug!(%error, "text is fetched when it is read");
    }
}

impl Stream {
    /// Fails where the disk has failed on this stream's files, and they aren't new yet.
    pub(crate) fn check_health(&self) -> Result<(), Error> {
        match self.streams.healer.sickness(self.id) {
            Some(error) => Err(Fault::Store(error).about(&self.subject)),
            None => Ok(()),
        }
    }
}
