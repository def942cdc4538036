//! The one error that crosses rooms: what happened, to which group, stream or path, why, and what to do next.
//!
//! The rooms below have errors of their own ([`SourceError`](crate::source::SourceError), [`StoreError`](crate::store::StoreError));
//! they become an [`Error`] once, where the subject is known. `mount/errno.rs` maps the kind to an errno.

use crate::model::printable;
use std::fmt;
use std::sync::Arc;

/// What went wrong, in the words of the contract's errno table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No such group or stream, or deleted meanwhile with nothing cached (ENOENT).
    NotFound,
    /// Access denied, credentials missing or expired, region not enabled (EACCES).
    Denied,
    /// Opened by a program that was told a size before anyone knew it (ESTALE).
    StaleSize,
    /// Throttled or unavailable beyond the retry budget (EAGAIN).
    Unavailable,
    /// No network, or no progress within the time allowed (ETIMEDOUT).
    TimedOut,
    /// The cache disk is full (ENOSPC).
    NoSpace,
    /// The cache is damaged and couldn't be repaired, or its disk fails (EIO).
    Damaged,
    /// The cache's disk fails on the files of this stream alone, which are being made anew (EIO).
    Sick,
    /// Cached text that was evicted or damaged and has to be fetched again first (EIO, if that is all that can be said).
    TextLost,
    /// The cache's index of a stream is damaged: the stream is fetched anew, under a new inode (ESTALE, for which the kernel looks
    /// the name up again).
    IndexLost,
    /// The stream was deleted and made again: its name means another file by now (ESTALE, for which the kernel looks the name up again).
    Replaced,
    /// A name or view that means nothing (EINVAL).
    Invalid,
    /// Something tried to write (EROFS).
    ReadOnly,
    /// The log group's class can't be read this way (ENOTSUP).
    Unsupported,
    /// The caller has a signal to see to (EINTR).
    Interrupted,
    /// The mount is going away (EIO).
    Stopping,
    /// A defect of this program: a handle or inode that was never given (EBADF).
    BadHandle,
    /// A folder where a file is needed (EISDIR).
    IsDirectory,
    /// A file where a folder is needed (ENOTDIR).
    NotDirectory,
}

/// An error with its subject and cause. Cheap to clone: many readers may wait for one call.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    subject: Arc<str>,
    cause: Arc<str>,
}

impl Error {
    /// An error of `kind` about `subject` (a path, or `group/stream`), because of `cause`.
    pub fn new(kind: ErrorKind, subject: impl AsRef<str>, cause: impl AsRef<str>) -> Error {
        Error { kind, subject: printable(subject.as_ref()).into(), cause: printable(cause.as_ref()).into() }
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What it happened to.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Why, in one clause.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// What a person can do about it.
    pub fn advice(&self) -> &'static str {
        match self.kind {
            ErrorKind::NotFound => "check the name with `ls`; it may have been deleted",
            ErrorKind::Denied => {
                "renew the credentials (`aws sso login`, or a new token) or ask for the permission; `cwlogs-mount --check` names it"
            }
            ErrorKind::StaleSize => {
                "run the command again now that the size is known, or read the file once before (`cat FILE >/dev/null`)"
            }
            ErrorKind::Unavailable => {
                "try again in a moment; `.cwlogs/status` shows the throttling, `--rate` lowers our share"
            }
            ErrorKind::TimedOut => "check the network and the endpoint; what is cached stays readable",
            ErrorKind::NoSpace => "make room on the cache's disk, or give --cache-dir another one",
            ErrorKind::Damaged => {
                "check the cache's disk; removing the cache folder (unmounted) fetches everything again"
            }
            ErrorKind::Sick => {
                "its files are being made anew, and it can be read again once they are; check the cache's disk if that takes long"
            }
            ErrorKind::TextLost => "nothing is lost; check the cache's disk if this comes again",
            ErrorKind::IndexLost => "open it again; the stream is fetched anew",
            ErrorKind::Replaced => "open it again by its name",
            ErrorKind::Invalid => "see `.cwlogs/README` for what names mean",
            ErrorKind::ReadOnly => "the mount is read-only: copy the file elsewhere to change it",
            ErrorKind::Unsupported => "this log group's class answers only Logs Insights",
            ErrorKind::Interrupted => "run it again",
            ErrorKind::Stopping => "mount again",
            ErrorKind::BadHandle => "open the file again",
            ErrorKind::IsDirectory => "name a file inside it",
            ErrorKind::NotDirectory => "name the folder that holds it",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.subject, self.cause, self.advice())
    }
}

impl std::error::Error for Error {}
