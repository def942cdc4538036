//! Keeps local copies current: schedules calls, lists, refreshes, downloads, reads ahead and follows.
//!
//! From the ground up: [`service`] calls the service, paced and retried; [`stream`] is one stream's copy, how it is read and committed.
//! Activities stand on these two, each by itself: [`listing`], [`download`], [`freshness`], [`repair`], [`follow`], [`tail`],
//! [`readahead`], [`verify`]. What an activity does for a stream is an `impl Stream` in the activity; what it remembers is plain state
//! in [`stream`], which knows no activity. [`open`] is what an open of a file asks of several of them, and this file the way in.

mod download;
mod follow;
mod freshness;
mod listing;
mod open;
mod readahead;
mod repair;
#[cfg(test)]
pub(crate) mod scripted;
mod service;
mod settings;
mod shared;
mod stream;
mod tail;
mod verify;

pub use download::first_copy::Interest;
pub use follow::poll_loop::Follow;
pub use listing::listings::GroupWatch;
pub use settings::{FetchSettings, Selection, Since};
pub use shared::{Last, News, Progress, Wanted};
pub use stream::stale::Stale;
pub use stream::state::Stream;
pub use tail::Tail;
pub use verify::Count;

use crate::clock::ServiceClock;
use crate::error::Error;
use crate::model::{GroupId, StreamId};
use crate::report::Report;
use crate::report::status::{Copy, StatusFacts};
use crate::source::LogSource;
use crate::store::names::Names;
use crate::store::row::{GroupRow, StreamRow};
use crate::store::{Store, StoreError};
use freshness::untrusted;
use listing::listings::Listings;
use readahead::prefetch;
use service::client::Service;
use shared::{MOST_NEWS, Shared};
use std::sync::Arc;
use std::time::Duration;
use stream::state::Streams;
use stream::{stale, watermark};
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Keeps copies current.
pub struct Fetch {
    shared: Arc<Shared>,
    listings: Arc<Listings>,
    streams: Arc<Streams>,
}

/// How long a stop waits for transfers and commits.
const STOP: Duration = Duration::from_secs(3);

impl Fetch {
    /// Starts on the current runtime. The receiver tells what is new; it must be read or dropped, or listings wait for it.
    pub fn start(
        source: Arc<dyn LogSource>,
        store: Arc<Store>,
        clock: Arc<ServiceClock>,
        settings: FetchSettings,
        report: Arc<Report>,
    ) -> (Arc<Fetch>, mpsc::Receiver<News>) {
        let (news, heard) = mpsc::channel(MOST_NEWS);
        let stopping = CancellationToken::new();
        let service = Service::new(source, report.clone(), &settings.quotas, settings.patience, stopping.clone());
        let shared = Arc::new(Shared {
            service,
            store,
            clock,
            settings: watch::Sender::new(Arc::new(settings)),
            stale: stale::StaleCopies::default(),
            news,
            tasks: TaskTracker::new(),
            stopping,
        });
        let listings = Listings::new(shared.clone(), report.clone());
        let streams = Streams::new(shared.clone(), report, Arc::new(listings.clone()));
        shared.tasks.spawn(untrusted::run(streams.clone()));
        (Arc::new(Fetch { shared, listings, streams }), heard)
    }

    /// Takes new settings at once.
    pub fn reconfigure(&self, settings: FetchSettings) {
        let (quotas, patience) = (settings.quotas, settings.patience);
        self.shared.settings.send_replace(Arc::new(settings));
        self.shared.service.configure(&quotas, patience);
        self.listings.reconfigured();
    }

    /// Stops taking work, ends transfers (their waiters get `Stopping`) and waits for commits, a few seconds at most.
    pub async fn stop(&self) {
        self.shared.stopping.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(STOP, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!("some transfers didn't end in {} s", STOP.as_secs());
        }
        self.streams.save_vouches();
    }

    /// The group that `name` means where listings name things so (always the same kind): a slug if those are listed, `slug~hash`,
    /// or a percent-encoded exact name. What the catalogue doesn't know is asked of the service, for at most 5 s.
    pub async fn find_group(&self, name: &str, listed: Names) -> Result<Option<GroupRow>, Error> {
        self.listings.find_group(name, listed).await
    }

    /// As `find_group`, as far as that costs no call; `None` if it does.
    pub fn known_group(&self, name: &str, listed: Names) -> Result<Option<Option<GroupRow>>, Error> {
        self.listings.known_group(name, listed)
    }

