//! Why a transfer failed, before its subject is known; becomes an [`Error`] once it is.

use super::refusal::is_refusal;
use super::service::{store_error, to_error};
use crate::error::{Error, ErrorKind};
use crate::source::{SourceError, SourceErrorKind};
use crate::store::StoreError;

/// What ended a transfer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The service refused, or didn't answer within the retry budget.
    Source(SourceError),
    /// The cache can't be read or written.
    Store(StoreError),
    /// The mount is going away.
    Stopping,
    /// The task that worked on it died: a defect.
    Died,
    /// The service gave nothing but empty pages, and says that more follow.
    Empties,
    /// Already an error about a subject.
    Known(Error),
}

impl Fault {
    /// The error that a reader of `subject` (`group/stream`) meets.
    pub(crate) fn about(self, subject: &str) -> Error {
        match self {
            Fault::Source(e) => to_error(subject, e),
            Fault::Store(e) => store_error(subject, e),
            Fault::Stopping => Error::new(ErrorKind::Stopping, subject, "the mount is going away"),
            Fault::Died => {
                Error::new(ErrorKind::Damaged, subject, "the transfer broke off by a defect of this program")
            }
            Fault::Empties => {
                Error::new(ErrorKind::TimedOut, subject, "the service gives one empty page after the other, and no end")
            }
            Fault::Known(e) => e,
        }
    }

    /// Whether the service says that the stream or its group isn't there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Fault::Source(e) if e.kind == SourceErrorKind::NotFound)
    }

    /// Whether the group refuses the call, whatever is asked.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Fault::Source(e) if is_refusal(e.kind))
    }

    /// Whether it is one stream's, and says nothing about others of its group: its copy fails, no call answers for it, or only with
    /// empty pages.
    pub(crate) fn is_of_one_stream(&self) -> bool {
        matches!(self, Fault::Store(_) | Fault::Empties) || self.is_refusal()
    }

    /// Whether a token was too old.
    pub(crate) fn is_invalid_token(&self) -> bool {
        matches!(self, Fault::Source(e) if e.kind == SourceErrorKind::InvalidToken)
    }
}

impl From<SourceError> for Fault {
    fn from(e: SourceError) -> Fault {
        Fault::Source(e)
    }
}

impl From<StoreError> for Fault {
    fn from(e: StoreError) -> Fault {
        Fault::Store(e)
    }
}

impl From<Error> for Fault {
    fn from(e: Error) -> Fault {
        Fault::Known(e)
    }
}
