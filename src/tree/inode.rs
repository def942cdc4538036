//! Inode numbers, what the kernel was told of each, and how many requests of it are unanswered.
//!
//! A number is the catalogue's row id with four bits of kind beneath, so it means the same for ever and needs no lookup counts.
//! Below 16 live the root and `.cwlogs/`. A group reached by its exact name is an inode of its own (two names on one directory
//! inode move the dentry under people's feet), and each format of a stream is one.

use crate::model::{GroupId, StreamId};
use crate::sync::lock;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::Mutex;

/// An inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

/// The mount's root.
pub(crate) const ROOT: Ino = Ino(1);

/// What an inode number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    /// The folder of groups.
    Root,
    /// `.cwlogs`.
    Control,
    /// A file in `.cwlogs`, by its place in the control table.
    ControlFile(u64),
    /// A log group, by its slug or by its exact name.
    Group(GroupId, Alias),
    /// A log stream in one format.
    Stream(StreamId, Show),
}

/// By which kind of name a group was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Alias {
    /// The name that listings show.
    Listed,
    /// Another name.
    Other,
}

/// Which of a stream's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Show {
    /// `.log`, in the format that `--format` chose.
    Log,
    /// `.jsonl`.
    JsonLines,
}

/// Bits of a number beneath the row's id.
const KIND_BITS: u32 = 4;

impl Node {
    pub(crate) fn ino(self) -> Ino {
        Ino(match self {
            Node::Root => 1,
            Node::Control => 2,
            Node::ControlFile(at) => 3 + at,
            Node::Group(id, Alias::Listed) => id.0 << KIND_BITS,
            Node::Group(id, Alias::Other) => id.0 << KIND_BITS | 1,
            Node::Stream(id, Show::Log) => id.0 << KIND_BITS | 2,
            Node::Stream(id, Show::JsonLines) => id.0 << KIND_BITS | 3,
        })
    }

    pub(crate) fn of(ino: Ino) -> Option<Node> {
        let id = ino.0 >> KIND_BITS;
        Some(match (id, ino.0 & 15) {
            (0, 1) => Node::Root,
            (0, 2) => Node::Control,
            (0, at @ 3..) => Node::ControlFile(at - 3),
            (0, _) => return None,
            (_, 0) => Node::Group(GroupId(id), Alias::Listed),
            (_, 1) => Node::Group(GroupId(id), Alias::Other),
            (_, 2) => Node::Stream(StreamId(id), Show::Log),
            (_, 3) => Node::Stream(StreamId(id), Show::JsonLines),
            _ => return None,
        })
    }
}

/// By which folder and name the kernel reaches an inode. There may be millions, so what the catalogue knows isn't kept here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// By none that is known.
    #[default]
    Unknown,
    /// A stream, by the name that listings show, in its group's folder of that kind.
    Listed(Alias),
    /// By this name in this folder.
    Named(Box<(Ino, OsString)>),
}

/// What the kernel holds of an inode.
#[derive(Clone, Debug, Default)]
struct Held {
    told_size: Told,
    place: Place,
}

/// A size that the kernel was told, if it was. One word: no file is as long as the greatest number.
#[derive(Clone, Copy, Debug)]
struct Told(u64);

impl Default for Told {
    fn default() -> Told {
        Told(u64::MAX)
    }
}

impl Told {
    fn size(self) -> Option<u64> {
        (self.0 != u64::MAX).then_some(self.0)
    }
}

/// What the kernel was told, for as long as it remembers.
#[derive(Debug, Default)]
pub(crate) struct Inodes {
    held: Mutex<HashMap<Ino, Held>>,
    unanswered: Mutex<HashMap<Ino, u32>>,
}

impl Inodes {
    /// A reply tells the kernel this (known) size. Of two at the same time the larger one is the newer: files only grow.
    pub(crate) fn told(&self, ino: Ino, size: u64) {
        let mut held = lock(&self.held);
        let told = &mut held.entry(ino).or_default().told_size;
        *told = Told(told.size().map_or(size, |before| before.max(size)));
    }

