//! What the mount says of a file or folder, without the kernel's own types.

use super::inode::Ino;
use crate::model::Timestamp;
use std::time::Duration;

/// How long the kernel may believe what only we change: we tell it of each change ourselves.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// The same of the attributes of a file that may grow soon, where they were asked for alone: who asks again and again is known by it.
pub(crate) const SHORT: Duration = Duration::from_secs(5);

/// Attributes of a file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Inode number.
    pub ino: Ino,
    /// Bytes.
    pub size: u64,
    /// A folder.
    pub directory: bool,
    /// Permission bits.
    pub mode: u16,
    /// Last event's time, or a listing's last change.
    pub modified: Timestamp,
    /// When the group or stream was made.
    pub created: Timestamp,
    /// How long the kernel may believe this.
    pub ttl: Duration,
}

/// A name's answer.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it names.
    pub attributes: Attributes,
    /// How long the kernel may believe that the name means this.
    pub ttl: Duration,
}

/// One entry of a folder.
#[derive(Clone, Debug)]
pub struct DirEntry {
    /// Its name.
    pub name: std::ffi::OsString,
    /// Where to go on after it.
    pub cookie: u64,
    /// What it is.
    pub attributes: Attributes,
}

/// How a file was opened.
#[derive(Clone)]
pub struct Opened {
    /// The handle.
    pub handle: u64,
    /// Reads bypass the page cache.
    pub direct: bool,
    /// The handle can't seek.
    pub unseekable: bool,
    /// The kernel may read this by itself.
    pub text: Option<std::sync::Arc<super::passthrough::Text>>,
}
