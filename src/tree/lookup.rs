//! Names to inodes.

use super::attr::{Attributes, Entry, LONG};
use super::inode::{Alias, Ino, Node, ROOT, Show};
use super::reader::Behaviour;
use super::{Caller, Tree, control};
use crate::error::{Error, ErrorKind};
use crate::model::GroupId;
use crate::sync::lock;
use std::ffi::OsStr;
use std::sync::atomic::Ordering;

impl Tree {
    /// What `name` means in the folder `parent`. Waits for the service at most 5 s, and only for names that could be there.
    pub async fn lookup(&self, parent: Ino, name: &OsStr, caller: &Caller<'_>) -> Result<Entry, Error> {
        if self.is_inotify_thread(caller) && lock(&self.arriving).contains(&(parent, name.to_os_string())) {
            return Err(missing(name));
        }
        let attributes = match self.resolve(parent, name, caller).await {
            Ok(attributes) => attributes,
            Err(error) => {
                if error.kind() == ErrorKind::NotFound
                    && name.to_str().and_then(split).is_some()
                    && caller.behaviour() == Behaviour::MayBeTail
                {
                    self.processes.misses(caller.process(), parent, name);
                }
                return Err(error);
            }
        };
        self.inodes.named(attributes.ino, parent, name);
        Ok(Entry { attributes, ttl: LONG })
    }

    async fn resolve(&self, parent: Ino, name: &OsStr, caller: &Caller<'_>) -> Result<Attributes, Error> {
        let text = name.to_str().ok_or_else(|| missing(name))?;
        match self.node(parent)? {
            Node::Root => self.resolve_group(text, caller).await,
            Node::Group(group, _) => self.resolve_stream(parent, group, text, caller).await,
            Node::Control => {
                let at = control::FILES.iter().position(|file| *file == text).ok_or_else(|| missing(name))?;
                Ok(self.control_attributes(at as u64))
            }
            Node::ControlFile(_) | Node::Stream(..) => {
                Err(Error::new(ErrorKind::NotDirectory, text, "its parent is a file"))
            }
        }
    }

    async fn resolve_group(&self, name: &str, caller: &Caller<'_>) -> Result<Attributes, Error> {
        if name == control::FOLDER {
            return self.folder_attributes(Node::Control);
        }
        // Prompts, editors and git ask for dot files everywhere.
        if name.starts_with(['.', '@']) {
            return Err(missing(name));
        }
        let found = match self.fetch.known_group(name, self.settings.names)? {
            Some(known) => known,
            None => {
                let names = self.settings.names;
                match self.questions.turn(ROOT, caller.user()).await {
                    Some(turn) => turn.answered(self.fetch.find_group(name, names).await)?,
                    None => self.fetch.listed_group(name, names).await?,
                }
            }
        };
        let row = found.ok_or_else(|| missing(name))?;
        let alias = if self.group_name(&row) == name { Alias::Listed } else { Alias::Other };
        Ok(self.group_attributes(&row, alias))
    }

    async fn resolve_stream(
        &self,
        folder: Ino,
        group: GroupId,
        name: &str,
        caller: &Caller<'_>,
    ) -> Result<Attributes, Error> {
        let (base, show) = split(name).ok_or_else(|| missing(name))?;
        let found = match self.fetch.known_stream(group, base, self.settings.names)? {
            Some(known) => known,
            None => {
                let names = self.settings.names;
                match self.questions.turn(folder, caller.user()).await {
                    Some(turn) => turn.answered(self.fetch.find_stream(group, base, names).await)?,
                    None => self.fetch.listed_stream(group, base, names).await?,
                }
            }
        };
        let row = found.ok_or_else(|| missing(name))?;
        if let Some(file) = self.live_file(Node::Stream(row.id, show).ino()) {
            file.told().await;
        }
        Ok(self.asked_alone(self.stream_attributes(&row, show), caller))
    }

    /// The inotify thread's own `mknod`, which makes a new stream's name known to inotify watchers. `None`: another program's, refused.
    pub fn make_known(&self, parent: Ino, name: &OsStr, caller: &Caller<'_>) -> Result<Option<Entry>, Error> {
        if !self.is_inotify_thread(caller) || !lock(&self.arriving).contains(&(parent, name.to_os_string())) {
            return Ok(None);
        }
        let (Node::Group(group, _), Some((base, show))) = (self.node(parent)?, name.to_str().and_then(split)) else {
            return Ok(None);
        };
        let named = self.store.stream_named(group, base, self.settings.names);
        let row = named.map_err(|e| crate::fetch::store_error(base, &e))?.row();
        let row = row.ok_or_else(|| missing(name))?;
        let attributes = self.stream_attributes(&row, show);
        self.inodes.named(attributes.ino, parent, name);
        Ok(Some(Entry { attributes, ttl: LONG }))
    }

    /// The inotify thread's own `utimensat`, whose reply must carry a size that is true at that moment; others' are refused.
    pub fn touch(&self, ino: Ino, caller: &Caller<'_>) -> Result<Attributes, Error> {
        let Node::Stream(id, show) = self.node(ino)? else { return Err(read_only(&self.describe(ino))) };
        if !self.is_inotify_thread(caller) {
            return Err(read_only(&self.describe(ino)));
        }
        Ok(self.stream_attributes(&self.stream_row(id)?, show))
    }

    /// Hides `name` from the inotify thread until it has made it; says whether the kernel may be told at all.
    pub fn expect_name(&self, parent: Ino, name: &OsStr) -> bool {
        (parent == ROOT || self.inodes.is_held(parent)) && lock(&self.arriving).insert((parent, name.to_os_string()))
    }

    /// The inotify thread is done with `name`, whatever came of it.
    pub fn expected(&self, parent: Ino, name: &OsStr) {
        lock(&self.arriving).remove(&(parent, name.to_os_string()));
    }

    pub(crate) fn is_inotify_thread(&self, caller: &Caller<'_>) -> bool {
        caller.thread() != 0 && caller.thread() == self.inotify_thread.load(Ordering::SeqCst)
    }
}

/// A file's name without its ending, and which file it is.
fn split(name: &str) -> Option<(&str, Show)> {
    if name.starts_with('@') {
        return None;
    }
    let (base, show) = match name.strip_suffix(".jsonl") {
        Some(base) => (base, Show::JsonLines),
        None => (name.strip_suffix(".log")?, Show::Log),
    };
    (!base.is_empty()).then_some((base, show))
}

pub(crate) fn missing(name: impl AsRef<OsStr>) -> Error {
    Error::new(ErrorKind::NotFound, name.as_ref().to_string_lossy(), "no such log group or stream")
}

pub(crate) fn read_only(subject: &str) -> Error {
    Error::new(ErrorKind::ReadOnly, subject, "logs can't be changed here")
}

#[cfg(test)]
mod tests;
