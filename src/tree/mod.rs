//! The virtual tree: names, attributes, handles, and what each program must see of a file whose length isn't known yet.
//!
//! No kernel types, no AWS and no file I/O of its own: the mount decodes a request, asks here, and encodes the answer. Methods
//! that may have to wait are `async`; what is cached and fresh is ready at the first poll.

mod asks;
mod attr;
mod caller;
mod control;
mod dir;
mod file;
mod growth_notifier;
mod handles;
mod inode;
mod kernel;
mod looked_at;
mod lookup;
mod maker;
mod making;
mod news;
mod open;
mod passthrough;
mod processes;
mod questions;
mod reader;
mod stat;
mod tail_args;
mod walks;
mod xattr;

pub use attr::{Attributes, DirEntry, Entry, Opened};
pub use caller::{Caller, Lookup, SystemCall};
pub use dir::OpenedDir;
pub use file::File;
pub use inode::Ino;
pub use kernel::{Content, Kernel, Notice, Pages};
pub use reader::Process;
pub use tail_args::CommandLine;

pub use crate::store::names::Names;
#[cfg(any(fuzzing, test))]
pub(crate) use tail_args::tail_request as tail_asks;

use crate::error::{Error, ErrorKind};
use crate::fetch::{Fetch, GroupWatch};
use crate::model::{GroupId, StreamId, Timestamp};
use crate::render::Format;
use crate::report::Report;
use crate::store::Store;
use crate::store::row::StreamRow;
use crate::sync::lock;
use growth_notifier::{DelayedStarts, Grows};
use handles::{Handle, Handles};
use inode::{Inodes, Node, Place, Show};
use looked_at::LookedAt;
use processes::Processes;
use questions::Questions;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::SystemTime;

/// What the user set about how the tree looks.
#[derive(Clone, Debug)]
pub struct TreeSettings {
    /// How listings name things.
    pub names: Names,
    /// What `.log` files show of each event.
    pub format: Format,
    /// Owner shown.
    pub uid: u32,
    /// Group shown.
    pub gid: u32,
    /// Permission bits of folders.
    pub dir_mode: u16,
    /// Permission bits of files.
    pub file_mode: u16,
    /// How often one file's growth is told to inotify watchers at most.
    pub inotify_interval: std::time::Duration,
}

/// The tree.
pub struct Tree {
    fetch: Arc<Fetch>,
    store: Arc<Store>,
    report: Arc<Report>,
    settings: TreeSettings,
    runtime: tokio::runtime::Handle,
    kernel: OnceLock<Arc<dyn Kernel>>,
    inodes: Arc<Inodes>,
    files: Mutex<HashMap<Ino, Weak<File>>>,
    delayed_starts: Arc<DelayedStarts<File>>,
    handles: Handles,
    processes: Processes,
    /// The thread that makes calls on our own mount; 0 before there is one.
    inotify_thread: AtomicU32,
    /// Names that the inotify thread is about to make known: hidden from it until it has made them.
    arriving: Mutex<HashSet<(Ino, OsString)>>,
    watched: Mutex<Watched>,
    questions: Questions,
    looked_at: Mutex<LookedAt>,
    /// From what the kernel's copies of folders were made.
    copies: Mutex<HashMap<Ino, dir::Copied>>,
    /// How often the selection has changed.
    reselected: AtomicU64,
    /// The kernel can read texts by itself.
    passes_through: AtomicBool,
    control: control::Snapshots,
    started: Timestamp,
}

/// What inotify watchers look at without having it open.
#[derive(Default)]
struct Watched {
    groups: HashMap<GroupId, GroupWatch>,
    files: HashMap<Ino, (Arc<File>, crate::fetch::Follow)>,
}

impl Tree {
    /// The tree over these rooms. Must be called inside the runtime that its waits are to run on.
    pub fn new(fetch: Arc<Fetch>, store: Arc<Store>, report: Arc<Report>, settings: TreeSettings) -> Arc<Tree> {
        Arc::new(Tree {
            fetch,
            store,
            report,
            settings,
            runtime: tokio::runtime::Handle::current(),
            kernel: OnceLock::new(),
            inodes: Arc::default(),
            files: Mutex::default(),
            delayed_starts: Arc::default(),
            handles: Handles::default(),
            processes: Processes::default(),
            inotify_thread: AtomicU32::new(0),
            arriving: Mutex::default(),
            watched: Mutex::default(),
            questions: Questions::default(),
            looked_at: Mutex::default(),
            copies: Mutex::default(),
            reselected: AtomicU64::new(0),
            passes_through: AtomicBool::new(false),
            control: control::Snapshots::default(),
            started: Timestamp::from_system_time(SystemTime::now()),
        })
    }

    /// What was set.
    pub fn settings(&self) -> &TreeSettings {
        &self.settings
    }

    /// The registry that errors are told to.
    pub fn report(&self) -> &Arc<Report> {
        &self.report
    }

