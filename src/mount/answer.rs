//! The one way a request is answered.
//!
//! A request's work is a future. It is polled once on the kernel's thread: what is cached is ready there and then, and costs
//! no task. What must wait goes on in the runtime, where it ends with its result, or with EINTR as soon as its caller has a
//! signal to see to. A panic answers EIO and lives on.

use super::errno::errno;
use super::interrupt::interrupted;
use crate::error::{Error, ErrorKind};
use crate::tree::{Ino, Tree};
use fuser::Errno;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::runtime::Handle;

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// The operation, as the kernel calls it.
    pub(super) operation: &'static str,
    /// The inode it is about.
    pub(super) ino: Ino,
    /// The thread that asks.
    pub(super) thread: u32,
}

/// Answers requests.
#[derive(Clone)]
pub(super) struct Answerer {
    tree: Arc<Tree>,
    runtime: Handle,
}

type Work<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

impl Answerer {
    pub(super) fn new(tree: Arc<Tree>, runtime: Handle) -> Answerer {
        Answerer { tree, runtime }
    }

    /// Runs `work` and hands its result to `reply`, now or later.
    pub(super) fn answer<T: Send + 'static>(
        &self,
        asked: Asked,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
        reply: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        let mut work: Work<T> = Box::pin(work);
        let first = {
            let _runtime = self.runtime.enter();
            poll_caught(work.as_mut(), &mut Context::from_waker(Waker::noop()))
        };
        if let Poll::Ready(result) = first {
            reply(self.judged(asked, result));
            return;
        }
        self.tree.ask(asked.ino);
        let answerer = self.clone();
        self.runtime.spawn(async move {
            let result = tokio::select! {
                biased;
                result = std::future::poll_fn(|cx| poll_caught(work.as_mut(), cx)) => result,
                () = interrupted(asked.thread) => {
                    Err(Error::new(ErrorKind::Interrupted, answerer.tree.describe(asked.ino), "its caller was interrupted"))
                }
            };
            drop(work);
            reply(answerer.judged(asked, result));
            answerer.tree.answered(asked.ino);
        });
    }

    /// As `answer`, for what never waits.
    pub(super) fn now<T>(
        &self,
        asked: Asked,
        work: impl FnOnce() -> Result<T, Error>,
        reply: impl FnOnce(Result<T, Errno>),
    ) {
        let result = {
            let _runtime = self.runtime.enter();
            catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(defect()))
        };
        reply(self.judged(asked, result));
    }

    /// Tells the log, once, what a person should know, and turns the error into its errno.
    fn judged<T>(&self, asked: Asked, result: Result<T, Error>) -> Result<T, Errno> {
        result.map_err(|error| {
            match error.kind() {
                ErrorKind::NotFound
                | ErrorKind::ReadOnly
                | ErrorKind::Unsupported
                | ErrorKind::Interrupted
                | ErrorKind::Replaced
                | ErrorKind::IsDirectory
                | ErrorKind::NotDirectory => {
                    tracing::debug!(operation = asked.operation, ino = asked.ino.0, "{error}");
                }
                ErrorKind::Denied
                | ErrorKind::StaleSize
                | ErrorKind::Unavailable
                | ErrorKind::TimedOut
                | ErrorKind::NoSpace
                | ErrorKind::Damaged
                | ErrorKind::Sick
                | ErrorKind::TextLost
                | ErrorKind::IndexLost
                | ErrorKind::Invalid
                | ErrorKind::Stopping
                | ErrorKind::BadHandle => {
                    tracing::warn!(operation = asked.operation, "{error}");
                    self.tree.report().error(&error);
                }
            }
            errno(error.kind())
        })
    }
}

fn poll_caught<T>(
    work: Pin<&mut (dyn Future<Output = Result<T, Error>> + Send)>,
    cx: &mut Context<'_>,
) -> Poll<Result<T, Error>> {
    catch_unwind(AssertUnwindSafe(|| work.poll(cx))).unwrap_or_else(|_| Poll::Ready(Err(defect())))
}

fn defect() -> Error {
    Error::new(ErrorKind::Damaged, "request", "a defect of this program (please report it, with the log)")
}
