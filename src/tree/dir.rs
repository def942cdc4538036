//! Folders: cookies are the rows' sequence numbers, so a listing holds nothing and may go on for ever.

use super::asks::FEW;
use super::attr::{Attributes, DirEntry, LONG, SHORT};
use super::caller::Caller;
use super::handles::{DirHandle, Handle};
use super::inode::{Alias, Ino, Node, Show};
use super::{Tree, control};
use crate::error::{Error, ErrorKind};
use crate::model::GroupId;
use crate::store::names::listed;
use crate::store::row::{GroupRow, StreamRow};
use crate::sync::lock;
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How a folder was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedDir {
    /// The handle.
    pub handle: u64,
    /// The kernel may keep the names that it is given ...
    pub keeps: bool,
    /// ... and those that it has are still right.
    pub kept: bool,
}

/// What the kernel's copy of a folder's names was made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copied {
    version: u64,
    at: Instant,
}

/// Rows read from the catalogue for a first reply.
const BATCH: usize = 64;
/// Rows read for one reply at most.
const MOST: usize = 1024;
/// Rows read beyond those that the last reply had room for: names differ in length.
const SPARE: usize = 8;
/// How long the kernel's copy of a folder is used: past the time to live of the attributes that came with it, each file would be
/// asked for by itself. Less than that, since a listing goes on after it was begun.
const COPY_TTL: Duration = Duration::from_secs(45);
/// How long an open waits for a listing under way before the copy counts as old.
const REFRESH_WAIT: Duration = Duration::from_secs(3);
/// Cookies of `.` and `..`; the rows' come after.
const DOTS: u64 = 2;

impl Tree {
    /// Opens a folder, which brings its listing up to date in the background. Where the kernel has its names, waits as the end of a
    /// listing does: only then is it known whether they are still all.
    pub async fn open_dir(self: &Arc<Self>, ino: Ino, caller: &Caller<'_>) -> Result<OpenedDir, Error> {
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
        if let Some(group) = group
            && caller.searches()
        {
            self.fetch.searched(group);
        }
        let keeps = node != Node::Control;
        let kept = keeps && self.copy_is_right(ino, group).await;
        if keeps && !kept {
            // Taken before any row is read: what changes from here on makes another version.
            let copied = Copied { version: self.listing_version(group), at: Instant::now() };
            lock(&self.copies).insert(ino, copied);
        }
        let _watch = group.map(|id| self.fetch.watch_group(id));
        let batch = AtomicUsize::new(BATCH);
        let handle = self.handles.add(Handle::Dir(DirHandle { node, batch, _watch }));
        Ok(OpenedDir { handle, keeps, kept })
    }

    /// Whether the names that the kernel has of a folder are those that a listing would show now.
    async fn copy_is_right(&self, ino: Ino, group: Option<GroupId>) -> bool {
        let is_right = || {
            let copied = lock(&self.copies).get(&ino).copied();
            copied.is_some_and(|c| c.version == self.listing_version(group) && c.at.elapsed() < COPY_TTL)
        };
        if !is_right() {
            return false;
        }
        // Behind every row: ends when a listing would.
        let end = async {
            match group {
                Some(id) => self.fetch.streams_after(id, u64::MAX - 1, 1).await.is_ok(),
                None => self.fetch.groups_after(u64::MAX - 1, 1).await.is_ok(),
            }
        };
        tokio::time::timeout(REFRESH_WAIT, end).await.unwrap_or(false) && is_right()
    }

    fn listing_version(&self, group: Option<GroupId>) -> u64 {
        // Either only grows, so the sum is another one when one of them is.
        self.store.listing_version(group) + self.reselected.load(Ordering::SeqCst)
    }

    /// The settings say anew what listings show.
    pub fn selection_changed(&self) {
        self.reselected.fetch_add(1, Ordering::SeqCst);
    }

    /// A reply to a handle's reading had room for `taken` of the entries that were read.
    pub fn took(&self, handle: u64, taken: usize, of: usize) {
        if let Some(Handle::Dir(dir)) = self.handles.get(handle).as_deref() {
            let batch = if taken < of { taken + SPARE } else { (2 * of).clamp(BATCH, MOST) };
            dir.batch.store(batch, Ordering::Relaxed);
        }
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
        let batch = dir.batch.load(Ordering::Relaxed);
        match dir.node {
            Node::Root => {
                for row in self.fetch.groups_after(after, batch).await? {
                    entries.push(self.group_entry(&row));
                }
            }
            Node::Group(id, _) => {
                let rows = self.fetch.streams_after(id, after, batch).await?;
                // Who scans a small folder looks for growth.
                let few = after == 0 && rows.len() <= FEW;
                for row in rows {
                    entries.push(self.stream_entry(&row, few)?);
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

    fn stream_entry(&self, row: &StreamRow, few: bool) -> Result<DirEntry, Error> {
        let mut attributes = self.stream_attributes(row, Show::Log);
        if !few && attributes.ttl == SHORT && !self.is_asked_for(attributes.ino) {
            attributes.ttl = LONG;
        }
        Ok(DirEntry { name: self.stream_name(row), cookie: row.seq + DOTS, attributes })
    }

    /// The name that listings show.
    pub(crate) fn group_name(&self, row: &GroupRow) -> OsString {
        listed(self.settings.names, &row.group.name, &row.slug, "").into()
    }

    /// The name that listings show, `.log` included.
    pub(crate) fn stream_name(&self, row: &StreamRow) -> OsString {
        listed(self.settings.names, &row.stream.name, &row.slug, ".log").into()
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
        if entry.name == "." || entry.name == ".." {
            return;
        }
        match Node::of(entry.attributes.ino) {
            Some(Node::Stream(..)) => self.inodes.listed(entry.attributes.ino, folder),
            _ => self.inodes.named(entry.attributes.ino, folder, &entry.name),
        }
    }
}
