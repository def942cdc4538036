//! The live side of streams: who waits for one, how far its copy is.
//!
//! [`Streams`] holds one [`Stream`] per id while it is held, and what belongs to a whole group: its checks and its poll loop.
//! Every append goes through the stream's own [`Stream`], so that comparing with what is stored and appending is one step
//! (see `commit`).

use crate::error::{Error, ErrorKind};
use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::service::refusals::{About, Refusals};
use crate::fetch::shared::{News, Progress, Shared};
use crate::fetch::stream::access_pattern::AccessPattern;
use crate::fetch::stream::checks::Checks;
use crate::fetch::stream::deserts::Deserts;
use crate::fetch::stream::downloads::Downloads;
use crate::fetch::stream::following::{self, Following};
use crate::fetch::stream::gap::Gap;
use crate::fetch::stream::sick::Healer;
use crate::fetch::stream::stale::{By, Copied};
use crate::fetch::stream::tail_buffer::TailBuffer;
use crate::fetch::stream::via::Via;
use crate::fetch::stream::watermark::Trust;
use crate::model::{GroupId, LogClass, StreamId, printable};
use crate::report::Report;
use crate::report::status::{Followed, Transfer};
use crate::source::{Call, EventPage, FilterEvents, FilterPage, GetEvents, SourceErrorKind, halved};
use crate::store::StoreError;
use crate::store::row::{StreamRow, Vouch};
use crate::sync::lock;
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// Pages that all reads together hold ahead of their heads; a page is a megabyte of messages at most.
pub(crate) const AHEAD_PAGES: usize = 72;

/// Held while events of one stream are compared and appended.
pub(crate) type Appender = Arc<tokio::sync::Mutex<()>>;

/// What streams ask of listings, which stand beside them.
#[async_trait]
pub(crate) trait Lister: Send + Sync {
    /// Takes names of streams that an answer told of and the catalogue doesn't know. Must not block.
    fn learn(&self, group: GroupId, names: Vec<String>);
    /// Whether a listing told of this stream, or of its group's newest ones, within the listing's time to live.
    fn is_current(&self, group: GroupId, stream: StreamId) -> bool;
    /// Reads the newest page of the group's listing. Fails if it can't be kept.
    async fn renew(&self, group: GroupId) -> Result<(), StoreError>;
}

/// How many streams are yet to be read once more, since an unknown clock settled them.
#[derive(Debug, Default)]
pub(crate) struct Aged(AtomicUsize);

impl Aged {
    /// So many are left.
    pub(crate) fn set(&self, left: usize) {
        self.0.store(left, Ordering::Relaxed);
    }

    /// So many were read again, or are left for later.
    pub(crate) fn done(&self, count: usize) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(count));
    }

    /// Streams that are yet to be read again.
    pub(crate) fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Every live stream and the groups they are in.
pub(crate) struct Streams {
    pub(crate) shared: Arc<Shared>,
    pub(crate) report: Arc<Report>,
    pub(crate) lister: Arc<dyn Lister>,
    /// A permit for each page that long reads hold ahead of their heads.
    pub(crate) ahead: Arc<Semaphore>,
    pub(crate) refusals: Refusals,
    pub(crate) healer: Healer,
    pub(crate) aged: Aged,
    pub(crate) deserts: Deserts,
    live: Mutex<HashMap<StreamId, Weak<Stream>>>,
    pub(crate) groups: Mutex<HashMap<GroupId, Arc<Group>>>,
    begun: Mutex<Option<Instant>>,
}

/// What the live streams of one group share.
pub(crate) struct Group {
    pub(crate) id: GroupId,
    /// Exact name.
    pub(crate) name: String,
    pub(crate) class: LogClass,
    pub(crate) checks: Checks,
    pub(crate) following: Following<Arc<Stream>>,
    pub(crate) access_pattern: AccessPattern,
}

impl Group {
    /// The chain of its checks, if it can be relied on.
    pub(crate) fn chain(&self, trust: Trust) -> Option<Vouch> {
        lock(&self.checks.state).trusted_chain(trust)
    }
}

