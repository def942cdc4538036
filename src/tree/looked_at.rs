//! Files that programs look at again and again without having them open: they are followed, so that their sizes don't stand still.

use super::asks::Asks;
use super::attr::{Attributes, SHORT};
use super::caller::{Caller, SystemCall};
use super::inode::{Ino, Node};
use super::reader::lists_folders;
use super::{File, Tree};
use crate::fetch::Follow;
use crate::model::Timestamp;
use crate::store::row::StreamRow;
use crate::sync::lock;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// A file with an event as young as this may grow soon.
const YOUNG: Duration = Duration::from_secs(3600);
/// For how long a file is followed after it was last found to be looked at.
const FOLLOWED_FOR: Duration = Duration::from_secs(300);
/// Files that are followed so at a time.
const MOST: usize = 64;

/// Whether a file may grow soon.
pub(crate) fn may_grow_soon(row: &StreamRow) -> bool {
    let now = Timestamp::from_system_time(SystemTime::now());
    !row.gone && row.extent.newest.max(row.stream.last_event).is_some_and(|newest| newest > now - YOUNG)
}

/// Who looks, and what is followed for it.
#[derive(Default)]
pub(crate) struct LookedAt {
    asks: Asks,
    followed: HashMap<Ino, Followed>,
}

struct Followed {
    _file: Arc<File>,
    _follow: Follow,
    until: Instant,
}

impl Tree {
    /// Attributes of a stream's file that `caller` asked for alone. The kernel keeps those of a file that may grow soon for a short time
    /// only, so that a program that asks again is seen.
    pub(crate) fn asked_alone(&self, attributes: Attributes, caller: &Caller<'_>) -> Attributes {
        if attributes.ttl == SHORT && !self.is_inotify_thread(caller) {
            let now = Instant::now();
            let is_often = lock(&self.looked_at).asks.ask(caller.thread(), attributes.ino, now);
            if is_often {
                self.is_looked_at(attributes.ino, caller, now);
            }
        }
        attributes
    }

    /// Whether a program looks at the file, however old its newest event: no answer must keep its next question away.
    pub(crate) fn is_asked_for(&self, ino: Ino) -> bool {
        let looked_at = lock(&self.looked_at);
        looked_at.followed.contains_key(&ino) || looked_at.asks.is_asked_for(ino, Instant::now())
    }

    /// Lets go of files that nothing has looked at for a while. To be called now and then.
    pub fn forget_unlooked(&self) {
        let now = Instant::now();
        let gone: Vec<Followed> = {
            let mut looked_at = lock(&self.looked_at);
            looked_at.followed.extract_if(|_, followed| followed.until <= now).map(|(_, followed)| followed).collect()
        };
        // Outside the lock: the last guard of a stream ends more than itself.
        drop(gone);
    }

    /// A file is looked at often: it is followed, or goes on to be.
    fn is_looked_at(&self, ino: Ino, caller: &Caller<'_>, now: Instant) {
        let until = now + FOLLOWED_FOR;
        {
            let mut looked_at = lock(&self.looked_at);
            if let Some(followed) = looked_at.followed.get_mut(&ino) {
                followed.until = until;
                return;
            }
            if looked_at.followed.len() >= MOST {
                return;
            }
        }
        // From here on it is rare, and may cost a look at the caller.
        let process = caller.process();
        if process.ourselves || lists_folders(process) || caller.system_call() == SystemCall::Open {
            return;
        }
        let threads = caller.threads();
        if lock(&self.looked_at).asks.list(&threads, now) {
            return;
        }
        let Some(Node::Stream(id, show)) = Node::of(ino) else { return };
        let Ok(file) = self.file(id, show) else { return };
        // A tail asks for the size of what it has open, too: that needs no place among the few.
        if file.stream().is_polled() {
            return;
        }
        let followed = Followed { _follow: file.stream().follow_slowly(), _file: file, until };
        let mut looked_at = lock(&self.looked_at);
        let replaced =
            if looked_at.followed.len() < MOST { looked_at.followed.insert(ino, followed) } else { Some(followed) };
        drop(looked_at);
        drop(replaced);
    }
}
