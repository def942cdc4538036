//! The contract's errno table, in one place.

use crate::error::ErrorKind;
use fuser::Errno;

/// The errno of each kind of error.
pub(super) fn errno(kind: ErrorKind) -> Errno {
    match kind {
        ErrorKind::NotFound => Errno::ENOENT,
        ErrorKind::Denied => Errno::EACCES,
        ErrorKind::StaleSize | ErrorKind::IndexLost | ErrorKind::Replaced => Errno::from_i32(libc::ESTALE),
        ErrorKind::Unavailable => Errno::EAGAIN,
        ErrorKind::TimedOut => Errno::from_i32(libc::ETIMEDOUT),
        ErrorKind::NoSpace => Errno::ENOSPC,
        ErrorKind::Damaged | ErrorKind::Sick | ErrorKind::TextLost | ErrorKind::Stopping => Errno::EIO,
        ErrorKind::Invalid => Errno::EINVAL,
        ErrorKind::ReadOnly => Errno::EROFS,
        ErrorKind::Unsupported => Errno::EOPNOTSUPP,
        ErrorKind::Interrupted => Errno::EINTR,
        ErrorKind::BadHandle => Errno::EBADF,
        ErrorKind::IsDirectory => Errno::EISDIR,
        ErrorKind::NotDirectory => Errno::ENOTDIR,
    }
}