    /// As `find_stream`, as far as that costs no call; `None` if it does.
    pub fn known_stream(&self, group: GroupId, name: &str, listed: Names) -> Result<Option<Option<StreamRow>>, Error> {
        self.listings.known_stream(group, name, listed)
    }

    /// The stream that `name` (without `.log`) means, as `find_group`.
    pub async fn find_stream(&self, group: GroupId, name: &str, listed: Names) -> Result<Option<StreamRow>, Error> {
        self.listings.find_stream(group, name, listed).await
    }

    /// As `find_group`, as a listing would tell it: no question for this name alone.
    pub async fn listed_group(&self, name: &str, listed: Names) -> Result<Option<GroupRow>, Error> {
        self.listings.listed_group(name, listed).await
    }

    /// As `find_stream`, as a listing would tell it: no question for this name alone.
    pub async fn listed_stream(&self, group: GroupId, name: &str, listed: Names) -> Result<Option<StreamRow>, Error> {
        self.listings.listed_stream(group, name, listed).await
    }

    /// A folder is being opened (`None`: the root): brings its listing up to date in the background if its time to live is over.
    pub fn touch_listing(&self, group: Option<GroupId>) {
        self.listings.touch_listing(group);
    }

    /// A program that searches what it lists opens the group's folder: it will want what was never fetched.
    pub fn searched(&self, group: GroupId) {
        // What is wrong with the group is told to the program that lists it.
        if let (Ok(group), Some(listing)) = (self.streams.group(group), self.listings.progress_of(group)) {
            prefetch::searched(&self.streams, &group, listing);
        }
    }

    /// Up to `max` groups after `seq`; waits for more while the listing is under way; empty means the end.
    pub async fn groups_after(&self, seq: u64, max: usize) -> Result<Vec<GroupRow>, Error> {
        self.listings.groups_after(seq, max).await
    }

    /// Up to `max` streams after `seq`, as `groups_after`.
    pub async fn streams_after(&self, group: GroupId, seq: u64, max: usize) -> Result<Vec<StreamRow>, Error> {
        self.listings.streams_after(group, seq, max).await
    }

    /// A program watches the folder (inotify, open directory): its newest page is read again each listing time to live until
    /// dropped.
    pub fn watch_group(&self, group: GroupId) -> GroupWatch {
        self.listings.watch_group(group)
    }

    /// The live side of one stream. Shared while it is held.
    pub fn stream(&self, id: StreamId) -> Result<Arc<Stream>, Error> {
        self.streams.stream(id)
    }

    /// Whether everything stored of a stream is settled: nothing that the service may yet show belongs before its newest event, and nothing
    /// was passed over.
    pub fn is_settled(&self, row: &StreamRow) -> Result<bool, Error> {
        let settle_after = self.shared.settings.borrow().settle_after;
        let trust = watermark::Trust::of(&self.shared.clock);
        let edge = watermark::edge(&row.extent, self.streams.group(row.group)?.chain(trust), settle_after, trust);
        Ok(row.extent.complete && !row.extent.doubted && row.extent.newest.is_none_or(|newest| newest < edge))
    }

    /// Since when a stream's file is shown from the copy because bringing it up to date failed, if it is.
    pub fn stale(&self, id: StreamId) -> Option<Stale> {
        self.shared.stale.get(stale::Copied::Stream(id))
    }

    /// Has streams healed whose files failed where nothing was fetched for them. Must be called within the runtime.
    pub fn heal_sick(&self) {
        self.streams.heal_sick();
    }

    /// A stream whose index is lost begins anew: a new row of the same name.
    pub async fn renew(&self, id: StreamId) {
        self.streams.renew(id).await;
    }

    /// Followed streams and transfers under way, for `.cwlogs/status`.
    pub fn activity(&self) -> StatusFacts {
        let (followed, transfers) = self.streams.activity();
        let copies = self.shared.stale.all();
        StatusFacts {
            followed,
            transfers,
            clock: self.shared.clock.skew_told(),
            aged: self.streams.aged.left(),
            sick: self.streams.healer.count(),
            copies: copies.into_iter().map(|stale| Copy { since: stale.since, error: stale.error }).collect(),
            ..StatusFacts::default()
        }
    }
}

/// A store's error about `subject`, for those that wait.
pub fn store_error(subject: &str, error: &StoreError) -> Error {
    service::fault::store_error(subject, error.clone())
}