    /// The last known size that the kernel was told.
    pub(crate) fn told_size(&self, ino: Ino) -> Option<u64> {
        lock(&self.held).get(&ino)?.told_size.size()
    }

    /// The kernel reaches `ino` by this name.
    pub(crate) fn named(&self, ino: Ino, parent: Ino, name: &OsStr) {
        let mut held = lock(&self.held);
        let place = &mut held.entry(ino).or_default().place;
        if !matches!(place, Place::Named(named) if named.0 == parent && named.1 == name) {
            *place = Place::Named(Box::new((parent, name.to_os_string())));
        }
    }

    /// The kernel reaches a stream by the name that listings show, in its group's folder `parent`.
    pub(crate) fn listed(&self, ino: Ino, parent: Ino) {
        if let Some(Node::Group(_, alias)) = Node::of(parent) {
            lock(&self.held).entry(ino).or_default().place = Place::Listed(alias);
        }
    }

    /// By what the kernel reaches `ino`; `None` if it doesn't know it.
    pub(crate) fn place(&self, ino: Ino) -> Option<Place> {
        Some(lock(&self.held).get(&ino)?.place.clone())
    }

    /// The kernel has, or had a moment ago, a name for `ino`.
    pub(crate) fn is_held(&self, ino: Ino) -> bool {
        lock(&self.held).contains_key(&ino)
    }

    /// The kernel has let go of the inode.
    pub(crate) fn forget(&self, ino: Ino) {
        lock(&self.held).remove(&ino);
    }

    /// A request about `ino` has come.
    pub(crate) fn ask(&self, ino: Ino) {
        *lock(&self.unanswered).entry(ino).or_default() += 1;
    }

    /// It was answered.
    pub(crate) fn answered(&self, ino: Ino) {
        let mut unanswered = lock(&self.unanswered);
        if let Some(count) = unanswered.get_mut(&ino) {
            *count -= 1;
            if *count == 0 {
                unanswered.remove(&ino);
            }
        }
    }

    /// No request about `ino` waits.
    pub(crate) fn is_quiet(&self, ino: Ino) -> bool {
        !lock(&self.unanswered).contains_key(&ino)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_a_number_of_its_own() {
        let nodes = [
            Node::Root,
            Node::Control,
            Node::ControlFile(0),
            Node::ControlFile(5),
            Node::Group(GroupId(1), Alias::Listed),
            Node::Group(GroupId(1), Alias::Other),
            Node::Stream(StreamId(2), Show::Log),
            Node::Stream(StreamId(2), Show::JsonLines),
        ];
        let mut seen = std::collections::HashSet::new();
        for node in nodes {
            assert!(seen.insert(node.ino()));
            assert_eq!(Node::of(node.ino()), Some(node));
        }
        assert_eq!(Node::of(Ino(0)), None);
        assert_eq!(Node::of(Ino(1 << 4 | 9)), None);
    }

    #[test]
    fn the_last_name_used_counts() {
        let inodes = Inodes::default();
        let group = Node::Group(GroupId(1), Alias::Other).ino();
        let file = Node::Stream(StreamId(2), Show::Log).ino();
        assert_eq!(inodes.place(file), None);
        inodes.named(file, group, OsStr::new("s.log"));
        assert_eq!(inodes.place(file), Some(Place::Named(Box::new((group, "s.log".into())))));
        inodes.listed(file, group);
        assert_eq!(inodes.place(file), Some(Place::Listed(Alias::Other)));
        inodes.told(file, 7);
        assert_eq!(inodes.told_size(file), Some(7));
        inodes.forget(file);
        assert_eq!((inodes.place(file), inodes.told_size(file)), (None, None));
    }

    #[test]
    fn a_million_inodes_take_little() {
        assert!(size_of::<(Ino, Held)>() <= 32);
    }
}