impl Streams {
    pub(crate) fn new(shared: Arc<Shared>, report: Arc<Report>, lister: Arc<dyn Lister>) -> Arc<Streams> {
        let ahead = Arc::new(Semaphore::new(AHEAD_PAGES));
        Arc::new(Streams {
            shared,
            report,
            lister,
            ahead,
            refusals: Refusals::default(),
            healer: Healer::default(),
            aged: Aged::default(),
            deserts: Deserts::default(),
            live: Mutex::default(),
            groups: Mutex::default(),
            begun: Mutex::default(),
        })
    }

    /// The live side of one stream.
    pub(crate) fn stream(self: &Arc<Self>, id: StreamId) -> Result<Arc<Stream>, Error> {
        if let Some(stream) = lock(&self.live).get(&id).and_then(Weak::upgrade) {
            return Ok(stream);
        }
        let unknown = || Error::new(ErrorKind::NotFound, format!("stream {}", id.0), "it isn't in the catalogue");
        let about = |e| Fault::Store(e).about(&format!("stream {}", id.0));
        let row = self.shared.store.stream(id).map_err(about)?.ok_or_else(unknown)?;
        let group = self.group(row.group)?;
        let mut live = lock(&self.live);
        // Another caller may have been faster while the row was read.
        if let Some(stream) = live.get(&id).and_then(Weak::upgrade) {
            return Ok(stream);
        }
        let stream = Arc::new(Stream {
            id,
            subject: format!("{}/{}", group.name, row.stream.name),
            name: row.stream.name,
            group,
            streams: self.clone(),
            appender: Appender::default(),
            progress: watch::Sender::new(Progress { complete: row.extent.complete, ..Progress::default() }),
            downloads: Mutex::default(),
            awaited: watch::Sender::new(false),
            tails: Mutex::default(),
            doubted: AtomicBool::new(row.extent.doubted),
            repairing: tokio::sync::Mutex::default(),
            gap: Gap::default(),
        });
        live.insert(id, Arc::downgrade(&stream));
        Ok(stream)
    }

    /// What the streams of one group share.
    pub(crate) fn group(&self, id: GroupId) -> Result<Arc<Group>, Error> {
        if let Some(group) = lock(&self.groups).get(&id) {
            return Ok(group.clone());
        }
        let unknown = || Error::new(ErrorKind::NotFound, format!("group {}", id.0), "it isn't in the catalogue");
        let about = |e| Fault::Store(e).about(&format!("group {}", id.0));
        let row = self.shared.store.group(id).map_err(about)?.ok_or_else(unknown)?;
        let group = Arc::new(Group {
            id,
            name: row.group.name,
            class: row.group.class,
            checks: Checks::new(row.vouch),
            following: Following::default(),
            access_pattern: AccessPattern::default(),
        });
        Ok(lock(&self.groups).entry(id).or_insert(group).clone())
    }

    /// A moment at which a read begins, later than that of every other read before: it tells which of two came first, however short
    /// the time between them.
    pub(crate) fn begin(&self) -> Instant {
        let mut begun = lock(&self.begun);
        let next = begun.map_or_else(Instant::now, |last| Instant::now().max(last + Duration::from_nanos(1)));
        *begun = Some(next);
        next
    }

    /// Streams that are followed and transfers under way.
    pub(crate) fn activity(&self) -> (Vec<Followed>, Vec<Transfer>) {
        let setting = self.shared.settings.borrow().poll_interval;
        let groups: Vec<Arc<Group>> = lock(&self.groups).values().cloned().collect();
        let mut followed = Vec::new();
        for group in groups {
            let interval = group.following.interval().unwrap_or(setting);
            followed.extend(group.following.streams().into_iter().map(|(stream, slowly)| Followed {
                group: group.name.clone(),
                newest: stream.row().ok().and_then(|row| row.extent.newest),
                stream: stream.name.clone(),
                interval: if slowly { following::slowly(setting) } else { interval },
            }));
        }
        let live: Vec<Arc<Stream>> = lock(&self.live).values().filter_map(Weak::upgrade).collect();
        let transfers = live.iter().filter_map(|stream| {
            let since = lock(&stream.downloads).since()?;
            let bytes = stream.row().ok()?.extent.text_len;
            Some(Transfer { group: stream.group.name.clone(), stream: stream.name.clone(), bytes, since })
        });
        (followed, transfers.collect())
    }

