//! Failures of the disk as [`StoreError`]s: a full disk is told apart from everything else.

use super::{StoreError, StoreErrorKind};
use crate::model::StreamId;
use std::io;
use std::path::Path;

impl StoreError {
    /// An error of `kind`, told in `message`.
    pub(crate) fn new(kind: StoreErrorKind, message: impl Into<String>) -> StoreError {
        StoreError { kind, message: message.into() }
    }

    /// A failed call on a file: `what` it was doing (`write`, `open`).
    pub(crate) fn io(what: &str, path: &Path, error: &io::Error) -> StoreError {
        StoreError::new(kind_of(error), format!("can't {what} {}: {error}", path.display()))
    }

    /// A file that isn't what was written.
    pub(crate) fn damaged(path: &Path, what: &str) -> StoreError {
        StoreError::new(StoreErrorKind::Damaged, format!("{} is damaged: {what}", path.display()))
    }

    /// Text that isn't what its index says, or isn't there.
    pub(crate) fn text_lost(id: StreamId, path: &Path, what: &str) -> StoreError {
        StoreError::new(StoreErrorKind::TextLost(id), format!("{}: {what}", path.display()))
    }

    /// A failure on the files of one stream, which takes nothing more for now. A full disk isn't: that is no defect.
    pub(crate) fn of_stream(self, id: StreamId) -> StoreError {
        match self.kind {
            StoreErrorKind::Damaged => StoreError { kind: StoreErrorKind::Sick(id), ..self },
            _ => self,
        }
    }

    /// An index that can't be read.
    pub(crate) fn index_lost(id: StreamId, path: &Path, what: &str) -> StoreError {
        StoreError::new(StoreErrorKind::IndexLost(id), format!("{} is damaged: {what}", path.display()))
    }
}

/// A file that isn't there, or ends too early.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
}

/// A full disk or quota is something that a person can cure, and a process that has no descriptor or memory left has them again soon; the
/// rest is damage.
pub(crate) fn kind_of(error: &io::Error) -> StoreErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreErrorKind::NoSpace,
        io::ErrorKind::OutOfMemory => StoreErrorKind::Exhausted,
        _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => StoreErrorKind::Exhausted,
        _ => StoreErrorKind::Damaged,
    }
}
