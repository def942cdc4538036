//! `user.cwlogs.*`, found by name and never enumerated: listing them would cost every `ls -l` a call a file.

use super::Tree;
use super::inode::{Ino, Node};
use crate::error::{Error, ErrorKind};
use crate::model::Timestamp;
use std::ffi::OsStr;

impl Tree {
    /// The value of an extended attribute; `Unsupported` for any other name, which makes `ls` ask once a listing, not once a file.
    pub fn xattr(&self, ino: Ino, name: &OsStr) -> Result<Vec<u8>, Error> {
        let unsupported = || Error::new(ErrorKind::Unsupported, "extended attribute", "only user.cwlogs.* is there");
        let key = name.to_str().and_then(|n| n.strip_prefix("user.cwlogs.")).ok_or_else(unsupported)?;
        let value = match self.node(ino)? {
            Node::Group(id, _) => {
                let row = self.group_row(id)?;
                match key {
                    "log_group" => Some(row.group.name),
                    "arn" => Some(row.group.arn),
                    _ => None,
                }
            }
            Node::Stream(id, _) => {
                let row = self.stream_row(id)?;
                let time = |t: Option<Timestamp>| t.map_or_else(String::new, |t| t.to_string());
                let (extent, listed) = (row.extent, &row.stream);
                match key {
                    "log_group" => Some(self.group_row(row.group)?.group.name),
                    "log_stream" => Some(row.stream.name),
                    "arn" => Some(row.stream.arn),
                    "first_event" => Some(time(extent.oldest.into_iter().chain(listed.first_event).min())),
                    "last_event" => Some(time(extent.newest.into_iter().chain(listed.last_event).max())),
                    "cached_bytes" => Some(extent.text_len.to_string()),
                    "settled" => Some(self.fetch.is_settled(&row)?.to_string()),
                    "stale" => self
                        .fetch
                        .stale(id)
                        .map(|stale| format!("since {}, because {}", stale.since, stale.error.cause())),
                    _ => None,
                }
            }
            Node::Root | Node::Control | Node::ControlFile(_) => None,
        };
        value.map(String::into_bytes).ok_or_else(unsupported)
    }
}