    /// One page of one stream; ends at once when the mount stops. A call that the group refused a moment ago is refused without a call. A
    /// page that is too large is asked for again with half its limit, which stays in `request` for the pages after it.
    pub(crate) async fn get(&self, priority: Priority, request: &mut GetEvents) -> Result<EventPage, Fault> {
        let about = About { group: request.group.clone(), with_token: request.token.is_some(), one_stream: true };
        loop {
            let page = self.shared.service.get_log_events(priority, request.clone());
            if let Some(page) = self.ask(Call::GetLogEvents, &about, &mut request.limit, page).await? {
                return Ok(page);
            }
        }
    }

    /// One page of a group or of some of its streams; as [`Streams::get`] otherwise.
    pub(crate) async fn filter(&self, priority: Priority, request: &mut FilterEvents) -> Result<FilterPage, Fault> {
        let one_stream = request.streams.len() == 1;
        let about = About { group: request.group.clone(), with_token: request.token.is_some(), one_stream };
        loop {
            let page = self.shared.service.filter_log_events(priority, request.clone());
            if let Some(page) = self.ask(Call::FilterLogEvents, &about, &mut request.limit, page).await? {
                return Ok(page);
            }
        }
    }

    /// The answer, or nothing if it was too large and `limit` is less now.
    async fn ask<T>(
        &self,
        call: Call,
        about: &About,
        limit: &mut Option<u32>,
        page: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Option<T>, Fault> {
        if let Some(refusal) = self.refusals.get(call, &about.group) {
            return Err(refusal.into());
        }
        match page.await {
            Ok(page) => Ok(Some(page)),
            Err(Fault::Source(error))
                if error.kind == SourceErrorKind::TooLarge
                    && let Some(less) = halved(*limit) =>
            {
                *limit = Some(less);
                Ok(None)
            }
            Err(fault) => {
                if let Fault::Source(error) = &fault {
                    self.refusals.note(about, error);
                }
                Err(fault)
            }
        }
    }
}

/// The live side of one stream.
pub struct Stream {
    pub(crate) id: StreamId,
    /// `group/stream`, exact names: what errors are about.
    pub(crate) subject: String,
    /// Exact name.
    pub(crate) name: String,
    pub(crate) group: Arc<Group>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) appender: Appender,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) downloads: Mutex<Downloads>,
    /// A reader waits for its download.
    pub(crate) awaited: watch::Sender<bool>,
    pub(crate) tails: Mutex<Vec<Weak<TailBuffer>>>,
    /// As [`crate::store::row::Extent::doubted`].
    pub(crate) doubted: AtomicBool,
    /// Held while lost text is fetched again.
    pub(crate) repairing: tokio::sync::Mutex<()>,
    /// What it could not keep.
    pub(crate) gap: Gap,
}

impl Stream {
    /// Its number.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The row as it is now.
    pub fn row(&self) -> Result<StreamRow, Error> {
        match self.streams.shared.store.stream(self.id) {
            Ok(Some(row)) => Ok(row),
            Ok(None) => Err(Error::new(ErrorKind::NotFound, &self.subject, "it isn't in the catalogue any more")),
            Err(e) => Err(Fault::Store(e).about(&self.subject)),
        }
    }

