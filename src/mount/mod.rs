//! The kernel's side: the only room that names fuser.
//!
//! Threads: the session's few, which decode and answer what is ready; the notifier, which tells the kernel of sizes, and one that takes its
//! place where it waits; the inotify thread,
//! which lets watchers hear of growth; the one that makes calls on our own mount; the watcher, which looks for inotify
//! watches. What waits, waits in the runtime.

mod adapter;
mod answer;
mod attr;
mod caller;
mod calls;
mod disk;
mod errno;
mod gate;
mod inotify;
mod interrupt;
mod lead;
mod notify;
pub mod options;
mod read_ahead;
pub mod trial;
pub mod unmount;
mod watchers;

use crate::error::{Error, ErrorKind};
use crate::sync::lock;
use crate::tree::Tree;
use adapter::Adapter;
use answer::Answerer;
use calls::Calls;
use disk::Disk;
use fuser::Session;
use gate::Gate;
use inotify::Names;
use notify::{Messenger, Notices};
pub use options::MountOptions;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use unmount::Mounted;

/// How often inotify watches are looked for: every process's descriptors, which on a busy machine are a hundred thousand.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// The same while nothing is followed or watched, and no request comes: a watch on what is here already makes none.
const IDLE_INTERVAL: Duration = Duration::from_secs(30);

/// A mount that answers.
pub struct Mount {
    mounted: Mounted,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    over: Mutex<bool>,
    changed: Condvar,
    stopping: AtomicBool,
}

impl Mount {
    /// Mounts `tree` at `mountpoint`. Ok means that it answers.
    pub fn start(
        tree: Arc<Tree>,
        mountpoint: &Path,
        options: &MountOptions,
        runtime: tokio::runtime::Handle,
    ) -> Result<Mount, Error> {
        let failed = |cause: String| Error::new(ErrorKind::Damaged, mountpoint.to_string_lossy(), cause);
        let (ended_in, ended) = mpsc::sync_channel(1);
        let answerer = Answerer::new(tree.clone(), runtime);
        let disk = Disk::of(tree.cache_dir());
        let adapter = Adapter { tree: tree.clone(), answerer, disk, ended: ended_in };
        let session = Session::new(adapter, mountpoint, &options.to_fuser()?)
            .map_err(|e| failed(format!("can't mount: {e} (`cwlogs-mount --check` looks at FUSE)")))?;
        let mounted = Mounted::at(mountpoint).map_err(|e| failed(format!("the mount table can't be read: {e}")))?;
        let notifier = session.notifier();
        let state = Arc::new(State::default());

        let (notices_in, notices) = mpsc::channel();
        let (events_in, events) = mpsc::channel();
        let gate = Arc::new(Gate::default());
        let names = Arc::new(Names::default());
        let (calls, caller) = Calls::start(mountpoint).map_err(failed)?;
        {
            let (tree, gate, notifier, calls) = (tree.clone(), gate.clone(), notifier.clone(), calls.clone());
            let names = names.clone();
            spawn("inotify", move || inotify::run(&tree, &calls, &gate, &notifier, &events, &names)).map_err(failed)?;
        }
        {
            let notices = Notices::new(tree.clone(), notifier.clone(), gate, notices, events_in);
            let standing = notices.clone();
            spawn("notifier", move || notices.run(0)).map_err(failed)?;
            spawn("notifier-next", move || standing.stand_by()).map_err(failed)?;
        }
        tree.connect(Arc::new(Messenger::new(notifier, notices_in, names)), caller);
        // Last: the first request may come with the first answer.
        spawn("session", move || {
            if let Err(error) = session.run() {
                tracing::error!(%error, "the FUSE session ended");
            }
        })
        .map_err(failed)?;
        {
            let state = state.clone();
            spawn("watcher", move || watch(&tree, calls, &state)).map_err(failed)?;
        }
        {
            let state = state.clone();
            spawn("ended", move || {
                let _ = ended.recv();
                state.end();
            })
            .map_err(failed)?;
        }
        Ok(Mount { mounted, state })
    }

    /// Waits until the mount is gone, by whomever.
    pub fn wait(&self) {
        let over = lock(&self.state.over);
        drop(self.state.changed.wait_while(over, |over| !*over).unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether it stands though its session has ended: every call on it fails.
    pub fn is_dead(&self) -> bool {
        self.mounted.is_dead()
    }

    /// Whether a request that goes through the mount is answered, within some seconds. Where something else is mounted over it, that
    /// can't be asked, and counts as yes.
    pub fn answers(&self) -> bool {
        self.mounted.answers()
    }

    /// Detaches the mount at once, whoever uses it. Open files answer on until they are closed or the process ends. What else is mounted
    /// at its place by now stays.
    pub fn stop(&self) {
        if self.state.stopping.swap(true, Ordering::SeqCst) {
            return;
        }
        if let Err(error) = self.mounted.detach() {
            tracing::warn!(%error, "not unmounted");
        }
    }
}

impl State {
    fn end(&self) {
        *lock(&self.over) = true;
        self.changed.notify_all();
    }
}

fn watch(tree: &Tree, calls: Calls, state: &State) {
    let device = calls.device();
    drop(calls);
    let Ok(device) = device else { return };
    read_ahead::raise(device);
    let (mut looked, mut requests) = (Instant::now(), 0);
    loop {
        let over = lock(&state.over);
        let waited = state.changed.wait_timeout_while(over, WATCH_INTERVAL, |over| !*over);
        if *waited.unwrap_or_else(PoisonError::into_inner).0 {
            return;
        }
        let count = tree.report().requests().counts().map(|(_, count)| count).sum::<u64>();
        let is_idle = count == requests && !tree.is_followed();
        if !is_idle || looked.elapsed() >= IDLE_INTERVAL {
            (looked, requests) = (Instant::now(), count);
            tree.watched(&watchers::watched(device));
        }
        tree.forget_unlooked();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let thread = std::thread::Builder::new().name(name.to_string()).spawn(work);
    thread.map(drop).map_err(|e| format!("no thread: {e}"))
}
