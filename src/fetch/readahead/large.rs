//! The large streams of a group that a program walks through, downloaded ahead of it.
//!
//! A sweep leaves them to downloads, and by itself each would begin when it is opened: meanwhile GetLogEvents would have nothing to do
//! while small ones are read, and neither call while a download learns that it has ended. So some of them are begun before that, each by
//! one reader that gives way to everybody (see `download::parallel`) until the stream is opened; as many as use the quotas up, and not
//! too far ahead. They end soon after the walk does.

use crate::fetch::download::first_copy;
use crate::fetch::stream::access_pattern::{Order, Place};
use crate::fetch::stream::state::{Group, Streams};
use crate::fetch::stream::via::Via;
use crate::model::StreamId;
use crate::source::Call;
use crate::sync::lock;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// Most downloads at a time by each call.
const MOST: usize = 6;
/// Streams ahead of the walk that were begun, at most.
const AHEAD: usize = 16;
/// How often it is looked whether a program still walks.
const LOOK: Duration = Duration::from_millis(200);

/// Streams that a sweep leaves to downloads.
#[derive(Default)]
pub(crate) struct Large {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    left: BTreeMap<StreamId, String>,
    /// The same by exact name.
    names: BTreeMap<String, StreamId>,
    /// No more of them will come.
    all: bool,
    begun: BTreeMap<StreamId, String>,
}

impl State {
    /// The next one that the walk comes to, once its order is known.
    fn next(&self, place: &Place) -> Option<StreamId> {
        match place.order? {
            Order::Listing => self.left.range((Excluded(place.id), Unbounded)).next().map(|(id, _)| *id),
            Order::Names => {
                self.names.range::<str, _>((Excluded(place.name.as_str()), Unbounded)).next().map(|(_, id)| *id)
            }
        }
    }

    fn is_far(&self, place: &Place) -> bool {
        self.begun.iter().filter(|(id, name)| place.lies_before(**id, name)).count() >= AHEAD
    }
}

impl Large {
    /// One more.
    pub(crate) fn add(&self, id: StreamId, name: &str) {
        let mut state = lock(&self.state);
        state.left.insert(id, name.to_owned());
        state.names.insert(name.to_owned(), id);
        self.changed.notify_one();
    }

    /// There won't be more.
    pub(crate) fn is_all(&self) {
        lock(&self.state).all = true;
        self.changed.notify_one();
    }

    /// The next one to begin for a walk that is at `place`, if it isn't too far ahead; it is left no more.
    fn next(&self, place: &Place) -> Option<StreamId> {
        let mut state = lock(&self.state);
        let next = state.next(place).filter(|_| !state.is_far(place))?;
        let name = state.left.remove(&next)?;
        state.names.remove(&name);
        state.begun.insert(next, name);
        Some(next)
    }

    fn is_over(&self) -> bool {
        let state = lock(&self.state);
        state.all && state.left.is_empty()
    }
}

/// Downloads what is left until that is all, or no program walks any more.
pub(crate) async fn read_ahead(streams: Arc<Streams>, group: Arc<Group>, large: Arc<Large>) {
    let mut downloads = FuturesUnordered::new();
    let mut by_filter = 0;
    let mut places = group.access_pattern.places();
    while group.access_pattern.is_there() && !streams.shared.stopping.is_cancelled() {
        loop {
            let most = |call| streams.shared.service.parallelism(call).unwrap_or(1).clamp(1, MOST);
            let via = if downloads.len() - by_filter < most(Call::GetLogEvents) {
                Via::Get
            } else if by_filter < most(Call::FilterLogEvents) && !group.access_pattern.is_swept() {
                Via::Filter
            } else {
                break;
            };
            let next = places.borrow_and_update().as_ref().and_then(|place| large.next(place));
            let Some(id) = next else { break };
            by_filter += usize::from(via == Via::Filter);
            downloads.push(one(&streams, id, via));
        }
        if downloads.is_empty() && large.is_over() {
            return;
        }
        tokio::select! {
            Some(via) = downloads.next() => by_filter -= usize::from(via == Via::Filter),
            () = large.changed.notified() => {}
            // The sender lives in the group.
            _ = places.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
            () = streams.shared.stopping.cancelled() => {}
        }
    }
}

/// Downloads one if it still is to be; gives back by which call.
async fn one(streams: &Arc<Streams>, id: StreamId, via: Via) -> Via {
    // What is wrong with it is met by the program that opens it.
    if let Ok(stream) = streams.stream(id) {
        first_copy::ahead_of_readers(&stream, via).await;
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
        let large = Large::default();
        (0..50).for_each(|number| large.add(StreamId(number), &name(number)));
        large
    }

    /// A walk that opened these, one after the other.
    fn at(opened: &[u64]) -> Place {
        let step = |place: Option<Place>, number: &u64| {
            Some(Place::step(place.as_ref(), StreamId(*number), &name(*number), false))
        };
        opened.iter().fold(None, step).unwrap()
    }

    #[test]
    fn a_walk_through_the_listing_is_met_ahead() {
        let large = large();
        assert_eq!(large.next(&at(&[7])), None, "nobody knows where it goes");
        let place = at(&[7, 8]);
        assert_eq!(large.next(&place), Some(StreamId(9)));
        assert_eq!(large.next(&place), Some(StreamId(10)));
        assert_eq!(large.next(&at(&[8, 49])), None, "what lies behind it was seen");
    }

    #[test]
    fn a_walk_by_name_is_met_ahead() {
        let large = large();
        let place = at(&[42, 41, 41]);
        assert_eq!(large.next(&place), Some(StreamId(40)));
        assert_eq!(large.next(&place), Some(StreamId(39)));
    }

    #[test]
    fn it_is_not_met_too_far_ahead() {
        let large = large();
        let begun = std::iter::from_fn(|| large.next(&at(&[0, 1])));
        assert_eq!(begun.count(), AHEAD);
        assert_eq!(large.next(&at(&[1, 2])), Some(StreamId(AHEAD as u64 + 2)));
        assert_eq!(large.next(&at(&[1, 2])), None);
        assert_eq!(large.next(&at(&[2, 40])), Some(StreamId(41)), "what lies behind it isn't ahead");
    }

    #[test]
    fn it_is_over_when_all_were_begun() {
        let large = Large::default();
        (1..4).for_each(|number| large.add(StreamId(number), &name(number)));
        let place = Place::step(None, StreamId(0), &name(0), true);
        assert_eq!(std::iter::from_fn(|| large.next(&place)).count(), 3, "a search says where it goes");
        assert!(!large.is_over(), "more may come");
        large.is_all();
        assert!(large.is_over());
    }
}