    /// The folder whose disk `df` is told of.
    pub fn cache_dir(&self) -> &std::path::Path {
        self.store.dir()
    }

    /// Connects the kernel's side, once the mount is there.
    pub fn connect(&self, kernel: Arc<dyn Kernel>, inotify_thread: u32) {
        self.inotify_thread.store(inotify_thread, Ordering::SeqCst);
        // A second connection would be a second mount of one tree, which nothing makes.
        let _ = self.kernel.set(kernel);
    }

    /// The kernel can read texts by itself, and is to be told of those that it may.
    pub fn pass_texts_through(&self) {
        self.passes_through.store(true, Ordering::Relaxed);
    }

    fn kernel(&self) -> Result<&Arc<dyn Kernel>, Error> {
        self.kernel.get().ok_or_else(|| Error::new(ErrorKind::Stopping, "mount", "the mount is not ready"))
    }

    fn node(&self, ino: Ino) -> Result<Node, Error> {
        Node::of(ino).ok_or_else(|| Error::new(ErrorKind::NotFound, "inode", "no such inode was given"))
    }

    /// A request about `ino` waits: our own calls keep away from it.
    pub fn ask(&self, ino: Ino) {
        self.inodes.ask(ino);
    }

    /// It was answered.
    pub fn answered(&self, ino: Ino) {
        self.inodes.answered(ino);
    }

    /// Nothing about `ino` waits.
    pub fn is_quiet(&self, ino: Ino) -> bool {
        self.inodes.is_quiet(ino)
    }

    /// The names that lead to `ino` from the mount point, as the kernel last used them; `None` if it doesn't know it.
    pub fn path(&self, ino: Ino) -> Option<std::path::PathBuf> {
        let mut names = Vec::new();
        let mut at = ino;
        while at != inode::ROOT {
            let (parent, name) = self.place(at)?;
            names.push(name);
            at = parent;
        }
        Some(names.iter().rev().collect())
    }

    /// The folder and the name by which the kernel reaches `ino`.
    fn place(&self, ino: Ino) -> Option<(Ino, OsString)> {
        match (self.inodes.place(ino)?, Node::of(ino)?) {
            (Place::Named(place), _) => Some(*place),
            (Place::Listed(alias), Node::Stream(id, _)) => {
                let row = self.stream_row(id).ok()?;
                Some((Node::Group(row.group, alias).ino(), self.stream_name(&row)))
            }
            (Place::Listed(_) | Place::Unknown, _) => None,
        }
    }

    /// What to call `ino` in a sentence.
    pub fn describe(&self, ino: Ino) -> String {
        self.path(ino).map_or_else(|| format!("inode {}", ino.0), |p| p.to_string_lossy().into_owned())
    }

    /// The kernel has let go of the inode.
    pub fn forget(&self, ino: Ino) {
        self.inodes.forget(ino);
    }

    fn format(&self, show: Show) -> Format {
        match show {
            Show::Log => self.settings.format.clone(),
            Show::JsonLines => Format::JsonLines,
        }
    }

    fn stream_row(&self, id: StreamId) -> Result<StreamRow, Error> {
        let row = self.store.stream(id).map_err(|e| crate::fetch::store_error("catalogue", &e))?;
        row.ok_or_else(|| Error::new(ErrorKind::NotFound, "log stream", "it is gone"))
    }

    /// The file of `ino` if it is open.
    fn live_file(&self, ino: Ino) -> Option<Arc<File>> {
        lock(&self.files).get(&ino).and_then(Weak::upgrade)
    }

    /// The file of `ino`, opened if it isn't; of another format than the stored one it begins to be made.
    fn file(&self, id: StreamId, show: Show) -> Result<Arc<File>, Error> {
        let ino = Node::Stream(id, show).ino();
        if let Some(file) = self.live_file(ino) {
            return Ok(file);
        }
        let row = self.stream_row(id)?;
        let group = self.group_row(row.group)?;
        let label = format!("{}/{}", group.group.name, row.stream.name);
        let stream = self.fetch.stream(id)?;
        let reader = self.store.reader(id, &self.format(show)).map_err(|e| crate::fetch::store_error(&label, &e))?;
        let kernel = self.kernel()?.clone();
        let mut files = lock(&self.files);
        if let Some(file) = files.get(&ino).and_then(Weak::upgrade) {
            return Ok(file);
        }
        if files.len() > 1024 && files.len().is_power_of_two() {
            files.retain(|_, file| file.strong_count() > 0);
        }
        let (store, inodes, runtime) = (self.store.clone(), self.inodes.clone(), self.runtime.clone());
        let file = File::open(ino, label, stream, reader, file::Context { store, inodes, kernel, runtime });
        files.insert(ino, Arc::downgrade(&file));
        drop(files);
        file.start_making();
        if file.announced().1 && !file.is_due() {
            self.delayed_starts.add(&file, &self.runtime);
        } else {
            file.start_notifier();
        }
        Ok(file)
    }
}
