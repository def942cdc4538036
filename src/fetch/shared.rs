//! What every file of this room works with, and what it tells those above.

use crate::clock::ServiceClock;
use crate::error::Error;
use crate::fetch::service::client::Service;
use crate::fetch::service::fault::Fault;
use crate::fetch::settings::FetchSettings;
use crate::fetch::stream::stale::StaleCopies;
use crate::model::{GroupId, StreamId};
use crate::store::{Store, StoreError};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// News that wait to be heard; a job that has more waits.
pub(crate) const MOST_NEWS: usize = 1 << 16;

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
    pub(crate) service: Service,
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<ServiceClock>,
    pub(crate) settings: watch::Sender<Arc<FetchSettings>>,
    pub(crate) stale: StaleCopies,
    pub(crate) news: mpsc::Sender<News>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
}

impl Shared {
    /// Does `work` in a task of its own: a caller that goes away doesn't break it off halfway, and a defect in it is a fault.
    pub(crate) async fn apart<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        self.tasks.spawn(work).await.unwrap_or(Err(Fault::Died))
    }

    /// Reads from the store on a thread that may wait for the disk.
    pub(crate) async fn stored<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Fault> {
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || read(&store));
        Ok(read.await.map_err(|_| Fault::Died)??)
    }

    /// Tells of something new where nothing may wait: where too much waits to be heard, a task does.
    pub(crate) fn tell(&self, news: News) {
        if let Err(mpsc::error::TrySendError::Full(news)) = self.news.try_send(news) {
            let sender = self.news.clone();
            self.tasks.spawn(async move { sender.send(news).await });
        }
    }
}
