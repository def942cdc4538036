//! Keeps local copies current: schedules calls, lists, refreshes, downloads, sweeps and follows.

mod aged;
mod budget;
mod check;
mod commit;
mod desert;
mod download;
mod drain;
mod failure;
mod fault;
mod find;
mod flight;
mod folder;
mod follow;
mod foresee;
mod gap;
mod generation;
mod heal;
mod lane;
mod large;
mod lesson;
mod listing;
mod mend;
mod merge;
mod pages;
mod poll;
mod prove;
mod read_back;
mod refresh;
mod refusal;
mod reread;
mod schedule;
#[cfg(test)]
pub(crate) mod scripted;
mod select;
mod service;
mod side_by_side;
mod stale;
mod stream;
mod suffix;
mod sweep;
mod tally;
mod vouch;
mod walk;
mod walker;
mod windows;

pub use download::Interest;
pub use follow::Follow;
pub use listing::GroupWatch;
pub use prove::Count;
pub use stale::Stale;
pub use stream::Stream;
pub use suffix::Suffix;

use crate::clock::ServiceClock;
use crate::error::Error;
use crate::model::{GroupId, StreamId, Timestamp};
use crate::report::Report;
use crate::report::status::{Copy, StatusFacts};
use crate::source::{LogSource, Quotas};
use crate::store::names::Names;
use crate::store::row::{GroupRow, StreamRow};
use crate::store::{Store, StoreError};
use listing::Listings;
use service::Service;
use std::sync::Arc;
use std::time::Duration;
use stream::Streams;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Which groups and streams the mount shows.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only groups whose exact name starts with one of these; empty means all.
    pub group_prefixes: Vec<String>,
    /// Only groups whose exact name matches one of these globs; empty means all.
    pub group_patterns: globset::GlobSet,
    /// Only streams of these exact names; empty means all.
    pub streams: Vec<String>,
    /// Only streams with events since.
    pub since: Option<Since>,
}

/// A moment, fixed or sliding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// That long before now.
    Ago(Duration),
    /// A fixed time.
    At(Timestamp),
}

/// What the user set about fetching; can change while mounted.
#[derive(Clone, Debug)]
pub struct FetchSettings {
    /// What is shown.
    pub selection: Selection,
    /// How often followed streams are asked (default 1 s).
    pub poll_interval: Duration,
    /// How far back a followed stream is read again for late events (default 5 min).
    pub late_window: Duration,
    /// How long after its newest event a range counts as settled (default 15 min).
    pub settle_after: Duration,
    /// How long a listing is believed (default 10 s).
    pub listing_ttl: Duration,
    /// Calls a second to start from.
    pub quotas: Quotas,
    /// How long one waiting request may go without progress (30 s): bounds retries too.
    pub patience: Duration,
}

/// Something the tree, and through it the kernel, must hear of without having asked.
#[derive(Clone, Debug)]
pub enum News {
    /// A stream that a listing or an answer brought for the first time, after the group's first walk had begun to be shown.
    NewStream(GroupId, StreamId),
    /// A group likewise.
    NewGroup(GroupId),
    /// (group, old, new): the stream was deleted and made again.
    Replaced(GroupId, StreamId, StreamId),
    /// An exact lookup says the stream is gone.
    Gone(GroupId, StreamId),
}

/// How far the copy of one stream is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// It was once read to the end: the committed length is its size.
    pub complete: bool,
    /// The newest failure of a transfer of this stream, and its number (so that a waiter sees only later ones).
    pub failure: Option<(u64, Error)>,
    /// Counts commits of this stream since start: moves with every progress, zero-event ones too.
    pub commits: u64,
}

/// The last part of a stream that `tail` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// So many lines, at most 50,000.
    Lines(u64),
    /// So many bytes, at most 4 MiB.
    Bytes(u64),
}

/// What is about to happen to a file that is brought up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It is opened: what the service showed then is in it. The next open within a second asks anew.
    Content,
    /// Its size is told; the open comes later.
    Size,
}

/// What every file of this room works with.
pub(crate) struct Shared {
    pub(crate) service: service::Service,
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<ServiceClock>,
    pub(crate) settings: watch::Sender<Arc<FetchSettings>>,
    pub(crate) stale: stale::StaleCopies,
    pub(crate) news: mpsc::Sender<News>,
    pub(crate) tasks: tokio_util::task::TaskTracker,
    pub(crate) stopping: tokio_util::sync::CancellationToken,
}

impl Shared {
    /// Tells of something new where nothing may wait: where too much waits to be heard, a task does.
    pub(crate) fn tell(&self, news: News) {
        if let Err(mpsc::error::TrySendError::Full(news)) = self.news.try_send(news) {
            let sender = self.news.clone();
            self.tasks.spawn(async move { sender.send(news).await });
        }
    }
}

/// Keeps copies current.
pub struct Fetch {
    shared: Arc<Shared>,
    listings: Arc<Listings>,
    streams: Arc<Streams>,
}

/// News that wait to be heard; a job that has more waits.
pub(crate) const MOST_NEWS: usize = 1 << 16;

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
        shared.tasks.spawn(aged::run(streams.clone()));
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
        // What is wrong with the group is told to whoever lists it.
        if let (Ok(group), Some(listing)) = (self.streams.group(group), self.listings.progress_of(group)) {
            sweep::searched(&self.streams, &group, listing);
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

    /// Somebody watches the folder (inotify, open directory): its newest page is read again each listing time to live until
    /// dropped.
    pub fn watch_group(&self, group: GroupId) -> GroupWatch {
        self.listings.watch_group(group)
    }

    /// The live side of one stream. Shared while anybody holds it.
    pub fn stream(&self, id: StreamId) -> Result<Arc<Stream>, Error> {
        self.streams.stream(id)
    }

    /// Whether everything stored of a stream is settled: nothing that the service may yet show belongs before its newest event, and nothing
    /// was passed over.
    pub fn is_settled(&self, row: &StreamRow) -> Result<bool, Error> {
        let settle_after = self.shared.settings.borrow().settle_after;
        let trust = vouch::Trust::of(&self.shared.clock);
        let edge = vouch::edge(&row.extent, self.streams.group(row.group)?.chain(trust), settle_after, trust);
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

/// A store's error about `subject`, for whoever waits.
pub fn store_error(subject: &str, error: &StoreError) -> Error {
    failure::store_error(subject, error.clone())
}
