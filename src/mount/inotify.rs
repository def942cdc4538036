//! The thread that lets inotify watchers hear of growth and of new names: a change that the daemon makes known by
//! notifications raises no event, a system call through the mount does (see `calls`).

use super::calls::Calls;
use super::gate::Gate;
use crate::tree::{Ino, Tree};
use fuser::{INodeNo, Notifier};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Something that watchers must hear of.
pub(super) enum InotifyEvent {
    /// A file has grown.
    Grown(Ino),
    /// A folder has a new file.
    Made(Ino, OsString),
}

/// New names that watchers are yet to hear of. The other notices are bounded by what the kernel holds: one a file that is open, and stale
/// names of files that it knows.
#[derive(Default)]
pub(super) struct Names(AtomicUsize);

/// How many there may be. A folder that gets more at once is a folder that its watchers must list anyway.
const MOST_NAMES: usize = 10_000;

impl Names {
    pub(super) fn add(&self) -> bool {
        let has_room = |count: usize| (count < MOST_NAMES).then_some(count + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, has_room).is_ok()
    }

    /// One has been told, or given up.
    pub(super) fn is_over(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How soon a call that found its inode busy is tried again.
const RETRY: Duration = Duration::from_millis(10);
/// How often a name that somebody else's lookup has made known meanwhile is forgotten and made again.
const REMAKES: u32 = 5;
/// For how long a new name is tried.
const GIVE_UP: Duration = Duration::from_secs(30);

struct Made {
    parent: Ino,
    name: OsString,
    since: Instant,
}

/// Has the calls made until the mount is gone.
pub(super) fn run(
    tree: &Tree,
    mount: &Calls,
    gate: &Gate,
    notifier: &Notifier,
    events: &Receiver<InotifyEvent>,
    names: &Names,
) {
    let interval = tree.settings().inotify_interval;
    let mut due: HashMap<Ino, Instant> = HashMap::new();
    let mut last: HashMap<Ino, Instant> = HashMap::new();
    let mut made: Vec<Made> = Vec::new();
    loop {
        let now = Instant::now();
        let wait =
            if made.is_empty() { due.values().min().map(|at| at.saturating_duration_since(now)) } else { Some(RETRY) };
        let next = match wait {
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(wait) => events.recv_timeout(wait),
        };
        match next {
            Ok(InotifyEvent::Grown(ino)) => {
                // At most once an interval a file, and always once after its last growth.
                let at = last.get(&ino).map_or_else(Instant::now, |last| *last + interval);
                due.entry(ino).or_insert(at);
            }
            Ok(InotifyEvent::Made(parent, name)) => made.push(Made { parent, name, since: Instant::now() }),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        let ready: Vec<Ino> = due.iter().filter(|(_, at)| **at <= now).map(|(ino, _)| *ino).collect();
        for ino in ready {
            if !tree.is_quiet(ino) {
                due.insert(ino, now + RETRY);
                continue;
            }
            due.remove(&ino);
            last.insert(ino, now);
            if let Some(path) = tree.path(ino) {
                let _passage = gate.enter(ino);
                report(mount.touch(&path), &path);
            }
        }
        if last.len() > 4096 {
            last.retain(|_, at| at.elapsed() < interval);
        }
        made.retain(|new| {
            if new.since.elapsed() > GIVE_UP {
                names.is_over();
                return false;
            }
            if !tree.is_quiet(new.parent) {
                return true;
            }
            if let Some(folder) = tree.path(new.parent)
                && tree.expect_name(new.parent, &new.name)
            {
                let path = folder.join(&new.name);
                let mut made = mount.make(&path);
                // A lookup has brought the name already: only a name that comes into being raises an event.
                for _ in 0..REMAKES {
                    if !matches!(&made, Err(error) if error.kind() == io::ErrorKind::AlreadyExists) {
                        break;
                    }
                    made = notifier.inval_entry(INodeNo(new.parent.0), &new.name).and_then(|()| mount.make(&path));
                }
                report(made, &path);
                tree.expected(new.parent, &new.name);
            }
            names.is_over();
            false
        });
    }
}

fn report(result: io::Result<()>, path: &Path) {
    if let Err(error) = result {
        tracing::debug!(path = %path.display(), %error, "watchers not told");
    }
}
