//! The large streams of a group that somebody walks through, downloaded ahead of him.
//!
//! A sweep leaves them to downloads, and by itself each would begin when it is opened: meanwhile GetLogEvents would have nothing to do
//! while small ones are read, and neither call while a download learns that it has ended. So some of them are begun before that, each by
//! one reader that gives way to everybody (see `side_by_side`) until the stream is opened; as many as use the quotas up, and not
//! too far ahead. They end soon after the walk does.
//!
//! A walk goes in the listing's order (`grep -r`, `find`) or in that of the names (a shell's `*`): which, its last step tells.

use super::download;
use super::pages::Via;
use super::stream::{Group, Streams, lock};
use super::sweep::{REST, is_under_way, is_wanted};
use crate::model::StreamId;
use crate::source::Call;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// Most downloads at a time by each call.
const MOST: usize = 6;
/// Streams that were begun and not opened yet, at most.
const AHEAD: usize = 16;

/// Streams that a sweep leaves to downloads, and where the walk is.
#[derive(Default)]
pub(super) struct Large {
    walk: Mutex<Walk>,
    changed: Notify,
}

#[derive(Default)]
struct Walk {
    left: BTreeMap<StreamId, String>,
    /// The same by exact name.
    names: BTreeMap<String, StreamId>,
    /// No more of them will come.
    all: bool,
    /// Begun and not opened yet.
    ahead: HashSet<StreamId>,
    /// What was opened last.
    last: Option<(StreamId, String)>,
    /// The last step went forward in the listing.
    is_listed_order: bool,
}

impl Walk {
    fn take(&mut self, id: StreamId) {
        if let Some(name) = self.left.remove(&id) {
            self.names.remove(&name);
        }
    }

    /// The next one behind what was opened last, or else the first of all.
    fn next(&self) -> Option<StreamId> {
        let listed = || self.left.keys().next().copied();
        match &self.last {
            None => listed(),
            Some((last, _)) if self.is_listed_order => {
                self.left.range(last..).next().map(|(id, _)| *id).or_else(listed)
            }
            Some((_, last)) => self.names.range(last.clone()..).chain(&self.names).next().map(|(_, id)| *id),
        }
    }
}

impl Large {
    /// One more.
    pub(super) fn add(&self, id: StreamId, name: &str) {
        let mut walk = lock(&self.walk);
        walk.left.insert(id, name.to_owned());
        walk.names.insert(name.to_owned(), id);
        self.changed.notify_one();
    }

    /// There won't be more.
    pub(super) fn is_all(&self) {
        lock(&self.walk).all = true;
        self.changed.notify_one();
    }

    /// Somebody opens a stream, one of these or not.
    pub(super) fn opened(&self, id: StreamId, name: &str) {
        let mut walk = lock(&self.walk);
        walk.take(id);
        walk.ahead.remove(&id);
        walk.is_listed_order = walk.last.as_ref().is_none_or(|(last, _)| *last <= id);
        walk.last = Some((id, name.to_owned()));
        self.changed.notify_one();
    }

    /// The next one to begin, if it isn't too far ahead; it is left no more.
    fn next(&self) -> Option<StreamId> {
        let mut walk = lock(&self.walk);
        let next = walk.next().filter(|_| walk.ahead.len() < AHEAD)?;
        walk.take(next);
        walk.ahead.insert(next);
        Some(next)
    }

    fn is_over(&self) -> bool {
        let walk = lock(&self.walk);
        walk.all && walk.left.is_empty()
    }
}

/// Downloads what is left until that is all, or nobody walks any more.
pub(super) async fn read_ahead(home: Arc<Streams>, group: Arc<Group>, large: Arc<Large>) {
    let mut downloads = FuturesUnordered::new();
    let mut by_filter = 0;
    while is_wanted(&group) && !home.shared.stopping.is_cancelled() {
        loop {
            let most = |call| home.shared.service.parallelism(call).unwrap_or(1).clamp(1, MOST);
            let via = if downloads.len() - by_filter < most(Call::GetLogEvents) {
                Via::Get
            } else if by_filter < most(Call::FilterLogEvents) && !is_under_way(&group) {
                Via::Filter
            } else {
                break;
            };
            let Some(id) = large.next() else { break };
            by_filter += usize::from(via == Via::Filter);
            downloads.push(one(&home, id, via));
        }
        if downloads.is_empty() && large.is_over() {
            return;
        }
        tokio::select! {
            Some(via) = downloads.next() => by_filter -= usize::from(via == Via::Filter),
            () = large.changed.notified() => {}
            () = tokio::time::sleep(REST) => {}
            () = home.shared.stopping.cancelled() => {}
        }
    }
}

/// Downloads one if it still is to be; gives back by which call.
async fn one(home: &Arc<Streams>, id: StreamId, via: Via) -> Via {
    // What is wrong with it is met by whoever opens it.
    if let Ok(stream) = home.stream(id) {
        download::ahead_of_readers(&stream, via).await;
    }
    via
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in the listing's order, the newest first, and names in the order of time.
    fn large() -> Large {
        let large = Large::default();
        (0..50).for_each(|n| large.add(StreamId(n), &format!("{:02}", 49 - n)));
        large
    }

    #[test]
    fn a_walk_through_the_listing_is_met_ahead() {
        let large = large();
        assert_eq!(large.next(), Some(StreamId(0)), "nothing is opened yet");
        large.opened(StreamId(7), "42");
        large.opened(StreamId(8), "41");
        assert_eq!(large.next(), Some(StreamId(9)));
        assert_eq!(large.next(), Some(StreamId(10)));
        large.opened(StreamId(49), "00");
        assert_eq!(large.next(), Some(StreamId(1)), "those before it are left for who turns back");
    }

    #[test]
    fn a_walk_by_name_is_met_ahead() {
        let large = large();
        large.opened(StreamId(42), "07");
        large.opened(StreamId(41), "08");
        assert_eq!(large.next(), Some(StreamId(40)));
        assert_eq!(large.next(), Some(StreamId(39)));
    }

    #[test]
    fn it_is_not_met_too_far_ahead() {
        let large = large();
        assert_eq!(std::iter::from_fn(|| large.next()).count(), AHEAD);
        large.opened(StreamId(0), "49");
        assert_eq!(large.next(), Some(StreamId(AHEAD as u64)));
        assert_eq!(large.next(), None);
        assert!(!large.is_over());
        (0..50).for_each(|n| large.opened(StreamId(n), ""));
        assert!(!large.is_over(), "more may come");
        large.is_all();
        assert!(large.is_over());
    }
}
