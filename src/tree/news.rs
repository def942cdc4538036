//! What the service has new: names for folders that a program watches.

use super::Tree;
use super::inode::{Alias, Ino, Node, Show};
use super::kernel::Notice;
use crate::error::Error;
use crate::fetch::News;
use crate::model::{GroupId, StreamId};
use crate::sync::lock;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::mpsc::Receiver;

impl Tree {
    /// Passes on what the service has new, until the mount stops.
    pub async fn hear(self: Arc<Self>, mut news: Receiver<News>) {
        while let Some(item) = news.recv().await {
            if let Err(error) = self.pass_on(&item) {
                tracing::debug!(%error, "news not passed on");
            }
        }
    }

    fn pass_on(&self, item: &News) -> Result<(), Error> {
        let kernel = self.kernel()?;
        match *item {
            News::NewStream(group, stream) => {
                // That there is a new name makes a difference to programs that wait for inotify alone.
                if !lock(&self.watched).groups.contains_key(&group) {
                    return Ok(());
                }
                let name = self.stream_name(&self.stream_row(stream)?);
                for parent in self.held_folders(group) {
                    kernel.notice(Notice::NewName { parent, name: name.clone() });
                }
            }
            // Folders are made by nobody's mkdir here: a new group shows at the next listing.
            News::NewGroup(_) => {}
            News::Replaced(group, old, _) | News::Gone(group, old) => self.stale_names(group, old)?,
        }
        Ok(())
    }

    fn stale_names(&self, group: GroupId, stream: StreamId) -> Result<(), Error> {
        let kernel = self.kernel()?;
        let listed = self.stream_name(&self.stream_row(stream)?);
        for show in [Show::Log, Show::JsonLines] {
            // What the kernel doesn't know it needn't forget.
            if !self.inodes.is_held(Node::Stream(stream, show).ino()) {
                continue;
            }
            let used = self.place(Node::Stream(stream, show).ino()).map(|(_, name)| name);
            for name in used.into_iter().chain((show == Show::Log).then(|| listed.clone())) {
                for parent in self.held_folders(group) {
                    kernel.notice(Notice::StaleName { parent, name: name.clone() });
                }
            }
        }
        Ok(())
    }

    /// The inodes by which the kernel knows a group's folder.
    fn held_folders(&self, group: GroupId) -> impl Iterator<Item = Ino> {
        let folders = [Node::Group(group, Alias::Listed).ino(), Node::Group(group, Alias::Other).ino()];
        folders.into_iter().filter(|ino| self.inodes.is_held(*ino))
    }

    /// inotify watchers look at exactly these inodes now. Folders among them are kept fresh; files whose size is known are
    /// followed as if they were open.
    pub fn watched(&self, inodes: &HashSet<Ino>) {
        // Following starts tasks, and this comes from a thread of the mount's.
        let _runtime = self.runtime.enter();
        let mut watched = std::mem::take(&mut *lock(&self.watched));
        let mut groups = std::collections::HashMap::new();
        let mut files = std::collections::HashMap::new();
        for ino in inodes {
            match Node::of(*ino) {
                Some(Node::Group(id, _)) => {
                    let watch = watched.groups.remove(&id).unwrap_or_else(|| self.fetch.watch_group(id));
                    groups.insert(id, watch);
                }
                Some(Node::Stream(id, show)) => match watched.files.remove(ino) {
                    Some(held) => drop(files.insert(*ino, held)),
                    None => {
                        if let Some(held) = self.follow_watched(id, show) {
                            files.insert(*ino, held);
                        }
                    }
                },
                _ => {}
            }
        }
        // What no program watches any more is let go of outside the lock.
        drop(watched);
        *lock(&self.watched) = super::Watched { groups, files };
    }

    /// Whether growth of a file, or of a folder, is waited for.
    pub fn is_followed(&self) -> bool {
        let watched = lock(&self.watched);
        !watched.groups.is_empty() || !watched.files.is_empty() || !self.fetch.activity().followed.is_empty()
    }

    fn follow_watched(&self, id: StreamId, show: Show) -> Option<(Arc<super::File>, crate::fetch::Follow)> {
        let row = self.stream_row(id).ok()?;
        if !row.extent.complete || row.gone {
            return None;
        }
        let file = self.file(id, show).ok()?;
        let follow = file.stream().follow();
        Some((file, follow))
    }
}
