//! The large streams of a group that somebody walks through, downloaded ahead of him.
//!
//! A sweep leaves them to downloads, and by itself each would begin when it is opened: meanwhile GetLogEvents would have nothing to do
//! while small ones are read, and neither call while a download learns that it has ended. So some of them are begun before that, each by
//! one reader that gives way to everybody (see `side_by_side`) until the stream is opened; as many as use the quotas up, and not
//! too far ahead. They end soon after the walk does.
//!
//! A walk goes in the listing's order (`grep -r`, `find`) or in that of the names (a shell's `*`): its last step tells which.

use super::download;
use super::pages::Via;
use super::stream::{Group, Streams, lock};
use super::sweep::{REST, is_under_way, is_wanted};
use crate::model::StreamId;
use crate::source::Call;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// Most downloads at a time by each call.
const MOST: usize = 6;
/// Streams that were begun and not opened yet, at most.
const AHEAD: usize = 16;

/// Where a walk is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    id: StreamId,
    /// Exact name.
    name: String,
    order: Option<Order>,
}

/// How it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Listing,
    Names,
}

impl Place {
    /// After `before` a stream is opened. A program that searches takes what it lists as it comes (`is_search`).
    pub(super) fn step(before: Option<&Place>, id: StreamId, name: &str, is_search: bool) -> Place {
        let order = match before {
            _ if is_search => Some(Order::Listing),
            None => None,
            Some(before) if before.id == id => before.order,
            Some(before) if before.id < id => Some(Order::Listing),
            Some(_) => Some(Order::Names),
        };
        Place { id, name: name.to_owned(), order }
    }

    fn lies_before(&self, id: StreamId, name: &str) -> bool {
        match self.order {
            Some(Order::Listing) | None => self.id < id,
            Some(Order::Names) => self.name.as_str() < name,
        }
    }
}

/// Streams that a sweep leaves to downloads.
pub(super) struct Large {
    walk: Mutex<Walk>,
    changed: Notify,
}

struct Walk {
    left: BTreeMap<StreamId, String>,
    /// The same by exact name.
    names: BTreeMap<String, StreamId>,
    /// No more of them will come.
    all: bool,
    /// Begun and not opened yet.
    begun: BTreeMap<StreamId, String>,
    place: Option<Place>,
}

impl Walk {
    fn take(&mut self, id: StreamId) -> Option<String> {
        let name = self.left.remove(&id)?;
        self.names.remove(&name);
        Some(name)
    }

    /// The next one in the walk's order, once that is known; at its end the first.
    fn next(&self) -> Option<StreamId> {
        let place = self.place.as_ref()?;
        match place.order? {
            Order::Listing => self.left.range(place.id..).chain(&self.left).next().map(|(id, _)| *id),
            Order::Names => self.names.range(place.name.clone()..).chain(&self.names).next().map(|(_, id)| *id),
        }
    }

    fn ahead(&self) -> usize {
        let Some(place) = &self.place else { return 0 };
        self.begun.iter().filter(|(id, name)| place.lies_before(**id, name)).count()
    }
}

impl Large {
    /// None yet, for a walk that is at `place`.
    pub(super) fn new(place: Option<Place>) -> Large {
        let (left, names, begun) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Large { walk: Mutex::new(Walk { left, names, all: false, begun, place }), changed: Notify::new() }
    }

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

    /// Somebody opened a stream, one of these or not.
    pub(super) fn opened(&self, place: Place) {
        let mut walk = lock(&self.walk);
        walk.take(place.id);
        walk.begun.remove(&place.id);
        walk.place = Some(place);
        self.changed.notify_one();
    }

    /// The next one to begin, if it isn't too far ahead; it is left no more.
    fn next(&self) -> Option<StreamId> {
        let mut walk = lock(&self.walk);
        let next = walk.next().filter(|_| walk.ahead() < AHEAD)?;
        let name = walk.take(next)?;
        walk.begun.insert(next, name);
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
    fn name(number: u64) -> String {
        format!("{:02}", 49 - number)
    }

    fn large() -> Large {
        let large = Large::new(None);
        (0..50).for_each(|number| large.add(StreamId(number), &name(number)));
        large
    }

    fn open(large: &Large, number: u64) {
        let before = lock(&large.walk).place.clone();
        large.opened(Place::step(before.as_ref(), StreamId(number), &name(number), false));
    }

    #[test]
    fn a_walk_through_the_listing_is_met_ahead() {
        let large = large();
        open(&large, 7);
        assert_eq!(large.next(), None, "nobody knows where it goes");
        open(&large, 8);
        assert_eq!(large.next(), Some(StreamId(9)));
        assert_eq!(large.next(), Some(StreamId(10)));
        open(&large, 49);
        assert_eq!(large.next(), Some(StreamId(0)), "those before it are left for who turns back");
        let large = Large::new(Some(Place::step(None, StreamId(3), "a", true)));
        large.add(StreamId(4), "b");
        assert_eq!(large.next(), Some(StreamId(4)), "a search says where it goes");
    }

    #[test]
    fn a_walk_by_name_is_met_ahead() {
        let large = large();
        open(&large, 42);
        open(&large, 41);
        open(&large, 41);
        assert_eq!(large.next(), Some(StreamId(40)));
        assert_eq!(large.next(), Some(StreamId(39)));
    }

    #[test]
    fn it_is_not_met_too_far_ahead() {
        let large = large();
        (0..2).for_each(|number| open(&large, number));
        assert_eq!(std::iter::from_fn(|| large.next()).count(), AHEAD);
        open(&large, 2);
        assert_eq!(large.next(), Some(StreamId(AHEAD as u64 + 2)));
        assert_eq!(large.next(), None);
        open(&large, 40);
        assert_eq!(large.next(), Some(StreamId(41)), "what lies behind it isn't ahead");
        (0..50).for_each(|number| open(&large, number));
        assert!(!large.is_over(), "more may come");
        large.is_all();
        assert!(large.is_over());
    }
}
