//! Folders: cookies are the rows' sequence numbers, so a listing holds nothing and may go on for ever.

use super::attr::{Attributes, DirEntry, LONG};
use super::handles::Handle;
use super::inode::{Alias, Ino, Node, Show};
use super::{Names, Tree, control};
use crate::error::{Error, ErrorKind};
use crate::fetch::GroupWatch;
use crate::model::GroupId;
use crate::store::names;
use crate::store::row::{GroupRow, StreamRow};
use std::ffi::OsString;
use std::sync::Arc;

/// An open folder.
pub(crate) struct DirHandle {
    node: Node,
    /// Keeps the newest page fresh while somebody has the folder open.
    _watch: Option<GroupWatch>,
}

/// Rows read from the catalogue for one reply: a reply holds a few dozen entries.
const BATCH: usize = 64;
/// Cookies of `.` and `..`; the rows' come after.
const DOTS: u64 = 2;

impl Tree {
    /// Opens a folder, which brings its listing up to date in the background.
    pub fn open_dir(self: &Arc<Self>, ino: Ino) -> Result<u64, Error> {
        let node = self.node(ino)?;
        let group = match node {
            Node::Root | Node::Control => None,
            Node::Group(id, _) => Some(id),
            Node::ControlFile(_) | Node::Stream(..) => {
                return Err(Error::new(ErrorKind::NotDirectory, "", "it is a file"));
            }
        };
        if node != Node::Control {
            self.fetch.touch_listing(group);
        }
        let _watch = group.map(|id| self.fetch.watch_group(id));
        Ok(self.handles.add(Handle::Dir(DirHandle { node, _watch })))
    }

    /// Entries after `cookie`; empty at the end. Waits only while the first listing is under way and nothing is there to show.
    pub async fn read_dir(&self, handle: u64, cookie: u64) -> Result<Vec<DirEntry>, Error> {
        let handle = self.handles.get(handle);
        let Some(Handle::Dir(dir)) = handle.as_deref() else {
            return Err(Error::new(ErrorKind::BadHandle, "", "no such folder handle"));
        };
        let mut entries = Vec::new();
        if cookie < DOTS {
            let (own, parent) = (self.folder_attributes(dir.node)?, self.folder_attributes(Node::Root)?);
            let dots = [(".", own), ("..", parent)];
            for (at, (name, attributes)) in dots.into_iter().enumerate().skip(cookie as usize) {
                entries.push(DirEntry { name: name.into(), cookie: at as u64 + 1, attributes });
            }
            // `.` and `..` go out at once where the rows would have to be waited for.
            if dir.node == Node::Control {
                entries.extend(self.control_entries(0));
            }
            return Ok(entries);
        }
        let after = cookie - DOTS;
        match dir.node {
            Node::Root => {
                for row in self.fetch.groups_after(after, BATCH).await? {
                    entries.push(self.group_entry(&row));
                }
            }
            Node::Group(id, _) => {
                for row in self.fetch.streams_after(id, after, BATCH).await? {
                    entries.push(self.stream_entry(&row)?);
                }
            }
            Node::Control => entries.extend(self.control_entries(after)),
            Node::ControlFile(_) | Node::Stream(..) => {}
        }
        Ok(entries)
    }

    fn control_entries(&self, after: u64) -> Vec<DirEntry> {
        let files = control::FILES.iter().enumerate().skip(after as usize);
        let entry = |(at, name): (usize, &&str)| DirEntry {
            name: (*name).into(),
            cookie: at as u64 + 1 + DOTS,
            attributes: self.control_attributes(at as u64),
        };
        files.map(entry).collect()
    }

    fn group_entry(&self, row: &GroupRow) -> DirEntry {
        DirEntry {
            name: self.group_name(row),
            cookie: row.seq + DOTS,
            attributes: self.group_attributes(row, Alias::Listed),
        }
    }

    fn stream_entry(&self, row: &StreamRow) -> Result<DirEntry, Error> {
        Ok(DirEntry {
            name: self.stream_name(row),
            cookie: row.seq + DOTS,
            attributes: self.stream_attributes(row, Show::Log),
        })
    }

    /// The name that listings show.
    pub(crate) fn group_name(&self, row: &GroupRow) -> OsString {
        match self.settings.names {
            Names::Slug => row.slug.clone(),
            Names::Exact => exact_or(&row.group.name, "", &row.slug),
        }
        .into()
    }

    /// The name that listings show, `.log` included.
    pub(crate) fn stream_name(&self, row: &StreamRow) -> OsString {
        let base = match self.settings.names {
            Names::Slug => row.slug.clone(),
            Names::Exact => exact_or(&row.stream.name, ".log", &row.slug),
        };
        format!("{base}.log").into()
    }

    /// Attributes of a folder that is there for certain.
    pub(crate) fn folder_attributes(&self, node: Node) -> Result<Attributes, Error> {
        match node {
            Node::Group(id, alias) => {
                let row = self.group_row(id)?;
                Ok(self.group_attributes(&row, alias))
            }
            _ => Ok(Attributes {
                ino: node.ino(),
                size: 0,
                directory: true,
                mode: self.settings.dir_mode,
                modified: self.started,
                created: self.started,
                ttl: LONG,
            }),
        }
    }

    pub(crate) fn group_attributes(&self, row: &GroupRow, alias: Alias) -> Attributes {
        Attributes {
            ino: Node::Group(row.id, alias).ino(),
            size: 0,
            directory: true,
            mode: self.settings.dir_mode,
            modified: row.walked_at.unwrap_or(row.group.created),
            created: row.group.created,
            ttl: LONG,
        }
    }

    pub(crate) fn group_row(&self, id: GroupId) -> Result<GroupRow, Error> {
        let row = self.store.group(id).map_err(|e| crate::fetch::store_error("catalogue", &e))?;
        row.ok_or_else(|| Error::new(ErrorKind::NotFound, "log group", "it is gone"))
    }

    /// The kernel was given this entry, and knows its inode by this name.
    pub fn listed(&self, folder: Ino, entry: &DirEntry) {
        if entry.name != "." && entry.name != ".." {
            self.inodes.named(entry.attributes.ino, folder, &entry.name);
        }
    }
}

/// The percent-encoded exact name, or where that is too long, the slug.
fn exact_or(name: &str, suffix: &str, slug: &str) -> String {
    let exact = names::exact_encode(name);
    if exact.len() + suffix.len() <= 255 { exact } else { slug.to_string() }
}