    /// How far the copy is; changes are told.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Fails if the name means another stream by now: what was read for this one was that one's.
    pub(crate) fn check_generation(&self) -> Result<(), Error> {
        let store = &self.streams.shared.store;
        let about = |e| Fault::Store(e).about(&self.subject);
        if !self.row()?.gone || store.stream_by_name(self.group.id, &self.name).map_err(about)?.is_none() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Replaced, &self.subject, "the log stream was deleted and made again"))
    }

    /// Refuses groups whose class answers no event call, without a call.
    pub(crate) fn check_class(&self) -> Result<(), Error> {
        let class = match self.group.class {
            LogClass::Standard => return Ok(()),
            LogClass::InfrequentAccess => "INFREQUENT_ACCESS",
            LogClass::Delivery => "DELIVERY",
        };
        Err(Error::new(
            ErrorKind::Unsupported,
            &self.subject,
            format!("log group class {class} can't be read by event calls"),
        ))
    }

    /// Whether its group is not known to refuse a call.
    pub(crate) fn may(&self, via: Via) -> bool {
        self.streams.refusals.get(via.call(), &self.group.name).is_none()
    }

    pub(crate) fn not_found(&self) -> Error {
        Error::new(ErrorKind::NotFound, &self.subject, "the service has no such log stream")
    }

    /// An exact request says that the service doesn't have it.
    pub(crate) fn is_gone(&self) {
        if let Err(e) = self.streams.shared.store.forget_stream(self.id) {
            self.streams.report.error(&Fault::Store(e).about(&self.subject));
        }
        tracing::info!(stream = %printable(&self.subject), "log stream is gone from the service");
        // The tree may be gone already during a stop.
        self.streams.shared.tell(News::Gone(self.group.id, self.id));
    }

    /// Tells waiters of a failed transfer, and the report.
    pub(crate) fn failed(&self, error: Error) {
        if error.kind() != ErrorKind::Stopping {
            self.streams.report.error(&error);
        }
        self.note_failure(error);
    }

    /// Tells waiters of a failure.
    pub(crate) fn note_failure(&self, error: Error) {
        self.progress.send_modify(|p| {
            let number = p.failure.as_ref().map_or(0, |f| f.0) + 1;
            p.failure = Some((number, error));
        });
    }

    /// It is shown from the copy, because bringing it up to date failed.
    pub(crate) fn is_stale(&self, by: By, error: &Error) {
        if error.kind() != ErrorKind::Stopping {
            let error = Error::new(error.kind(), &self.subject, error.cause());
            self.streams.shared.stale.note(Copied::Stream(self.id), by, self.streams.shared.clock.now(), &error);
        }
    }

    /// Whether it is shown from the copy.
    pub(crate) fn is_shown_stale(&self) -> bool {
        self.streams.shared.stale.get(Copied::Stream(self.id)).is_some()
    }

    /// It is up to date, but for what was passed over.
    pub(crate) fn is_up_to_date(self: &Arc<Self>, by: By) {
        if !self.doubted.load(Ordering::Relaxed) {
            self.streams.shared.stale.clear(Copied::Stream(self.id), by);
            return;
        }
        let why = "what lies before its oldest event may be missing: the service gave only empty pages there; it is looked at again";
        self.is_stale(By::Read, &Error::new(ErrorKind::TimedOut, &self.subject, why));
        self.look_again();
    }

    /// A drained read of it, begun at `began`, is about to be committed.
    pub(crate) fn was_read(&self, began: Instant) {
        lock(&self.group.checks.state).note_reads([self.id], began);
    }

    /// A request for its events; the caller adds the range.
    pub(crate) fn request(&self) -> GetEvents {
        GetEvents { group: self.group.name.clone(), stream: self.name.clone(), from_head: true, ..GetEvents::default() }
    }

    /// Those who read its end alone.
    pub(crate) fn live_tails(&self) -> Vec<Arc<TailBuffer>> {
        let mut tails = lock(&self.tails);
        tails.retain(|s| s.strong_count() > 0);
        tails.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut live = lock(&self.streams.live);
        // A successor may stand there already.
        if live.get(&self.id).is_some_and(|s| s.strong_count() == 0) {
            live.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests;
